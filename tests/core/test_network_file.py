"""One network, however its file holds it: diffusers' names, quantised, several sets of weights, tables beside it."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.errors import CheckpointError, SettingsError
from knot_core.inspection import inspect_checkpoint
from knot_core.wan import gguf_file
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network

from .small_network import CONFIG, assert_equal


@pytest.fixture
def weights(randomised) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomised(WanNetwork(CONFIG), 0).state_dict().items()}


# ---- diffusers' names


def of_diffusers(image_dim: int | None) -> torch.nn.Module:
    diffusers = pytest.importorskip("diffusers", reason="NOT CHECKED against diffusers' files: diffusers is missing")
    torch.manual_seed(0)
    return diffusers.WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=1, attention_head_dim=128, in_channels=36 if image_dim else 16,
        out_channels=16, text_dim=32, freq_dim=32, ffn_dim=64, num_layers=2, cross_attn_norm=True,
        qk_norm="rms_norm_across_heads", image_dim=image_dim, added_kv_proj_dim=128 if image_dim else None,
    )  # fmt: skip


@pytest.mark.parametrize("image_dim", [None, 24], ids=["T2V", "I2V"])
@pytest.mark.parametrize("form", ["folder", "shards", "file", "pipeline"])
def test_what_diffusers_saved_is_the_network_that_it_converts_to_itself(tmp_path, image_dim, form):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    theirs = of_diffusers(image_dim)
    folder = tmp_path / "transformer" if form == "pipeline" else tmp_path
    theirs.save_pretrained(folder, max_shard_size="300KB" if form == "shards" else "10GB")
    (tmp_path / "model_index.json").write_text("{}") if form == "pipeline" else None
    assert form != "shards" or len(list(tmp_path.glob("*.safetensors"))) > 1
    network = build_network(open_checkpoint(next(tmp_path.glob("*.safetensors")) if form == "file" else tmp_path))
    converted, wanted = convert_wan_transformer_to_diffusers(dict(network.state_dict())), theirs.state_dict()
    assert converted.keys() == wanted.keys()
    assert all(torch.equal(converted[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("name", ["freqs", "model.freqs", "rope.freqs_cos"])
def test_a_table_of_rotary_positions_is_no_reason_to_refuse(tmp_path, weights, name):
    prefix = "model." if name.startswith("model.") else ""
    named = {prefix + key: tensor for key, tensor in weights.items()}
    save_file(named | {name: torch.zeros(1024, 64)}, tmp_path / "w.safetensors")
    found = open_checkpoint(tmp_path / "w.safetensors")
    assert_equal(build_network(found), weights)
    assert found.ignored == (name.removeprefix("model."),)


# ---- GGUF


def write_gguf(path: Path, weights: dict[str, Tensor], kind: str) -> None:
    """As city96's converter does: matrices quantised, five axes as four with the true shape in the metadata."""
    gguf = pytest.importorskip("gguf", reason="NOT CHECKED: the gguf package is missing (pip install gguf)")
    writer = gguf.GGUFWriter(path, "wan")
    for name, tensor in weights.items():
        values = tensor.numpy().astype(np.float32)
        if values.ndim == 5:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", tuple(values.shape))
            values = values.reshape(values.shape[0], -1)
        quantise = values.ndim == 2 and values.shape[-1] % 32 == 0
        wanted = gguf.GGMLQuantizationType[kind if quantise else "F32"]
        writer.add_tensor(name, gguf.quantize(values, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(("kind", "error"), [
    ("F32", 0.0), ("F16", 1e-3), ("BF16", 1e-2), ("Q8_0", 1e-2), ("Q4_0", 0.13)])  # fmt: skip
def test_a_gguf_file_is_unpacked_while_it_is_read(tmp_path, weights, kind, error):
    write_gguf(tmp_path / "self_forcing.gguf", weights, kind)
    found = build_network(open_checkpoint(tmp_path / "self_forcing.gguf")).state_dict()
    assert found.keys() == weights.keys()
    for name, tensor in weights.items():
        assert found[name].shape == tensor.shape
        assert (found[name] - tensor).abs().max() <= error * tensor.abs().max(), name


def test_inspect_tells_what_a_gguf_file_is(tmp_path, weights):
    write_gguf(tmp_path / "longlive.gguf", weights, "Q8_0")
    found = inspect_checkpoint(tmp_path / "longlive.gguf")
    assert (found["family"], found["quantization"], found["problem"]) == ("longlive", "F32, Q8_0", None)


def test_a_gguf_file_is_known_by_its_content(tmp_path, weights):
    write_gguf(tmp_path / "w.gguf", weights, "F32")
    (tmp_path / "w.gguf").rename(tmp_path / "w.safetensors")
    assert_equal(build_network(open_checkpoint(tmp_path / "w.safetensors")), weights)


def test_without_the_package_a_gguf_file_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "w.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf_file, "find_spec", lambda _name: None)
    with pytest.raises(CheckpointError, match=r"w\.gguf is a GGUF file, .* pip install gguf"):
        open_checkpoint(tmp_path / "w.gguf")


@pytest.mark.parametrize("share", [0.001, 0.2, 0.9])
def test_a_truncated_gguf_file_is_refused(tmp_path, weights, share):
    write_gguf(tmp_path / "w.gguf", weights, "Q8_0")
    whole = (tmp_path / "w.gguf").read_bytes()
    (tmp_path / "w.gguf").write_bytes(whole[: max(4, int(len(whole) * share))])
    with pytest.raises(CheckpointError, match=r"w\.gguf is truncated or damaged"):
        build_network(open_checkpoint(tmp_path / "w.gguf"))


# ---- NVFP4


@pytest.mark.parametrize("mark", ["weight_scale_2", "weight_global_scale", "metadata"])
@pytest.mark.parametrize("header_only", [True, False])
def test_nvfp4_is_refused_with_what_it_is(tmp_path, weights, mark, header_only):
    name = "blocks.0.ffn.0"
    packed = weights | {f"{name}.weight": torch.zeros(64, 64, dtype=torch.uint8),
                        f"{name}.weight_scale": torch.ones(64, 8).to(torch.float8_e4m3fn)}  # fmt: skip
    packed |= {} if mark == "metadata" else {f"{name}.{mark}": torch.ones(())}
    said = {"_quantization_metadata": '{"layers": {"blocks.0.ffn.0": {"format": "nvfp4"}}}'}
    save_file(packed, tmp_path / "w.safetensors", metadata=said if mark == "metadata" else None)
    with pytest.raises(CheckpointError, match=r"in NVFP4, NVIDIA's packing of 4-bit floating-point numbers"):
        open_checkpoint(tmp_path / "w.safetensors", header_only=header_only)


# ---- several sets of weights


def two_sets(folder: Path, weights: dict[str, Tensor], name: str, form: str) -> Path:
    """The averaged set is zero."""
    averaged = {key: torch.zeros_like(tensor) for key, tensor in weights.items()}
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "pt":
        torch.save({"generator_ema": averaged, "generator": {f"model.{k}": t for k, t in weights.items()}}, path)
        return path
    path = path.with_suffix(".safetensors")
    save_file({f"generator_ema.{key}": tensor for key, tensor in averaged.items()}
              | {f"generator.{key}": tensor for key, tensor in weights.items()}, path)  # fmt: skip
    return path


@pytest.mark.parametrize("form", ["pt", "safetensors"])
@pytest.mark.parametrize(("name", "family", "is_averaged"), [
    ("chunkwise/causal_forcing.pt", "causal-forcing", False),
    ("longlive_base.pt", "longlive", False),
    ("wan_causal_dmd_v2v/model.pt", "streamdiffusion-v2", False),
    ("self_forcing_dmd.pt", "self-forcing", True),
    ("framewise/causal_forcing.pt", "causal-forcing-framewise", True),
    ("rolling_forcing_dmd.pt", "rolling-forcing", True),
    ("model.pt", "self-forcing", True),
])  # fmt: skip
def test_of_several_sets_the_familys_own_is_taken(tmp_path, weights, caplog, form, name, family, is_averaged):
    path = two_sets(tmp_path, weights, name, form)
    with caplog.at_level(logging.INFO):
        found = open_checkpoint(path)
    assert (found.family, set(found.sets)) == (family, {"generator_ema", "generator"})
    averaged = {key: torch.zeros_like(tensor) for key, tensor in weights.items()}
    assert_equal(build_network(found), averaged if is_averaged else weights)
    assert f"{'generator_ema' if is_averaged else 'generator'} is used" in caplog.text


@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_the_user_may_choose_the_set(tmp_path, weights, form):
    path = two_sets(tmp_path, weights, "self_forcing_dmd.pt", form)
    assert_equal(build_network(open_checkpoint(path, weights="generator")), weights)
    path = two_sets(tmp_path, weights, "longlive_base.pt", form)
    assert not build_network(open_checkpoint(path, weights="generator_ema")).head.head.weight.any()


def test_a_set_that_is_not_there_is_refused(tmp_path, weights):
    torch.save({"generator_ema": weights}, tmp_path / "one.pt")
    save_file(weights, tmp_path / "bare.safetensors")
    assert_equal(build_network(open_checkpoint(tmp_path / "one.pt", weights="generator_ema")), weights)
    with pytest.raises(CheckpointError, match=r"got weights 'generator' for .*one\.pt, which holds generator_ema"):
        open_checkpoint(tmp_path / "one.pt", weights="generator")
    with pytest.raises(CheckpointError, match=r"which names no set; leave weights out"):
        open_checkpoint(tmp_path / "bare.safetensors", weights="generator")
    with pytest.raises(SettingsError, match="got weights 'critic', wanted one of generator_ema, generator"):
        open_checkpoint(tmp_path / "bare.safetensors", weights="critic")
