"""A session that runs, and the clients it is shown to. No sockets here: a client is its outbox."""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import controls
from .events import Applied, Cut, Degraded, Ended, Event, Recorded, Refused, StateChanged
from .json_logs import SESSION
from .limits import Limits
from .media_encoder import EncodedChunk
from .messages import said
from .observing import Observer, SessionFigures
from .outbox import Outbox
from .protocol import ProtocolError
from .sources import Audience, Made, Source

logger = logging.getLogger(__name__)

_KEPT_PIECES, _KEPT_BYTES = 48, 2**23  # of a session, for a client whose connection was lost


@dataclass(eq=False)
class Client:
    """Somebody at the other end of a connection."""

    outbox: Outbox
    video: str
    sound: str
    drives: bool
    cut_off: Callable[[], None] = lambda: None  # end its connection at once
    num_sent: int = 0  # chunks

    def send(self, *messages: str | bytes) -> None:
        """All of them, or its connection ends: its outbox is full because it does not read."""
        if not self.outbox.put(messages):
            logger.warning("a client does not read what it is sent: its connection ends")
            self.outbox.drop()
            self.cut_off()

    def chunk(self, chunk: EncodedChunk, header: bytes) -> list[str | bytes]:
        """A chunk as this client wants it."""
        messages: list[str | bytes] = [said("video.chunk_metadata", **chunk.about)]
        if self.video == "fmp4":
            messages += [header] * (self.num_sent == 0) + list(chunk.media.get("fmp4", ()))
        else:
            messages += [*chunk.media.get(self.sound, ()), *chunk.media["h264"]]
        self.num_sent += 1
        return messages


