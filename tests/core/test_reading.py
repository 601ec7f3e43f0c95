"""Weights files of every kind, and what reading them takes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from knot_core.config import AudioCrossConfig, NetworkConfig
from knot_core.errors import CheckpointError
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network, differences

from .small_network import CONFIG, assert_equal

STEM = "diffusion_pytorch_model"


@pytest.fixture
def weights(randomised) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomised(WanNetwork(CONFIG), 0).state_dict().items()}


@pytest.fixture
def shards(tmp_path, weights) -> Path:
    """A folder with three parts and their index, as large models are published."""
    folder = tmp_path / "folder"
    folder.mkdir()
    names = sorted(weights)
    index = {}
    for part in range(3):
        file = f"diffusion_pytorch_model-{part + 1:05}-of-00003.safetensors"
        save_file({name: weights[name] for name in names[part::3]}, folder / file)
        index |= dict.fromkeys(names[part::3], file)
    text = json.dumps({"metadata": {}, "weight_map": index})
    (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(text)
    return folder


@pytest.mark.parametrize(
    "part",
    [".", f"{STEM}.safetensors.index.json", f"{STEM}-00002-of-00003.safetensors"],
    ids=["folder", "index", "one"],
)
@pytest.mark.parametrize("with_index", [True, False])
def test_shards_are_one_network_whatever_names_them(shards, weights, part, with_index):
    if not with_index:
        next(shards.glob("*.json")).unlink()
        part = "." if part.endswith("json") else part
    assert_equal(build_network(open_checkpoint(shards / part)), weights)


def test_a_missing_shard_is_named(shards):
    (shards / "diffusion_pytorch_model-00003-of-00003.safetensors").unlink()
    for path in (shards, shards / "diffusion_pytorch_model-00001-of-00003.safetensors"):
        with pytest.raises(CheckpointError, match=r"one of 3 parts, and there is no \S+-00003-of-00003\.safetensors"):
            open_checkpoint(path)
    next(shards.glob("*.json")).write_text("{}")
    with pytest.raises(CheckpointError, match="no index of weights files"):
        open_checkpoint(shards)


def test_a_folder_holds_one_set_of_weights(tmp_path, weights):
    with pytest.raises(CheckpointError, match="should hold one set of weights and holds none"):
        open_checkpoint(tmp_path)
    save_file(weights, tmp_path / "a.safetensors")
    assert_equal(build_network(open_checkpoint(tmp_path)), weights)
    torch.save(weights, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"holds a\.safetensors, b\.pt; name the file"):
        open_checkpoint(tmp_path)


def scaled(weights: dict[str, Tensor], dtype: torch.dtype, marks: tuple[str, str], per_row: bool) -> dict[str, Tensor]:
    """As ComfyUI stores fp8: matrices divided by their largest number over what fp8 can hold."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        if tensor.dim() != 2:
            found[name] = tensor.to(torch.bfloat16)
            continue
        largest = tensor.abs().amax(dim=1, keepdim=True) if per_row else tensor.abs().max()
        scale = largest / torch.finfo(dtype).max
        found[name] = (tensor / scale).to(dtype)
        found[name.removesuffix("weight") + marks[0]] = scale
        found[name.removesuffix("weight") + marks[1]] = torch.ones(())
    return found


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
@pytest.mark.parametrize(("marks", "per_row"), [
    (("scale_weight", "scale_input"), False), (("weight_scale", "input_scale"), False),
    (("weight_scale", "input_scale"), True)])  # fmt: skip
def test_fp8_is_read_with_its_scales(tmp_path, weights, dtype, marks, per_row):
    stored = scaled(weights, dtype, marks, per_row) | {"scaled_fp8": torch.zeros(2).to(dtype)}
    save_file({f"model.diffusion_model.{name}": tensor for name, tensor in stored.items()}, tmp_path / "f.safetensors")
    found = build_network(open_checkpoint(tmp_path / "f.safetensors")).state_dict()
    coarse = 0.07 if dtype == torch.float8_e4m3fn else 0.14  # relative: half of 2^-3, of 2^-2
    for name, tensor in weights.items():
        assert torch.allclose(found[name], tensor, rtol=coarse, atol=coarse * tensor.abs().max().item() / 50), name
    assert not differences(open_checkpoint(tmp_path / "f.safetensors", header_only=True), found)[1]


def test_plain_fp8_and_16_bit_load_as_their_numbers(tmp_path, weights):
    for dtype in (torch.float8_e4m3fn, torch.float16, torch.bfloat16):
        stored = {name: tensor.to(dtype) for name, tensor in weights.items()}
        save_file(stored, tmp_path / "w.safetensors")
        assert_equal(build_network(open_checkpoint(tmp_path / "w.safetensors")),
                     {name: tensor.float() for name, tensor in stored.items()})  # fmt: skip


