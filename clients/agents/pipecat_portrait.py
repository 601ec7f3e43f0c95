"""A Pipecat pipeline whose voice has a face: a portrait that greets whoever opens the page that this names.

pip install -e ".[pipecat]" "pipecat-ai[runner,webrtc]"      and espeak-ng, or put another service in its place
python clients/agents/pipecat_portrait.py
"""

import asyncio
from collections.abc import AsyncIterator

from pipecat.frames.frames import TTSAudioRawFrame, TTSSpeakFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.runner.types import RunnerArguments
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_transport import TransportParams
from pipecat.workers.runner import WorkerRunner

from knot_core import load_model, open_image
from knot_live.agents.pipecat import KnotForcingVideoService
from knot_live.session import Session
from knot_live.speaking import synthesize


class Espeak(TTSService):
    """Any of Pipecat's own services for speech can stand here."""

    async def run_tts(self, text: str, context_id: str) -> AsyncIterator[TTSAudioRawFrame]:
        samples, rate = await asyncio.to_thread(synthesize, text, "")
        audio = (samples * 32767).astype("int16").tobytes()
        yield TTSAudioRawFrame(audio=audio, sample_rate=rate, num_channels=1, context_id=context_id)


def speaker() -> list[FrameProcessor]:
    """Two processors of a pipeline: what speaks, and its face."""
    model = load_model()
    anchor = model.encode_anchor(open_image("knot_core/assets/portraits/ada.png"))
    settings = TTSSettings(model=None, voice=None, language=None)
    voice = Espeak(settings=settings, push_start_frame=True, push_stop_frames=True)
    return [voice, KnotForcingVideoService(Session(model, anchor, model.settings))]


async def bot(arguments: RunnerArguments) -> None:
    from pipecat.runner.utils import create_transport  # needs the extra that the page needs

    shown = {"audio_out_enabled": True, "video_out_enabled": True, "video_out_is_live": True}
    shown |= {"video_out_width": 128, "video_out_height": 128, "video_out_framerate": 25}
    transport = await create_transport(arguments, {"webrtc": lambda: TransportParams(**shown)})
    worker = PipelineWorker(Pipeline([transport.input(), *speaker(), transport.output()]))

    @transport.event_handler("on_client_connected")
    async def _greet(*_: object) -> None:
        await worker.queue_frame(TTSSpeakFrame("Hello. I am a portrait that can talk."))

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    from pipecat.runner.run import main

    main()
