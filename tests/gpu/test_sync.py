"""Nothing inside a chunk waits for the GPU but the hand-over of its pictures: asked of the driver."""

from dataclasses import replace

import pytest
import torch

from knot_core.config import StreamSettings

pytestmark = pytest.mark.gpu
SETTINGS = StreamSettings(num_window_frames=6)


@pytest.fixture
def waiting_is_an_error():
    """From here on, every synchronising call raises. Waiting for an event does not count: that is the hand-over."""

    def begin() -> None:
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")

    yield begin
    torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, num_knot_frames=0, use_anchor=False),
        replace(SETTINGS, num_sink_frames=3, rope_positions="window"),
        replace(SETTINGS, num_sink_frames=3, rope_positions="window", sink_decay=0.9),
    ],
)
@pytest.mark.parametrize("which", ["on_gpu", "in_bfloat16"])
def test_no_chunk_waits_for_the_gpu(request, make_stream, waiting_is_an_error, which, settings):
    stream = make_stream(request.getfixturevalue(which), settings=settings)
    for _ in range(4):  # kernels are chosen and loaded the first time
        next(stream)
    waiting_is_an_error()
    chunks = [next(stream) for _ in range(4)]  # the anchor runs ahead meanwhile
    torch.cuda.set_sync_debug_mode("default")
    assert all(sum(chunk.seconds.values()) > 0 for chunk in chunks)


def test_waiting_is_noticed(cuda, waiting_is_an_error):
    number, numbers = torch.ones((), device=cuda), torch.ones(1000)
    waiting_is_an_error()
    with pytest.raises(RuntimeError, match="synchroniz"):
        number.item()
    with pytest.raises(RuntimeError, match="synchroniz"):
        numbers.to(cuda)


def test_pictures_are_whole_when_they_are_handed_over(on_gpu, make_stream):
    """They are read at once; a copy still under way would differ from what is there later."""
    stream = make_stream(on_gpu)
    for _ in range(6):
        chunk = next(stream)
        at_once = chunk.pixel_frames.clone()
        torch.cuda.synchronize()
        assert torch.equal(at_once, chunk.pixel_frames)
