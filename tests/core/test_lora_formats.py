"""Every kind of change that LoRA files hold does what its definition says, and is scaled by what the file says."""

import json
import logging
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.config import NetworkConfig
from knot_core.errors import CheckpointError
from knot_core.wan.lora import open_lora
from knot_core.wan.network import WanNetwork

CONFIG = NetworkConfig(
    dim=128, ffn_dim=64, num_heads=1, num_layers=1, in_channels=16, layout="t2v16", text_dim=24, freq_dim=16
)
OUT, IN, RANK = 64, 128, 4
NAME = "blocks.0.ffn.0"
WEIGHT = f"{NAME}.weight"


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weights(randomised) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomised(WanNetwork(CONFIG), 0).state_dict().items()}


@pytest.fixture
def merged(tmp_path, weights):
    """The weight of that name, as a file of these tensors changes it."""

    def merge(tensors: dict[str, Tensor], weight: str = WEIGHT, strength: float = 1.0, file: str = "lora.safetensors",
              metadata: dict[str, str] | None = None) -> Tensor:  # fmt: skip
        save_file(tensors, tmp_path / file, metadata=metadata)
        return open_lora(tmp_path / file, strength, weights).merged(weight, weights[weight])

    return merge


DOWN, UP = rand(RANK, IN, seed=1), rand(OUT, RANK, seed=2)
PEFT = {f"base_model.model.{NAME}.lora_A.weight": DOWN, f"base_model.model.{NAME}.lora_B.weight": UP}
COMFY = {f"diffusion_model.{NAME}.lora_down.weight": DOWN, f"diffusion_model.{NAME}.lora_up.weight": UP}


def dora(weight: Tensor, change: Tensor, magnitude: Tensor, dim: int) -> Tensor:
    direction = weight + change
    return magnitude * direction / direction.norm(dim=dim, keepdim=True)


@pytest.mark.parametrize("strength", [1.0, 0.5, -1.0])
@pytest.mark.parametrize("names", ["comfy", "peft", "peft, named"])
def test_doras_magnitude_is_of_the_changed_weight(merged, weights, names, strength):
    magnitude = rand(OUT, 1, seed=3).abs() + 1
    if names == "comfy":
        tensors = COMFY | {f"diffusion_model.{NAME}.dora_scale": magnitude}
    else:
        end = "lora_magnitude_vector" + (".default.weight" if names == "peft, named" else "")
        tensors = PEFT | {f"base_model.model.{NAME}.{end}": magnitude[:, 0].contiguous()}
    weight = weights[WEIGHT]
    wanted = weight + strength * (dora(weight, UP @ DOWN, magnitude, 1) - weight)
    assert torch.allclose(merged(tensors, strength=strength), wanted, atol=1e-5)


def test_doras_magnitude_may_go_with_the_inputs(merged, weights):
    magnitude = rand(1, IN, seed=3).abs() + 1
    found = merged(COMFY | {f"diffusion_model.{NAME}.dora_scale": magnitude})
    assert torch.allclose(found, dora(weights[WEIGHT], UP @ DOWN, magnitude, 0), atol=1e-5)


def test_loha_is_a_product_of_two_products(merged, weights):
    factors = {"w1_a": rand(OUT, RANK, seed=1), "w1_b": rand(RANK, IN, seed=2), "w2_a": rand(OUT, RANK, seed=3),
               "w2_b": rand(RANK, IN, seed=4)}  # fmt: skip
    tensors = {f"lycoris_blocks_0_ffn_0.hada_{part}": tensor for part, tensor in factors.items()}
    tensors["lycoris_blocks_0_ffn_0.alpha"] = torch.tensor(2.0)
    change = (factors["w1_a"] @ factors["w1_b"]) * (factors["w2_a"] @ factors["w2_b"])
    assert torch.allclose(merged(tensors), weights[WEIGHT] + 2 / RANK * change, atol=1e-4)


@pytest.mark.parametrize("first", ["whole", "product"])
@pytest.mark.parametrize("second", ["whole", "product"])
def test_lokr_is_a_kronecker_product(merged, weights, first, second):
    whole = {"w1": rand(8, 16, seed=1), "w2": rand(8, 8, seed=2)}
    products = {"w1": (rand(8, 2, seed=3), rand(2, 16, seed=4)), "w2": (rand(8, 3, seed=5), rand(3, 8, seed=6))}
    tensors = {f"diffusion_model.{NAME}.alpha": torch.tensor(6.0)}
    for part, kind in (("w1", first), ("w2", second)):
        names = (part,) if kind == "whole" else (f"{part}_a", f"{part}_b")
        found = (whole[part],) if kind == "whole" else products[part]
        tensors |= {f"diffusion_model.{NAME}.lokr_{name}": tensor for name, tensor in zip(names, found, strict=True)}
    factors = [whole[part] if kind == "whole" else products[part][0] @ products[part][1]
               for part, kind in (("w1", first), ("w2", second))]  # fmt: skip
    scale = 6 / 3 if second == "product" else 6 / 2 if first == "product" else 1.0
    assert torch.allclose(merged(tensors), weights[WEIGHT] + scale * torch.kron(*factors), atol=1e-4)


