"""Weights files: every wrapping loads to the same network, every kind of damage gets one sentence."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from knot_core import model_loading
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.driving import Driving
from knot_core.errors import CheckpointError, KnotError, SettingsError
from knot_core.model_loading import load_model, native_dtype
from knot_core.stream import open_stream
from knot_core.wan.checkpoint import open_checkpoint, save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network


def sizes(layout: str, **changes) -> NetworkConfig:
    channels = {"inpaint36": 36, "t2v16": 16}[layout]
    return NetworkConfig(**{
        "dim": 128, "ffn_dim": 64, "num_heads": 1, "num_layers": 2, "in_channels": channels, "layout": layout,
        "text_dim": 24, "freq_dim": 16, **changes})  # fmt: skip


def tiny_adapter() -> AdapterConfig:
    return AdapterConfig(hidden_dim=8, blocks=(0, 1))


@pytest.fixture
def network(randomised) -> WanNetwork:
    return randomised(WanNetwork(sizes("t2v16")), 0)


@pytest.fixture
def weights(network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


@pytest.fixture
def tiny_files(tmp_path, randomised) -> Path:
    """A model of the built-in family with its codec beside it; the path of the former."""
    path = tmp_path / "small.safetensors"
    network = randomised(WanNetwork(sizes("inpaint36", adapter=tiny_adapter())), 1)
    save_network(path, network, PRESETS["knot-tiny"], trained="not at all")
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2)
    save_file(codec.state_dict(), tmp_path / "small-codec.safetensors", metadata={"family": "taehv"})
    return path


def assert_loads(path: Path, weights: dict[str, Tensor]) -> None:
    found = build_network(open_checkpoint(path)).state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], weights[name]) for name in weights)


@pytest.mark.parametrize("prefix", ["", "model.", "model.diffusion_model.", "model._fsdp_wrapped_module.", "pipe.dit.",
                                    "transformer.", "module."])  # fmt: skip
@pytest.mark.parametrize("wrapper", [None, "generator", "generator_ema", "state_dict"])
def test_every_wrapping_is_the_same_network(tmp_path, weights, prefix, wrapper):
    named = {prefix + name: tensor for name, tensor in weights.items()}
    torch.save({wrapper: named, "step": 7} if wrapper else named, tmp_path / "wrapped.pt")
    save_file(named, tmp_path / "plain.safetensors")
    assert_loads(tmp_path / "wrapped.pt", weights)
    assert_loads(tmp_path / "plain.safetensors", weights)


def test_averaged_weights_come_first_and_old_files_are_read(tmp_path, weights):
    other = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    torch.save({"generator": other, "critic": other, "generator_ema": weights}, tmp_path / "several.pt")
    assert_loads(tmp_path / "several.pt", weights)
    torch.save(weights, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_loads(tmp_path / "old.pt", weights)


@pytest.mark.parametrize("layout", ["inpaint36", "t2v16"])
def test_sizes_are_read_from_shapes(tmp_path, randomised, layout):
    wanted = sizes(layout, num_layers=5, adapter=AdapterConfig(signal_dim=7, hidden_dim=4, blocks=(2, 3, 4)))
    save_file(randomised(WanNetwork(wanted), 0).state_dict(), tmp_path / "w.safetensors")
    assert open_checkpoint(tmp_path / "w.safetensors").config == wanted


def test_a_saved_network_comes_back_with_all_that_belongs_to_it(tiny_files):
    checkpoint = open_checkpoint(tiny_files, header_only=True)
    assert checkpoint.config == sizes("inpaint36", adapter=tiny_adapter())
    assert checkpoint.preset == PRESETS["knot-tiny"]
    assert all(tensor.is_meta for tensor in checkpoint.tensors.values())
    with safe_open(tiny_files, framework="pt") as file:
        metadata = file.metadata()
    assert metadata.items() >= {"family": "knot-tiny", "layout": "inpaint36", "fps": "25", "licence": "Apache-2.0",
                                "trained": "not at all"}.items()  # fmt: skip
    assert json.loads(metadata["schedule"]) == pytest.approx([1, 0.9375, 0.8333333, 0.625])
    assert "config" not in metadata, "ComfyUI reads another structure under that name"


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_a_header_holds_no_weights(tmp_path, weights, suffix):
    path = tmp_path / f"w.{suffix}"
    torch.save(weights, path) if suffix == "pt" else save_file(weights, path)
    tensors = open_checkpoint(path, header_only=True).tensors
    assert {name: tensor.shape for name, tensor in tensors.items()} == {n: t.shape for n, t in weights.items()}
    assert all(tensor.is_meta for tensor in tensors.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loaded_model_streams(tiny_files, dtype):
    model = load_model(tiny_files, dtype=dtype)
    anchor = model.encode_anchor(torch.rand(70, 50, 3), size=(32, 48))
    driving = Driving.idle().lasting(20)
    pixels = torch.cat([chunk.pixel_frames for chunk in open_stream(model, anchor, model.settings, driving)])
    assert pixels.shape == (20, 32, 48, 3)
    assert model.fps == 25
    assert model.settings == StreamSettings()
    assert not any(parameter.requires_grad for parameter in model.network.parameters())


def test_equal_pictures_give_equal_anchors(tiny_files):
    model, picture = load_model(tiny_files, dtype=torch.float32), torch.rand(40, 40, 3)
    anchors = {model.encode_anchor(picture), model.encode_anchor(picture.clone()), model.encode_anchor(picture.flip(0))}
    assert len(anchors) == 2
    assert model.encode_anchor(picture).latent_size == (16, 16)
    with pytest.raises(KnotError, match="multiples of 16"):
        model.encode_anchor(picture, size=(100, 100))


def test_weights_of_other_precision_load(tmp_path, weights):
    save_file({name: tensor.to(torch.float16) for name, tensor in weights.items()}, tmp_path / "half.safetensors")
    found = build_network(open_checkpoint(tmp_path / "half.safetensors")).state_dict()
    assert all(tensor.dtype == torch.float32 for tensor in found.values())


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


def test_code_in_a_file_does_not_run(tmp_path, weights, capsys):
    torch.save({"state_dict": weights, "extra": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(Evil(), protocol=2))
    for name in ("evil.pt", "pickle.pt"):
        with pytest.raises(CheckpointError, match=r"carries code .* not opened; get it as safetensors"):
            open_checkpoint(tmp_path / name)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.99])
def test_truncated(tmp_path, weights, suffix, share):
    path = tmp_path / f"w.{suffix}"
    torch.save(weights, path) if suffix == "pt" else save_file(weights, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"w\.(pt|safetensors) is .*(truncated|damaged).*again"):
        open_checkpoint(path)


def drop(weights: dict[str, Tensor]) -> None:
    del weights["blocks.1.ffn.2.bias"]


def add(weights: dict[str, Tensor]) -> None:
    weights["vace_blocks.0.before_proj.weight"] = torch.zeros(3)


def reshape(weights: dict[str, Tensor]) -> None:
    weights["blocks.1.norm3.weight"] = torch.zeros(64)


def poison(weights: dict[str, Tensor]) -> None:
    weights["head.head.weight"][3, 5] = torch.nan


def be_another_model(weights: dict[str, Tensor]) -> None:
    weights.clear()
    weights["model.layers.0.weight"] = torch.zeros(3)


def have_other_channels(weights: dict[str, Tensor]) -> None:
    weights["patch_embedding.weight"] = torch.zeros(128, 20, 1, 2, 2)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (drop, r"lacks blocks\.1\.ffn\.2\.bias; it is incomplete"),
        (add, r"holds vace_blocks\S+ that the network has no place for; it is a Wan VACE network"),
        (reshape, r"blocks\.1\.norm3\.weight of shape \[64\], wanted \[128\]"),
        (poison, r"not finite \(NaN or infinite\) in head\.head\.weight"),
        (be_another_model, "is no Wan network"),
        (have_other_channels, "has 20 input channels"),
    ],
)
def test_damaged_weights_get_one_sentence(tmp_path, weights, damage, says):
    damage(weights)
    save_file(weights, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match=says):
        build_network(open_checkpoint(tmp_path / "w.safetensors"))


def test_other_mistakes_get_one_sentence(tmp_path, tiny_files, weights):
    with pytest.raises(CheckpointError, match=r"there is no model 'knot-huge'; give knot-tiny"):
        load_model("knot-huge")
    with pytest.raises(SettingsError, match="device 'gpu'"):
        load_model(tiny_files, device="gpu")
    with pytest.raises(SettingsError, match="dtype is"):
        load_model(tiny_files, dtype=torch.int8)
    save_file(weights, tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match="no video autoencoder"):
        load_model(tmp_path / "wan.safetensors")
    with pytest.raises(CheckpointError, match="no TAEHV autoencoder"):
        load_model(tmp_path / "wan.safetensors", codec=tmp_path / "wan.safetensors")
    save_file(weights, tmp_path / "new.safetensors", metadata={"family": "knot-giant"})
    with pytest.raises(CheckpointError, match="family 'knot-giant' is not known; these stream here: self-forcing, "):
        load_model(tmp_path / "new.safetensors")
    save_file(weights, tmp_path / "bad.safetensors", metadata={"family": "knot-tiny", "network": "{"})
    with pytest.raises(CheckpointError, match="damaged metadata"):
        load_model(tmp_path / "bad.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no named tensors"):
        open_checkpoint(tmp_path / "list.pt")
    (tmp_path / "small-codec.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"no weights file .*small-codec\.safetensors"):
        load_model(tiny_files)


def test_the_native_dtype_is_what_the_processor_computes_in(monkeypatch):
    monkeypatch.setattr(model_loading, "_cpu_has_bfloat16", lambda: True)
    assert native_dtype(torch.device("cpu")) == torch.bfloat16
    monkeypatch.setattr(model_loading, "_cpu_has_bfloat16", lambda: False)
    assert native_dtype(torch.device("cpu")) == torch.float32
