"""Weights files, LoRAs and codecs that are damaged, forged, or of something else: what loads, or one clear sentence."""

import io
import json
import pickle
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from knot_core.codec.codec_files import load_codec
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.errors import CheckpointError
from knot_core.inspection import inspect_checkpoint
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.families import PRESETS
from knot_core.wan.lora import open_lora
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network

from .fuzzing import check_sentence, clear_errors_only, damaged, fuzzed, json_values

CONFIG = NetworkConfig(
    dim=128, ffn_dim=16, num_heads=1, num_layers=1, in_channels=36, layout="inpaint36", text_dim=8, freq_dim=8,
    adapter=AdapterConfig(signal_dim=75, hidden_dim=2, blocks=(0,)),
)  # fmt: skip
METADATA = {
    "family": "knot-tiny",
    "network": json.dumps(CONFIG.to_dict()),
    "settings": json.dumps(StreamSettings().to_dict()),
    "fps": "25",
    "height": "128",
    "width": "128",
}
SMALL_CODEC = CodecConfig(encoder=(2, 2, 2, 2), decoder=(2, 2, 2, 2))


@pytest.fixture(scope="module")
def network(randomised):
    return {name: tensor.clone() for name, tensor in randomised(WanNetwork(CONFIG), 0).state_dict().items()}


@pytest.fixture(scope="module")
def codec(randomised):
    return {name: tensor.clone() for name, tensor in randomised(TAEHV(SMALL_CODEC), 0).state_dict().items()}


@pytest.fixture(scope="module")
def lora(network):
    names = [name for name, tensor in network.items() if name.endswith(".weight") and tensor.dim() == 2][:3]
    parts = {}
    for name in names:
        rows, columns = network[name].shape
        stem = "diffusion_model." + name.removesuffix(".weight")
        parts |= {f"{stem}.lora_down.weight": torch.ones(2, columns), f"{stem}.lora_up.weight": torch.ones(rows, 2),
                  f"{stem}.alpha": torch.tensor(2.0)}  # fmt: skip
    return parts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("weights")


def use_network(path):
    """What loads computes with numbers, and what is told of a file does not fail."""
    with clear_errors_only():
        checkpoint = open_checkpoint(path)
        built = build_network(checkpoint)
        assert all(tensor.isfinite().all() for tensor in built.state_dict().values())
        assert checkpoint.preset.settings.steps >= 1
    with clear_errors_only():
        told = inspect_checkpoint(path)
        json.dumps(told)
        if told["problem"] is not None:
            check_sentence(told["problem"])


def use_codec(path):
    with clear_errors_only():
        codec = load_codec(path)
        pixels, _ = codec.decode(torch.zeros(1, 1, codec.config.latent_channels, 2, 2))
        assert pixels.shape == (1, 1, 3, 16, 16)


def use_lora(path, network):
    with clear_errors_only():
        lora = open_lora(path, 1.0, network)
        for name, weight in network.items():
            assert lora.merged(name, weight).shape == weight.shape


def of_safetensors(tensors, metadata=None):
    from safetensors.torch import save

    return save(tensors, metadata=metadata)


def of_torch(tensors):
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


@fuzzed(35)
@given(st.data())
def test_a_damaged_file(network, codec, lora, folder, data):
    kind = data.draw(st.sampled_from(["network", "codec", "lora"]))
    tensors = {"network": network, "codec": codec, "lora": lora}[kind]
    path = folder / data.draw(st.sampled_from(["a.safetensors", "a.pt"]))
    whole = of_torch(tensors) if path.suffix == ".pt" else of_safetensors(tensors, METADATA)
    path.write_bytes(data.draw(damaged(whole)))
    use_all(path, network)


def use_all(path, network):
    use_network(path)
    use_codec(path)
    use_lora(path, network)


@fuzzed(25)
@given(st.binary(max_size=60), st.sampled_from([".safetensors", ".pt", ".bin", ".gguf", ".index.json"]))
def test_any_bytes(network, folder, content, suffix):
    path = folder / f"any{suffix}"
    path.write_bytes(content)
    use_all(path, network)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 16, 36]), max_size=4) | st.just([128, 36, 1, 2, 2])
DTYPES = [torch.float64, torch.bfloat16, torch.float16, torch.uint8, torch.int64, torch.bool, torch.float8_e4m3fn]


def changed(data, tensors):
    """With one tensor, or name, that is another."""
    tensors = dict(tensors)
    name = data.draw(st.sampled_from(sorted(tensors)))
    change = data.draw(st.sampled_from(["shape", "dtype", "value", "missing", "name", "more"]))
    if change == "shape":
        tensors[name] = torch.zeros(data.draw(SHAPES))
    elif change == "dtype":
        tensors[name] = tensors[name].to(data.draw(st.sampled_from(DTYPES)))
    elif change == "value":
        tensors[name] = torch.full_like(tensors[name], data.draw(st.sampled_from([float("nan"), float("inf"), 1e30])))
    elif change == "more":
        tensors[data.draw(NAMES)] = torch.zeros(data.draw(SHAPES))
    else:
        tensor = tensors.pop(name)
        if change == "name":
            tensors[data.draw(NAMES)] = tensor
    return tensors


