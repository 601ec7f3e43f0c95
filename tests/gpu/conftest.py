"""A tiny network on a CUDA device; without one, the tests skip and say so."""

import warnings
from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch

from knot_core.cli.bench.random_models import PUBLISHED, Hum, Published, random_model
from knot_core.codec.taehv import CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.model import Model
from knot_core.stream import Stream, open_stream

NO_GPU = "NO CUDA DEVICE FOUND: the GPU tests did not run. Where there is one: python3 run.py test tests/gpu"
if not torch.cuda.is_available():
    warnings.warn(NO_GPU, stacklevel=1)

SIZE = (64, 96)
SETTINGS = StreamSettings(num_window_frames=6)
# heads as wide as Wan's, so that the kernels are those of the large networks
_SIZES = partial(NetworkConfig, dim=256, ffn_dim=512, num_heads=2, num_layers=3, text_dim=32, freq_dim=32)


@pytest.fixture(autouse=True, scope="session")
def cuda() -> torch.device:
    """The device; every test of this folder needs it."""
    if not torch.cuda.is_available():
        pytest.skip(NO_GPU)
    return torch.device("cuda")


@pytest.fixture(scope="session", params=["inpaint36", "ref33", "t2v16"])
def row(request) -> Published:
    """A small row like those of public networks, one per channel layout."""
    return Published(
        sizes=_SIZES,
        layout=request.param,
        adapter=AdapterConfig(signal_dim=5, hidden_dim=8, blocks=(0, 2)),
        settings=SETTINGS,
        codec=CodecConfig(encoder=(8, 8, 8, 8), decoder=(16, 8, 8, 8)),
        height=SIZE[0],
        width=SIZE[1],
    )


@pytest.fixture
def named(row, monkeypatch) -> str:
    """The name of that row, for as long as a test runs."""
    monkeypatch.setitem(PUBLISHED, "tiny", row)
    return "tiny"


@pytest.fixture
def on_cpu(named) -> Model:
    """In float32."""
    torch.manual_seed(0)
    return random_model(named, torch.device("cpu"), torch.float32)


@pytest.fixture
def on_gpu(on_cpu, cuda) -> Model:
    """The same weights."""
    network, codec = (deepcopy(part).to(cuda) for part in (on_cpu.network, on_cpu.codec))
    return replace(on_cpu, network=network, codec=codec, device=cuda)


@pytest.fixture
def in_bfloat16(named, cuda) -> Model:
    """Drawn on the device itself."""
    torch.manual_seed(0)
    return random_model(named, cuda, torch.bfloat16)


def stream_of(model: Model, seed: int = 0, settings: StreamSettings = SETTINGS) -> Stream:
    """A stream with a prompt of a few tokens."""
    rng = torch.Generator().manual_seed(3)
    picture = torch.rand(*SIZE, 3, generator=rng)
    text = torch.randn(1, 5, model.config.text_dim, generator=rng)
    anchor = model.encode_anchor(picture, text=text, size=SIZE)
    return open_stream(model, anchor, settings, Hum(model.config), seed)


@pytest.fixture(scope="session")
def make_stream():
    """`make_stream(model, seed=0, settings=...)`"""
    return stream_of
