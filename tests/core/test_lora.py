"""LoRAs: every style of names is the same change, and it is the change that was asked for."""

import logging

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from knot_core.config import NetworkConfig
from knot_core.errors import CheckpointError, SettingsError
from knot_core.wan.checkpoint import open_checkpoint
from knot_core.wan.lora import open_lora
from knot_core.wan.network import WanNetwork
from knot_core.wan.network_building import build_network

CONFIG = NetworkConfig(
    dim=128, ffn_dim=64, num_heads=1, num_layers=2, in_channels=16, layout="t2v16", text_dim=24, freq_dim=16
)
OF_A_BLOCK = (*(f"{kind}_attn.{part}" for kind in ("self", "cross") for part in "qkvo"), "ffn.0", "ffn.2")
LINEARS = [f"blocks.{block}.{name}" for block in range(2) for name in OF_A_BLOCK]
RANK = 3


@pytest.fixture
def weights(randomised) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in randomised(WanNetwork(CONFIG), 0).state_dict().items()}


@pytest.fixture
def checkpoint(tmp_path, weights):
    save_file(weights, tmp_path / "base.safetensors")
    return open_checkpoint(tmp_path / "base.safetensors")


@pytest.fixture
def factors(weights) -> dict[str, tuple[Tensor, Tensor]]:
    rng = torch.Generator().manual_seed(1)
    shapes = {name: weights[f"{name}.weight"].shape for name in LINEARS}
    return {
        name: (torch.randn(RANK, inputs, generator=rng) / 10, torch.randn(outputs, RANK, generator=rng))
        for name, (outputs, inputs) in shapes.items()
    }


def assert_merged(checkpoint, path, weights, factors, scale: float = 1.0, strength: float = 1.0) -> None:
    found = build_network(checkpoint, lora=open_lora(path, strength, weights)).state_dict()
    for name, weight in weights.items():
        module = name.removesuffix(".weight")
        if module in factors:
            down, up = factors[module]
            weight = weight + strength * scale * (up @ down)  # noqa: PLW2901
        assert torch.allclose(found[name], weight, atol=1e-6), name


def diffusers_name(name: str) -> str:
    for ours, theirs in (("self_attn", "attn1"), ("cross_attn", "attn2"), (".ffn.0", ".ffn.net.0.proj"),
                         (".ffn.2", ".ffn.net.2")):  # fmt: skip
        name = name.replace(ours, theirs)
    head, _, last = name.rpartition(".")
    return f"{head}.to_out.0" if last == "o" else f"{head}.to_{last}" if last in "qkv" else name


STYLES = {
    "peft": (lambda name: f"base_model.model.{name}", "lora_A.weight", "lora_B.weight"),
    "peft, named": (lambda name: f"base_model.model.{name}", "lora_A.default.weight", "lora_B.default.weight"),
    "peft, wrapped": (lambda name: f"model._fsdp_wrapped_module.base_model.model.{name}", "lora_A.weight",
                      "lora_B.weight"),
    "comfyui": (lambda name: f"diffusion_model.{name}", "lora_A.weight", "lora_B.weight"),
    "comfyui, down": (lambda name: f"diffusion_model.{name}", "lora_down.weight", "lora_up.weight"),
    "bare": (lambda name: name, "lora.down.weight", "lora.up.weight"),
    "kohya": (lambda name: "lora_unet_" + name.replace(".", "_"), "lora_down.weight", "lora_up.weight"),
    "diffusers": (lambda name: f"transformer.{diffusers_name(name)}", "lora_A.weight", "lora_B.weight"),
    "diffsynth": (lambda name: f"pipe.dit.{name}", "lora_A.default.weight", "lora_B.default.weight"),
    "dit": (lambda name: f"dit.{name}", "lora_A.weight", "lora_B.weight"),
    "kohya, transformer": (lambda name: "lora_transformer_" + name.replace(".", "_"), "lora_down.weight",
                           "lora_up.weight"),
    "module": (lambda name: f"module.{name}", "lora_A.weight", "lora_B.weight"),
    "net": (lambda name: f"net.{name}", "lora_A.weight", "lora_B.weight"),
    "lycoris": (lambda name: "lycoris_" + name.replace(".", "_"), "lora_down.weight", "lora_up.weight"),
}  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_every_style_is_the_same_change(tmp_path, checkpoint, weights, factors, style):
    rename, down_name, up_name = STYLES[style]
    stored = {}
    for name, (down, up) in factors.items():
        stored |= {f"{rename(name)}.{down_name}": down, f"{rename(name)}.{up_name}": up}
    save_file(stored, tmp_path / "lora.safetensors")
    assert_merged(checkpoint, tmp_path / "lora.safetensors", weights, factors)


def test_longlives_file_is_read_from_its_wrapper(tmp_path, checkpoint, weights, factors):
    stored = {}
    for name, (down, up) in factors.items():
        stored |= {f"base_model.model.{name}.lora_A.weight": down, f"base_model.model.{name}.lora_B.weight": up}
    critic = {name: torch.zeros_like(tensor) for name, tensor in stored.items()}
    torch.save({"critic_lora": critic, "generator_lora": stored, "step": 3}, tmp_path / "lora.pt")
    assert_merged(checkpoint, tmp_path / "lora.pt", weights, factors, strength=0.5)
    assert_merged(checkpoint, tmp_path / "lora.pt", weights, {}, strength=0.0)


