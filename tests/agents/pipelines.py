"""Real Pipecat pipelines, run by Pipecat's own workers and runner, by the clock."""

import asyncio
from types import SimpleNamespace

import numpy as np
from pipecat.frames.frames import EndFrame, TTSAudioRawFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.workers.runner import WorkerRunner


class Watcher(FrameProcessor):
    """Notes what comes out, with when."""

    def __init__(self):
        super().__init__()
        self.seen, self._waiting = [], []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        self.seen.append((asyncio.get_running_loop().time(), frame))
        for number, count, reached in self._waiting:
            if len(self.of(number)) >= count:
                reached.set()
        await self.push_frame(frame, direction)

    def of(self, *kinds):
        return [frame for _, frame in self.seen if isinstance(frame, kinds)]

    async def until(self, kind, count):
        reached = asyncio.Event()
        self._waiting.append((kind, count, reached))
        await asyncio.wait_for(reached.wait(), 60)

    @property
    def sound(self):
        return np.concatenate([np.frombuffer(frame.audio, np.int16) for frame in self.of(TTSAudioRawFrame)])


def run(processors, script):
    """Run a pipeline of those to its end while `script` queues frames; what there was to see, and the worker."""

    async def scene():
        here = SimpleNamespace(watcher=Watcher(), end=EndFrame())
        here.worker = PipelineWorker(Pipeline([*processors, here.watcher]), cancel_on_idle_timeout=False)
        runner = WorkerRunner(handle_sigint=False)
        await runner.add_workers(here.worker)
        await asyncio.wait_for(asyncio.gather(runner.run(), script(here)), 120)
        return here

    return asyncio.run(scene())
