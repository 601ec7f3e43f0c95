"""A portrait in a larger picture: aligned or cropped, animated, and pasted back, as frames and into a video."""

import numpy as np
import pytest
from PIL import Image

from .comfyui import Json, Server
from .test_queued_workflows import node_of, read_video, succeed, videos, with_inputs
from .test_states import WRITER, idle

pytestmark = pytest.mark.host
ENCODE, CROP, PASTE = "KnotForcingEncodeAnchor", "KnotForcingPortraitCrop", "KnotForcingPasteBack"
LEFT, TOP = 240, 120  # of the sample portrait of 512 x 512 in a picture of 912 x 672
POINTS = f"{LEFT + 203},{TOP + 215} {LEFT + 309},{TOP + 215} {LEFT + 256},{TOP + 331}"


def in_a_larger_picture(portrait: str = "ada.png") -> Json:
    """A prompt whose node `wide` has a sample portrait with much grey around it."""
    prompt = with_inputs(idle(0.2), "KnotForcingSamplePortrait", portrait=portrait)
    pad = {"image": [node_of(prompt, "KnotForcingSamplePortrait"), 0], "left": LEFT, "top": TOP, "right": 160,
           "bottom": 40, "feathering": 0}  # fmt: skip
    return prompt | {"wide": {"class_type": "ImagePadForOutpaint", "inputs": pad}}


def pictures(server: Server, found: Json) -> np.ndarray:
    return np.stack([np.asarray(Image.open(server.file(image)).convert("RGB")) for image in found["images"]])


def test_a_crop_is_animated_and_pasted_back_as_frames_and_in_a_video(server: Server) -> None:
    prompt = in_a_larger_picture()
    encode, writer = node_of(prompt, ENCODE), node_of(prompt, WRITER)
    prompt["crop"] = {"class_type": CROP,
                      "inputs": {"image": ["wide", 0], "width": 256, "height": 256, "room": 2.8}}  # fmt: skip
    prompt[encode]["inputs"]["image"] = ["crop", 0]
    prompt[writer]["inputs"]["placement"] = ["crop", 1]
    given = {name: prompt[writer]["inputs"][name] for name in ("model", "anchor", "driving", "seed", "seconds")}
    prompt["chunks"] = {"class_type": "KnotForcingStream", "inputs": given}
    prompt["paste"] = {"class_type": PASTE,
                       "inputs": {"images": ["chunks", 0], "placement": ["crop", 1], "feather": 0.1}}  # fmt: skip
    prompt["seen"] = {"class_type": "PreviewImage", "inputs": {"images": ["paste", 0]}}
    prompt["before"] = {"class_type": "PreviewImage", "inputs": {"images": ["wide", 0]}}
    run = succeed(server, prompt)
    frames, before = pictures(server, run.outputs["seen"]), pictures(server, run.outputs["before"])[0]
    assert frames.shape == (5, 672, 912, 3)
    changed = np.abs(frames.astype(int) - before).max(axis=(0, 3)) > 0
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert 200 < len(rows) < 672 - 20
    assert 200 < len(columns) < 912 - 20, "beside the crop nothing changes"
    (path,) = videos(server, run)
    video = read_video(path)[0]
    assert video.shape == (5, 672, 912, 3)
    assert np.abs(video[:, :, :40].astype(int) - before[:, :40]).max() < 12, "but for what the video's format loses"


def test_three_points_align_the_reference_and_the_node_shows_the_crop_that_it_took(server: Server) -> None:
    prompt = in_a_larger_picture("ada.png")
    encode, writer = node_of(prompt, ENCODE), node_of(prompt, WRITER)
    prompt[encode]["inputs"] |= {"image": ["wide", 0], "points": POINTS}
    prompt[writer]["inputs"]["placement"] = [encode, 1]
    before = server.log.stat().st_size
    run = succeed(server, prompt)
    assert "aligned by your three points: 106 pixels" in server.log.read_bytes()[before:].decode(errors="replace")
    (shown,) = pictures(server, run.outputs[encode])
    assert shown.shape == (128, 128, 3)
    for x in (48.5, 79.5):  # the pupils lie where those of aligned faces do, at half of 256 pixels
        assert shown[50:62, int(x) - 6 : int(x) + 6].max(axis=2).min() < 90
    assert read_video(videos(server, run)[0])[0].shape == (5, 672, 912, 3)


def test_a_face_whose_points_nobody_knows_is_found_by_the_network_that_is_installed_with_the_pack(
    server: Server,
) -> None:
    prompt = in_a_larger_picture()
    prompt[node_of(prompt, ENCODE)]["inputs"] |= {"image": ["wide", 0], "align": "on"}
    before = server.log.stat().st_size
    run = succeed(server, prompt)
    said = server.log.read_bytes()[before:].decode(errors="replace")
    assert "aligned by the built-in landmark network" in said or "aligned by MediaPipe" in said
    (shown,) = pictures(server, run.outputs[node_of(prompt, ENCODE)])
    for x in (48.5, 79.5):  # the pupils lie where those of aligned faces do, at half of 256 pixels
        assert shown[50:62, int(x) - 6 : int(x) + 6].max(axis=2).min() < 90


def test_points_without_alignment_are_refused_before_anything_runs(server: Server) -> None:
    prompt = in_a_larger_picture()
    prompt[node_of(prompt, ENCODE)]["inputs"] |= {"points": POINTS, "align": "off"}
    with pytest.raises(ValueError, match="leave the points out, or set align to on"):
        server.run(prompt)


def test_a_face_that_is_not_found_is_refused_with_a_way_on(server: Server) -> None:
    prompt = idle(0.2)
    prompt["plain"] = {"class_type": "EmptyImage", "inputs": {"width": 200, "height": 160, "batch_size": 1,
                                                              "color": 0x707070}}  # fmt: skip
    prompt[node_of(prompt, ENCODE)]["inputs"] |= {"image": ["plain", 0], "align": "on"}
    run = server.run(prompt)
    assert run.status == "error"
    assert "give the two eyes and the mouth as three points" in run.error["exception_message"]
