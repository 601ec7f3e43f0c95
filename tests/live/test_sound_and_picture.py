"""Sound and picture of a session are on one time line, to the sample, however long it lasts and whatever is done."""

import random
from collections import deque

import numpy as np
import pytest

from knot_live import controls, media_encoder
from knot_live.media_encoder import ChunkEncoder, has_opus
from knot_live.messages import unpack

from .simulated import FPS, RATE, Scene, irregular

SAMPLES = RATE // FPS  # of a frame
PACKET = RATE // 50  # of Opus: 20 ms


class Heard:
    """Checks the messages of a session as they come."""

    def __init__(self):
        self.encoder = ChunkEncoder(16, 16, FPS)
        self.encoder.wanted |= {"opus"} if has_opus() else set()
        self.epoch, self.frame, self.sample, self.apart, self.packets = 0, 0, 0, deque(maxlen=10_000), 0

    def take(self, chunk):
        for piece in chunk.pieces(FPS):
            self.piece(self.encoder.encode(piece))

    def piece(self, piece):
        if piece.epoch != self.epoch:  # a cut: what comes takes the place of what was made
            assert piece.first_frame <= self.frame
            self.epoch, self.frame, self.sample = piece.epoch, piece.first_frame, piece.first_frame * SAMPLES
            self.packets = 0
        for message in piece.media["h264"]:
            assert unpack(message)[0].position == self.frame
            self.frame += 1
        (sound,) = piece.media["pcm16"]
        header, samples = unpack(sound)
        assert header.position == self.sample
        self.sample += len(samples) // 2
        assert self.sample == self.frame * SAMPLES
        for message in piece.media.get("opus", ()):
            position = unpack(message)[0].position
            assert self.packets in {0, position}, "packets of sound follow one another"
            self.packets = position + PACKET
        self.apart.append(self.sample - self.packets)


@pytest.mark.parametrize("minutes", [10, pytest.param(8 * 60, marks=pytest.mark.slow)])
def test_sound_stays_with_the_pictures_for_hours(monkeypatch, minutes):
    """10 minutes, and 8 hours, of a simulated clock, with changes of chunk length, speech, cuts and pauses.

    In the long one nothing is compressed: what is looked at are positions.
    """
    if minutes > 10:
        monkeypatch.setattr(media_encoder.VideoEncoder, "encode", lambda _, frames, key: [b"unit"] * len(frames))  # noqa: ARG005
        monkeypatch.setattr(media_encoder.OpusEncoder, "_packet", lambda *_: b"packet")
    here, rng, heard = Scene(monkeypatch, seconds=irregular(5, usual=0.05, rare=0.1)), random.Random(3), Heard()
    here.events, here.chunks = deque(maxlen=100), deque(maxlen=100)
    monkeypatch.setattr(here.viewer, "take", lambda chunk, take=here.viewer.take: (heard.take(chunk), take(chunk)))

    def anything():
        here.session.apply(rng.choice([
            lambda: controls.Speech(np.full(rng.randrange(640, 64_000), 4096, dtype=np.int16), 16_000),
            controls.CommitSpeech,
            lambda: controls.Settings({"num_chunk_frames": rng.randrange(1, 4)}), controls.Pause,
            lambda: controls.Cancel(here.viewer.next - 1),
        ])())  # fmt: skip
        here.session.apply(controls.GoOn())

    here.clock.every(1.7, anything)
    here.run(seconds=60 * minutes)
    assert heard.frame > 0.98 * 60 * minutes * FPS
    assert heard.epoch > minutes
    if has_opus():  # what is not a whole packet yet waits for the next piece: never more, also at the end
        assert len(heard.apart) > 1000
        assert max(heard.apart) < PACKET
        assert min(heard.apart) >= 0