@pytest.mark.parametrize("kind", ["loha", "lokr", "locon"])
def test_a_convolution_may_have_a_core(merged, weights, kind):
    """The weight is the patch embedding's, [128, 16, 1, 2, 2]."""
    weight, rank, prefix = "patch_embedding.weight", 3, "diffusion_model.patch_embedding"
    core, a, b = rand(rank, rank, 1, 2, 2, seed=1), rand(rank, 128, seed=2), rand(rank, 16, seed=3)
    made = torch.einsum("rsxyz,ro,si->oixyz", core, a, b)
    if kind == "loha":
        tensors = {f"{prefix}.hada_{name}": tensor for n in (1, 2) for name, tensor in (
            (f"t{n}", core.clone()), (f"w{n}_a", a.clone()), (f"w{n}_b", b.clone()))}  # fmt: skip
        wanted = made * made
    elif kind == "lokr":
        a, b = rand(rank, 32, seed=2), rand(rank, 8, seed=3)
        tensors = {f"{prefix}.lokr_t2": core, f"{prefix}.lokr_w2_a": a, f"{prefix}.lokr_w2_b": b,
                   f"{prefix}.lokr_w1": rand(4, 2, seed=4)}  # fmt: skip
        second = torch.einsum("rsxyz,ro,si->oixyz", core, a, b)
        wanted = torch.einsum("pq,oixyz->poqixyz", rand(4, 2, seed=4), second).reshape(128, 16, 1, 2, 2)
    else:
        up, down = (part[..., None, None, None].contiguous() for part in (a.T, b))
        tensors = {f"{prefix}.lora_{part}.weight": value for part, value in (("mid", core), ("up", up), ("down", down))}
        wanted = made
    assert torch.allclose(merged(tensors, weight), weights[weight] + wanted, atol=1e-4)


def config(tmp_path, **said: object) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, **said}))


@pytest.mark.parametrize(("said", "scale"), [
    ({"lora_alpha": 8}, 2.0),
    ({"lora_alpha": 8, "use_rslora": True}, 8 / math.sqrt(RANK)),
    ({"lora_alpha": 8, "alpha_pattern": {"ffn.0": 2}}, 0.5),
    ({"lora_alpha": 8, "alpha_pattern": {r"blocks\.\d+\.ffn\.0": 2}}, 0.5),
    ({"lora_alpha": 8, "alpha_pattern": {"fn.0": 2}}, 2.0),  # no whole name of a module
    ({}, 1.0),
])  # fmt: skip
@pytest.mark.parametrize("file", ["adapter_model.safetensors", "renamed.safetensors"])
def test_alpha_may_stand_in_pefts_configuration(tmp_path, merged, weights, said, scale, file):
    config(tmp_path, **said)
    assert torch.allclose(merged(PEFT, file=file), weights[WEIGHT] + scale * UP @ DOWN, atol=1e-4)


def test_a_folder_as_peft_saves_it_is_read(tmp_path, weights):
    config(tmp_path, lora_alpha=8)
    save_file(PEFT, tmp_path / "adapter_model.safetensors")
    found = open_lora(tmp_path, 1.0, weights).merged(WEIGHT, weights[WEIGHT])
    assert torch.allclose(found, weights[WEIGHT] + 2 * UP @ DOWN, atol=1e-4)


def test_a_configuration_beside_another_trainers_file_is_not_its_own(tmp_path, merged, weights):
    config(tmp_path, lora_alpha=8)
    assert torch.allclose(merged(COMFY, file="other.safetensors"), weights[WEIGHT] + UP @ DOWN, atol=1e-4)


def test_an_alpha_in_the_tensors_comes_first(tmp_path, merged, weights):
    config(tmp_path, lora_alpha=8)
    found = merged(PEFT | {f"base_model.model.{NAME}.alpha": torch.tensor(1.0)})
    assert torch.allclose(found, weights[WEIGHT] + 0.25 * UP @ DOWN, atol=1e-4)


