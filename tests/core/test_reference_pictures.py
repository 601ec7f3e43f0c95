"""A codec that moves the reference picture, in streams: of stride 16, the picture at hand in every way to stream."""

from contextlib import closing
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from knot_core import KnotError, SettingsError, pipelined
from knot_core.config import StreamSettings
from knot_core.stream import (
    Anchor,
    Stream,
    change_anchor,
    continue_stream,
    encode_latent_anchor,
    load_stream,
    open_stream,
    resume_stream,
    state_of,
)
from knot_core.stream.late_decoding import LateDecoder
from knot_core.stream.state_file import save_stream

SETTINGS = StreamSettings(steps=2, num_window_frames=4)
CHUNKS = 3


@pytest.fixture(scope="module")
def model(make_face_model):
    return make_face_model()


@pytest.fixture
def opened(model, waves):
    def opened(anchor: Anchor | None = None, **changes) -> Stream:
        return open_stream(model, anchor or model.anchor(), replace(SETTINGS, **changes), waves(), seed=3)

    return opened


def _frames(stream: Stream, count: int = CHUNKS) -> Tensor:
    return torch.cat([next(stream).pixel_frames for _ in range(count)])


def test_pictures_have_the_codecs_stride_and_are_the_references(model, opened) -> None:
    anchor = model.anchor()
    assert anchor.size == (64, 96)
    assert "96x64" in repr(anchor)
    frames = _frames(opened())
    assert frames.shape == (1 + 4 * 2 + 12 * 2, 64, 96, 3)
    other = replace(anchor, picture_HWC=anchor.picture_HWC.flip(1))
    assert not torch.equal(_frames(opened(other)), frames), "the pixels come from the picture"


def test_drawn_ahead_gives_the_same_bits(opened) -> None:
    with closing(pipelined(opened(), decode_beside=True)) as chunks:
        ahead = torch.cat([next(chunks).pixel_frames for _ in range(CHUNKS)])
    assert torch.equal(ahead, _frames(opened()))


def test_late_decoding_gives_the_same_but_for_rounding(opened, model) -> None:
    stream, whole = opened(), opened()
    changed = model.anchor(seed=8)
    pieces, wanted = [], []
    with LateDecoder(stream) as late:
        for number in range(CHUNKS):
            if number == 1:
                stream.set_anchor(changed)
                whole.set_anchor(changed)
            pieces += list(late.next_chunk().frames)
            wanted.append(next(whole).pixel_frames)
    made, wanted = torch.cat(pieces).int(), torch.cat(wanted).int()
    assert made.shape == wanted.shape
    assert (made - wanted).abs().max() <= 1


def test_a_stream_goes_on_from_a_value_and_from_a_file_bit_for_bit(opened, model, waves, tmp_path) -> None:
    stream = opened()
    _frames(stream, 1)
    stream.set_anchor(model.anchor(seed=8))  # the cross-fade is still to come
    saved = state_of(stream)
    stream.save(tmp_path / "state")
    wanted = _frames(stream)
    assert torch.equal(_frames(continue_stream(model, saved, waves())), wanted)
    assert torch.equal(_frames(resume_stream(model, tmp_path / "state", waves())), wanted)


def test_a_fork_and_chunks_taken_back_show_what_was_shown(opened, model) -> None:
    stream = opened()
    _frames(stream, 1)
    stream.keep(2)
    stream.set_anchor(model.anchor(seed=8))
    fork = stream.fork()
    wanted = _frames(stream, 2)
    stream.take_back(2)
    assert torch.equal(_frames(stream, 2), wanted)
    assert torch.equal(_frames(fork, 2), wanted)


def _with_pictures(anchor: Anchor, *levels: int) -> list[Anchor]:
    return [replace(anchor, picture_HWC=torch.full_like(anchor.picture_HWC, level)) for level in levels]


def _level(frames: Tensor) -> Tensor:
    """The mean of each frame."""
    return frames.float().mean(dim=(1, 2, 3))


@torch.no_grad()
def _copies_only(model) -> None:
    """The decoder's mask and gain are nearly nothing: what is shown is the picture."""
    model.codec.decoder.head.weight[8:12] = 0
    model.codec.decoder.head.bias[8:12] = -20.0
    model.codec.decoder.coarse.weight[2:] = 0
    model.codec.decoder.coarse.bias[2:] = 0


def test_without_a_cut_both_pictures_are_cross_faded_over_one_chunk(make_face_model, waves) -> None:
    model = make_face_model()
    _copies_only(model)
    dark, bright = _with_pictures(model.anchor(), 20, 200)
    stream = open_stream(model, dark, SETTINGS, waves(), seed=3)
    assert torch.allclose(_level(_frames(stream, 1)), torch.tensor(20.0), atol=1)
    stream.set_anchor(bright)
    during = _level(_frames(stream, 1))
    assert torch.allclose(during, 20 + 180 * torch.arange(1, 13) / 12, atol=1)
    assert torch.allclose(_level(_frames(stream, 1)), torch.tensor(200.0), atol=1)


