"""WebRTC: a session's pictures, sound and messages over a peer connection, for networks that lose packets.

WHEP's shape: an offer is posted, the answer comes with the address at which the connection is deleted. The messages of
docs/live.md go over the offer's data channel; H.264 and Opus go as RTP, as they were encoded for everybody. Packets do
not say which frame they are of, so this side plays: what is due leaves, and counts as shown.

It needs aiortc, which is optional; so it is imported where a connection is made.
"""

import asyncio
import importlib.util
import json
import logging
import re
import secrets
from collections.abc import Callable, Coroutine
from fractions import Fraction
from functools import partial
from ipaddress import ip_address
from typing import Any

import av

from .connection import Connection
from .due_media import MediaPiece, Playing
from .limits import Limits
from .media_encoder import has_opus
from .messages import H264, OPUS, SPEECH, Header, said

logger = logging.getLogger(__name__)

MOST_OFFER = 64 * 1024  # bytes
_VIDEO_RATE, _SOUND_RATE = 90_000, 48_000  # of RTP's clocks: RFC 6184, RFC 7587
_MOST_WAITING = 256  # messages that came and were not read
_ENDING = 3.0  # seconds in which what is left is played
_ACKNOWLEDGED = 2  # frames: of so many, one is acknowledged
_PLACED = 0.01  # seconds: by so much the pictures' places may differ from what the client was told of
_CANDIDATE = re.compile(r"^a=(candidate:.*|end-of-candidates|ice-options:.*)\r?\n", re.MULTILINE)


class OfferError(ValueError):
    """An offer that cannot be answered."""


def available() -> bool:
    """Whether peer connections can be made here."""
    return importlib.util.find_spec("aiortc") is not None and has_opus()


def _track(kind: str, playing: Playing, left: Callable[[int, MediaPiece, float], None]) -> Any:
    """A track of what `playing` holds; `left` is called with each piece that leaves, and RTP's time in seconds."""
    from aiortc import MediaStreamTrack

    of, rate = (H264, _VIDEO_RATE) if kind == "video" else (OPUS, _SOUND_RATE)

    class Track(MediaStreamTrack):
        def __init__(self) -> None:
            super().__init__()
            self.kind, self._last = kind, -1

        async def recv(self) -> av.Packet:
            piece, at = await playing.next(of)
            packet = av.Packet(piece.data)
            self._last = max(self._last + 1, round(at * rate))
            packet.pts, packet.time_base = self._last, Fraction(1, rate)
            left(of, piece, self._last / rate)
            return packet

    return Track()


