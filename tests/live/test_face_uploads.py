"""Photos over the live server where the model aligns faces: found, set by three points, or refused with a way on."""

import asyncio
import io
import sys

import aiohttp
import av
import numpy as np
import pytest
import torch
from PIL import Image

from knot_live.client import LiveError, Media, connect, upload
from knot_live.commands import live_server
from knot_live.engine import NoFaceError, load_model
from knot_live.limits import Limits
from knot_live.messages import H264
from knot_live.references import References
from knot_live.server import Address
from knot_live.studio import Studio

from ..small_face_model import POINTS, SIDE, write_face_model, write_photo

THREE = " ".join(POINTS)


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    for name in ("mediapipe", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture(scope="module")
def face_model(tmp_path_factory):
    return load_model(write_face_model(tmp_path_factory.mktemp("face")), dtype=torch.float32)


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    return write_photo(tmp_path_factory.mktemp("photo") / "photo.png").read_bytes()


@pytest.fixture(scope="module")
def nobody(tmp_path_factory):
    return write_photo(tmp_path_factory.mktemp("nobody") / "nobody.png", face=False).read_bytes()


@pytest.fixture
def references():
    return References(SIDE, SIDE, aligned=True, most_pixels=10**6, most_pictures=4)


def test_points_bring_the_face_to_its_place_and_it_is_said(references, photo):
    taken = references.add(photo, THREE)
    assert taken.face.startswith("the face aligned by your three points")
    known = references.get("builtin:ada")  # the same portrait, four times as large, aligned by what is known of it
    inner = slice(SIDE // 4, 3 * SIDE // 4)
    assert (references.get(taken.name) - known)[inner, inner].abs().mean() < 0.02


def test_without_a_face_a_photo_is_refused_unless_the_model_aligns_none(references, nobody):
    with pytest.raises(NoFaceError, match="give the two eyes and the mouth as three points"):
        references.add(nobody)
    plain = References(SIDE, SIDE, most_pixels=10**6, most_pictures=4).add(nobody)
    assert not plain.face


def test_a_model_that_aligns_faces_has_a_photo_before_the_drawn_portraits(references):
    assert references.names == [f"builtin:{name}" for name in ("hopper", "ada", "ben", "cleo", "dan")]
    for name in references.names:
        assert tuple(references.get(name).shape) == (SIDE, SIDE, 3)
    drawn = References(SIDE, SIDE, most_pixels=10**6, most_pictures=4)
    assert drawn.names == references.names[1:]


def test_the_largest_of_several_faces_is_taken_and_said(references, photo, monkeypatch):
    places = [tuple(float(number) for number in point.split(",")) for point in POINTS]
    monkeypatch.setattr("knot_core.media.face_alignment.mesh_points", lambda _image: (*places, 3))
    taken = references.add(photo)
    assert taken.face.startswith("the largest of 3 faces aligned by MediaPipe")


def test_a_photo_is_uploaded_aligned_and_streamed(face_model, photo, nobody):
    async def live():
        studio = Studio(face_model, Limits())
        async with live_server(studio, Address(port=0)) as at:
            with pytest.raises(LiveError, match="three points") as refusal:
                await upload(at.url, nobody)
            with pytest.raises(LiveError, match="give eyes and mouth in pixels"):
                await upload(at.url, photo, points="1,2")
            async with aiohttp.ClientSession() as http:
                async with http.post(f"{at.url}/v1/references", data=photo, headers={"Face-Points": THREE}) as answer:
                    said = await answer.json()
                async with http.get(f"{at.url}/v1/info") as answer:
                    about = await answer.json()
                for name in ("hopper.png", said["reference"]):  # as pages show them: the crops
                    async with http.get(f"{at.url}/v1/references/{name}") as answer:
                        assert answer.status == 200
                        with Image.open(io.BytesIO(await answer.read())) as shown:
                            assert (shown.format, shown.size) == ("PNG", (SIDE, SIDE))
                async with http.get(f"{at.url}/v1/references/upload:none") as answer:
                    assert answer.status == 404
            assert (await upload(at.url, photo, points=THREE)) != said["reference"]
            async with connect(at.url, reference=said["reference"]) as session:
                units, applied = [], []
                other = await session.send("session.reference", reference="builtin:hopper")
                async for message in session:
                    if isinstance(message, Media):
                        units += [message.payload] if message.header.kind == H264 else []
                    elif message["type"] == "control.applied":
                        applied.append(message["event_id"])
                    elif message["type"] == "video.chunk_metadata":
                        last = message["first_frame"] + message["frames"] - 1
                        await session.acknowledge(message["epoch"], last)
                        if last > 20 and other in applied:
                            await session.send("session.finish")
            return refusal.value.code, said, about, units

    code, said, about, units = asyncio.run(asyncio.wait_for(live(), 120))
    assert code == "no_face"
    assert said["face"].startswith("the face aligned by your three points")
    assert (about["model"], about["size"], about["aligns_faces"]) == ("knot-face", [SIDE, SIDE], True)
    assert about["references"][0] == "builtin:hopper"
    with av.open(io.BytesIO(b"".join(units)), format="h264") as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(shown) >= 21
    assert shown[0].shape == (SIDE, SIDE, 3)
    assert np.abs(shown[-1] - shown[0]).mean() > 0.05
