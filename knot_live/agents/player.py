"""A session that an agent's framework plays: its threads, and its pictures one by one with the speech in each.

Speech comes as fast as it was synthesized, in utterances; it is played in full and in order. Only so much of it is
handed to the session as it takes; the rest waits here, where it can be forgotten at once.

Shapes: C channels, H W height and width, S samples.
"""

import asyncio
import queue
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..controls import Cancel, CommitSpeech, Speech
from ..engine import to_samples
from ..events import MediaChunk
from ..session import Session
from ..sound_timeline import Intake
from ..speech_queue import SOUND_RATE, fade_out

_AHEAD = 20 * SOUND_RATE  # samples that the session is given before it has played them
_FULL = 32_768  # of 16 bits


class Frame(NamedTuple):
    """One pixel frame with its sound; the first `spoken` samples are speech, the others silence."""

    number: int
    picture: np.ndarray  # uint8 [H, W, 3]
    sound: np.ndarray  # int16 [S] at SOUND_RATE
    spoken: int
    name: Any = None  # of the utterance that it speaks
    ended: tuple[Any, ...] = ()  # what was given with the ends of the utterances that are over with it


@dataclass
class _Utterance:
    name: Any
    intake: Intake | None = None
    given: int = 0  # samples
    spoken: int = 0
    committed: bool = False
    end: Any = None


class _Stopped(Exception):  # noqa: N818 - nothing is wrong
    """The session is to end at once."""


