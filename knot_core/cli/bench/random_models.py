"""Networks of published sizes with random weights: speed does not depend on what they are."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from ...codec.taehv import TAEHV, CodecConfig
from ...config import LAYOUT_CHANNELS, AdapterConfig, NetworkConfig, StreamSettings, takes_controls
from ...driving import Driving
from ...errors import SettingsError
from ...model import Model
from ...text import NUM_TEXT_TOKENS
from ...wan.families import PRESETS
from ...wan.network import WanNetwork, cast_weights
from ...wan.preset import Preset

_small = partial(NetworkConfig, dim=1536, ffn_dim=8960, num_heads=12, num_layers=30)
_large = partial(NetworkConfig, dim=5120, ffn_dim=13824, num_heads=40, num_layers=40)
_CODEC = CodecConfig()  # of the public tiny decoders
_SETTINGS = StreamSettings(num_window_frames=9)
_SPEECH = AdapterConfig(signal_dim=10752, num_packed=4, hidden_dim=32, blocks=tuple(range(2, 16)))


@dataclass(frozen=True, kw_only=True)
class Published:
    """The properties that make a random network equivalent in speed to a published one."""

    sizes: partial
    layout: str = "t2v16"
    adapter: AdapterConfig | None = None
    timestep_dtype: str = "float32"
    settings: StreamSettings = _SETTINGS
    codec: CodecConfig = _CODEC
    height: int = 480
    width: int = 832


PUBLISHED: Mapping[str, Published] = {
    "wan-1.3b": Published(sizes=_small),
    "wan-14b": Published(sizes=_large),
    "livetalk": Published(
        sizes=_small,
        layout="ref33",
        adapter=_SPEECH,
        settings=PRESETS["livetalk"].settings,
        timestep_dtype="bfloat16",
        height=512,
        width=512,
    ),
}


def network_config(name: str) -> NetworkConfig:
    """Sizes of a published network."""
    row = PUBLISHED[name]
    return row.sizes(
        in_channels=LAYOUT_CHANNELS[row.layout],
        layout=row.layout,
        adapter=row.adapter,
        timestep_dtype=row.timestep_dtype,
    )


@torch.no_grad()
def random_model(name: str, device: torch.device, dtype: torch.dtype, num_layers: int | None = None) -> Model:
    """A published network, or one of fewer layers, with weights drawn on the device itself, and a tiny decoder."""
    row, config = PUBLISHED[name], network_config(name)
    if num_layers is not None:
        config = _of_depth(config, num_layers)
    with torch.device("meta"):
        network = cast_weights(WanNetwork(config), dtype)
    licence = "none: random weights"
    preset = Preset(family=name, settings=row.settings, fps=16, height=row.height, width=row.width, licence=licence)
    return Model(
        network=randomise(network.to_empty(device=device)).eval().requires_grad_(False),
        codec=randomise(TAEHV(row.codec)).eval().requires_grad_(False).to(device, dtype),
        config=config,
        preset=preset,
        device=device,
        dtype=dtype,
    )


def _of_depth(config: NetworkConfig, num_layers: int) -> NetworkConfig:
    if not 1 <= num_layers <= config.num_layers:
        raise SettingsError(f"layers is {num_layers}; this network has 1 to {config.num_layers}")
    adapter = config.adapter
    if adapter is not None:
        adapter = replace(adapter, blocks=tuple(block for block in adapter.blocks if block < num_layers))
    return replace(config, num_layers=num_layers, adapter=adapter)


@torch.no_grad()
def randomise(module: nn.Module) -> nn.Module:
    """Fill in place: matrices N(0, 1 / inputs), norms around 1, so that activations stay of order one in all layers."""
    for part in module.modules():
        is_norm = isinstance(part, nn.LayerNorm | nn.RMSNorm)
        for name, weight in part.named_parameters(recurse=False):
            inputs = weight[0].numel() if weight.dim() > 1 else 100
            weight.normal_(float(is_norm and name == "weight"), inputs**-0.5)
    return module


def random_text(model: Model) -> Tensor | None:
    """Random text tokens, [1, 512, text dim]; None for a model that takes no prompt."""
    if not model.preset.needs_text:
        return None
    return torch.randn(1, NUM_TEXT_TOKENS, model.config.text_dim, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Hum:
    """A driving for any adapter: the same signal, [F, T, S], for every latent frame."""

    config: NetworkConfig
    num_pixel_frames: int | None = None

    def signal(self, first_latent: int, num_latents: int) -> Tensor:  # noqa: ARG002
        adapter = self.config.adapter
        if adapter is None:
            return torch.zeros(num_latents, 1, 1)
        return torch.full((num_latents, adapter.num_packed, adapter.signal_dim), 0.1)


def some_driving(model: Model, num_pixel_frames: int | None = None) -> Driving | Hum:
    """Something that the model can be driven by: idle motion if it takes that. None: without end."""
    if model.config.adapter is None or not takes_controls(model.config.adapter):
        return Hum(model.config, num_pixel_frames)
    idle = Driving.idle()
    return idle if num_pixel_frames is None else idle.lasting(num_pixel_frames)
