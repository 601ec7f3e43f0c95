"""Every family's stream on CUDA tensors without a GPU: torch's FakeTensorMode knows shapes and devices and no values.

There, tensors of two devices in one operation are an error, and so is reading a value back (`.item()`, a comparison
that decides something). What reads values on purpose, the anchor's digest and the model's fingerprint, stands outside.
"""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode

from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import LAYOUT_CHANNELS, UNITS, AdapterConfig, AudioCrossConfig, NetworkConfig, StreamSettings
from knot_core.geometry import SPATIAL
from knot_core.stream import (
    Stream,
    changing,
    chunk_passes,
    conditioning,
    encode_latent_anchor,
    next_chunks,
    open_stream,
    sampler,
)
from knot_core.stream import anchor as anchor_module
from knot_core.stream.guidance import branches
from knot_core.stream.stream_model import wants_reference
from knot_core.stream.timing import HostMark
from knot_core.wan.families import ROWS
from knot_core.wan.network import WanNetwork, cast_weights
from knot_core.wan.preset import Preset, plain

CUDA = torch.device("cuda", 0)
ADAPTERS = {
    None: None,
    "pack": AdapterConfig(signal_dim=6, num_packed=4, hidden_dim=8, blocks=(0, 1)),
    "units": AdapterConfig(signal_dim=122, num_packed=4, hidden_dim=8, blocks=(0, 1), name=UNITS),
    "cross": AudioCrossConfig(signal_dim=6, hidden_dim=8, num_tokens=4, token_dim=8),
}
pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")


@dataclass(frozen=True, kw_only=True)
class FakeModel:
    """What a stream asks of a model."""

    network: nn.Module
    config: NetworkConfig
    codec: nn.Module
    dtype: torch.dtype
    device: torch.device = CUDA
    identity: str = "fake"


@pytest.fixture
def mode(monkeypatch) -> FakeTensorMode:
    """With what reads values, or asks a driver that is not there, replaced."""
    for module in (anchor_module, conditioning):
        monkeypatch.setattr(module, "digest_of", lambda *_: "fake")
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    for module in (changing, chunk_passes, sampler):
        monkeypatch.setattr(module, "mark", lambda _device: HostMark())
    with FakeTensorMode(allow_non_fake_inputs=True) as found, WithoutDriver():
        yield found


class WithoutDriver(TorchFunctionMode):
    """What asks for the device before it looks at the tensor, by operations that a torch without CUDA has, too."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is Tensor.__getitem__:
            return view(*args)
        if function is Tensor.__setitem__:
            target, index, value = args
            target = view(target, index)
            return torch.ops.aten.copy_(target, value) if isinstance(value, Tensor) else target.fill_(value)
        if function is Tensor.copy_:
            return torch.ops.aten.copy_(*args[:2])
        if function is Tensor.contiguous:
            return args[0].clone(memory_format=torch.contiguous_format)
        if function is Tensor.to and not any(isinstance(value, Tensor) for value in args[1:]):
            return torch.ops.aten._to_copy(args[0], **converted(args[1:], kwargs))
        function = sampled if function is torch.nn.functional.grid_sample else function
        return function(*args, **kwargs)


def sampled(picture: Tensor, grid: Tensor, **_: object) -> Tensor:
    """`grid_sample`, whose shapes torch works out by indexing."""
    assert picture.device == grid.device, f"a picture on {picture.device} is read at places on {grid.device}"
    return picture.new_empty(*picture.shape[:2], *grid.shape[1:3])


def converted(args: tuple, kwargs: dict) -> dict:
    """Device and dtype, wherever they stand among the arguments of `Tensor.to`."""
    given = [*args, *kwargs.values()]
    device = next((torch.device(value) for value in given if isinstance(value, torch.device | str)), None)
    return {"dtype": next((value for value in given if isinstance(value, torch.dtype)), None), "device": device}


def view(x: Tensor, index: object) -> Tensor:
    """The view that whole numbers, slices, None and an ellipsis give."""
    index = index if isinstance(index, tuple) else (index,)
    if not any(entry is Ellipsis for entry in index):
        index = (*index, ...)
    before = next(number for number, entry in enumerate(index) if entry is Ellipsis)
    axis = 0
    for entry in index[:before]:
        x, axis = _indexed(x, axis, entry)
    num_behind = sum(entry is not None for entry in index[before + 1 :])
    axis = x.dim() - num_behind
    for entry in index[before + 1 :]:
        x, axis = _indexed(x, axis, entry)
    return x


def _indexed(x: Tensor, axis: int, entry: object) -> tuple[Tensor, int]:
    """With one entry of an index applied, and the axis that the next one is for."""
    if entry is None:
        return x.unsqueeze(axis), axis + 1
    if isinstance(entry, slice):
        start, stop, step = entry.indices(x.shape[axis])
        return torch.ops.aten.slice(x, axis, start, max(start, stop), step), axis + 1
    assert isinstance(entry, int), f"an index of {type(entry).__name__}s is read back from the device"
    return x.select(axis, entry), axis


def model_of(row: Preset, dtype: torch.dtype) -> FakeModel:
    """A model of the family's layout and adapter, on the fake GPU."""
    config = NetworkConfig(
        dim=256, ffn_dim=64, num_heads=2, num_layers=2, text_dim=24, freq_dim=16, layout=row.layout,
        in_channels=LAYOUT_CHANNELS[row.layout], adapter=ADAPTERS[row.adapter], timestep_dtype=row.timestep_dtype,
        image_dim=12 if row.family in ("wan-i2v", "infinitetalk") else None,
    )  # fmt: skip
    with unset_fake_temporarily(), torch.device("meta"):
        network = cast_weights(WanNetwork(config), dtype)
        codec = codec_of(row).to(dtype)
    return FakeModel(network=on_fake_gpu(network), config=config, codec=on_fake_gpu(codec), dtype=dtype)