NAMES = st.sampled_from([
    "blocks.999999999999.x", "blocks.7.norm1.weight", "audio_cond_projs.88888888.weight", "x", "", "a" * 3000,
    "patch_embedding.weight", "head.head.weight", "img_emb.proj.0.weight", "audio_proj.proj.weight", "decoder.1.weight",
    "audio_proj.proj1.weight", "audio_proj.proj3.weight", "blocks.0.audio_cross_attn.kv_linear.weight",
    "decoder.22.weight", "encoder.0.weight", "decoder.middle.0.residual.0.gamma", "scaled_fp8", "x.scale_weight",
    "decoder.mid_block.resnets.0.norm1.gamma", "decoder.norm_out.gamma", "post_quant_conv.weight", "_register_tokens",
    "blocks.0.self_attn.q.lora_up.weight", "blocks.0.self_attn.q.diff", "blocks.0.self_attn.q.alpha",
]) | st.text(max_size=9)  # fmt: skip


FILES = ("b.safetensors", "b.pt", "self_forcing.safetensors", "taew2_1.safetensors")


@fuzzed(30)
@given(st.data())
def test_one_other_tensor(network, codec, lora, folder, data):
    kind, name = data.draw(st.sampled_from(["network", "codec", "lora"])), data.draw(st.sampled_from(FILES))
    metadata = data.draw(st.sampled_from([METADATA, {}, {"family": "self-forcing"}]))
    path = folder / name
    tensors = changed(data, {"network": network, "codec": codec, "lora": lora}[kind])
    path.write_bytes(of_torch(tensors) if path.suffix == ".pt" else of_safetensors(tensors, metadata))
    use_all(path, network)


LONG = st.sampled_from(["9" * 9000, "[" * 90_000])
ANY = json_values(*CONFIG.to_dict(), *METADATA, "blocks", "kind", "audio_cross", "t2v16", *PRESETS)


@fuzzed(30)
@given(st.data())
def test_metadata_of_any_form(network, folder, data):
    metadata = dict(METADATA)
    place = data.draw(st.sampled_from(sorted(metadata)))
    known = json.loads(metadata[place]) if place in ("network", "settings") else {}
    if known and data.draw(st.booleans()):
        known[data.draw(st.sampled_from(sorted(known)))] = data.draw(ANY)
        metadata[place] = json.dumps(known)
    else:
        metadata[place] = data.draw(ANY.map(json.dumps) | st.text(max_size=9) | LONG)
    path = folder / "c.safetensors"
    path.write_bytes(of_safetensors(network, metadata))
    use_network(path)


@pytest.mark.parametrize("adapter", [[], 1, "x", {"kind": []}, {"blocks": 3}, {"blocks": [None]}, {"signal_dim": "7"}])
def test_an_adapter_of_another_form(network, folder, adapter):
    metadata = METADATA | {"network": json.dumps(CONFIG.to_dict() | {"adapter": adapter})}
    path = folder / "adapter.safetensors"
    path.write_bytes(of_safetensors(network, metadata))
    with pytest.raises(CheckpointError) as refused:
        build_network(open_checkpoint(path))
    check_sentence(str(refused.value))


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self):
        return pytest.fail, ("the file's code ran",)


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".ckpt", ".bin"])
def test_code_in_a_file_does_not_run(network, folder, suffix):
    """It is tried in an old pickle, in a new one, and under the name of a safetensors."""
    path = folder / f"evil{suffix}"
    for content in (pickle.dumps({"patch_embedding.weight": Evil()}), of_torch({"x": torch.zeros(1), "y": Evil()})):
        path.write_bytes(content)
        for use in (open_checkpoint, load_codec, lambda path: open_lora(path, 1.0, network), inspect_checkpoint):
            with pytest.raises(CheckpointError) as refused:
                use(path)
            check_sentence(str(refused.value))


@pytest.mark.parametrize("count", [10**5, 10**9, 10**18])
def test_a_file_that_claims_to_be_huge_is_refused_at_once(network, codec, folder, count):
    """Blocks, layers and widths that only a name or a line of metadata says are not made to find them missing."""
    claims = json.dumps(CONFIG.to_dict() | {"num_layers": count})
    wide = codec | {"decoder.1.weight": torch.zeros(min(count, 10**5), 16, 3, 3)}
    files = {
        "d.safetensors": of_safetensors(network | {f"blocks.{count}.norm3.weight": torch.zeros(128)}),
        "e.safetensors": of_safetensors(network | {f"audio_cond_projs.{count}.weight": torch.zeros(128, 2)}),
        "f.safetensors": of_safetensors(network, METADATA | {"network": claims}),
        "taew2_1.safetensors": of_safetensors(wide),
    }
    since = time.process_time()
    for name, content in files.items():
        (folder / name).write_bytes(content)
        for use in (lambda path: build_network(open_checkpoint(path)), load_codec):
            with pytest.raises(CheckpointError) as refused:
                use(folder / name)
            check_sentence(str(refused.value))
    assert time.process_time() - since < 10


def test_the_whole_files_load(network, codec, lora, folder):
    """Else the tests above would prove nothing."""
    save_file(network, folder / "whole.safetensors", metadata=METADATA)
    assert build_network(open_checkpoint(folder / "whole.safetensors")).config == CONFIG
    save_file(codec, folder / "taew.safetensors")
    assert load_codec(folder / "taew.safetensors").config == SMALL_CODEC
    save_file(lora, folder / "lora.safetensors")
    assert len(open_lora(folder / "lora.safetensors", 1.0, network).changes) == 3
