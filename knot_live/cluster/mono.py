"""Speech on its way to a worker: mono at the sessions' rate, so that no worker keeps half a sample of it."""

from collections.abc import Iterator

from ..controls import Cancel, ClearSpeech, CommitSpeech, Control, ControlError, Say, Speech
from ..engine import check_rate, to_samples
from ..sound_bytes import SOUND_RATE
from ..sound_timeline import Intake


class Mono:
    """One session's. The last millisecond of a sound at another rate waits for more, or for its end."""

    def __init__(self) -> None:
        self._intake: Intake | None = None

    def heard(self, control: Control) -> Iterator[Control]:
        """The controls that are asked of the session in its place; the last one is its own."""
        if isinstance(control, Speech):
            yield from self._speech(control)
            return
        if isinstance(control, CommitSpeech | Say):
            yield from self._end()
        elif isinstance(control, ClearSpeech | Cancel):
            self._intake = None
        yield control

    def _speech(self, speech: Speech) -> Iterator[Control]:
        try:
            rate, samples = check_rate(speech.rate), to_samples(speech.samples, piece=True)
        except (ControlError, ValueError):
            yield speech  # the session says what is wrong with it
            return
        if self._intake is None or (self._intake.rate, self._intake.mode) != (rate, speech.mode):
            yield from self._end()
            self._intake = Intake(rate, speech.mode)
        yield Speech(self._intake.push(samples), SOUND_RATE, speech.mode)

    def _end(self) -> Iterator[Control]:
        if self._intake is not None:
            rest, mode, self._intake = self._intake.finish(), self._intake.mode, None
            if len(rest):
                yield Speech(rest, SOUND_RATE, mode)
