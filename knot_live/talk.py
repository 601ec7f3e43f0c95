"""`talk`: a program that drives a server with sound or a sentence, and writes what it received.

Shapes: S samples.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from .client import ClientSession, LiveError, Media, connect, upload
from .engine import GENERATED_BOX, open_audio
from .messages import FMP4, INITIALISATION

_PIECE = 0.5  # seconds of a message of speech
_AHEAD = 20.0  # seconds of speech that are sent before they are seen
_AFTER = 0.6  # seconds of picture behind the last word
_QUIET = 1.5  # seconds that tell that a sentence whose length is unknown has ended
_PATIENCE = 5.0  # seconds that nothing is heard


@dataclass(frozen=True)
class Talk:
    """The speech: sound, a sentence, or one after the other."""

    samples: np.ndarray | None  # float32 [S]
    rate: int
    text: str | None
    voice: str = ""


def sound_of(path: Path) -> tuple[np.ndarray, int]:
    """Mono samples float32 [S] of a sound file, and their rate.

    Raises:
        MediaError: it cannot be read.
    """
    audio = open_audio(path)
    return audio.samples.mean(dim=0).numpy(), audio.sample_rate


async def talk(  # noqa: PLR0913 - as the command has options
    url: str, reference: str, what: Talk, out: Path, token: str | None = None, *, seed: int = 0, points: str = ""
) -> float:
    """Drive a session until all is said; seconds of the MP4 file that was written. `points`: as `upload` takes them.

    Raises:
        LiveError: the server refuses something, or the connection is lost.
        OSError: the reference cannot be read, or the file not be written.
    """
    if Path(reference).suffix:
        reference = await upload(url, await asyncio.to_thread(Path(reference).read_bytes), token, points)
    elif ":" not in reference:
        reference = f"builtin:{reference}"
    speech = {"rate": what.rate, "mode": "reply"}
    wish = {"reference": reference, "seed": seed, "video": "fmp4", "speech": speech}
    async with connect(url, token=token, **wish) as session:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("wb") as file:
            listener = _Listener(session, what, file)
            await listener.run()
    return listener.num_frames / session.created["fps"]


class _Listener:
    """Follows a session until what was to be said has been."""

    def __init__(self, session: ClientSession, what: Talk, file: BinaryIO) -> None:
        self._session, self._what, self._file, self._fps = session, what, file, session.created["fps"]
        self._last = ""  # event id of the last thing that is asked for; empty until it is
        self._given: int | None = None  # frame from which on that holds: all is said, or waits to be
        self._heard: int | None = None  # frame of the first chunk with speech in it
        self._spoken, self._finishing = 0, False  # frame behind the last that had speech
        self.num_frames = 0

    async def run(self) -> None:
        feeder = asyncio.create_task(self._feed())
        try:
            async for message in self._session:
                if isinstance(message, Media):
                    self._write(message)
                else:
                    await self._heed(message)
        finally:
            feeder.cancel()

    async def _feed(self) -> None:
        """Speech in pieces, never far ahead of what was seen of it, then the sentence."""
        what, session = self._what, self._session
        size = round(_PIECE * what.rate)
        for start in range(0, 0 if what.samples is None else len(what.samples), size):
            while start / what.rate > self.num_frames / self._fps + _AHEAD:
                await asyncio.sleep(_PIECE / 4)
            await session.speak(what.samples[start : start + size])
        if what.samples is not None:
            self._last = await session.send("input_audio_buffer.commit")
        if what.text is not None:
            self._last = await session.say(what.text, what.voice)

    async def _heed(self, message: dict[str, Any]) -> None:
        if message["type"] == "error":
            raise LiveError(message["code"], message["message"])
        if message["type"] == "control.applied" and self._last and message.get("event_id") == self._last:
            self._given = message["frame"]
        if message["type"] == "video.chunk_metadata":
            await self._follow(message)

    async def _follow(self, chunk: dict[str, Any]) -> None:
        self.num_frames = chunk["first_frame"] + chunk["frames"]
        if chunk["speech"] and self._heard is None:
            self._heard = chunk["first_frame"]
        self._spoken = self.num_frames if chunk["speech"] else self._spoken
        await self._session.acknowledge(chunk["epoch"], self.num_frames - 1)
        if not self._finishing and self._is_said():
            self._finishing = True
            await self._session.send("session.finish")

    def _is_said(self) -> bool:
        """The sound is over, which began with the first chunk that has speech in it, and a sentence is followed by
        silence. Where nothing at all is heard, its length and `_PATIENCE` decide.
        """
        if self._given is None:
            return False
        what = self._what
        seconds = 0.0 if what.samples is None else len(what.samples) / what.rate
        if self._heard is None:
            return self.num_frames > self._given + (seconds + _PATIENCE) * self._fps
        over = self.num_frames >= self._heard + (seconds + _AFTER) * self._fps
        return over and (what.text is None or self.num_frames >= self._spoken + _QUIET * self._fps)

    def _write(self, media: Media) -> None:
        """Fragments as they are; behind the header, which comes once, that they are generated."""
        if media.header.kind != FMP4:
            return
        if not media.header.flags & INITIALISATION:
            self._file.write(media.payload)
        elif not self._file.tell():
            self._file.write(media.payload + GENERATED_BOX)
