"""A live session as a service of a Pipecat pipeline: it stands behind the one that speaks, and gives it a face.

What is said goes in as `TTSAudioRawFrame` and comes out again in step with the pictures, as exactly the same sound at
24 kHz, paced by the clock. Needs the extra `pipecat`.

Shapes: C channels, S samples.
"""

import asyncio
from typing import Any

import numpy as np
from pipecat.frames.frames import (
    CancelFrame,
    EndFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    StartFrame,
    TTSAudioRawFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
)
from pipecat.processors.frame_processor import FrameDirection
from pipecat.services.ai_service import AIService
from pipecat.services.settings import ServiceSettings

from ..session import Session
from ..speech_queue import SOUND_RATE
from .player import Frame as Pictured
from .player import Player

_LATE = 0.1  # seconds behind the clock from which on it is a stall: time goes on from there
_NANO = 1e9  # in which pipelines count their time


class KnotForcingVideoService(AIService):
    """Speech in, pictures and speech in step out; an interruption, or a user who begins to speak, silences it at once.

    Pictures come all the time, sound where something is said. Each picture and its sound have the time at which they
    are to be shown, in the pipeline's clock, as `pts`. `TTSStoppedFrame` comes out behind the last of what it ended.
    """

    def __init__(self, session: Session, **options: Any) -> None:
        """`session` has not begun, and has a viewer; `options` are those of an `AIService`."""
        super().__init__(settings=ServiceSettings(model="knot-forcing"), **options)
        self._player = Player(session)
        self._playing: asyncio.Task[None] | None = None

    async def start(self, frame: StartFrame) -> None:
        await super().start(frame)
        self._player.start()
        self._playing = self.create_task(self._play())

    async def stop(self, frame: EndFrame) -> None:
        """End the service; speech that was handed over before is still played."""
        await super().stop(frame)
        self._player.commit()
        await self._player.until_silent()
        await self._close()

    async def cancel(self, frame: CancelFrame) -> None:
        await super().cancel(frame)
        await self._close()

    async def cleanup(self) -> None:
        await super().cleanup()
        await self._close()

    async def _close(self) -> None:
        playing, self._playing = self._playing, None
        if playing is not None:
            await self.cancel_task(playing)
        await self._player.close()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            samples_SC = np.frombuffer(frame.audio, dtype=np.int16).reshape(-1, frame.num_channels)
            self._player.say(samples_SC.T, frame.sample_rate, frame.context_id)
            return
        if isinstance(frame, TTSStoppedFrame):
            self._player.commit(frame)
            return
        if isinstance(frame, InterruptionFrame | UserStartedSpeakingFrame):
            self._player.silence()
        await self.push_frame(frame, direction)

    async def _play(self) -> None:
        """Give each frame when its time has come."""
        clock, due = self.get_clock(), None
        try:
            while True:
                now = clock.get_time() / _NANO
                if due is not None and now < due:
                    await asyncio.sleep(due - now)
                pictured = await self._player.frame()
                if pictured is None:
                    return
                now = clock.get_time() / _NANO
                if due is None or now > due + _LATE:
                    due = now
                await self._give(pictured, round(due * _NANO))
                due += 1 / self._player.fps
        except Exception as problem:
            await self.push_error(f"the portrait stands still: {problem}", problem, force_treat_as_permanent=True)

    async def _give(self, pictured: Pictured, pts: int) -> None:
        height, width, _ = pictured.picture.shape
        image = OutputImageRawFrame(image=pictured.picture.tobytes(), size=(width, height), format="RGB")
        image.pts = pts
        await self.push_frame(image)
        if pictured.spoken:
            audio = pictured.sound[: pictured.spoken].tobytes()
            sound = TTSAudioRawFrame(audio=audio, sample_rate=SOUND_RATE, num_channels=1, context_id=pictured.name)
            sound.pts = pts
            await self.push_frame(sound)
        for stopped in pictured.ended:
            if stopped is not None:
                await self.push_frame(stopped)