class Player:
    """Plays one session. All of it is called in the event loop in which it was started."""

    def __init__(self, session: Session) -> None:
        """`session` has not begun, and has a viewer: this."""
        self.fps, self._session = session.fps, session
        self._threads: list[threading.Thread] = []
        self._made: queue.SimpleQueue[MediaChunk | None] = queue.SimpleQueue()  # between them; None: there are no more
        self._stopping, self._over = threading.Event(), False
        self._problem: Exception | None = None
        self._held: deque[Frame] = deque()
        self._arrived, self._silent = asyncio.Event(), asyncio.Event()
        self._silent.set()
        self._utterances: deque[_Utterance] = deque()
        self._asked: deque[np.ndarray | None] = deque()  # sound [S] and ends of utterances, for the session
        self._handed = 0  # samples that the session has and that were not shown
        self._epoch, self._cutting, self._shown = 0, False, -1

    def start(self) -> None:
        """Begin to draw, once."""
        if not self._threads:
            loop = asyncio.get_running_loop()
            self._threads = [
                threading.Thread(target=self._draw, name="knot-live-agent", daemon=True),
                threading.Thread(target=self._hand_over, args=(loop,), name="knot-live-agent-pictures", daemon=True),
            ]
            for thread in self._threads:
                thread.start()

    async def close(self) -> None:
        """End the session at once; waits for its threads."""
        self._stopping.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    def say(self, samples: np.ndarray, rate: int, name: Any = None) -> None:
        """More of the last utterance, or of a new one of that name where that was committed: int16 [C, S]."""
        utterance = self._open_utterance(name)
        if utterance.intake is None or utterance.intake.rate != rate:
            self._finish_intake(utterance)
            utterance.intake = Intake(rate, "reply")
        self._ask(utterance, utterance.intake.push(to_samples(samples, piece=True)))

    def commit(self, end: Any = None) -> None:
        """The last utterance is whole; `end` comes with the frame with which it is over."""
        utterance = self._open_utterance()
        self._finish_intake(utterance)
        utterance.committed, utterance.end = True, end
        self._asked.append(None)
        self._feed()

    def silence(self) -> None:
        """Forget all speech: the frame after that which was shown last is silent but for 5 ms in which it fades."""
        if not self._utterances:
            return
        self._utterances.clear()
        self._asked.clear()
        self._handed = 0
        self._silent.set()
        self._held = deque(_muted(frame, fading=place == 0) for place, frame in enumerate(self._held))
        if not self._cutting:
            self._cutting = True  # until the session has made other frames
            self._session.apply(Cancel(self._shown))

    async def until_silent(self) -> None:
        """Until every utterance is over, committed and shown, or forgotten."""
        await self._silent.wait()

    async def frame(self) -> Frame | None:
        """The next frame, which counts as shown now; None behind the session's last.

        Raises:
            Exception: what has ended the session, where it did not end as asked.
        """
        while not self._held:
            if self._over:
                if self._problem is not None:
                    raise self._problem
                return None
            self._arrived.clear()
            await self._arrived.wait()
        frame = self._held.popleft()
        self._shown = frame.number
        self._session.acknowledge(self._epoch, frame.number)
        return self._counted(frame)

    # what is said

    def _open_utterance(self, name: Any = None) -> _Utterance:
        if not self._utterances or self._utterances[-1].committed:
            self._utterances.append(_Utterance(name))
            if not self._over:
                self._silent.clear()
        return self._utterances[-1]

    def _finish_intake(self, utterance: _Utterance) -> None:
        if utterance.intake is not None:
            self._ask(utterance, utterance.intake.finish())
            utterance.intake = None

    def _ask(self, utterance: _Utterance, sound: np.ndarray) -> None:
        utterance.given += len(sound)
        self._asked.append(sound)
        self._feed()

    def _feed(self) -> None:
        while self._asked and self._handed < _AHEAD and not self._cutting:
            sound = self._asked.popleft()
            if sound is None:
                self._session.apply(CommitSpeech())
            elif len(sound):
                self._handed += len(sound)
                self._session.apply(Speech(sound, SOUND_RATE))

    def _counted(self, frame: Frame) -> Frame:
        """With the utterances that it speaks and ends."""
        self._handed -= frame.spoken
        name = self._utterances[0].name if self._utterances else None
        left, ended = frame.spoken, []
        while self._utterances:
            first = self._utterances[0]
            now = min(left, first.given - first.spoken)
            first.spoken, left = first.spoken + now, left - now
            if not first.committed or first.spoken < first.given:
                break
            ended.append(self._utterances.popleft().end)
        if not self._utterances:
            self._silent.set()
        self._feed()
        return frame._replace(name=name, ended=tuple(ended))

    # what the session gives

    def _draw(self) -> None:
        try:
            for chunk in self._session.chunks(self._look):
                self._made.put(chunk)
        except _Stopped:
            pass
        except Exception as problem:
            self._problem = problem
        finally:
            self._made.put(None)

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        """Pictures as they are decoded, which the next chunk does not wait for."""
        try:
            while (chunk := self._made.get()) is not None:
                for piece in chunk.pieces(self.fps):
                    loop.call_soon_threadsafe(self._take, piece)
        except Exception as problem:
            self._problem = self._problem or problem
            self._stopping.set()
        loop.call_soon_threadsafe(self._end)

    def _look(self) -> None:
        if self._stopping.is_set():
            raise _Stopped

    def _end(self) -> None:
        self._over = True
        self._arrived.set()
        self._silent.set()

    def _take(self, piece: MediaChunk) -> None:
        if piece.epoch > self._epoch:
            self._epoch, self._cutting = piece.epoch, False
            self._held = deque(frame for frame in self._held if frame.number < piece.first_frame)
        count = SOUND_RATE // self.fps
        sound = np.round(piece.sound * _FULL).clip(-_FULL, _FULL - 1).astype(np.int16)
        for place, picture in enumerate(np.asarray(piece.frames)):
            start = place * count
            spoken = min(max(piece.speech - start, 0), count)
            frame = Frame(piece.first_frame + place, picture, sound[start : start + count], spoken)
            if frame.number > self._shown:
                self._held.append(_muted(frame) if self._cutting else frame)
        self._feed()
        self._arrived.set()


def _muted(frame: Frame, *, fading: bool = False) -> Frame:
    sound = np.zeros_like(frame.sound)
    if fading:
        faded = fade_out(frame.sound)
        sound[: len(faded)] = faded
    return frame._replace(sound=sound, spoken=0)
