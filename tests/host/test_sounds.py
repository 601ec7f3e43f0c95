"""Sound on the cables of a real ComfyUI, as nodes of all kinds put it there."""

from typing import Any

import av
import numpy as np
import pytest

from .comfyui import Server
from .test_queued_workflows import check_video, node_of, succeed, videos, with_inputs, workflow

pytestmark = pytest.mark.host
VIDEO, DRIVING = "KnotForcingStreamToVideo", "KnotForcingDrivingFromAudio"
Json = dict[str, Any]


def of_sound(kind: str, *, driving: bool = True, video: bool = True) -> Json:
    """A short video whose sound is of that kind, in its driving and beside it."""
    prompt = with_inputs(workflow("portrait_from_audio"), VIDEO, seconds=0.36)
    prompt["sound"] = {"class_type": "StandInSound", "inputs": {"kind": kind}}
    for class_type, wanted in ((DRIVING, driving), (VIDEO, video)):
        if wanted:
            prompt[node_of(prompt, class_type)]["inputs"]["audio"] = ["sound", 0]
    return prompt


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("none", "the clip has none. Connect another sound, or Driving Idle"), ("waveform none", "the clip has none"),
        ("list", "got list as a sound, wanted ComfyUI's AUDIO"), ("array", "got ndarray as a sound"),
        ("no waveform", "got only sample_rate as a sound"), ("batch", "got a batch of sounds, of shape [3, 2, 8000]"),
        ("samples first", "8000 channels of 2 samples; it must be [channels, samples]"),
        ("rate", "the sample rate is 'fast'"), ("nan", "not finite (NaN"), ("empty", "has no samples"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused_in_one_sentence(server: Server, kind: str, says: str) -> None:
    run = server.run(of_sound(kind))
    assert run.status == "error"
    assert says in run.error["exception_message"]


def test_sound_of_any_kind_is_heard_alike(server: Server) -> None:
    frames, tracks = [], []
    for kind in ("usual", "two axes", "numpy", "lists", "int16", "lazy"):
        (path,) = videos(server, succeed(server, of_sound(kind)))
        frames.append(check_video(path, seconds=0.36, sound=True))
        with av.open(str(path)) as container:
            tracks.append(np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1))
    for other, track in zip(frames[1:], tracks[1:], strict=True):
        # levels: rounding to int16 makes half a one, and one and a half in bfloat16
        assert np.abs(other.astype(float) - frames[0]).mean() < 2
        assert np.abs(track - tracks[0]).max() < 0.05  # both through AAC


def test_a_clip_without_sound_makes_a_silent_video(server: Server) -> None:
    (path,) = videos(server, succeed(server, of_sound("none", driving=False)))
    check_video(path, seconds=0.36, sound=False)
