"""Sound that arrives while a stream runs: when it is heard, and that what is handed back is what moved the mouth."""

import math
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from knot_core.config import AdapterConfig, AudioCrossConfig
from knot_core.driving import Driving, SpeechEncoder, SpeechWindow
from knot_core.driving.audio import mel_bank, resample
from knot_core.errors import DrivingError, KnotError
from knot_core.media import Audio
from knot_live import speech_queue
from knot_live.sound_timeline import Intake, Timeline
from knot_live.speech_queue import AHEAD, MOST_LATE, PAST, SOUND_RATE, may_start, needed_samples, too_late, without
from knot_live.voice import MOST_WAITING

from .playing import Playing, Portrait

FRAME = SOUND_RATE // 25  # samples of a pixel frame
NEEDED = needed_samples(12, 4, FRAME)  # of a chunk of three latent frames and a knot of one


def voice(seconds: float, rate: int = SOUND_RATE, seed: int = 0) -> np.ndarray:
    """A tone that wanders and swells, the same at every rate; its beginning is loud."""
    at = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * (200 + 40 * seed) * at + 20 * np.sin(2 * np.pi * (1.3 + seed) * at))
    return (0.3 * tone * (1.1 + np.cos(7 * at)) / 2).astype(np.float32)


def played(playing: Playing) -> np.ndarray:
    return np.concatenate(playing.sound)


def test_the_first_word_waits_for_no_library():
    """Loading one took longer than a chunk lasts."""
    mel_bank.cache_clear()
    Playing()
    assert mel_bank.cache_info().currsize == 1


# the rules, in integers


def test_a_chunk_needs_the_sound_of_its_own_frames_its_knots_and_three_milliseconds():
    assert needed_samples(12, 4, 960) == 16 * 960 + 72
    assert needed_samples(1, 0, 1500) == 1500 + 72


@pytest.mark.parametrize("mode", ["reply", "mirror"])
def test_speech_begins_when_enough_waits_or_it_was_committed(mode):
    assert may_start(mode, NEEDED, NEEDED, committed=False, waited=0.0)
    assert not may_start(mode, NEEDED - 1, NEEDED, committed=False, waited=0.0)
    assert may_start(mode, 1, NEEDED, committed=True, waited=0.0)
    assert not may_start(mode, 0, NEEDED, committed=True, waited=9.0)


def test_a_reply_begins_as_well_once_its_oldest_sample_waited_long_enough():
    assert may_start("reply", 1, NEEDED, committed=False, waited=0.3)
    assert not may_start("reply", NEEDED - 1, NEEDED, committed=False, waited=0.29)
    assert not may_start("mirror", NEEDED - 1, NEEDED, committed=False, waited=9.0)


def test_a_mirrored_voice_is_dropped_where_it_is_late_by_more_than_200_ms():
    assert MOST_LATE == 4800
    assert too_late("mirror", NEEDED + MOST_LATE, NEEDED) == 0
    assert too_late("mirror", NEEDED + MOST_LATE + 7, NEEDED) == 7
    assert too_late("reply", 10 * NEEDED, NEEDED) == 0


def test_what_is_cut_out_leaves_no_click():
    sound = np.concatenate([np.full(500, 0.5), np.full(500, -0.5)]).astype(np.float32)
    cut = without(sound, 300, 300)
    assert len(cut) == 700
    assert (cut[:300] == sound[:300]).all()
    assert (cut[420:] == sound[720:]).all()
    assert np.abs(np.diff(cut)).max() < 0.01