def test_alpha_may_stand_in_diffusers_metadata(merged, weights):
    tensors = {"transformer.blocks.0.ffn.net.0.proj.lora_A.weight": DOWN,
               "transformer.blocks.0.ffn.net.0.proj.lora_B.weight": UP}  # fmt: skip
    said = {"transformer.r": RANK, "transformer.lora_alpha": 12, "transformer.alpha_pattern": {}}
    found = merged(tensors, metadata={"lora_adapter_metadata": json.dumps(said)})
    assert torch.allclose(found, weights[WEIGHT] + 3 * UP @ DOWN, atol=1e-4)


@pytest.mark.parametrize("text", ["{", "[]", '{"lora_alpha": "much"}', '{"lora_alpha": NaN}', '{"r": [1]}',
                                  '{"alpha_pattern": {"(": 1}}', '{"alpha_pattern": 3}', "\ud800"])  # fmt: skip
def test_a_configuration_that_says_nothing_is_refused(tmp_path, weights, text):
    (tmp_path / "adapter_config.json").write_text(text, encoding="utf-8", errors="replace")
    save_file(PEFT, tmp_path / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json does not say how adapter_model\.safetensors is"):
        open_lora(tmp_path / "adapter_model.safetensors", 1.0, weights)


@pytest.mark.parametrize("names", [
    ("blocks.0.diff_m", "head.diff_m"), ("blocks.0.modulation.diff", "head.modulation.diff")])  # fmt: skip
def test_modulations_are_changed(tmp_path, weights, names):
    changes = [rand(1, 6, 128, seed=1), rand(1, 2, 128, seed=2)]
    save_file({f"diffusion_model.{name}": change for name, change in zip(names, changes, strict=True)},
              tmp_path / "lora.safetensors")  # fmt: skip
    lora = open_lora(tmp_path / "lora.safetensors", 1.0, weights)
    for name, change in zip(("blocks.0.modulation", "head.modulation"), changes, strict=True):
        assert torch.allclose(lora.merged(name, weights[name]), weights[name] + change)


def test_pefts_change_of_a_bias_is_scaled_alike(tmp_path, merged, weights):
    config(tmp_path, lora_alpha=8)
    bias = rand(OUT, seed=5)
    found = merged(PEFT | {f"base_model.model.{NAME}.lora_B.bias": bias}, f"{NAME}.bias")
    assert torch.allclose(found, weights[f"{NAME}.bias"] + 2 * bias, atol=1e-5)


def warning(tmp_path, weights, caplog, tensors: dict[str, Tensor], strength: float = 1.0) -> str:
    save_file(tensors, tmp_path / "lora.safetensors")
    with caplog.at_level(logging.WARNING):
        lora = open_lora(tmp_path / "lora.safetensors", strength, weights)
    assert lora.warning in (caplog.messages or [None])
    return lora.warning


def test_a_lora_that_changes_nothing_says_so(tmp_path, weights, caplog):
    untrained = COMFY | {f"diffusion_model.{NAME}.lora_up.weight": torch.zeros(OUT, RANK)}
    assert "changes nothing: every change in it is zero" in warning(tmp_path, weights, caplog, untrained)
    caplog.clear()
    assert "changes nothing: its strength is 0" in warning(tmp_path, weights, caplog, COMFY, 0.0)


def test_a_lora_of_which_much_is_not_used_says_how_much_and_which(tmp_path, weights, caplog):
    more = {f"diffusion_model.blocks.{block}.ffn.0.lora_{part}.weight": torch.ones(2, 2)
            for block in (7, 8) for part in ("up", "down")}  # fmt: skip
    said = warning(tmp_path, weights, caplog, COMFY | more)
    assert "4 of 6 tensors have no place in this network and are ignored" in said
    assert "diffusion_model.blocks.7.ffn.0.lora_" in said
    assert said.endswith("probably made for another network")
    caplog.clear()
    assert warning(tmp_path, weights, caplog, COMFY) is None


@pytest.mark.parametrize("damage", [
    {"hada_w1_a": rand(OUT, RANK + 1)}, {"hada_w1_b": rand(RANK)}, {"dora_scale": rand(7, 1)},
    {"hada_w2_a": torch.ones(OUT, 0), "hada_w2_b": torch.ones(0, IN), "hada_w1_a": torch.ones(OUT, 0),
     "hada_w1_b": torch.ones(0, IN)},
])  # fmt: skip
def test_parts_of_other_kinds_that_do_not_fit_are_refused(tmp_path, weights, damage):
    whole = {f"hada_w{n}_{part}": rand(OUT, RANK) if part == "a" else rand(RANK, IN) for n in "12" for part in "ab"}
    save_file({f"{NAME}.{part}": tensor for part, tensor in (whole | damage).items()}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.ffn\.0\.weight whose parts do not fit each other"):
        open_lora(tmp_path / "lora.safetensors", 1.0, weights)
