"""Small random files of the exact structure of public ones, written for a ComfyUI to load. Runs inside the host."""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file

SPEECH = {"embed_dim": 128, "num_heads": 2, "num_layers": 2}  # a wav2vec2 of the base models' kind
SIZES = {"dim": 256, "ffn_dim": 512, "num_heads": 2, "num_layers": 2, "text_dim": 4096}  # head_dim 128, as Wan's


def write_files(core: ModuleType, models: Path) -> None:
    """Into ComfyUI's model folders."""
    for folder in ("diffusion_models", "vae_approx", "vae", "loras"):
        (models / folder).mkdir(parents=True, exist_ok=True)
    networks = models / "diffusion_models"
    t2v = random_network(core, "t2v16", 16)
    save_file(t2v, networks / "self_forcing.safetensors")
    save_file({f"model.{name}": tensor for name, tensor in t2v.items()}, networks / "prefixed.safetensors")
    trained = {f"model._fsdp_wrapped_module.{name}": tensor for name, tensor in t2v.items()}
    torch.save({"generator": {}, "generator_ema": trained, "step": 9}, networks / "self_forcing_wrapped.pt")
    save_file({name: in_fp8(name, tensor) for name, tensor in t2v.items()}, networks / "fp8.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in t2v.items()}, networks / "bf16.safetensors")
    save_file(random_network(core, "inpaint36", 36, image_dim=1280), networks / "wan_i2v.safetensors")
    signal_dim = (SPEECH["num_layers"] + 2) * SPEECH["embed_dim"]  # last layer, and what enters and leaves each
    adapter = core.config.AdapterConfig(signal_dim=signal_dim, num_packed=4, hidden_dim=32, blocks=(2, 3))
    livetalk = random_network(core, "ref33", 33, adapter=adapter, num_layers=4)
    save_file(livetalk, networks / "livetalk.safetensors")
    layers = SPEECH["num_layers"] * SPEECH["embed_dim"]
    cross = core.config.AudioCrossConfig(signal_dim=layers, hidden_dim=16, num_tokens=4, token_dim=32)
    whole = random_network(core, "inpaint36", 36, adapter=cross, image_dim=1280)
    modules = {name: tensor for name, tensor in whole.items() if "audio_" in name or ".norm_x." in name}
    save_file(modules, networks / "infinitetalk.safetensors")
    wide = modules | {"blocks.1.audio_cross_attn.proj.weight": torch.ones(512, 512)}
    save_file(wide, networks / "wide.safetensors")
    poisoned = modules | {"audio_proj.proj2.weight": torch.full((16, 16), torch.nan)}
    save_file(poisoned, networks / "nan.safetensors")
    rest = {name: tensor for name, tensor in whole.items() if name not in modules}
    save_file(rest, networks / "i2v_480p.safetensors")
    write_loras(t2v, models / "loras")
    tiny = core.codec.taehv.TAEHV(core.codec.taehv.CodecConfig(encoder=(8, 8, 8, 8), decoder=(16, 8, 8, 8)))
    save_file(randomised(tiny, 5), models / "vae_approx" / "taew2_1.safetensors")


def random_network(core: ModuleType, layout: str, channels: int, **more: Any) -> dict[str, torch.Tensor]:
    config = core.config.NetworkConfig(**{**SIZES, "layout": layout, "in_channels": channels, **more})
    return randomised(core.wan.network.WanNetwork(config), 3)


@torch.no_grad()
def randomised(module: torch.nn.Module, seed: int) -> dict[str, torch.Tensor]:
    """Weights of which none is zero and none a bystander."""
    rng = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        scale = 0.1 if parameter.dim() == 1 or "modulation" in name else fan_in**-0.5
        parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
        if parameter.dim() == 1 and "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def in_fp8(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """As fp8 files are: the blocks' matrices, nothing else."""
    return tensor.to(torch.float8_e4m3fn) if tensor.dim() == 2 and name.startswith("blocks.") else tensor


def write_loras(network: dict[str, torch.Tensor], folder: Path) -> None:
    """The same LoRA in ComfyUI's style, in LongLive's (PEFT, wrapped), and merged by hand."""
    rng, rank, alpha = torch.Generator().manual_seed(11), 4, 2.0
    host, peft, merged = {}, {}, dict(network)
    for name, weight in network.items():
        if not name.startswith("blocks.") or weight.dim() != 2:
            continue
        up = torch.randn(weight.shape[0], rank, generator=rng) / 8
        down = torch.randn(rank, weight.shape[1], generator=rng) / 8
        module = name.removesuffix(".weight")
        host |= {
            f"diffusion_model.{module}.lora_up.weight": up,
            f"diffusion_model.{module}.lora_down.weight": down,
            f"diffusion_model.{module}.alpha": torch.tensor(alpha),
        }
        scaled = alpha / rank * up
        peft |= {f"base_model.model.{module}.lora_A.weight": down, f"base_model.model.{module}.lora_B.weight": scaled}
        merged[name] = weight + 0.75 * scaled @ down
    write_dora(network, host, folder)
    save_file(host, folder / "host.safetensors")
    torch.save({"generator_lora": peft, "critic_lora": {}}, folder / "peft.pt")
    save_file(merged, folder.parent / "diffusion_models" / "merged_self_forcing.safetensors")


def write_dora(network: dict[str, torch.Tensor], host: dict[str, torch.Tensor], folder: Path) -> None:
    """The same with a magnitude of each row, and merged by hand: m * V / |V|, V = W + alpha / rank * up @ down."""
    dora, merged = dict(host), dict(network)
    for name in {key.removeprefix("diffusion_model.").rpartition(".lora_up")[0] for key in host if "lora_up" in key}:
        up, down, alpha = (
            host[f"diffusion_model.{name}.{part}"] for part in ("lora_up.weight", "lora_down.weight", "alpha")
        )
        weight = network[f"{name}.weight"]
        direction = weight + alpha / down.shape[0] * up @ down
        magnitude = 1.5 * weight.norm(dim=1, keepdim=True)
        dora[f"diffusion_model.{name}.dora_scale"] = magnitude
        whole = magnitude * direction / direction.norm(dim=1, keepdim=True)
        merged[f"{name}.weight"] = weight + 0.75 * (whole - weight)
    save_file(dora, folder / "dora.safetensors")
    save_file(merged, folder.parent / "diffusion_models" / "dora_self_forcing.safetensors")


def write_vae(host_vae: type, path: Path) -> None:
    """ComfyUI's own Wan 2.1 VAE, narrow."""
    vae = host_vae(dim=8, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
                   temperal_downsample=[False, True, True])  # fmt: skip
    save_file(randomised(vae, 7), path)


def speech_encoder(host_encoder: type, path: Path) -> Any:
    """ComfyUI's own audio encoder around a small wav2vec2, which is also written as transformers names it."""
    encoder = host_encoder({"model_type": "wav2vec2", **SPEECH, "conv_norm": False, "conv_bias": False,
                            "do_normalize": False, "do_stable_layer_norm": False})  # fmt: skip
    encoder.model.load_state_dict(randomised(encoder.model, 13))
    save_file(encoder.model.state_dict(), path)
    return encoder
