"""clients/live.py as its users run it: it queues the workflow, says something, finishes, and fetches the recording."""

import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest

from .comfyui import PACK, RUN_LIMIT, Server
from .test_clients import fetched, refused
from .test_queued_workflows import check_video

pytestmark = pytest.mark.host

SCRIPT = PACK / "clients" / "live.py"


def live(server: Server, out: Path, *options: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, str(SCRIPT), "--server", f"127.0.0.1:{server.port}", "--out", str(out), *options]
    return subprocess.run(line, capture_output=True, text=True, timeout=RUN_LIMIT, check=False)


def test_it_says_a_sound_and_brings_the_recording(server: Server, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with wave.open(str(tmp_path / "voice.wav"), "wb") as file:
        file.setparams((2, 2, 16_000, 0, "NONE", ""))
        file.writeframes(rng.integers(-9000, 9000, 2 * 16_000, dtype=np.int16).tobytes())
    options = ("--audio", str(tmp_path / "voice.wav"), "--control", "yaw=0.4", "--gesture", "smile", "--seconds", "1")
    run = live(server, tmp_path / "videos", *options)
    assert run.returncode == 0, run.stderr
    assert "ended: the session was finished" in run.stderr
    (path,) = fetched(run)
    frames = check_video(path, seconds=None, sound=True)
    assert len(frames) >= 50, "the sound, and a second behind it"
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    assert np.sqrt(np.mean(sound**2)) > 0.01


def test_what_cannot_be_is_one_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "no.wav").write_text("no sound", encoding="utf-8")
    assert "is no WAV file" in refused(live(server, tmp_path, "--audio", str(tmp_path / "no.wav")))
    assert "some of yaw, pitch" in refused(live(server, tmp_path, "--control", "yaww=1"))
    idle = str(PACK / "workflows" / "api" / "portrait_idle.json")
    assert "Knot Forcing Live" in refused(live(server, tmp_path, "--workflow", idle, "--set", "7.seconds=0.2"))
    server.wait_until_idle()