def test_alpha_scales_and_differences_are_added(tmp_path, checkpoint, weights, factors):
    name = "blocks.1.ffn.0"
    down, up = factors[name]
    bias, norm = torch.randn(64), torch.randn(128)
    save_file(
        {f"diffusion_model.{name}.lora_down.weight": down, f"diffusion_model.{name}.lora_up.weight": up,
         f"diffusion_model.{name}.alpha": torch.tensor(6.0), f"diffusion_model.{name}.diff_b": bias,
         "diffusion_model.blocks.0.norm3.diff": norm}, tmp_path / "lora.safetensors")  # fmt: skip
    changed = weights | {f"{name}.bias": weights[f"{name}.bias"] + bias,
                         "blocks.0.norm3.weight": weights["blocks.0.norm3.weight"] + norm}  # fmt: skip
    found = build_network(checkpoint, lora=open_lora(tmp_path / "lora.safetensors", 1.0, weights)).state_dict()
    changed[f"{name}.weight"] = weights[f"{name}.weight"] + 6 / RANK * up @ down
    assert all(torch.allclose(found[name], changed[name], atol=1e-6) for name in weights)


def test_it_is_merged_before_rounding(tmp_path, checkpoint, weights, factors):
    name = "blocks.0.self_attn.q"
    down, up = factors[name]
    stored = {f"{name}.lora_A.weight": down.bfloat16(), f"{name}.lora_B.weight": up.bfloat16()}
    save_file(stored, tmp_path / "lora.safetensors")
    lora = open_lora(tmp_path / "lora.safetensors", 1.0, weights)
    found = build_network(checkpoint, torch.bfloat16, lora=lora).state_dict()[f"{name}.weight"]
    wanted = (weights[f"{name}.weight"] + up.bfloat16().float() @ down.bfloat16().float()).bfloat16()
    assert torch.equal(found, wanted)


def test_what_finds_no_place_is_said(tmp_path, weights, factors, caplog):
    name = "blocks.0.self_attn.q"
    down, up = factors[name]
    stored = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up,
              "blocks.7.ffn.0.lora_A.weight": down.clone(),
              "blocks.1.self_attn.k.lora_A.weight": down.clone()}  # fmt: skip
    save_file(stored, tmp_path / "lora.safetensors")
    with caplog.at_level(logging.WARNING):
        assert set(open_lora(tmp_path / "lora.safetensors", 1.0, weights).changes) == {f"{name}.weight"}
    assert "2 of 4 tensors have no place in this network and are ignored" in caplog.text


def test_a_lora_of_another_network_is_refused(tmp_path, checkpoint, weights):
    save_file({"unet.down.lora_A.weight": torch.ones(2, 2)}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match="changes nothing of this network: it holds unet"):
        open_lora(tmp_path / "lora.safetensors", 1.0, weights)
    name = "blocks.0.ffn.0"
    stored = {f"{name}.lora_A.weight": torch.ones(2, 5), f"{name}.lora_B.weight": torch.ones(64, 2)}
    save_file(stored, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"of shape \[64, 5\], and the network has \[64, 128\]"):
        build_network(checkpoint, lora=open_lora(tmp_path / "other.safetensors", 1.0, weights))
    with pytest.raises(SettingsError, match="strength is 1000"):
        open_lora(tmp_path / "other.safetensors", 1000, weights)


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_lora_is_refused(tmp_path, weights, factors, suffix, share):
    down, up = factors["blocks.0.self_attn.q"]
    stored = {"blocks.0.self_attn.q.lora_A.weight": down, "blocks.0.self_attn.q.lora_B.weight": up}
    path = tmp_path / f"lora.{suffix}"
    torch.save({"generator_lora": stored}, path) if suffix == "pt" else save_file(stored, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(CheckpointError, match=r"lora\.(pt|safetensors) is truncated or damaged"):
        open_lora(path, 1.0, weights)


def test_code_in_a_lora_does_not_run(tmp_path, weights, capsys):
    torch.save({"generator_lora": {"blocks.0.ffn.0.lora_A.weight": Evil()}}, tmp_path / "lora.pt")
    with pytest.raises(CheckpointError, match=r"lora\.pt carries code beside its weights"):
        open_lora(tmp_path / "lora.pt", 1.0, weights)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("damage", [
    {"lora_A.weight": torch.ones(RANK + 1, 128)},
    {"lora_A.weight": torch.ones(128)},
    {"lora_A.weight": torch.ones(0, 128), "lora_B.weight": torch.ones(128, 0)},
    {"alpha": torch.ones(2)},
], ids=["other rank", "no matrix", "rank 0", "two alphas"])  # fmt: skip
def test_parts_that_make_no_matrix_are_refused(tmp_path, weights, damage):
    name, whole = (
        "blocks.0.self_attn.q",
        {"lora_A.weight": torch.ones(RANK, 128), "lora_B.weight": torch.ones(128, RANK)},
    )
    save_file({f"{name}.{part}": tensor for part, tensor in (whole | damage).items()}, tmp_path / "lora.safetensors")
    with pytest.raises(CheckpointError, match=r"blocks\.0\.self_attn\.q\.weight whose parts do not fit each other"):
        open_lora(tmp_path / "lora.safetensors", 1.0, weights)


def test_numbers_that_are_none_are_blamed_on_the_lora(tmp_path, checkpoint, weights, factors):
    down, up = factors["blocks.0.self_attn.q"]
    stored = {"blocks.0.self_attn.q.lora_A.weight": down * torch.nan, "blocks.0.self_attn.q.lora_B.weight": up}
    save_file(stored, tmp_path / "lora.safetensors")
    lora = open_lora(tmp_path / "lora.safetensors", 1.0, weights)
    with pytest.raises(CheckpointError, match=r"lora\.safetensors holds values that are not finite .*self_attn\.q"):
        build_network(checkpoint, torch.bfloat16, lora=lora)
