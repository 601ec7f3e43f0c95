"""Speech that waits: when it begins, what each chunk takes of it, what is dropped. Nobody ever waits for sound.

Everything counts samples at `SOUND_RATE`; what a chunk is given is a function of what waits and of the time alone, and
nothing is taken before the chunk is kept. So a chunk that is planned again is planned from the same sound, and more.

Shapes: S samples.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine import DrivingError
from .sound_bytes import SOUND_RATE, from_text, to_text

MODES = ("reply", "mirror")
REPLY_WAITS = 0.3  # seconds that the oldest sample of a reply waits for more at most
MOST_LATE = SOUND_RATE // 5  # samples: 200 ms, by which a mirrored voice may lag behind what a chunk needs
AHEAD = SOUND_RATE // 10  # samples: 100 ms by which a mirrored voice is ahead, for chunks that begin early
_QUIET = 0.01  # of full scale: a mirrored voice that lags catches up where it is no louder
PAST = 3 * SOUND_RATE // 1000  # samples: 3 ms past a pixel frame that its features hear
_MOST_UTTERANCES = 1000
_FADE = SOUND_RATE // 200  # samples: 5 ms, over which sound is cut without a click


def needed_samples(num_own: int, num_knot: int, samples_per_frame: int) -> int:
    """Samples that a chunk hears, of its own pixel frames and its knot's."""
    return (num_own + num_knot) * samples_per_frame + PAST


def may_start(mode: str, waiting: int, needed: int, *, committed: bool, waited: float) -> bool:
    """Whether speech that did not sound yet begins with this chunk; `waited`: seconds of its oldest sample."""
    if waiting == 0:
        return False
    return committed or waiting >= needed or (mode == "reply" and waited >= REPLY_WAITS)


def too_late(mode: str, waiting: int, needed: int) -> int:
    """Samples that are dropped: of a mirrored voice, those that come later than `MOST_LATE`."""
    return max(0, waiting - needed - MOST_LATE) if mode == "mirror" else 0


def lead_in(num_own: int, num_needed: int, waiting: int) -> int:
    """Samples of silence before a mirrored voice that begins with this chunk, which hears `num_needed` samples.

    So it is as late as it must be, wherever between two chunks it began: what has arrived ends `AHEAD` behind the
    chunk's own.
    """
    return max(0, min(num_needed, num_own + AHEAD) - waiting)


def continued(sound_S: np.ndarray, count: int) -> np.ndarray:
    """`count` further samples [S] of much the same spectrum: the last ones backwards."""
    return np.resize(sound_S[::-1][: max(1, min(count, len(sound_S)))], count)


def fade_out(sound_S: np.ndarray) -> np.ndarray:
    """The first 5 ms of the sound, [S], falling to silence."""
    part = sound_S[:_FADE]
    return part * np.linspace(1, 0, len(part), endpoint=False, dtype=np.float32)


def without(sound_S: np.ndarray, place: int, count: int) -> np.ndarray:
    """The sound [S] without `count` samples from `place` on, cross-faded over 5 ms."""
    if count == 0:
        return sound_S
    before, after = sound_S[:place], sound_S[place + count :].copy()
    fading = min(_FADE, len(after), count)
    weight = np.linspace(0, 1, fading, endpoint=False, dtype=np.float32)
    after[:fading] = weight * after[:fading] + (1 - weight) * sound_S[place : place + fading]
    return np.concatenate([before, after])


@dataclass
class Utterance:
    """Speech in a row, piece by piece with the time of arrival."""

    mode: str
    committed: bool = False
    started: bool = False
    heard: int = 0  # of its first samples, those that a chunk's knot heard already
    pieces: deque[tuple[float, np.ndarray]] = field(default_factory=deque)
    waiting: int = 0  # samples

    def append(self, sound: np.ndarray, now: float) -> None:
        """Append sound [S], which came now."""
        self.pieces.append((now, sound))
        self.waiting += len(sound)

    def first(self, count: int) -> np.ndarray:
        """The first `count` samples, or all: float32 [S]."""
        parts, missing = [np.zeros(0, dtype=np.float32)], count
        for _, piece in self.pieces:
            if missing <= 0:
                break
            parts.append(piece[:missing])
            missing -= len(parts[-1])
        return np.concatenate(parts)

    def replace_first(self, count: int, by: np.ndarray) -> None:
        """Replace the first `count` samples by others [S], as old as what follows them."""
        arrived = self.pieces[0][0] if self.pieces else 0.0
        self.waiting += len(by) - count
        while count > 0:
            arrived, piece = self.pieces.popleft()
            if len(piece) > count:
                self.pieces.appendleft((arrived, piece[count:]))
            count -= len(piece)
        if len(by):
            self.pieces.appendleft((arrived, by))


@dataclass(frozen=True)
class Taken:
    """A chunk's share of an utterance: its first `raw` samples become `sound`, of which `own` are played; `silent`
    samples before it are silence.
    """

    utterance: Utterance
    silent: int
    raw: int
    sound: np.ndarray
    own: int
    ran_dry: bool  # before the chunk's own frames ended, and more is to come
    goes_on: bool = False  # mirrored, and more of it comes than is here


@dataclass(frozen=True)
class Laid:
    """The sound of a chunk, and what follows it as far as it is known: [S]; silence where nothing is laid."""

    sound: np.ndarray
    taken: tuple[Taken, ...] = ()
    generation: int = 0  # of the queue; after a clear nothing can be taken from it any more