class Peer:
    """A peer connection as what a `Connection` goes over."""

    plays = ("h264", "opus")

    def __init__(self, limits: Limits, ice_servers: tuple[str, ...]) -> None:
        from aiortc import RTCConfiguration, RTCIceServer, RTCPeerConnection

        servers = [RTCIceServer(urls=url) for url in ice_servers]
        self._peer = RTCPeerConnection(RTCConfiguration(iceServers=servers))
        self._limits, self._playing, self._channel = limits, Playing(), None
        self._inbox: asyncio.Queue[str | bytes | None] = asyncio.Queue(_MOST_WAITING)
        self._waiting: list[str] = []  # texts, until the data channel is open
        self._rate, self._drives, self._tasks = 0, False, set()
        self._place = -1.0  # RTP's time of frame 0, as the client knows it
        self._peer.on("connectionstatechange", self._on_state)
        self._peer.on("datachannel", self._on_channel)
        self._peer.on("track", self._on_track)

    @property
    def played_frame(self) -> int:
        return self._playing.frame

    async def answer(self, offer: str, first: str | None, host: str | None) -> str:
        """The answer to an offer. `first` is the first message where there is no data channel for one.

        The offer's candidates are not heeded: nothing is sent to an address before it has shown that it knows this
        connection's password. In their place stands `host`, which has made the offer.

        Raises:
            OfferError: it is none, or asks for no H.264, or has no data channel and there is no first message.
        """
        from aiortc import RTCRtpSender, RTCSessionDescription

        if "H264/90000" not in offer:
            raise OfferError("the offer has no H.264 in it, and nothing else is sent; use the WebSocket")
        if "a=fingerprint:" not in offer:
            raise OfferError("the offer has no fingerprint, so nobody could tell whose connection it is")
        if first is not None:
            self._came(first)
        elif not re.search(r"^m=application \d+ (UDP|TCP)/DTLS/SCTP", offer, re.MULTILINE):
            raise OfferError("the offer has no data channel, over which a session is asked for; or send a view token")
        h264 = [one for one in RTCRtpSender.getCapabilities("video").codecs if one.mimeType == "video/H264"]
        try:
            for kind in ("audio", "video"):
                if f"\nm={kind} " in offer:
                    self._peer.addTrack(_track(kind, self._playing, self._left))
            for one in self._peer.getTransceivers():
                if one.kind == "video":
                    one.setCodecPreferences(h264)
            await self._peer.setRemoteDescription(RTCSessionDescription(_without_candidates(offer, host), "offer"))
            await self._peer.setLocalDescription(await self._peer.createAnswer())
        except Exception as problem:  # whatever a parser of somebody's text may raise
            logger.info("an offer of WebRTC cannot be answered: %s", problem)
            raise OfferError("the offer cannot be answered: it is no SDP, or asks for what is not here") from problem
        self._spawn(self._expect())
        return self._peer.localDescription.sdp

    async def _expect(self) -> None:
        """End it unless it is connected soon."""
        await asyncio.sleep(self._limits.opening_seconds)
        if self._peer.connectionState != "connected":
            self._came(None)

    def begin(self, fps: int, rate: int, *, drives: bool) -> None:
        """A session is there."""
        self._playing.fps, self._rate, self._drives = fps, rate, drives

    async def receive(self, seconds: float | None = None) -> str | bytes | None:
        """The next message; None once it has ended, or where a client that has a data channel says nothing at all."""
        if seconds is None and self._channel is not None:
            try:
                return await asyncio.wait_for(self._inbox.get(), self._limits.heartbeat_seconds)
            except asyncio.TimeoutError:
                return None
        return await asyncio.wait_for(self._inbox.get(), seconds)

    async def send(self, message: str | bytes) -> None:
        """Text goes over the data channel at once, media when their time has come."""
        if isinstance(message, bytes):
            self._playing.put(message)
            return
        if '"output_audio_buffer.cleared"' in message:
            cut = json.loads(message)
            self._playing.cut_from(cut["epoch"], cut["first_frame"])
        if self._channel is None:
            self._waiting.append(message)
        elif self._channel.readyState == "open":
            if self._channel.bufferedAmount > self._limits.max_waiting_bytes:
                raise ConnectionError("a client does not read what it is sent")
            self._channel.send(message)

    async def close(self) -> None:
        """When what was sent is played."""
        if self._peer.connectionState == "connected":
            await asyncio.wait([asyncio.ensure_future(self._playing.played())], timeout=_ENDING)
        for task in self._tasks:
            task.cancel()
        await self._peer.close()

    def abort(self) -> None:
        self._came(None)
        self._spawn(self._peer.close())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _came(self, message: str | bytes | None) -> None:
        if self._inbox.full():
            self._inbox.get_nowait()  # what comes faster than it is read is lost, as packets are; never the end
        self._inbox.put_nowait(message)

    def _on_state(self) -> None:
        if self._peer.connectionState in ("failed", "closed"):
            self._came(None)

    def _on_channel(self, channel: Any) -> None:
        if self._channel is not None:
            return
        self._channel = channel
        channel.on("message", self._came)
        channel.on("close", partial(self._came, None))
        for message in self._waiting:
            channel.send(message)
        self._waiting.clear()

    def _on_track(self, track: Any) -> None:
        if track.kind == "audio":
            self._spawn(self._hear(track))

    async def _hear(self, track: Any) -> None:
        """A microphone's sound as messages of speech."""
        from aiortc import MediaStreamError

        resampler = None
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if not self._drives:
                continue
            resampler = resampler or av.AudioResampler(format="s16", layout="mono", rate=self._rate)
            for heard in resampler.resample(frame):
                self._came(Header(SPEECH).pack() + heard.to_ndarray().tobytes())

    def _left(self, kind: int, piece: MediaPiece, seconds: float) -> None:
        if kind != H264:
            return
        place = seconds - piece.seconds
        if abs(place - self._place) > _PLACED and self._channel is not None and self._channel.readyState == "open":
            self._place = place
            self._channel.send(said("playback.place", frame=piece.number, seconds=round(seconds, 4)))
        if self._drives and piece.number % _ACKNOWLEDGED == 0:
            self._came(said("playback.ack", epoch=piece.epoch, frame=piece.number))


def _without_candidates(offer: str, host: str | None) -> str:
    """With one candidate in each medium, at a port where nobody answers: ICE waits for others to show themselves."""
    bare = _CANDIDATE.sub("", offer.replace("\r\n", "\n"))
    try:
        address = ip_address(host or "127.0.0.1")
    except ValueError:
        address = ip_address("127.0.0.1")
    line = f"a=candidate:1 1 udp 1 {address} 9 typ host\n"
    return re.sub(r"^(m=.*\n(?:c=.*\n)?)", rf"\1{line}", bare, flags=re.MULTILINE).replace("\n", "\r\n")


class Peers:
    """The peer connections of a server, by the names at which they are deleted."""

    def __init__(self, limits: Limits, ice_servers: tuple[str, ...] = ()) -> None:
        self._limits, self._ice_servers = limits, ice_servers
        self._peers: dict[str, Peer] = {}  # by name
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    async def open(self, connection: Connection, offer: str, first: str | None, host: str | None) -> tuple[str, str]:
        """The name of a new connection, and the answer.

        Raises:
            OfferError: it cannot be answered.
        """
        peer, name = Peer(self._limits, self._ice_servers), secrets.token_urlsafe(24)
        try:
            answer = await peer.answer(offer, first, host)
        except OfferError:
            await peer.close()
            raise
        self._peers[name] = peer
        task = asyncio.create_task(connection.serve(peer))
        self._tasks.add(task)
        task.add_done_callback(lambda _: self._forget(name, task))
        return name, answer

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._peers.pop(name, None)

    def delete(self, name: str) -> bool:
        """Whether there was one of that name, which ends now."""
        peer = self._peers.pop(name, None)
        if peer is not None:
            peer.abort()
        return peer is not None

    async def close(self) -> None:
        """When all have ended, or soon."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * _ENDING)
        for task in self._tasks:
            task.cancel()