def codec_of(row: Preset) -> nn.Module:
    if row.spatial == SPATIAL:
        return TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4)))
    return WarpingCodec(WarpingConfig(encoder=(4, 4, 4, 4), decoder=(4, 4, 4), reference=4, points=3, groups=2))


def on_fake_gpu(module: nn.Module) -> nn.Module:
    weights = {name: torch.empty_like(like, device=CUDA) for name, like in module.state_dict().items()}
    module.load_state_dict(weights, assign=True)
    for part in module.modules():  # buffers that are no part of the file
        part._buffers.update({name: torch.empty_like(like, device=CUDA) for name, like in part._buffers.items()})
    return module.eval().requires_grad_(False)


class Signals:
    """The signals of a driving, on the processor, as drivings give them."""

    num_pixel_frames = None

    def __init__(self, config: NetworkConfig) -> None:
        adapter = config.adapter
        self._shape = (adapter.num_packed, adapter.signal_dim) if adapter else (1, 1)

    def signal(self, _first_latent: int, num_latents: int) -> Tensor:
        return torch.zeros(num_latents, *self._shape)


def begin(row: Preset, settings: StreamSettings, dtype: torch.dtype) -> Stream:
    """With everything that a user gives on the processor."""
    model = model_of(row, dtype)
    text = torch.zeros(1, 512, model.config.text_dim) if row.needs_text else None
    image = None if model.config.image_dim is None else torch.zeros(1, 5, model.config.image_dim)
    pixels = torch.zeros(1, 1, 3, 64, 64, device=CUDA, dtype=dtype)
    picture = torch.zeros(64, 64, 3, dtype=torch.uint8) if wants_reference(model.codec) else None
    anchor = encode_latent_anchor(model, model.codec.encode(pixels).float(), text, image, picture_HWC=picture)
    return open_stream(model, anchor, settings, Signals(model.config), seed=3)


def few_steps(settings: StreamSettings) -> StreamSettings:
    """A first and a last step: those between them are as the first."""
    if settings.timesteps:
        return replace(settings, timesteps=settings.timesteps[:2], first_timesteps=settings.first_timesteps[:2])
    return replace(settings, steps=min(settings.steps, 2))


@pytest.mark.usefixtures("mode")
@pytest.mark.parametrize(("as_trained", "dtype"), [(False, torch.bfloat16), (True, torch.float32)],
                         ids=["knot and anchor, bfloat16", "as trained, float32"])  # fmt: skip
@pytest.mark.parametrize("row", ROWS, ids=[row.family for row in ROWS])
def test_nothing_of_a_stream_mixes_devices_or_reads_a_value(row, as_trained, dtype, caplog):
    """Chunks, their commits and their pictures; resumed, under another prompt at once or not, and two streams in one
    pass. A family that was trained for guidance has its two or three passes.
    """
    settings = few_steps(plain(row.settings) if as_trained else row.settings)
    stream = begin(row, settings, dtype)
    assert (len(branches(settings, stream.model.config)) > 1) == row.takes_guidance
    num_chunks = 2 + (settings.num_window_frames + settings.num_sink_frames) // settings.num_chunk_frames
    for _ in range(min(num_chunks, 3)):
        chunk = next(stream)
        assert chunk.latents.device.type == "cuda"
        assert chunk.pixel_frames.device.type == "cpu"
    resumed = stream.fork()  # from a snapshot, as from a file
    assert next(resumed).latents.device.type == "cuda"
    if row.needs_text:
        for recache in (False, True) if settings.commit != "in_place" else (False,):
            resumed.set_text(torch.ones(1, 512, resumed.model.config.text_dim), recache=recache)
            assert next(resumed).latents.device.type == "cuda"
    assert [chunk.latents.device.type for chunk in next_chunks([stream, resumed])] == ["cuda", "cuda"]
    assert "could not be computed together" not in caplog.text


@pytest.mark.usefixtures("mode")
def test_a_value_that_is_read_back_is_seen():
    with pytest.raises(DataDependentOutputException):
        torch.zeros(3, device=CUDA).sum().item()


@pytest.mark.usefixtures("mode")
def test_tensors_of_two_devices_are_seen():
    with pytest.raises(RuntimeError, match=r"two different devices|at least two devices"):
        torch.zeros(3, device=CUDA) + torch.zeros(3)