class SpeechQueue:
    """Utterances in order. Not thread-safe."""

    def __init__(self) -> None:
        self._utterances: deque[Utterance] = deque()
        self.generation = 0

    @property
    def waiting(self) -> int:
        return sum(utterance.waiting for utterance in self._utterances)

    @property
    def mirrors(self) -> bool:
        """Whether a microphone's voice comes."""
        return any(one.mode == "mirror" and not one.committed for one in self._utterances)

    def append(self, sound: np.ndarray, mode: str, now: float) -> None:
        """Append sound [S] to the last utterance, or begin another where that is committed or of another mode.

        Raises:
            DrivingError: too many utterances wait.
        """
        if not len(sound):
            return
        last = self._utterances[-1] if self._utterances else None
        if last is not None and last.mode != mode:
            last.committed = True
        if last is None or last.committed:
            if len(self._utterances) >= _MOST_UTTERANCES:
                raise DrivingError(f"{_MOST_UTTERANCES} sentences wait already; send what is to be spoken, in fewer")
            self._utterances.append(Utterance(mode))
        self._utterances[-1].append(sound, now)

    def commit(self) -> None:
        """The last utterance is whole."""
        if self._utterances:
            self._utterances[-1].committed = True

    def clear(self) -> None:
        """Nothing waits."""
        self._utterances.clear()
        self.generation += 1

    def lay(self, num_own: int, num_needed: int, num_laid: int, now: float) -> Laid:
        """Lay the sound that a chunk plays (`num_own` samples), hears (`num_needed`), and what follows."""
        taken = tuple(self._takes(num_own, num_needed, num_laid, now))
        parts = [np.pad(take.sound, (take.silent, 0)) for take in taken]
        if taken and taken[-1].goes_on and (missing := num_laid - sum(map(len, parts))) > 0:
            parts.append(continued(taken[-1].sound, missing))  # of the knot, until the next chunk hears what it was
        sound = np.concatenate([np.zeros(0, dtype=np.float32), *parts])
        return Laid(np.pad(sound, (0, num_laid - len(sound))), taken, self.generation)

    def _takes(self, num_own: int, num_needed: int, num_laid: int, now: float) -> Iterator[Taken]:
        place = 0
        for utterance in self._utterances:
            waiting, waited = utterance.waiting, now - utterance.pieces[0][0] if utterance.pieces else 0.0
            starts = may_start(utterance.mode, waiting, num_needed, committed=utterance.committed, waited=waited)
            silent, goes_on = 0, utterance.mode == "mirror" and not utterance.committed
            if goes_on and not utterance.started and waiting:
                silent = lead_in(num_own, num_needed, place + waiting)
                starts = place + silent < num_own
            if place >= num_laid or not (utterance.started or starts):
                return
            place += silent
            late = self._late(utterance, num_own - place, num_needed)
            raw = utterance.first(num_laid - place + late)
            sound = without(raw, min(utterance.heard, len(raw) - late), late)
            own = min(len(sound), max(0, num_own - place))
            dry = place + len(sound) < num_own and not utterance.committed
            yield Taken(utterance, silent, len(raw), sound, own, dry, goes_on and not dry)
            place += len(sound)
            if not utterance.committed:
                return

    def _late(self, utterance: Utterance, num_own: int, num_needed: int) -> int:
        """Samples that are dropped: what is too late, and in a pause of a mirrored voice what it need not lag."""
        late = too_late(utterance.mode, utterance.waiting, num_needed)
        lag = utterance.waiting - min(num_needed, num_own + AHEAD)
        if utterance.mode != "mirror" or utterance.committed or not utterance.started or lag <= late:
            return late
        pause = utterance.first(utterance.heard + lag)[utterance.heard :]
        return lag if len(pause) == lag and np.abs(pause).max() < _QUIET else late

    def take(self, laid: Laid) -> None:
        """The chunk is kept: its own samples have gone."""
        if laid.generation != self.generation:
            return
        for take in laid.taken:
            take.utterance.replace_first(take.raw, take.sound[take.own :])
            take.utterance.started = not take.ran_dry  # also where the knot alone heard it
            take.utterance.heard = len(take.sound) - take.own
        while self._utterances and self._utterances[0].committed and not self._utterances[0].waiting:
            self._utterances.popleft()

    def to_state(self) -> Sequence[Mapping[str, Any]]:
        """Values that JSON holds."""
        return [
            {
                "mode": one.mode,
                "sound": to_text(one.first(one.waiting)),
                "committed": one.committed,
                "started": one.started,
                "heard": one.heard,
                "pieces": [[arrived, len(piece)] for arrived, piece in one.pieces],
            }
            for one in self._utterances
        ]

    def restore(self, state: Sequence[Mapping[str, Any]], now: float, later: float | None = None) -> None:
        """Stand where `to_state` was called.

        What waits is as old as it was then; `later`: how much more this clock says now than that one did. None: old
        states have no times, and what waits arrives now.
        """
        for one in state:
            self._utterances.append(Utterance(one["mode"], one["committed"], one["started"], one["heard"]))
            sound, place = from_text(one["sound"]), 0
            pieces = [[now, len(sound)]] if later is None else [[at + later, count] for at, count in one["pieces"]]
            for arrived, count in pieces:
                self._utterances[-1].append(sound[place : place + count], arrived)
                place += count
