"""A live session as the avatar of a LiveKit agent: what its worker shows, and what the agent's side is told.

The worker's side is a `VideoGenerator`, which `AvatarRunner` plays into a room; the agent's side an `AvatarSession`,
which lets the avatar join and sends it the agent's voice. Needs the extra `livekit`.

Shapes: C channels, S samples.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import numpy as np
from livekit import api, rtc
from livekit.agents import AgentSession
from livekit.agents.log import logger
from livekit.agents.types import ATTRIBUTE_PUBLISH_ON_BEHALF
from livekit.agents.utils import aio, log_exceptions
from livekit.agents.voice import avatar
from livekit.agents.voice.avatar import (
    AudioSegmentEnd,
    AvatarOptions,
    AvatarRunner,
    DataStreamAudioOutput,
    DataStreamAudioReceiver,
    VideoGenerator,
)

from ..session import Session
from ..speech_queue import SOUND_RATE
from .player import Frame, Player

_CLEARS = 1.0  # seconds that a clear waits for its runner at most; the agent waits for two


class _Silence(rtc.AudioFrame):
    """Silence, which keeps sound and pictures in step and is no part of what is said.

    The runner counts how much of the agent's speech was played by the durations of the frames that it is given.
    """

    @property
    def duration(self) -> float:
        return 0.0


class KnotForcingVideo(VideoGenerator):
    """Pictures all the time and, in step with them, the speech that is pushed; silence between."""

    def __init__(self, session: Session, *, width: int, height: int) -> None:
        """`session` has not begun, and has a viewer; its pictures are of that size."""
        self.options = AvatarOptions(
            video_width=width, video_height=height, video_fps=session.fps,
            audio_sample_rate=SOUND_RATE, audio_channels=1,
        )  # fmt: skip
        self._player = Player(session)
        self._speaks = False  # whether a segment is begun and not ended
        self._clears = 0
        self._over, self._back = asyncio.Event(), asyncio.Event()  # of a segment; from what was given last
        self._ended = asyncio.Event()
        self._back.set()

    async def push_audio(self, frame: rtc.AudioFrame | AudioSegmentEnd) -> None:
        """The end of a segment waits until that was played: the runner tells segments apart by nothing else."""
        if not isinstance(frame, AudioSegmentEnd):
            self._speaks = True
            samples_SC = np.frombuffer(frame.data, dtype=np.int16).reshape(-1, frame.num_channels)
            self._player.say(samples_SC.T, frame.sample_rate)
        elif self._speaks:  # of a segment that was cleared the end comes, too
            self._speaks = False
            self._over.clear()
            self._player.commit()
            await self._over.wait()

    async def clear_buffer(self) -> None:
        """Silent at once; returns when all that was given before has been counted as played."""
        self._speaks, self._clears = False, self._clears + 1
        self._player.silence()
        self._over.set()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._back.wait(), _CLEARS)

    async def __aiter__(self) -> AsyncIterator[rtc.VideoFrame | rtc.AudioFrame | AudioSegmentEnd]:
        self._player.start()
        try:
            while (frame := await self._player.frame()) is not None:
                clears = self._clears
                for item in _items(frame):
                    self._back.clear()
                    yield item
                    self._back.set()
                if frame.ended and clears == self._clears:
                    yield AudioSegmentEnd()
                    self._over.set()
        finally:
            self._back.set()
            self._over.set()
            self._ended.set()
            await self._player.close()

    async def until_ended(self) -> None:
        """Until the last picture was given, or nobody wants more."""
        await self._ended.wait()

    def end(self) -> None:
        """Nobody wants more."""
        self._ended.set()

    async def aclose(self) -> None:
        """End the session; waits for its threads."""
        await self._player.close()


def _items(frame: Frame) -> Iterator[rtc.VideoFrame | rtc.AudioFrame]:
    """Sound first: what a clear finds given of a frame whose sound is not counted yet is that sound alone."""
    height, width, _ = frame.picture.shape
    spoken, silent = frame.sound[: frame.spoken], frame.sound[frame.spoken :]
    if len(spoken):
        yield rtc.AudioFrame(spoken.tobytes(), SOUND_RATE, 1, len(spoken))
    if len(silent):
        yield _Silence(silent.tobytes(), SOUND_RATE, 1, len(silent))
    yield rtc.VideoFrame(width, height, rtc.VideoBufferType.RGB24, frame.picture.tobytes())


async def show_in_room(room: rtc.Room, video: KnotForcingVideo) -> None:
    """Play it into a room that is connected as the avatar, as its agent speaks.

    It lasts until the session has ended, the agent has left, or the connection is lost.
    """
    agent = room.local_participant.attributes.get(ATTRIBUTE_PUBLISH_ON_BEHALF)

    def left(participant: rtc.RemoteParticipant) -> None:
        if participant.identity == agent:
            video.end()

    room.on("disconnected", lambda *_: video.end())
    room.on("participant_disconnected", left)
    speech = DataStreamAudioReceiver(room, sender_identity=agent)
    runner = AvatarRunner(room, audio_recv=speech, video_gen=video, options=video.options)
    try:
        await runner.start()
        try:
            await video.until_ended()
        finally:
            await runner.aclose()
    finally:
        await video.aclose()


async def join(url: str, token: str, video: KnotForcingVideo) -> None:
    """Connect to LiveKit as the avatar, and play it there until it ends."""
    room = rtc.Room()
    await room.connect(url, token)
    try:
        await show_in_room(room, video)
    finally:
        await room.disconnect()


class AvatarSession(avatar.AvatarSession):
    """The agent's side: the avatar joins the agent's room, and speaks with the agent's voice."""

    def __init__(self, joins: Callable[[str, str], Awaitable[None]], *, identity: str = "knot-forcing") -> None:
        """`joins` is given LiveKit's address and the avatar's token, and lasts as long as the avatar is there."""
        super().__init__()
        self._joins, self._identity = joins, identity
        self._joined: asyncio.Future[None] | None = None

    @property
    def avatar_identity(self) -> str:
        return self._identity

    @property
    def provider(self) -> str:
        return "knot-forcing"

    async def start(
        self, agent_session: AgentSession, room: rtc.Room, *, livekit_url: str | None = None,
        livekit_api_key: str | None = None, livekit_api_secret: str | None = None,
    ) -> None:  # fmt: skip
        """Before `agent_session.start`, in a room that is connected. What is not given stands in LiveKit's own
        environment variables.

        Raises:
            ValueError: it stands nowhere.
        """
        url = livekit_url or os.environ.get("LIVEKIT_URL")
        if not url:
            raise ValueError("LiveKit's address is not known; give livekit_url, or set LIVEKIT_URL")
        await super().start(agent_session, room)
        token = (
            api.AccessToken(livekit_api_key, livekit_api_secret)
            .with_kind("agent")
            .with_identity(self._identity)
            .with_grants(api.VideoGrants(room_join=True, room=room.name))
            .with_attributes({ATTRIBUTE_PUBLISH_ON_BEHALF: room.local_participant.identity})
        )
        self._joined = asyncio.create_task(self._join(url, token.to_jwt()))
        agent_session.output.replace_audio_tail(
            DataStreamAudioOutput(
                room, destination_identity=self._identity, sample_rate=SOUND_RATE,
                wait_remote_track=rtc.TrackKind.KIND_VIDEO, wait_playback_start=True,
            )
        )  # fmt: skip

    @log_exceptions(logger=logger)
    async def _join(self, url: str, token: str) -> None:
        await self._joins(url, token)

    async def aclose(self) -> None:
        joined, self._joined = self._joined, None
        if joined is not None:
            await aio.cancel_and_wait(joined)
        await super().aclose()