def test_packings_that_are_not_read_are_refused(tmp_path, weights):
    name = "blocks.0.ffn.0.weight"
    packed = weights | {name: weights[name].to(torch.int8), "blocks.0.ffn.0.weight_scale": torch.ones(64)}
    save_file(packed, tmp_path / "int8.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ffn\.0\.weight as int8 numbers .* connect the MODEL"):
        build_network(open_checkpoint(tmp_path / "int8.safetensors"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_matrices_come_in_the_dtype_asked_for(tmp_path, weights, dtype):
    save_file(weights, tmp_path / "w.safetensors")
    network = build_network(open_checkpoint(tmp_path / "w.safetensors"), dtype)
    assert network.blocks[0].ffn[0].weight.dtype == network.patch_embedding.weight.dtype == dtype
    assert network.blocks[0].modulation.dtype == network.time_projection[1].weight.dtype == torch.float32


def test_numbers_too_large_for_the_dtype_are_refused(tmp_path, weights):
    weights["blocks.1.ffn.0.weight"][2, 3] = 1e6
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=r"ffn\.0\.weight that torch\.float16 cannot hold; choose bfloat16"):
        build_network(open_checkpoint(tmp_path / "w.safetensors"), torch.float16)


def test_the_file_may_go_once_the_network_is_built(tmp_path, weights):
    save_file(weights, tmp_path / "w.safetensors")
    network = build_network(open_checkpoint(tmp_path / "w.safetensors"))
    (tmp_path / "w.safetensors").write_bytes(b"0" * (tmp_path / "w.safetensors").stat().st_size)
    assert_equal(network, weights)


def test_leftovers_of_training_and_other_networks_are_ignored_by_name(tmp_path, weights):
    held = {f"generator.model._fsdp_wrapped_module.{name}": tensor for name, tensor in weights.items()}
    held |= {"generator.model._cls_pred_branch.0.weight": torch.ones(1), "critic.model.head.head.weight": torch.ones(1)}
    torch.save({"state_dict": held}, tmp_path / "run.pt")
    checkpoint = open_checkpoint(tmp_path / "run.pt")
    assert_equal(build_network(checkpoint), weights)
    assert set(checkpoint.ignored) == {"_cls_pred_branch.0.weight", "critic.model.head.head.weight"}
    assert (checkpoint.wrapper, checkpoint.prefix) == ("state_dict", "generator.model.")


def test_an_overlay_adds_and_wins(tmp_path, weights):
    base = {name: tensor for name, tensor in weights.items() if name != "blocks.1.norm3.bias"}
    save_file(base | {"blocks.0.norm3.bias": torch.zeros(128)}, tmp_path / "base.safetensors")
    more = {name: weights[name] for name in ("blocks.0.norm3.bias", "blocks.1.norm3.bias")}
    save_file(more, tmp_path / "over.safetensors")
    checkpoint = open_checkpoint(tmp_path / "base.safetensors", overlay=tmp_path / "over.safetensors")
    assert_equal(build_network(checkpoint), weights)


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_shard_is_named(shards, share):
    part = shards / f"{STEM}-00002-of-00003.safetensors"
    part.write_bytes(part.read_bytes()[: int(part.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"00002-of-00003\.safetensors is truncated or damaged"):
        open_checkpoint(shards)


@pytest.mark.parametrize("text", [
    "{", "[]", '{"weight_map": {"a": 3}}', '{"weight_map": {"a": "/etc/hostname"}}',
    '{"weight_map": {"a": "../other.safetensors"}}', '{"weight_map": {"a": "code.bin"}}',
])  # fmt: skip
def test_an_index_names_safetensors_beside_it_and_nothing_else(shards, text, capsys):
    torch.save(Evil(), shards / "code.bin")
    save_file({"a": torch.zeros(1)}, shards.parent / "other.safetensors")
    (shards / f"{STEM}.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match="is no index of weights files"):
        open_checkpoint(shards)
    assert "code ran" not in capsys.readouterr().out


def test_damage_in_one_shard_is_found(shards):
    part = shards / f"{STEM}-00003-of-00003.safetensors"
    tensors = load_file(part)
    name = next(name for name, tensor in tensors.items() if tensor.dim() == 2)
    tensors[name][0, 0] = torch.inf
    save_file(tensors, part)
    with pytest.raises(CheckpointError, match=rf"not finite \(NaN or infinite\) in {name}"):
        build_network(open_checkpoint(shards))


def cut(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path)
    path.write_bytes(path.read_bytes()[:-9])


def hide_code(tensors: dict[str, Tensor], path: Path) -> None:
    torch.save({"generator": tensors, "more": Evil()}, path)


def poison(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors | {"audio_proj.proj2.bias": tensors["audio_proj.proj2.bias"] * torch.nan}, path)


def drop(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor for name, tensor in tensors.items() if "kv_linear" not in name}, path)


def flatten(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors | {"audio_proj.proj1.weight": torch.zeros(5)}, path)


def be_a_lora(_: dict[str, Tensor], path: Path) -> None:
    save_file({"blocks.0.self_attn.q.lora_A.weight": torch.zeros(2, 128)}, path)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (cut, r"over\.\w+ is truncated or damaged"),
        (hide_code, r"over\.\w+ carries code beside its weights"),
        (poison, r"not finite \(NaN or infinite\) in audio_proj\.proj2\.bias"),
        (drop, r"lacks blocks\.0\.audio_cross_attn\.kv_linear\.weight; it is incomplete"),
        (flatten, r"has audio_proj\.proj1\.weight of shape \[5\], wanted 2 dimensions"),
        (be_a_lora, r"lora_A\.weight that the network has no place for"),
    ],
)
def test_a_damaged_overlay_gets_one_sentence(tmp_path, randomised, capsys, damage, says):
    adapter = AudioCrossConfig(signal_dim=6, hidden_dim=5, num_tokens=4, token_dim=8)
    config = replace(CONFIG, in_channels=36, layout="inpaint36", adapter=adapter)
    weights = randomised(WanNetwork(config), 0).state_dict()
    modules = {name: tensor for name, tensor in weights.items() if "audio" in name or "norm_x" in name}
    save_file({name: tensor for name, tensor in weights.items() if name not in modules}, tmp_path / "base.safetensors")
    over = tmp_path / ("over.pt" if damage is hide_code else "over.safetensors")
    damage(modules, over)
    with pytest.raises(CheckpointError, match=says) as problem:
        build_network(open_checkpoint(tmp_path / "base.safetensors", overlay=over))
    assert str(problem.value).count("does not stream here") <= 1
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", [
    "patch_embedding.weight", "blocks.0.ffn.0.weight", "head.head.weight", "text_embedding.0.weight",
    "time_embedding.0.weight",
])  # fmt: skip
@pytest.mark.parametrize("shape", [(), (7,)])
def test_a_tensor_of_a_strange_shape_is_named(tmp_path, weights, name, shape):
    save_file(weights | {name: torch.zeros(shape)}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=rf"has {name} of shape .* wanted \d dimensions"):
        build_network(open_checkpoint(tmp_path / "w.safetensors"))


