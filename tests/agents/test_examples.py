"""The examples in clients/agents, as far as they run without a browser or a server."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "clients" / "agents"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_pipecat_s_portrait_says_a_sentence(monkeypatch):
    pytest.importorskip("pipecat", reason='needs the extra "pipecat", in an environment of its own')
    from pipecat.frames.frames import OutputImageRawFrame, TTSAudioRawFrame, TTSSpeakFrame, TTSStoppedFrame

    from .pipelines import run

    monkeypatch.chdir(EXAMPLES.parents[1])

    async def script(here):
        await here.worker.queue_frames([TTSSpeakFrame("Good morning to you all."), here.end])

    watcher = run(example("pipecat_portrait").speaker(), script).watcher
    assert {image.size for image in watcher.of(OutputImageRawFrame)} == {(128, 128)}
    assert len(watcher.sound) / 24_000 == pytest.approx(1.6, abs=0.8)
    assert np.abs(watcher.sound).max() > 3000
    kinds = [type(frame) for frame in watcher.of(TTSAudioRawFrame, TTSStoppedFrame)]
    assert kinds[-1] is TTSStoppedFrame
    assert kinds.count(TTSStoppedFrame) == 1


def test_livekit_s_portrait_has_the_model_s_size(monkeypatch):
    pytest.importorskip("livekit.agents", reason='needs the extra "livekit", in an environment of its own')
    import asyncio

    monkeypatch.chdir(EXAMPLES.parents[1])

    async def first():
        video = example("livekit_portrait").portrait()
        async for item in video:
            if hasattr(item, "width"):
                await video.aclose()
                return video.options, (item.width, item.height)

    options, size = asyncio.run(first())
    assert size == (options.video_width, options.video_height) == (128, 128)
