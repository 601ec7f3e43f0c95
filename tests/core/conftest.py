"""Tiny real networks with random weights, and signals to drive them."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import LAYOUT_CHANNELS, AdapterConfig, NetworkConfig
from knot_core.stream import Anchor, encode_latent_anchor
from knot_core.stream.stream_model import spatial_of, wants_reference
from knot_core.wan.network import WanNetwork, cast_weights

torch.set_num_threads(1)  # tiny networks: their operations are done before threads have met, the more so beside others

LATENT_SIZE = (4, 6)  # 2 x 3 tokens


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """What a stream asks of a model, and nothing else."""

    network: nn.Module
    config: NetworkConfig
    codec: nn.Module
    device: torch.device
    dtype: torch.dtype

    def anchor(self, seed: int = 7, text: Tensor | None = None) -> Anchor:
        """The anchor of some reference."""
        rng = torch.Generator().manual_seed(seed)
        latent = torch.randn(1, 1, 16, *LATENT_SIZE, generator=rng)
        if not wants_reference(self.codec):
            return encode_latent_anchor(self, latent, text)
        size = [spatial_of(self.codec) * side for side in LATENT_SIZE]
        picture = torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=rng)
        latent = self.codec.encode(picture.movedim(-1, 0)[None, None] / 255)
        return encode_latent_anchor(self, latent, text, picture_HWC=picture)


def tiny_config(layout: str = "inpaint36", **changes) -> NetworkConfig:
    sizes = {"dim": 48, "ffn_dim": 64, "num_heads": 2, "num_layers": 3, "text_dim": 20, "freq_dim": 32}
    adapter = AdapterConfig(signal_dim=5, num_packed=4, hidden_dim=8, blocks=(0, 2))
    channels = LAYOUT_CHANNELS.get(layout, 36)
    return NetworkConfig(**{**sizes, "in_channels": channels, "layout": layout, "adapter": adapter, **changes})


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> nn.Module:
    """Weights of which none is zero and none a bystander: Wan itself starts with a head that says 0."""
    rng = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        fan_in = parameter[0].numel() if parameter.dim() > 1 else 1
        scale = 0.3 if parameter.dim() == 1 else fan_in**-0.5
        parameter.copy_(scale * torch.randn(parameter.shape, generator=rng))
    for part in module.modules():
        if isinstance(part, nn.LayerNorm | nn.RMSNorm) and part.weight is not None:
            part.weight.add_(1.0)
    return module


def tiny_model(layout: str = "inpaint36", *, dtype: torch.dtype = torch.float32, seed: int = 0, **changes) -> TinyModel:
    config = tiny_config(layout, **changes)
    network = cast_weights(randomise(WanNetwork(config), seed), dtype).eval()
    codec = randomise(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), seed).eval()
    return TinyModel(network=network, config=config, codec=codec, device=torch.device("cpu"), dtype=dtype)


def face_model(seed: int = 0, **changes) -> TinyModel:
    """A tiny model whose codec has 16 pixels a latent cell and moves the reference picture."""
    codec = randomise(WarpingCodec(WarpingConfig(encoder=(4, 4, 4, 6), decoder=(6, 4, 4), reference=4)), seed).eval()
    return replace(tiny_model(seed=seed, **changes), codec=codec)


@dataclass(frozen=True)
class Waves:
    """A driving that is different in every frame and every channel, for ever or for a while."""

    num_pixel_frames: int | None = None
    phase: float = 0.0

    def signal(self, first_latent: int, num_latents: int) -> Tensor:
        frames = torch.arange(first_latent, first_latent + num_latents, dtype=torch.float64)
        angles = 0.7 * frames[:, None, None] + torch.arange(20.0).view(4, 5) + self.phase
        return angles.sin().float()


@pytest.fixture(scope="session")
def make_face_model():
    """`make_face_model(seed=, **changes of the configuration)`"""
    return face_model


@pytest.fixture(scope="session")
def make_model():
    """`make_model(layout, dtype=, seed=, **changes of the configuration)`"""
    return tiny_model


@pytest.fixture(scope="session")
def make_config():
    """`make_config(layout, **changes)`"""
    return tiny_config


@pytest.fixture(scope="session")
def randomised():
    """`randomised(module, seed)`: the module with new weights."""
    return randomise


@pytest.fixture(scope="session")
def waves():
    """`waves(num_pixel_frames=None, phase=0.0)`: a driving."""
    return Waves


@pytest.fixture(scope="session")
def model() -> TinyModel:
    """A tiny model of the built-in model's layout."""
    return tiny_model()


@pytest.fixture(scope="session")
def anchor(model: TinyModel) -> Anchor:
    """The anchor of some reference, of `model`."""
    return model.anchor()