@pytest.mark.parametrize(("names", "says"), [
    ({"audio_proj.proj1.weight": (2, 5)}, "InfiniteTalk's audio modules without the network .* as its overlay"),
    ({"blocks.0.self_attn.q.lora_A.weight": (2, 5)}, "it is a LoRA; name the network"),
    ({"condition_embedder.time_proj.weight": (2, 5)}, "has no patch_embedding.weight but time_projection.1.weight"),
    ({"encoder.downsamples.0.weight": (2, 5)}, "looks like a Wan video autoencoder"),
    ({"transformer.h.0.weight": (2, 5)}, "has no patch_embedding.weight but transformer.h.0.weight; give a Wan2.1"),
])  # fmt: skip
def test_what_is_no_wan_network_is_refused_with_what_was_found(tmp_path, names, says):
    save_file({name: torch.zeros(shape) for name, shape in names.items()}, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=says):
        build_network(open_checkpoint(tmp_path / "w.safetensors"))


LOAD = """
import sys, torch
from pathlib import Path
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.network_building import build_network
def most():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:")) // 1024

torch.zeros(8).bfloat16().isfinite()
before = most()
network = build_network(open_checkpoint(sys.argv[1]), torch.bfloat16)
size = sum(t.numel() * t.element_size() for t in network.state_dict().values()) // 2**20
print(most() - before, size)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the most memory ever used is read from /proc")
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_loading_needs_no_second_copy(tmp_path, suffix):
    """At most the file's own pages, which the system may drop again, and the network; nothing between the two."""
    config = NetworkConfig(
        dim=512, ffn_dim=2048, num_heads=4, num_layers=8, in_channels=16, layout="t2v16", text_dim=512
    )
    path = tmp_path / f"w.{suffix}"
    weights = {name: torch.zeros_like(t, dtype=torch.float16) for name, t in WanNetwork(config).state_dict().items()}
    save_file(weights, path) if suffix == "safetensors" else torch.save({"generator": weights}, path)
    said = subprocess.run([sys.executable, "-I", "-c", LOAD, path], capture_output=True, text=True, check=True).stdout
    most, size = map(int, said.split())
    file = path.stat().st_size / 2**20
    assert file > 60, "large enough to be seen"
    # the allocator keeps up to 30 MiB of what was freed; a copy too many would be 70
    assert most < file + size + 50
