"""Recordings of a session: what was shown, with its sound, as a video that says that it is generated.

Shapes: T pixel frames, H W height and width, C channels, S samples.
"""

from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Condition, Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .chunk_pictures import Pictures
from .engine import MediaError, VideoWriter
from .pacing import first_sample
from .sound_bytes import SOUND_RATE

OpenFile = Callable[..., Any]  # (path, width, height, fps, audio) to what `open_writer` gives
_SECONDS_WAITING = 10  # of pictures that a slow disc may lie behind


class Shown:
    """Pictures and sound on their way to a recording: held until they are shown, since till then they may be cut.

    Frames are pixel frames from the stream's beginning. What is held is what is made and not played: a chunk or two.
    """

    def __init__(self, fps: int) -> None:
        self._fps = fps
        self._held: deque[tuple[int, Pictures, np.ndarray]] = deque()  # first frame, [T, H, W, 3], [S]

    def add(self, first: int, frames_THWC: Pictures, sound_S: np.ndarray) -> None:
        """Append pictures and sound, or replace all that is held from frame `first` on."""
        kept = [self._until(first, *piece) for piece in self._held]
        self._held = deque(piece for piece in kept if len(piece[1]))
        self._held.append((first, frames_THWC, sound_S.copy()))

    def silence(self, first: int) -> None:
        """The sound of what is held is not heard from frame `first` on: the viewer is mute."""
        for start, _, sound_S in self._held:
            sound_S[max(0, first_sample(first, self._fps) - first_sample(start, self._fps)) :] = 0

    def take(self, end: int) -> list[tuple[Pictures, np.ndarray]]:
        """Pictures uint8 [T, H, W, 3] and sound [S] shown before frame `end`, which are not held any more."""
        taken = [self._until(end, *piece)[1:] for piece in self._held]
        self._held = deque(piece for piece in (self._from(end, *piece) for piece in self._held) if len(piece[1]))
        return [piece for piece in taken if len(piece[0])]

    def _until(self, end: int, first: int, frames: Pictures, sound: np.ndarray) -> tuple[int, Pictures, np.ndarray]:
        count = max(0, end - first)
        return first, frames[:count], sound[: first_sample(first + count, self._fps) - first_sample(first, self._fps)]

    def _from(self, end: int, first: int, frames: Pictures, sound: np.ndarray) -> tuple[int, Pictures, np.ndarray]:
        count = min(len(frames), max(0, end - first))
        skipped = first_sample(first + count, self._fps) - first_sample(first, self._fps)
        return first + count, frames[count:], sound[skipped:]


class Recording:
    """A file that is written on a thread of its own; nobody waits for it.

    `ended` is called there, once, with a sentence if the recording broke off, else with an empty one. What was written
    until then plays. It breaks off where the file cannot be written, or lags behind by more than ten seconds of
    pictures: those are held in memory.
    """

    def __init__(
        self, path: Path, fps: int, ended: Callable[[Path, str], None], open_file: OpenFile = VideoWriter
    ) -> None:
        self.path, self._fps, self._ended, self._open = path, fps, ended, open_file
        self._changed = Condition()  # of what follows
        self._waiting: deque[tuple[Pictures, np.ndarray]] = deque()
        self._closing, self._lags = False, False
        self._thread = Thread(target=self._run, name="knot-live-recording", daemon=True)
        self._thread.start()

    def write(self, frames_THWC: Pictures, sound_S: np.ndarray) -> None:
        """Append uint8 pictures and their sound; returns at once."""
        with self._changed:
            num_waiting = sum(len(frames) for frames, _ in self._waiting)
            self._lags = self._lags or num_waiting > _SECONDS_WAITING * self._fps
            if not (self._lags or self._closing):
                self._waiting.append((frames_THWC, sound_S))
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more comes; the file ends behind what was given."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()

    @property
    def is_written_to(self) -> bool:
        """Whether the file has not ended yet."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until the file has ended."""
        self._thread.join()

    def _run(self) -> None:
        sound, writer, message = _SoundSoFar(), None, ""
        try:
            while (piece := self._next_piece()) is not None:
                frames, samples = piece
                if writer is None:
                    height, width = np.asarray(frames).shape[1:3]
                    writer = self._open(self.path, width=width, height=height, fps=self._fps, audio=sound)
                sound.append(samples)
                writer.write(torch.from_numpy(np.asarray(frames)))
            message = self._end(writer)
        except Exception as problem:  # on a thread where nobody else would hear of it
            message = f"the recording broke off: {problem}"
        finally:
            self._ended(self.path, message)

    def _next_piece(self) -> tuple[Pictures, np.ndarray] | None:
        """None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closing or self._lags)
            return self._waiting.popleft() if self._waiting else None

    def _end(self, writer: VideoWriter | None) -> str:
        if writer is None:
            return "nothing was shown while it recorded, so there is no file"
        writer.close()
        return "the recording broke off: writing it takes longer than the pictures last" if self._lags else ""


class Recorder:
    """The recordings of one session: any number, one after the other.

    `next_path` names the file of each, None where nothing may be recorded; `ended` is told of each that has ended.
    """

    def __init__(
        self,
        fps: int,
        next_path: Callable[[], Path] | None,
        ended: Callable[[Path, str], None],
        open_file: OpenFile = VideoWriter,
    ) -> None:
        self._fps, self._next_path, self._ended, self._open = fps, next_path, ended, open_file
        self.shown = Shown(fps)
        self._now: Recording | None = None
        self._stopped: list[Recording] = []  # whose files may not have ended yet

    def start(self) -> None:
        """Record what is shown from here on.

        Raises:
            MediaError: it records already, or this session has no place for recordings.
        """
        if self._next_path is None:
            raise MediaError("this session has no place for recordings; its host must name one")
        if self._now is not None:
            raise MediaError("it records already; stop that recording first")
        self._now = Recording(self._next_path(), self._fps, self._ended, self._open)

    def stop(self) -> None:
        """End the recording behind what was handed on.

        Raises:
            MediaError: it does not record.
        """
        if self._now is None:
            raise MediaError("it does not record")
        self._now.close()
        self._stopped = [*(recording for recording in self._stopped if recording.is_written_to), self._now]
        self._now = None

    def hand_on(self, end: int) -> None:
        """Frames before `end` were shown."""
        for frames, sound in self.shown.take(end):
            if self._now is not None:
                self._now.write(frames, sound)

    def end(self, end: int) -> None:
        """The session is over, and its viewer shows what is held: wait for the files."""
        self.hand_on(end)
        if self._now is not None:
            self.stop()
        for recording in self._stopped:
            recording.join()


class _SoundSoFar:
    """The sound of the next pictures, as the writer reads it."""

    sample_rate, num_channels = SOUND_RATE, 1

    def __init__(self) -> None:
        self._samples_S = np.zeros(0, dtype=np.float32)

    def append(self, samples_S: np.ndarray) -> None:
        self._samples_S = np.concatenate([self._samples_S, samples_S])

    def read(self, start: int, stop: int) -> Tensor:
        """float32 [1, S], in order."""
        count = stop - start
        taken, self._samples_S = self._samples_S[:count], self._samples_S[count:]
        return torch.from_numpy(taken)[None]