class LiveSession:
    """A session that its source draws, and the clients that it is shown to. All of it runs in the loop."""

    def __init__(
        self,
        made: Made,
        limits: Limits,
        ended: Callable[["LiveSession"], None],
        observer: Observer | None = None,
    ) -> None:
        own = made.identity or tuple(secrets.token_urlsafe(24) for _ in range(3))
        self.session_id, self.resume_token, self.view_token = own
        self.made, self.limits, self.words = made, limits, made.words
        self.began = self.last_wish = time.monotonic()
        self.alone_since: float | None = None  # monotonic seconds: since when nobody drives it
        self.driver: Client | None = None
        self.viewers: set[Client] = set()
        self.ended_because: tuple[str, str] | None = None  # reason, sentence
        self._paused_by_us, self._on_end = False, ended
        self._cut = Cut(0, 0)
        self.recording: Path | None = None  # the last one
        self.acknowledged = -1  # the last frame that a driver has shown
        self._names: dict[int, str | None] = {}  # event ids by control number
        self._recent: deque[EncodedChunk] = deque(maxlen=_KEPT_PIECES)
        self._loop = asyncio.get_running_loop()
        self.figures, self._observer = SessionFigures(made.fps), observer or Observer()
        self._context = copy_context()
        self._context.run(SESSION.set, self.session_id)  # what is logged of it, names it
        self.source: Source = self._context.run(made.source)
        self.source.listen(
            Audience(
                show=lambda chunk: self._in_loop(self._spread, chunk),
                tell=lambda event: self._in_loop(self._tell, event),
                fail=lambda why: self._in_loop(self.end, *why),
                ended=lambda why: self._in_loop(self._finish, why),
                moved=lambda seconds: self._in_loop(self._observer.moved, seconds),
            )
        )

    def take_over(self) -> None:
        """Go on with a session that another process of the server began and may have let pause."""
        self._paused_by_us = True
        self.source.take_over()

    @property
    def clients(self) -> list[Client]:
        return [*([self.driver] if self.driver is not None else []), *self.viewers]

    def about(self, client: Client) -> str:
        """session.created, or for a viewer without the driver's secrets."""
        secret = {"resume_token": self.resume_token, "view_token": self.view_token} if client.drives else {}
        formats = self.source.formats
        return said("session.created", version=1, session_id=self.session_id, **secret,
                    video={"format": client.video, "codec": formats.codec, "mime": formats.mime},
                    sound=formats.sound(client.sound), **self.made.about)  # fmt: skip

    def drive(self, client: Client, last_frame: int) -> None:
        """Let this client drive, in place of one whose connection may not know yet that it is lost.

        It gets what is kept and was not shown: `last_frame` was. Without it a session that was made before somebody
        attached would wait for frames to be shown that nobody has.
        """
        if self.driver is not None:
            before, self.driver = self.driver, None
            before.send(said("error", code="driven_elsewhere", message="another connection drives this session now"))
            before.outbox.close()
        self._want(client)
        self.driver, self.alone_since = client, None
        client.send(self.about(client))
        for chunk in self._behind(last_frame):
            if self._has(chunk, client):
                client.send(*client.chunk(chunk, self.source.formats.initialisation))
        logger.info("a client drives the session", extra={"facts": {"video": client.video, "last_frame": last_frame}})
        if self._paused_by_us:
            self._paused_by_us = False
            self.source.apply(controls.GoOn())
        if self.ended_because is not None:
            self._say_end(client)

    def acknowledge(self, epoch: int, frame: int, transport: float | None = None) -> None:
        """The driver has shown that frame; see `Session.acknowledge`."""
        self.acknowledged = max(self.acknowledged, frame)
        self.figures.acknowledged(frame, time.monotonic())
        self.source.acknowledge(epoch, frame, transport)

    def watch(self, client: Client) -> None:
        """Show it to a viewer, from the next chunk on."""
        if len(self.viewers) >= self.limits.max_viewers:
            raise ProtocolError("full", f"{self.limits.max_viewers} watch this session already, and no more may")
        self._want(client)
        self.viewers.add(client)
        client.send(self.about(client))

    def leave(self, client: Client) -> None:
        """Note that a client's connection has ended."""
        self.viewers.discard(client)
        if client is self.driver:
            self.driver, self.alone_since = None, time.monotonic()
            logger.info("nobody drives the session")
            if self.ended_because is None:
                self._paused_by_us = True
                self.source.apply(controls.Pause())

    def wish(self, client: Client, event_id: str | None, control: Any) -> None:
        """A control from whoever drives; its first receipt is sent at once."""
        self.last_wish = time.monotonic()
        number = self.source.apply(control)
        self.figures.asked(number, self.last_wish)
        if event_id is not None:
            self._names[number] = event_id
        client.send(said("control.received", event_id=event_id, number=number))

    def end(self, reason: str, sentence: str) -> None:
        """Finish it; what is made is still shown."""
        if self.ended_because is None:
            self.ended_because = (reason, sentence)
            self.source.apply(controls.Finish())

    def _behind(self, frame: int) -> list[EncodedChunk]:
        """All of what is kept that shows frames behind that one, from a key frame on."""
        recent = list(self._recent)
        place = next((place for place, one in enumerate(recent) if one.end > frame + 1), len(recent))
        while 0 < place < len(recent) and not recent[place].key:
            place -= 1
        return recent[place:]

    def _in_loop(self, function: Callable[..., None], *arguments: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments, context=self._context)

    def _spread(self, chunk: EncodedChunk) -> None:
        if chunk.epoch < self._cut.epoch and chunk.first_frame >= self._cut.first_frame:
            return  # it was being encoded when it was cut
        self._recent.append(chunk)
        while len(self._recent) > 1 and sum(map(_size, self._recent)) > _KEPT_BYTES:
            self._recent.popleft()
        for client in self.clients:
            for piece in self._with_its_key(chunk, client):
                if self._has(piece, client):
                    client.send(*client.chunk(piece, self.source.formats.initialisation))
        self._note(chunk, time.monotonic())

    def _with_its_key(self, chunk: EncodedChunk, client: Client) -> list[EncodedChunk]:
        """That piece; for a driver who came back inside a chunk, after those since its key frame, which he has seen."""
        goes_on = client is self.driver and client.num_sent == 0 and not chunk.key
        return self._behind(chunk.first_frame - 1) if goes_on else [chunk]

    def _note(self, chunk: EncodedChunk, now: float) -> None:
        self.figures.sent(chunk.first_frame, chunk.end, now)
        for seconds in self.figures.answers(chunk.about["applied"], now):
            self._observer.answered(seconds)
        if chunk.key:  # its first piece
            self._observer.drew(self.source.worker, chunk.about["seconds"])

    def _tell(self, event: Event) -> None:
        """An event of the session to those whom it concerns."""
        if isinstance(event, Refused):
            self.figures.forget(event.number)
        if isinstance(event, Applied | Refused):
            if self.driver is not None:
                self.driver.send(_receipt(event, self._names.pop(event.number, None)))
        elif isinstance(event, Cut):
            self._cut = event
            self.figures.cut(event.first_frame, time.monotonic())
            while self._recent and self._recent[-1].first_frame >= event.first_frame:
                self._recent.pop()
            self._say("output_audio_buffer.cleared", epoch=event.epoch, first_frame=event.first_frame)
        elif isinstance(event, Degraded):
            self._say("session.updated", rung=event.rung, settings=dict(event.settings), chunk=event.chunk,
                      frame=event.frame, message=event.message)  # fmt: skip
        elif isinstance(event, StateChanged):
            self.figures.stand(time.monotonic())
            self._say("session.state", state=event.state)
        elif isinstance(event, Recorded):
            self._tell_of_recording(event)
        elif isinstance(event, Ended) and self.ended_because is None:
            self.ended_because = (event.reason, event.message)

    def _tell_of_recording(self, event: Recorded) -> None:
        if event.path.is_file():
            self.recording = event.path
        if self.driver is not None:
            if event.message:
                self.driver.send(said("error", code="recording", message=event.message))
            if event.path.is_file():
                self.driver.send(said("recording.ready", url=f"/v1/sessions/{self.session_id}/recording"))

    def _say(self, kind: str, **fields: Any) -> None:
        for client in self.clients:
            client.send(said(kind, **fields))

    def _finish(self, why: tuple[str, str]) -> None:
        self.ended_because = self.ended_because or why
        logger.info("the session has ended", extra={"facts": {"reason": self.ended_because[0]}})
        for client in self.clients:
            self._say_end(client)
        self._on_end(self)

    def _say_end(self, client: Client) -> None:
        reason, sentence = self.ended_because
        client.send(said("session.ended", reason=reason, message=sentence))
        client.outbox.close()

    def _want(self, client: Client) -> None:
        client.sound = self.source.formats.sound(client.sound)["format"]  # where there is no Opus, PCM
        self.source.want("fmp4" if client.video == "fmp4" else client.sound)

    def _has(self, chunk: EncodedChunk, client: Client) -> bool:
        """Whether this client can show it: it begins with a key frame, and with what was made once it was wanted."""
        begun = client.num_sent > 0 or chunk.key
        return begun and (client.video != "fmp4" or "fmp4" in chunk.media)


def _receipt(event: Applied | Refused, event_id: str | None) -> str:
    if isinstance(event, Refused):
        return said("error", code="refused", message=event.message, event_id=event_id, number=event.number)
    return said("control.applied", event_id=event_id, number=event.number, chunk=event.chunk, frame=event.frame)


def _size(chunk: EncodedChunk) -> int:
    return sum(len(message) for messages in chunk.media.values() for message in messages)