def test_with_a_cut_the_picture_changes_at_once(make_face_model, waves) -> None:
    model = make_face_model()
    _copies_only(model)
    dark, bright = _with_pictures(model.anchor(), 20, 200)
    stream = open_stream(model, dark, SETTINGS, waves(), seed=3)
    _frames(stream, 1)
    saved = change_anchor(state_of(stream), bright, cut=True)
    stream.set_anchor(bright, cut=True)
    assert torch.allclose(_level(_frames(stream, 1)), torch.tensor(200.0), atol=1)
    assert torch.allclose(_level(_frames(continue_stream(model, saved, waves()), 1)), torch.tensor(200.0), atol=1)


def test_an_anchor_set_back_in_time_fades_nothing(opened, model) -> None:
    stream, plain, own = opened(), opened(), model.anchor()
    _frames(stream, 1), _frames(plain, 1)
    stream.set_anchor(model.anchor(seed=8))
    stream.set_anchor(own)
    assert torch.equal(_frames(stream, 2), _frames(plain, 2))


def test_a_reference_without_its_picture_is_refused(model) -> None:
    with pytest.raises(SettingsError, match="copies pixels from the reference picture and got none"):
        encode_latent_anchor(model, model.anchor().reference_BFCHW)
    with pytest.raises(SettingsError, match=r"\(8, 8, 3\)"):
        encode_latent_anchor(model, model.anchor().reference_BFCHW, picture_HWC=torch.zeros(8, 8, 3, dtype=torch.uint8))


def _large(anchor: Anchor, times: int = 2) -> Anchor:
    """The same reference as a picture of so many times its size: noise about it that the small one does not show."""
    picture = anchor.picture_HWC.repeat_interleave(times, dim=0).repeat_interleave(times, dim=1).int()
    noise = torch.randint(0, 20, (anchor.size[0], anchor.size[1], 3), generator=torch.Generator().manual_seed(0))
    picture[::times, ::times] += noise
    picture[1::times, 1::times] -= noise
    return replace(anchor, picture_HWC=picture.clamp(0, 255).to(torch.uint8))


def test_frames_are_as_large_as_the_picture_and_have_its_detail(opened, model) -> None:
    rough = torch.rand(1, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    smooth = torch.nn.functional.interpolate(rough, size=(64, 96), mode="bicubic")[0].movedim(0, -1)
    small = replace(model.anchor(), picture_HWC=(64 + 128 * smooth).to(torch.uint8))
    large = _large(small)
    assert (large.size, large.video_size) == ((64, 96), (128, 192))
    assert "192x128" in repr(large)
    assert large != small
    frames, plain = _frames(opened(large)).float(), _frames(opened(small)).float()
    assert frames.shape == (1 + 4 * 2 + 12 * 2, 128, 192, 3)
    rough = [torch.nn.functional.avg_pool2d(made.movedim(-1, 1), side) for made, side in ((frames, 16), (plain, 8))]
    assert (rough[0] - rough[1]).abs().mean() < 0.2 * rough[1].diff(dim=0).abs().mean(), "the same motion"


def test_a_stream_in_detail_goes_on_from_a_file_and_takes_no_picture_of_another_size(
    opened, model, waves, tmp_path
) -> None:
    stream = opened(_large(model.anchor()))
    _frames(stream, 1)
    stream.save(tmp_path / "state")
    assert torch.equal(_frames(resume_stream(model, tmp_path / "state", waves())), _frames(stream))
    with pytest.raises(SettingsError, match="96 x 64 pixels and the stream 192 x 128"):
        stream.set_anchor(model.anchor(seed=8))
    stream.set_anchor(_large(model.anchor(seed=8)))
    assert next(stream).pixel_frames.shape == (12, 128, 192, 3)


@pytest.mark.parametrize(("height", "width"), [(64, 192), (96, 144), (320, 480)])
def test_a_picture_that_is_not_so_many_times_as_large_is_refused(model, height: int, width: int) -> None:
    picture = torch.zeros(height, width, 3, dtype=torch.uint8)
    with pytest.raises(SettingsError, match="or up to 4 times as large"):
        encode_latent_anchor(model, model.anchor().reference_BFCHW, picture_HWC=picture)


def test_a_codec_that_needs_no_picture_keeps_none(make_model) -> None:
    model = make_model()
    latent = model.anchor().reference_BFCHW
    assert encode_latent_anchor(model, latent, picture_HWC=torch.zeros(32, 48, 3, dtype=torch.uint8)).shown is None


@pytest.mark.parametrize("what", ["anchor", "shown"])
def test_a_state_whose_picture_cannot_be_is_refused(opened, model, tmp_path, what: str) -> None:
    stream = opened()
    _frames(stream, 1)
    stream.set_anchor(model.anchor(seed=8))
    saved = stream.snapshot()
    small = saved.anchor.picture_HWC[:8].clone()
    if what == "anchor":
        saved = replace(saved, anchor=replace(saved.anchor, picture_HWC=small))
    else:
        shown = replace(saved.state.shown, picture_HWC=small)
        saved = replace(saved, state=replace(saved.state, shown=shown))
    save_stream(tmp_path / "state", saved)
    with pytest.raises(KnotError, match="picture"):
        load_stream(tmp_path / "state", model)
