"""Sound as values: arrays of any kind, and several channels heard as one.

Shapes: C channels, S samples.
"""

import array

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from knot_core.driving import Driving, LiveAudio
from knot_core.driving.audio import log_mel, resample, speech_waveform
from knot_core.driving.spoken_sound import SpokenSound
from knot_core.errors import KnotError
from knot_core.media import Audio
from knot_core.media.downmix import LiveDownmix, downmix
from knot_core.media.samples import to_samples

from .fuzzing import check_sentence, clear_errors_only, fuzzed

VALUES = np.float32([[0.0, 0.5, -0.25, 0.999], [0.125, -1.0, 0.0, 0.5]])


class Foreign:
    """An array of a library that nobody here knows: jax, cupy and others say what they hold in one of these ways."""

    def __init__(self, values):
        self.values = values


class ByArray(Foreign):
    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


class ByDlpack(Foreign):
    def __dlpack__(self, **how):
        return self.values.__dlpack__(**how)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def live_samples(pieces, rate: int = 16_000) -> torch.Tensor:
    live = LiveAudio(rate, keep_seconds=1000)
    for piece in pieces:
        live.push(piece)
    live.close()
    return live.read(0, live.num_samples)


# what arrays there are


@pytest.mark.parametrize(
    "given_as",
    [torch.from_numpy, np.asarray, np.asfortranarray, ByArray, ByDlpack, np.ndarray.tolist, tuple,
     lambda values: values.astype(">f4"), lambda values: torch.from_numpy(values).double().requires_grad_(),
     lambda values: [array.array("f", row) for row in values]],
)  # fmt: skip
def test_arrays_of_any_library_are_taken(given_as):
    assert torch.equal(Audio(samples=given_as(VALUES), sample_rate=16_000).samples, torch.from_numpy(VALUES))
    assert torch.equal(live_samples([given_as(VALUES[:1])]), torch.from_numpy(VALUES[0]))


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.int8, np.uint8, ">i2", "<i4"])
@pytest.mark.parametrize("library", [np.asarray, torch.from_numpy])
def test_integers_are_scaled_by_their_type(kind, library):
    kind = np.dtype(kind)
    full = 2.0 ** (8 * kind.itemsize - 1)
    stored = np.clip(np.round(VALUES.astype(np.float64) * full) + (full if kind.kind == "u" else 0),
                     np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)  # fmt: skip
    if library is torch.from_numpy:
        stored = stored.astype(kind.newbyteorder("="))
    expected, off = torch.from_numpy(VALUES), {"atol": 1 / full, "rtol": 0}
    torch.testing.assert_close(Audio(samples=library(stored), sample_rate=8000).samples, expected, **off)
    torch.testing.assert_close(live_samples([library(stored[:1])]), expected[0], **off)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.ones((1, 4), np.int64), "samples are int64"), (np.ones((1, 4), bool), "samples are bool"),
        (np.ones((1, 4), np.uint16), "samples are uint16"), ([[1, 2, 3]], "samples are int64"),
        (np.ones((1, 4), complex), "samples are complex128"), (None, "None is no sound"), ("hello", "type str"),
        ({"waveform": 1}, "type dict"), (object(), "type object"), ([[1.0], [1.0, 2.0]], "type list"),
        (np.zeros((64_000, 2), np.float32), "64000 channels of 2 samples; .* transpose it"),
        (np.zeros((65, 1000), np.float32), "65 channels"), (np.zeros((40, 2), np.int16), "40 channels of 2 samples"),
        (np.zeros((1, 2, 3), np.float32), r"\[1, 2, 3\]; it must be \[channels, samples\]"),
        (np.zeros((0, 9), np.float32), r"shape \[0, 9\]"), (np.float32(3), r"shape \[\]"),
        ([0.0, float("nan")], "NaN"), ([0.0, float("inf")], "NaN"), ([0.0, 1e300], "NaN"), ([0.0, 1e9], "160 dB"),
        (torch.zeros(1, 4, device="meta"), "cannot be read"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(values, says):
    with pytest.raises(KnotError, match=says) as refused:
        Audio(samples=values, sample_rate=16_000)
    check_sentence(str(refused.value))
    if "40 channels" not in says:  # a live piece may be that short
        with pytest.raises(KnotError, match=says):
            LiveAudio().push(values)


@pytest.mark.parametrize(
    "rate",
    [0, -16_000, 999, 768_001, 2.5, float("nan"), float("inf"), "16000", None, True, [1], 2**99, np.zeros(2),
     torch.tensor(float("nan"))],
)  # fmt: skip
def test_a_rate_that_cannot_be_is_refused(rate):
    for make in (lambda: Audio(samples=[0.0], sample_rate=rate), lambda: LiveAudio(rate)):
        with pytest.raises(KnotError, match="sample rate is") as refused:
            make()
        check_sentence(str(refused.value))


@pytest.mark.parametrize("rate", [44_100, 44_100.0, np.int64(44_100), np.float32(44_100), torch.tensor(44_100)])
def test_a_rate_of_any_kind_is_taken(rate):
    audio = Audio(samples=VALUES, sample_rate=rate)
    assert (audio.sample_rate, type(audio.sample_rate)) == (44_100, int)
    LiveAudio(rate).push(VALUES)


def test_empty_and_very_short_pieces_are_pieces():
    pieces = [np.zeros((2, 0)), torch.zeros(0), [], np.float32([[0.5], [0.5]]), np.float32([[0.25]] * 3), [0, 0]]
    with pytest.raises(KnotError, match="3 channels, and those before had 2"):
        live_samples(pieces)
    assert torch.equal(live_samples([pieces[0], pieces[1], pieces[2], pieces[3], pieces[5]]), torch.tensor([0.5, 0, 0]))
    assert Audio(samples=np.zeros((2, 0)), sample_rate=8000).num_samples == 0
    assert Audio(samples=[0.1, 0.2], sample_rate=8000).samples.shape == (1, 2)
    assert Audio(samples=[[0.1], [0.2]], sample_rate=8000).samples.shape == (2, 1)


def test_integers_that_were_made_floats_are_told(caplog):
    Audio(samples=np.float32([[0, 12_000, -9000]]), sample_rate=8000)
    assert "reaches 12000 times full scale" in caplog.text


def test_no_sound_says_how_to_go_on():
    with pytest.raises(KnotError, match=r"there is no sound .*drive by controls or idle motion"):
        Driving.from_audio(None)
    with pytest.raises(KnotError, match=r"got a dict as sound; give an Audio\("):
        Driving.from_audio({"waveform": torch.zeros(1, 1, 9), "sample_rate": 9000})


@fuzzed(60)
@given(
    st.lists(st.integers(0, 70), max_size=4),
    st.sampled_from(["f4", "f8", "i2", "i4", "u1", "i8", "?", "c8", "S1", "O"]),
    st.sampled_from([0, 1, -1, 100, float("nan")]),
)
def test_arrays_of_any_shape_and_type(shape, kind, value):
    try:
        values = np.full(shape, value).astype(kind)
    except (ValueError, OverflowError):
        return
    with clear_errors_only():
        assert Audio(samples=values, sample_rate=16_000).samples.isfinite().all()
    with clear_errors_only():
        live = LiveAudio(8000)
        live.push(values)
        live.close()
        assert live.read(0, live.num_samples).isfinite().all()


# channels


def voice(seconds: float, rate: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(round(seconds * rate), generator=torch.Generator().manual_seed(seed))


RATE = 8000
ONE, OTHER = voice(3.3, RATE), voice(3.3, RATE, 1)


@pytest.mark.parametrize("channels", [[ONE], [ONE, ONE], [ONE, OTHER], [ONE, 0.5 * OTHER + ONE], [ONE, 0.4 * ONE],
                                      [ONE, ONE, ONE]])  # fmt: skip
def test_one_channel_and_usual_stereo_are_their_mean(channels):
    samples = torch.stack(channels)
    assert torch.equal(downmix(samples, RATE), samples.mean(dim=0))


@pytest.mark.parametrize("channels", [[ONE, -ONE], [ONE, torch.zeros_like(ONE)], [-0.9 * ONE, ONE], [0 * ONE, ONE]])
def test_a_voice_in_opposite_phase_or_on_one_side_is_heard_as_it_is(channels):
    samples = torch.stack(channels)
    heard = downmix(samples, RATE)
    fade = RATE // 20
    torch.testing.assert_close(heard[fade:].abs(), ONE[fade:].abs())
    signal = Driving.from_audio(Audio(samples=samples, sample_rate=RATE)).signal(2, 10)[..., :64]
    alone = Driving.from_audio(Audio(samples=ONE, sample_rate=RATE)).signal(2, 10)[..., :64]
    torch.testing.assert_close(signal, alone, atol=1e-4, rtol=0)


def test_it_is_decided_second_by_second_with_a_passage():
    samples = torch.stack([ONE, ONE])
    samples[1, RATE : 2 * RATE] *= -1
    heard, fade = downmix(samples, RATE), RATE // 20
    assert torch.equal(heard[:RATE], ONE[:RATE])
    torch.testing.assert_close(heard[RATE + fade : 2 * RATE], ONE[RATE + fade : 2 * RATE])
    torch.testing.assert_close(heard[2 * RATE :], ONE[2 * RATE :])
    passage = heard[RATE : RATE + fade] / ONE[RATE : RATE + fade]
    torch.testing.assert_close(passage, (torch.arange(fade) + 0.5) / fade)


def test_between_three_and_four_decibels_it_stays_as_it_was():
    between = torch.stack([ONE, 0.32 * ONE])  # loses 3.6 dB
    assert torch.equal(downmix(between, RATE), between.mean(dim=0))
    begun = between.clone()
    begun[1, :RATE] = 0
    torch.testing.assert_close(downmix(begun, RATE)[RATE:], ONE[RATE:])
    begun[1, 2 * RATE :] = 0.5 * ONE[2 * RATE :]  # loses 2.5 dB
    torch.testing.assert_close(downmix(begun, RATE)[2 * RATE + RATE // 20 :], 0.75 * ONE[2 * RATE + RATE // 20 :])


def test_it_does_not_pass_between_two_channels_that_are_as_loud():
    swinging = torch.stack([ONE, -ONE * (1 + 0.05 * torch.sin(torch.arange(len(ONE)) / RATE * 3))])
    heard = downmix(swinging, RATE)
    assert heard[RATE // 20 :].square().mean() > 0.9 * ONE.square().mean()
    for start in range(RATE, 3 * RATE, RATE):
        assert heard[start : start + RATE // 20].square().mean() > 0.5 * ONE.square().mean()


SURROUND = torch.stack([ONE, -ONE, 0.1 * OTHER, OTHER.flip(0), -0.5 * ONE])
CASES = {"mono": ONE[None], "stereo": torch.stack([ONE, OTHER]), "opposite": torch.stack([ONE, -ONE]),
         "half": torch.stack([ONE, torch.cat([ONE[:12_000], -ONE[12_000:]])]), "surround": SURROUND,
         "quiet": torch.zeros(2, 20_000)}  # fmt: skip


@pytest.mark.parametrize("samples", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("size", [77, 800, 8000, 8001, 10**6])
def test_channels_are_heard_the_same_live_in_pieces_and_whole(samples, size):
    live = LiveDownmix(RATE)
    pieces = [live.push(piece) for piece in samples.split(size, dim=1)]
    whole = downmix(samples, RATE)
    torch.testing.assert_close(torch.cat([*pieces, live.finish()]), whole, atol=1e-7, rtol=0)
    assert torch.equal(Audio(samples=SURROUND, sample_rate=RATE).samples[0], downmix(SURROUND, RATE))
    stereo = samples[:2]
    read = SpokenSound(Audio(samples=stereo, sample_rate=RATE)).read(0, 2 * len(whole))
    torch.testing.assert_close(read, resample(downmix(stereo, RATE), RATE), atol=1e-6, rtol=0)


def test_channels_that_are_alike_are_heard_at_once_and_others_within_a_second():
    live = LiveAudio()
    live.push(voice(0.1, 16_000).expand(2, -1))
    assert live.num_ready == 1600
    live.push(torch.stack([voice(0.5, 16_000), voice(0.5, 16_000, 1)]))
    assert live.num_ready == 1600
    live.push(voice(0.5, 16_000).expand(2, -1))
    assert live.num_ready >= 16_000
    live.push(voice(0.5, 16_000))
    live.close()
    assert live.num_samples == 1600 + 3 * 8000


def test_features_are_those_of_before():
    for rate in (16_000, 44_100):
        samples = torch.stack([voice(5, rate), voice(5, rate)])
        audio = Audio(samples=samples, sample_rate=rate)
        before = log_mel(resample(samples.mean(dim=0), rate))
        torch.testing.assert_close(log_mel(speech_waveform(audio)), before, atol=1e-6, rtol=0)
        mel = Driving.from_audio(audio).pixel_signal(np.arange(len(before)))[:, :64]
        torch.testing.assert_close(mel, before, atol=1e-6, rtol=0)


def test_one_function_reads_all_of_them():
    assert to_samples([0.5]).shape == (1, 1)
