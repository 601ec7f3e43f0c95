"""Nothing inside a chunk waits for the device: held without one, by a network on the meta device.

There, tensors have shapes and no data, so reading one back is an error by itself; and every copy from the CPU is seen.
On a real GPU tests/gpu/test_sync.py asks the driver.
"""

from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from knot_core.config import AudioCrossConfig, StreamSettings
from knot_core.stream import Stream, chunk_passes, denoise
from knot_core.stream.snapshot import first_snapshot
from knot_core.wan import rope

META = torch.device("meta")
SETTINGS = StreamSettings(steps=2, num_window_frames=4)


class CopiesThatWait(TorchDispatchMode):
    """Notes every copy from the CPU to the device, but for those that `queued` makes."""

    def __init__(self):
        super().__init__()
        self.seen, self._queueing = [], False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        sources = [value for value in args if isinstance(value, torch.Tensor)]
        lands = isinstance(out, torch.Tensor) and out.device == META
        moved = lands and any(value.device.type == "cpu" and value.dim() > 0 for value in sources)
        if moved and not self._queueing:
            self.seen.append(str(function))
        return out

    def queued(self, to_device):
        def copy(*arguments):
            self._queueing = True
            try:
                return to_device(*arguments)
            finally:
                self._queueing = False

        return copy


class Pictures:
    """A codec that decodes on the device, and whose pictures, having no data there, are handed over as zeros."""

    def __init__(self, codec):
        self._codec = codec

    def decode(self, latents, memory):
        pixels, memory = self._codec.decode(latents, memory)
        return torch.zeros(pixels.shape), memory


def on_meta(model, anchor):
    network, codec = (deepcopy(part).to(META) for part in (model.network, model.codec))
    kept = {"reference_BFCHW": anchor.reference_BFCHW, "grey_BGCHW": anchor.grey_BGCHW}
    anchor = replace(
        anchor,
        keys=tuple(x.to(META) for x in anchor.keys),
        values=tuple(x.to(META) for x in anchor.values),
        conditioning=anchor.conditioning.on(META),
        **{name: None if x is None else x.to(META) for name, x in kept.items()},
    )
    return replace(model, network=network, codec=Pictures(codec), device=META), anchor


@pytest.fixture
def watch(monkeypatch):
    """The copies that wait."""
    found = CopiesThatWait()
    for module in (rope, denoise, chunk_passes):
        monkeypatch.setattr(module, "to_device", found.queued(module.to_device))
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # knows no meta device
    return found


@pytest.mark.parametrize("layout", ["inpaint36", "ref33", "t2v16"])
@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        replace(SETTINGS, start_from_reference=True, num_sink_frames=2, rope_positions="window"),
        replace(SETTINGS, num_sink_frames=2, sink_decay=0.9, rope_positions="window"),
    ],
)
def test_a_chunk_reads_nothing_back_and_queues_its_copies(make_model, waves, watch, layout, settings):
    model = make_model(layout)
    text = torch.randn(1, 5, model.config.text_dim)
    model, anchor = on_meta(model, model.anchor(text=text))
    stream = Stream(model, first_snapshot(settings, anchor, 0), waves())
    with watch:
        for _ in range(4):
            assert next(stream).latents.device == META
    assert watch.seen == []


def test_sound_that_is_attended_to_is_queued_too(make_model, watch):
    adapter = AudioCrossConfig(
        signal_dim=6, num_packed=8, num_first=5, hidden_dim=8, num_tokens=3, token_dim=8, norm_output=True
    )
    model = make_model("inpaint36", adapter=adapter)
    model, anchor = on_meta(model, model.anchor())

    class Sound:
        num_pixel_frames = None

        def signal(self, _first, num_latents):
            return torch.zeros(num_latents, 8, 6)

    stream = Stream(model, first_snapshot(SETTINGS, anchor, 0), Sound())
    with watch:
        for _ in range(2):
            next(stream)
    assert watch.seen == []


def test_a_copy_that_waits_is_seen(watch):
    with watch:
        torch.zeros(3).to(META)
        watch.queued(lambda x: x.to(META))(torch.zeros(3))
    assert len(watch.seen) == 1
