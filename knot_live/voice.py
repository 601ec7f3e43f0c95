"""The voice of a live stream: pieces of speech in, the sound of each chunk out, and the timeline that is heard.

Shapes: S samples.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from .engine import DrivingError, check_rate, to_samples
from .sound_bytes import from_text, to_text
from .sound_timeline import Intake, Timeline
from .speech_queue import MODES, SOUND_RATE, Laid, SpeechQueue, fade_out, needed_samples

MOST_WAITING = 120.0  # seconds of speech
_REACH = SOUND_RATE // 125  # samples past its frames that a chunk hears at most: features, and the way to 16 kHz
_NOTHING, _SILENCE = np.zeros(0, dtype=np.float32), np.zeros(1, dtype=np.float32)


class HeardVoice:
    """Speech as it arrives, and as chunks hear it.

    Its owner's lock guards it, but for the timeline, which is the session's thread's alone.
    """

    def __init__(self, samples_per_frame: int) -> None:
        self.timeline = Timeline(samples_per_frame)
        self._per_frame = samples_per_frame
        self._queue, self._intake = SpeechQueue(), None
        self._again = _NOTHING  # of the next chunk, heard before it was taken back
        self._tail = _NOTHING, 0  # what the last knot heard, and the queue's generation it came from

    @property
    def waiting(self) -> int:
        """Samples that no chunk has played."""
        return self._queue.waiting

    @property
    def mirrors(self) -> bool:
        """Whether a microphone's voice comes."""
        return self._queue.mirrors

    def append(self, samples: Any, sample_rate: int, mode: str, now: float) -> None:
        """`LiveDriving.append_speech`."""
        if mode not in MODES:
            raise DrivingError(f"the mode of speech is {str(mode)[:40]!r}; choose one of {', '.join(MODES)}")
        rate, samples = check_rate(sample_rate), to_samples(samples, piece=True)
        seconds = samples.shape[1] / rate
        if self.waiting / SOUND_RATE + seconds > MOST_WAITING:
            raise DrivingError(
                f"{self.waiting / SOUND_RATE:.0f} s of speech wait and {seconds:.0f} s came; send what is to be spoken "
                f"within {MOST_WAITING:.0f} s"
            )
        same = self._intake is not None and (self._intake.rate, self._intake.mode) == (rate, mode)
        intake = self._intake if same else Intake(rate, mode)
        sound = intake.push(samples)
        if not same:
            self._end_intake(now)
        self._intake = intake
        self._queue.append(sound, mode, now)

    def commit(self, now: float) -> None:
        """Say that what was appended is complete."""
        self._end_intake(now)
        self._queue.commit()

    def clear(self) -> None:
        """Nothing waits."""
        self._intake = None
        self._queue.clear()

    def _end_intake(self, now: float) -> None:
        if self._intake is not None:
            rest, mode, self._intake = self._intake.finish(), self._intake.mode, None
            self._queue.append(rest, mode, now)

    def lay(self, num_own: int, num_knot: int, num_past: int, now: float) -> Laid:
        """The sound of a chunk of so many pixel frames, of its knot's, and of what it hears past them.

        It is what was heard of it before it was taken back, or else what the queue has for it.
        """
        num_laid = (num_own + num_knot + num_past) * self._per_frame + _REACH
        if len(self._again):
            sound = self._again[:num_laid]
            return Laid(np.pad(sound, (0, num_laid - len(sound))), (), self._queue.generation)
        needed = needed_samples(num_own, num_knot, self._per_frame)
        laid = self._queue.lay(num_own * self._per_frame, needed, num_laid, now)
        knot, generation = self._tail
        if generation != self._queue.generation:  # cleared: what went on then ends softly
            fading = fade_out(knot)
            laid.sound[: len(fading)] += fading
        return laid

    def speaks(self, laid: Laid) -> bool:
        """Whether what was laid has speech in the chunk's own frames."""
        return any(take.own for take in laid.taken) or bool(self._again.any())

    def take(self, laid: Laid, count: int) -> None:
        """A chunk of `count` samples is kept, with that sound."""
        self._queue.take(laid)
        self._again = self._again[count:]
        self._tail = laid.sound[count:], laid.generation

    def take_back(self, cut: np.ndarray, heard: int | None) -> None:
        """Drop sound [S] of the timeline's end that was not played, all but its first `heard` samples, behind which the
        next chunk is silent; None: what waits begins with it.
        """
        if heard is None:
            self._again = _NOTHING
        else:
            self._again = np.concatenate([cut[:heard], fade_out(cut[heard:])]) if heard else _SILENCE
        self._tail = _NOTHING, self._queue.generation

    def to_state(self) -> Mapping[str, Any]:
        """Values that JSON holds. Of a sound at another rate the last millisecond is not among them."""
        tail, generation = self._tail
        return {
            "timeline": self.timeline.to_state(),
            "waiting": self._queue.to_state(),
            "again": to_text(self._again),
            "tail": to_text(tail),
            "cleared": generation != self._queue.generation,
        }

    def restore(self, state: Mapping[str, Any], now: float, later: float | None = None) -> None:
        """Stand where `to_state` was called; see `SpeechQueue.restore` for the times."""
        self.timeline.restore(state["timeline"])
        self._queue.restore(state["waiting"], now, later)
        self._again = from_text(state["again"])
        self._tail = from_text(state["tail"]), -1 if state["cleared"] else self._queue.generation
