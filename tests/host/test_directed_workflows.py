"""Directed driving in a real ComfyUI: batches of references, clips, previews, streams that somebody stops."""

from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from .comfyui import Server
from .test_queued_workflows import check_video, node_of, read_video, succeed, videos, with_inputs, workflow

pytestmark = pytest.mark.host
VIDEO = "KnotForcingStreamToVideo"
Json = dict[str, Any]


def short() -> Json:
    return with_inputs(workflow("portrait_directed"), VIDEO, seconds=1.0)


def test_a_directed_portrait_is_made_and_previewed(server: Server) -> None:
    prompt = short()
    run = succeed(server, prompt)
    (path,) = (server.file(result) for result in run.outputs[node_of(prompt, VIDEO)]["images"])
    check_video(path, seconds=1.0, sound=True)
    (picture,) = run.outputs[node_of(prompt, "PreviewImage")]["images"]
    assert Image.open(server.file(picture)).width == 960


def test_the_timeline_changes_the_video(server: Server) -> None:
    frames = []
    for yaw in (-0.6, 0.6):
        prompt = with_inputs(short(), "KnotForcingExpressionTimeline", timeline=f'{{"yaw": [[0, {yaw}]]}}')
        (path,) = videos(server, succeed(server, prompt))
        frames.append(read_video(path)[0].astype(float))
    assert np.abs(frames[0][-1] - frames[1][-1]).mean() > 2


def test_a_bad_timeline_is_refused_in_one_sentence(server: Server) -> None:
    with pytest.raises(ValueError, match="yaww; these exist: yaw"):  # before the run
        server.run(with_inputs(short(), "KnotForcingExpressionTimeline", timeline='{"yaww": [[0, 0]]}'))


def test_a_batch_of_references_gives_a_stream_each(server: Server) -> None:
    prompt = short()
    crop = node_of(prompt, "KnotForcingPortraitCrop")
    prompt["other"] = {"class_type": "KnotForcingSamplePortrait", "inputs": {"portrait": "ada.png"}}
    batch = {"image1": prompt[crop]["inputs"]["image"], "image2": ["other", 0]}
    prompt["batch"] = {"class_type": "ImageBatch", "inputs": batch}
    prompt[crop]["inputs"]["image"] = ["batch", 0]
    results = succeed(server, prompt).outputs[node_of(prompt, VIDEO)]["images"]
    first, second = (read_video(server.file(result))[0] for result in results)
    assert first.shape == second.shape
    assert np.abs(first.astype(float) - second).mean() > 10, "two people"


def test_a_stream_without_end_runs_until_it_is_stopped(server: Server) -> None:
    run = server.run(with_inputs(workflow("portrait_idle"), VIDEO, seconds=-1.0, filename_prefix="endless/cut"),
                     interrupt_after=3)  # fmt: skip
    assert run.status == "interrupted"
    (path,) = (server.base / "output" / "endless").glob("cut*.mp4")
    assert len(check_video(path, seconds=None, sound=False)) >= 9 + 12


def test_a_pose_from_a_clip_or_how_to_get_it(server: Server) -> None:
    """Without MediaPipe a sentence; with it, a clip of noise has no face."""
    with av.open(str(server.base / "input" / "clip.mp4"), "w") as container:
        stream = container.add_stream("h264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for picture in np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    prompt = short()
    prompt["clip"] = {"class_type": "LoadVideo", "inputs": {"file": "clip.mp4"}}
    pose = {"video": ["clip", 0], "mouth": False, "smoothing": 0.12}
    prompt["pose"] = {"class_type": "KnotForcingPoseFromVideo", "inputs": pose}
    prompt[node_of(prompt, "KnotForcingCombineDriving")]["inputs"]["second"] = ["pose", 0]
    run = server.run(prompt)
    assert run.status == "error"
    said = run.error["exception_message"]
    assert "pip install" in said or "face model" in said or "no face is found" in said
