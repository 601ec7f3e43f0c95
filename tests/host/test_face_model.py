"""The built-in model of photos in ComfyUI, where its files are: chosen by name, aligned, written, pasted back.

Its weights are tiny and random: what is tested is the way from node to node.
"""

from collections.abc import Iterator

import av
import pytest
from PIL import Image

from ..small_face_model import SIDE, write_face_model
from .comfyui import Json, Server
from .conftest import HOSTS, NO_HOST
from .test_queued_workflows import node_of, succeed, videos, with_inputs
from .test_states import WRITER, idle

pytestmark = pytest.mark.host
ENCODE, LOADER, SAMPLE = "KnotForcingEncodeAnchor", "KnotForcingLoadModel", "KnotForcingSamplePortrait"
GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


@pytest.fixture(scope="module")
def face_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if not HOSTS:
        pytest.skip(NO_HOST)
    made = Server(HOSTS[0], tmp_path_factory.mktemp("comfy"))
    write_face_model(made.pack / "knot_core" / "assets")
    with made as server:
        yield server


def choices(server: Server, node: str, name: str) -> list[str]:
    spec = server.get(f"/object_info/{node}")[node]["input"]["required"][name]
    return spec[1]["options"] if spec[0] == "COMBO" else spec[0]


def photo(seconds: float) -> Json:
    prompt = with_inputs(idle(seconds), SAMPLE, portrait="hopper.jpg")
    return with_inputs(prompt, LOADER, model_name="knot-face")


def test_it_is_offered_behind_knot_tiny_and_with_it_a_photo(face_server: Server) -> None:
    assert choices(face_server, LOADER, "model_name")[:2] == ["knot-tiny", "knot-face"]
    assert choices(face_server, SAMPLE, "portrait") == ["ada.png", "ben.png", "cleo.png", "dan.png", "hopper.jpg"]


def test_a_photo_is_aligned_without_a_detector_and_pasted_back(face_server: Server) -> None:
    prompt = photo(0.3)
    prompt[node_of(prompt, WRITER)]["inputs"]["placement"] = [node_of(prompt, ENCODE), 1]
    before = face_server.log.stat().st_size
    run = succeed(face_server, prompt)
    said = face_server.log.read_bytes()[before:].decode(errors="replace")
    assert "aligned by the points that come with the picture" in said
    (shown,) = run.outputs[node_of(prompt, ENCODE)]["images"]
    assert face_server.file(shown).is_file(), "the node shows the crop that it took"
    (path,) = videos(face_server, run)
    with av.open(str(path), options={"export_xmp": "1"}) as container:
        (stream,) = container.streams.video
        assert (stream.width, stream.height) == (512, 600)
        assert GENERATED in container.metadata["xmp"]


def test_its_video_has_its_own_size(face_server: Server) -> None:
    (path,) = videos(face_server, succeed(face_server, photo(0.2)))
    with av.open(str(path)) as container:
        assert container.streams.video[0].width == SIDE


def test_with_detail_it_is_as_many_times_as_large(face_server: Server) -> None:
    prompt = with_inputs(photo(0.2), ENCODE, detail=3)
    run = succeed(face_server, prompt)
    with av.open(str(videos(face_server, run)[0])) as container:
        assert container.streams.video[0].width == 3 * SIDE
    (shown,) = run.outputs[node_of(prompt, ENCODE)]["images"]
    assert Image.open(face_server.file(shown)).size == (3 * SIDE, 3 * SIDE)


def test_a_model_that_draws_every_pixel_refuses_detail(face_server: Server) -> None:
    run = face_server.run(with_inputs(idle(0.2), ENCODE, detail=2))
    assert run.status == "error"
    assert "detail is 2, but this model draws every pixel itself" in run.error["exception_message"]