# what arrives


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 44_100, 48_000, 13_337])
@pytest.mark.parametrize("form", ["float", "int16", "stereo", "interleaved int16"])
def test_any_rate_and_form_is_played_from_the_chunk_s_first_sample_on(rate, form):
    """Against the same sound made at 24 kHz: nothing is lost, and nothing is late by a sample."""
    given, expected = voice(1.0, rate), voice(1.0)
    if "int16" in form:
        given = np.round(given * 32767).astype(np.int16)
    if form == "stereo":
        given = np.stack([given, given])
    if form == "interleaved int16":
        given = np.stack([given, given // 2], axis=1).T  # channels that differ; a view that is not in order
        expected = expected * 0.75
    playing = Playing()
    playing.chunk()
    for piece in np.array_split(given, 31, axis=-1):
        playing.driving.append_speech(piece, rate)
    playing.driving.commit_speech()
    assert playing.driving.speech_waiting == pytest.approx(1.0, abs=2e-4)
    for _ in range(3):
        playing.chunk()
    sound = played(playing)[9 * FRAME :]
    lags = np.arange(-40, 41)
    matches = [sound[200 + lag : 20_000 + lag] @ expected[200:20_000] for lag in lags]
    assert lags[int(np.argmax(matches))] == 0
    inner = slice(200, len(expected) - 200)
    assert np.abs(sound[inner] - expected[inner]).max() < 3e-3
    assert not sound[len(expected) + 2 :].any()


def test_however_it_is_cut_into_pieces_it_is_the_same_sound():
    said, cuts = torch.from_numpy(voice(1.0, 16_000))[None], np.sort(np.random.default_rng(0).integers(0, 16_000, 40))
    whole, pieces = Intake(16_000, "reply"), Intake(16_000, "reply")
    expected = np.concatenate([whole.push(said), whole.finish()])
    sound = np.concatenate([*map(pieces.push, said.tensor_split(cuts.tolist(), dim=1)), pieces.finish()])
    assert np.array_equal(sound, expected)


def test_a_sound_of_five_milliseconds_is_not_lost_and_one_of_none_is_nothing():
    playing = Playing()
    for _ in range(3000):
        playing.driving.append_speech(np.zeros(0, dtype=np.float32), 16_000)
        playing.driving.commit_speech()
    assert playing.driving.speech_waiting == 0
    playing.driving.append_speech(np.full(80, 0.5), 16_000)
    playing.driving.commit_speech()
    assert playing.driving.speech_waiting * SOUND_RATE == pytest.approx(120, abs=1)
    playing.chunk()
    assert playing.sound[0].any()


def test_too_many_sentences_are_refused():
    playing = Playing()
    for _ in range(1000):
        playing.driving.append_speech(np.full(5, 0.5), SOUND_RATE)
        playing.driving.commit_speech()
    with pytest.raises(DrivingError, match="1000 sentences wait already"):
        playing.driving.append_speech(np.full(5, 0.5), SOUND_RATE)
    assert playing.driving.speech_waiting * SOUND_RATE == pytest.approx(5000)


def test_another_rate_in_the_middle_goes_on_with_the_same_sentence():
    playing = Playing()
    playing.driving.append_speech(voice(0.5, 16_000), 16_000)
    playing.driving.append_speech(voice(0.5, 48_000), 48_000)
    playing.driving.commit_speech()
    playing.frames(4)
    assert np.count_nonzero(played(playing)) > 0.99 * SOUND_RATE


@pytest.mark.parametrize(
    ("samples", "rate", "mode", "says"),
    [
        (np.full(10, np.nan), 16_000, "reply", "not finite"),
        ("hello", 16_000, "reply", "is no sound"),
        ([[0.1], [0.1, 0.2]], 16_000, "reply", "is no sound"),
        (np.zeros(10), 16_000.5, "reply", "the sample rate is 16000.5"),
        (np.zeros(10), 0, "reply", "the sample rate is 0"),
        (np.zeros(10), 16_000, "echo", "the mode of speech is 'echo'; choose one of reply, mirror"),
        (np.zeros((2, 3, 4)), 16_000, "reply", "shape"),
        (np.zeros(10, dtype=np.int64) + 1, 16_000, "reply", "int64"),
        (np.zeros(round(MOST_WAITING * 8000) + 1), 8_000, "reply", "send what is to be spoken within 120 s"),
    ],
)
def test_what_is_no_sound_is_refused_and_changes_nothing(samples, rate, mode, says):
    playing = Playing()
    playing.driving.append_speech(voice(0.1), SOUND_RATE)
    with pytest.raises(KnotError, match=says):
        playing.driving.append_speech(samples, rate, mode)
    assert playing.driving.speech_waiting == pytest.approx(0.1)
    playing.driving.append_speech(voice(0.6), SOUND_RATE)
    playing.chunk()
    assert np.array_equal(
        playing.sound[0][: len(playing.sound[0])], np.concatenate([voice(0.1), voice(0.6)])[: 9 * FRAME]
    )


# when it is heard


def test_nobody_waits_for_sound_and_silence_is_handed_back():
    playing = Playing()
    playing.chunk()
    assert playing.sound[0].dtype == np.float32
    assert playing.sound[0].shape == (9 * FRAME,)  # latent frame 0 covers one pixel frame
    assert not playing.driving.speaking
    playing.driving.append_speech(voice(0.1), SOUND_RATE)  # too little, and too young
    playing.chunk()
    assert not np.concatenate(playing.sound).any()


def test_a_reply_is_played_in_full_and_in_order_whatever_comes_between():
    playing, rng = Playing(), np.random.default_rng(0)
    pieces = [voice(0.2, seed=number) + 0.001 for number in range(40)]  # nowhere zero for long
    for piece in pieces:
        playing.driving.append_speech(piece, SOUND_RATE)
        if rng.random() < 0.2:
            playing.driving.commit_speech()
        if rng.random() < 0.5:
            playing.chunk(int(rng.integers(1, 4)))
        if rng.random() < 0.2:
            playing.begin(2)  # given up
    playing.driving.commit_speech()
    while playing.driving.speech_waiting:
        playing.chunk()
    sound = played(playing)
    said = np.concatenate(pieces)
    assert np.array_equal(sound[sound != 0], said[said != 0])


def test_a_reply_that_trickles_begins_after_0_3_seconds_and_has_silence_where_it_runs_dry():
    playing = Playing()
    playing.chunk()
    playing.driving.append_speech(voice(0.2), SOUND_RATE)
    playing.seconds += 0.25
    playing.begin()
    assert not playing.driving.speaking
    playing.seconds += 0.05
    playing.begin()  # the same chunk, planned anew
    assert playing.driving.speaking
    sound = playing.end()
    assert np.array_equal(sound[:4800], voice(0.2))
    assert not sound[4800:].any()
    assert playing.driving.speech_waiting == 0


def test_speech_that_ran_dry_begins_anew_by_the_same_rule():
    playing = Playing()
    playing.driving.append_speech(voice(0.2), SOUND_RATE)
    playing.seconds += 0.3
    playing.chunk()
    playing.driving.append_speech(voice(0.2, seed=1), SOUND_RATE)
    playing.seconds -= 9 * FRAME / SOUND_RATE
    playing.chunk()
    assert not playing.sound[1].any()
    playing.driving.append_speech(voice(0.5, seed=2), SOUND_RATE)
    playing.chunk()
    assert np.array_equal(playing.sound[2][:4800], voice(0.2, seed=1))


def test_what_the_knot_heard_is_heard_again_and_laid_again():
    playing = Playing()
    playing.chunk()
    said = voice(3.0)
    playing.driving.append_speech(said, SOUND_RATE)
    knots, firsts = [], []
    for _ in range(5):
        signal = playing.begin()
        playing.end()
        firsts.append(signal[0])
        knots.append(signal[3])
    for knot, first in zip(knots, firsts[1:], strict=False):
        assert torch.equal(knot[:, :64], first[:, :64])
    assert np.array_equal(played(playing)[9 * FRAME :], said[: 60 * FRAME])


def test_a_mirrored_voice_that_keeps_up_is_never_dropped():
    """A microphone of 50 pieces a second, each 10 ms late, and chunks that begin when the last one has played."""
    playing, said, sent = Playing(), voice(12.0) + 0.001, 0  # its first sample is none of silence
    for _ in range(20):
        while sent / SOUND_RATE + 0.01 < playing.seconds:
            playing.driving.append_speech(said[sent : sent + 480], SOUND_RATE, "mirror")
            sent += 480
        playing.chunk()
    sound = played(playing)
    start = int(np.argmax(sound != 0))
    assert 0.55 < start / SOUND_RATE < 0.65, "as late as a chunk and 0.1 s"
    assert np.array_equal(sound[start:], said[: len(sound) - start])


@pytest.mark.parametrize("begins", [0.0, 0.07, 0.2, 0.31, 0.44])
@pytest.mark.parametrize(("num_frames", "lags"), [(3, 0.58), (1, 0.26)])
def test_a_mirrored_voice_is_as_late_wherever_between_two_chunks_it_begins(begins, num_frames, lags):
    """A microphone of 50 pieces a second; a chunk begins when the last one has played."""
    playing, said, sent = Playing(num_frames=num_frames), voice(6.0) + 0.001, 0
    begins += 1.0
    while playing.seconds < 4:
        while begins + sent / SOUND_RATE + 0.02 <= playing.seconds:
            playing.driving.append_speech(said[sent : sent + 480], SOUND_RATE, "mirror")
            sent += 480
        playing.chunk()
    sound = played(playing)
    start = int(np.argmax(sound != 0))
    assert start / SOUND_RATE - begins == pytest.approx(lags, abs=0.021)
    assert np.array_equal(sound[start:], said[: len(sound) - start])


def test_chunks_that_begin_up_to_100_ms_early_or_late_leave_no_gap_in_a_mirrored_voice():
    playing, said, sent = Playing(), voice(20.0) + 0.001, 0
    rng, now = np.random.default_rng(3), 0.0
    while now < 15:
        shaken = now + rng.uniform(-0.045, 0.045)  # so two of them are 90 ms nearer at most
        while sent / SOUND_RATE + 0.02 <= shaken:
            playing.driving.append_speech(said[sent : sent + 480], SOUND_RATE, "mirror")
            sent += 480
        now += len(playing.begin()) and len(playing.end()) / SOUND_RATE
    sound = played(playing)
    start = int(np.argmax(sound != 0))
    assert np.array_equal(sound[start:], said[: len(sound) - start])


def test_a_knot_that_a_mirrored_voice_has_not_reached_hears_it_go_on():
    playing, said = Playing(), voice(6.0)
    playing.driving.append_speech(said[: 9 * FRAME + AHEAD], SOUND_RATE, "mirror")
    rows = playing.begin()[:, -1, :64]
    assert torch.linalg.vector_norm(rows[3] - rows[2]) < torch.linalg.vector_norm(rows[3])
    playing.end()
    assert np.array_equal(playing.sound[0], said[: 9 * FRAME]), "what is played is what was said"
    playing.driving.append_speech(said[9 * FRAME + AHEAD : 30 * FRAME], SOUND_RATE, "mirror")
    playing.chunk()
    assert np.array_equal(playing.sound[1], said[9 * FRAME : 21 * FRAME])


def test_a_mirrored_voice_that_lags_catches_up_in_a_pause():
    playing, said = Playing(), voice(8.0) + 0.001
    pause = slice(40 * FRAME, 60 * FRAME)
    said[pause] = 0.002
    playing.driving.append_speech(said[: needed_samples(9, 4, FRAME) + 4000], SOUND_RATE, "mirror")
    sent, lags = needed_samples(9, 4, FRAME) + 4000, []
    for _ in range(6):
        playing.chunk()
        lags.append(playing.driving.speech_waiting)
        playing.driving.append_speech(said[sent : sent + 12 * FRAME], SOUND_RATE, "mirror")
        sent += 12 * FRAME
    assert lags[0] == pytest.approx((4 * FRAME + 72 + 4000) / SOUND_RATE, abs=1e-3), "less than 200 ms is borne"
    assert lags[-1] == pytest.approx(AHEAD / SOUND_RATE, abs=1e-3)


def test_a_mirrored_voice_that_is_late_is_dropped_and_the_knot_keeps_what_it_heard():
    playing, said = Playing(), voice(6.0)
    playing.driving.append_speech(said[: 2 * NEEDED], SOUND_RATE, "mirror")
    knot = playing.begin()[3]
    playing.end()
    late = 2 * NEEDED - (needed_samples(9, 4, FRAME) + MOST_LATE)
    assert late > 0
    assert playing.driving.speech_waiting * SOUND_RATE == 2 * NEEDED - late - 9 * FRAME
    playing.driving.append_speech(said[2 * NEEDED : 3 * NEEDED], SOUND_RATE, "mirror")
    first = playing.chunk()[0]
    assert torch.equal(knot[:3, :64], first[:3, :64])
    assert np.array_equal(playing.sound[1][: 4 * FRAME], said[late + 9 * FRAME : late + 13 * FRAME])
    assert playing.driving.speech_waiting * SOUND_RATE <= NEEDED + MOST_LATE - 12 * FRAME
    assert np.abs(np.diff(played(playing)[1:])).max() < 0.2


def test_cleared_speech_ends_softly_where_the_next_chunk_begins():
    playing = Playing()
    playing.driving.append_speech(voice(3.0), SOUND_RATE)
    playing.chunk()
    playing.begin()
    playing.driving.clear_speech()  # while a chunk is made of it: that one keeps it
    assert playing.driving.speech_waiting == 0
    playing.end()
    playing.chunk()
    assert np.array_equal(np.concatenate(playing.sound[:2]), voice(3.0)[: 21 * FRAME])
    after = playing.sound[2]
    assert np.abs(after[:120]).max() > 0
    assert not after[120:].any()
    assert np.abs(np.diff(np.concatenate(playing.sound[1:]))).max() < 0.1
    playing.driving.append_speech(voice(1.0, seed=3), SOUND_RATE)
    playing.chunk()
    assert np.array_equal(playing.sound[3], voice(1.0, seed=3)[: 12 * FRAME])


def test_taken_back_the_sound_that_was_heard_stays_and_the_rest_is_dropped_for_good():
    playing = Playing()
    said = voice(4.0)
    playing.driving.append_speech(said, SOUND_RATE)
    before = [playing.chunk() for _ in range(4)]
    playing.driving.clear_speech()
    playing.driving.take_back(6, heard_until=26)  # chunk 2, pixel frames 21 to 32, of which five were heard
    playing.driving.append_speech(voice(2.0, seed=1), SOUND_RATE)
    playing.driving.commit_speech()
    playing.start, playing.sound = 6, playing.sound[:2]
    again = playing.chunk()
    assert playing.driving.speech_waiting == 2
    sound = playing.sound[2]
    assert np.array_equal(sound[: 5 * FRAME], said[21 * FRAME : 26 * FRAME])
    assert np.abs(sound[5 * FRAME : 5 * FRAME + 120]).max() > 0
    assert not sound[5 * FRAME + 120 :].any()
    assert torch.equal(again[0, :, :64], before[2][0, :, :64])
    playing.chunk()
    assert np.array_equal(playing.sound[3], voice(2.0, seed=1)[: 12 * FRAME])


def test_taken_back_without_a_word_that_was_heard_it_is_silent_from_there_on():
    playing = Playing()
    playing.driving.append_speech(voice(1.6), SOUND_RATE)
    for _ in range(3):
        playing.chunk()
    playing.driving.clear_speech()
    playing.driving.take_back(3)
    playing.start, playing.sound = 3, playing.sound[:1]
    playing.chunk()
    assert not playing.sound[1].any()


# what moved the mouth


def spoken_with_gaps(playing: Playing) -> Driving:
    """Speech with pauses, of 20 chunks of changing lengths; the plain driving of the sound that came back."""
    rng = np.random.default_rng(7)
    rows = []
    for number in range(30):
        if number % 3 == 0:
            playing.driving.append_speech(voice(rng.uniform(0.3, 1.4), 16_000, seed=number % 5), 16_000)
            playing.driving.commit_speech()
        start, signal = playing.start, playing.chunk(int(rng.integers(1, 4)))
        rows += [row[-1:] if start + place == 0 else row for place, row in enumerate(signal)]
    playing.rows = torch.cat(rows).numpy()
    return Audio(samples=torch.from_numpy(played(playing))[None], sample_rate=SOUND_RATE)


def test_the_sound_handed_back_gives_the_signal_that_moved_the_mouth():
    """Bit for bit, but in the frame before a chunk with which speech begins: that one's last 20 ms heard silence behind
    it, because the chunk before was drawn when nothing waited.
    """
    playing = Playing()
    audio = spoken_with_gaps(playing)
    rows = playing.rows
    plain = Driving.from_audio(audio).pixel_signal(np.arange(len(rows))).numpy()
    spoken = rows[:, 72] == 1
    assert 0.3 < spoken.mean() < 1
    differ = np.flatnonzero((rows[:, :64] != plain[:, :64]).any(axis=1) & spoken)
    sound = np.abs(audio.samples[0].numpy()).reshape(-1, FRAME)
    begins = (sound[1:, :100].max(axis=1) > 0) & (sound[:-1, -12:].max(axis=1) == 0)  # the frame after each
    assert begins[differ].all()
    assert 0 < len(differ) < 10
    assert np.array_equal(rows[differ, :32], plain[differ, :32])  # its first 20 ms
    kept_from_it = ~spoken[:-1] & ~begins
    assert np.sqrt(np.square(sound[:-1][kept_from_it]).mean(axis=1)).max() < 10 ** (-50 / 20)


class TestTimeline:
    def test_read_is_the_whole_resampled_wherever_it_is_cut(self):
        timeline, said = Timeline(FRAME), voice(2.0)
        for place in range(0, 48_000, 9600):
            timeline.lay(said[place:])
            timeline.play(9600)
        whole = resample(torch.from_numpy(said), SOUND_RATE)
        for start, stop in [(0, 32_000), (1, 900), (7_777, 12_345), (31_000, 32_000)]:
            assert torch.allclose(timeline.read(start, stop), whole[start:stop], atol=1e-6)
        assert not timeline.read(-50, -10).any()
        assert timeline.read(-5, 5).shape == (10,)

    def test_behind_what_is_laid_there_is_silence_without_end(self):
        timeline = Timeline(FRAME)
        timeline.lay(voice(0.5))
        assert timeline.num_samples is None
        assert not timeline.read(9_000, 9_500).any()
        assert timeline.read(7_000, 7_500).any()

    def test_memory_is_flat(self):
        timeline = Timeline(FRAME)
        for _ in range(100):
            timeline.lay(voice(1.0))
            timeline.play(SOUND_RATE)
        assert len(timeline.to_state()["played"]) < 13 * SOUND_RATE * 4 * 4 / 3


def test_appending_takes_far_less_than_a_frame_and_any_thread_may():
    playing, done = Playing(), threading.Event()
    piece, took = (voice(0.02, 48_000) * 32767).astype(np.int16), []

    def speak():
        while not done.is_set():
            since = time.perf_counter()
            playing.driving.append_speech(piece, 48_000)
            playing.driving.set_controls({"yaw": 0.1})
            took.append(time.perf_counter() - since)
            if playing.driving.speech_waiting > 5:
                playing.driving.clear_speech()

    speaker = threading.Thread(target=speak)
    speaker.start()
    for _ in range(20):
        playing.chunk()
    done.set()
    speaker.join()
    assert played(playing).any()
    assert np.median(took) < 0.01


# models that hear through wav2vec2


def heard_by(model, encoder, **options):
    return Playing(model, encoder=encoder, window=SpeechWindow(group=12, before=20, ahead=6), **options)


@pytest.fixture(scope="module")
def encoder() -> SpeechEncoder:
    transformers = pytest.importorskip("transformers", reason="TRANSFORMERS DOES NOT IMPORT: wav2vec2 is not tested")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    network = transformers.Wav2Vec2Config(conv_dim=(8,) * 7, num_conv_pos_embedding_groups=4, **sizes)
    return SpeechEncoder(transformers.Wav2Vec2Model(network).eval())


PACKED = AdapterConfig(signal_dim=(2 + 2) * 16, num_packed=4)
HEARD = {
    "packed": Portrait(PACKED, 16),
    "late": Portrait(PACKED, 25, "late"),
    "windows": Portrait(AudioCrossConfig(signal_dim=2 * 16)),
}


@pytest.mark.parametrize("form", HEARD)
def test_a_model_of_wav2vec2_hears_the_timeline_and_takes_no_controls(encoder, form):
    """Each chunk is one window: with as much ahead as there is, its features are the engine's own of that window."""
    playing = heard_by(HEARD[form], encoder)
    said = voice(6.0)
    playing.driving.append_speech(said, SOUND_RATE)
    signals = [playing.begin() if number == 4 else playing.chunk() for number in range(5)]
    playing.end()
    audio = Audio(samples=torch.from_numpy(said)[None], sample_rate=SOUND_RATE)
    first = signals[4].shape[0]
    assert first == 4
    places = Driving.from_audio(audio, HEARD[form], encoder=encoder).form.frames(np.arange(12, 16))[0]
    low, high = int(places.min()), int(places.max())
    window = SpeechWindow(group=high + 1 - low, before=20, ahead=6)
    plain = Driving.from_audio(audio, HEARD[form], encoder=encoder, window=window)
    one_window = replace(plain.speech, phase=low - window.group, spread=False)
    expected = replace(plain, speech=one_window).signal(12, 4)
    assert torch.allclose(signals[4], expected, atol=1e-3)
    assert torch.equal(playing.driving.signal(0, 12), torch.cat(signals[:4]))
    for call in (lambda: playing.driving.set_controls({"yaw": 0}), lambda: playing.driving.gesture("nod"),
                 lambda: playing.driving.set_pose({}), lambda: playing.driving.set_liveliness(1)):  # fmt: skip
        with pytest.raises(DrivingError, match="takes no controls: head, eyes and mouth follow the speech alone"):
            call()


def test_a_model_of_wav2vec2_needs_its_encoder_and_nothing_beneath(encoder):
    with pytest.raises(DrivingError, match="load an encoder with load_speech_encoder"):
        Playing(HEARD["windows"])
    with pytest.raises(DrivingError, match="takes no controls"):
        Playing(HEARD["windows"], encoder=encoder, beneath=Driving.idle())


def test_silence_and_late_sound_move_a_model_of_wav2vec2_without_waiting(encoder):
    playing = heard_by(HEARD["windows"], encoder)
    silent = playing.chunk()
    playing.driving.append_speech(voice(0.3), SOUND_RATE)
    playing.driving.commit_speech()
    assert playing.chunk().shape == silent.shape
    assert playing.sound[-1].any()
    state = playing.driving.to_state()
    restored = heard_by(HEARD["windows"], encoder, state=state)
    restored.start = playing.start
    assert torch.equal(restored.chunk(), playing.chunk())


def test_constants_are_whole_samples():
    assert SOUND_RATE % 25 == SOUND_RATE % 16 == 0
    assert PAST == 72
    assert math.isclose(speech_queue.REPLY_WAITS, 0.3)
