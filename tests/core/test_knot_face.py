"""The model of photos from its name to its video: loaded where its files are, aligned, streamed, pasted back."""

import json
import logging
import math
import sys

import av
import pytest
import torch

from knot_core import CheckpointError, Driving, cli, load_model, model_loading, open_image, open_stream
from knot_core.media.face_alignment import find_face_points
from knot_core.media.reference_crop import crop_reference
from knot_core.media.sample_pictures import sample_pictures

from ..small_face_model import PHOTO_SIZE, POINTS, SIDE, write_face_model, write_photo


@pytest.fixture(autouse=True)
def no_detector(monkeypatch):
    for name in ("mediapipe", "cv2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """A folder of weights that holds knot-face alone."""
    write_face_model(tmp_path)
    monkeypatch.setattr(model_loading, "ASSETS", tmp_path)
    return tmp_path


@pytest.fixture
def run(assets, capsys, caplog):
    """`run(...)`: the command animate of a photo, for half a second; exit code and what was said."""
    caplog.set_level(logging.INFO)
    photo = write_photo(assets / "photo.png")

    def call(*more: str) -> tuple[int, str]:
        options = ("--model", "knot-face", "--reference", str(photo), "--idle", "--seconds", "0.5", "--device", "cpu")
        code = cli.main(["animate", *options, "--out", str(assets / "video.mp4"), *more])
        return code, capsys.readouterr().err + caplog.text

    call.photo = photo
    return call


def test_the_name_loads_both_files_and_a_photo_streams(assets):
    model = load_model("knot-face", dtype=torch.float32)
    assert (model.preset.family, model.preset.aligns_faces, model.spatial) == ("knot-face", True, 16)
    photo = open_image(write_photo(assets / "photo.png"))
    crop = crop_reference(photo, (SIDE, SIDE), aligned=True, points=" ".join(POINTS))
    chunks = open_stream(model, model.encode_anchor(crop.picture), model.settings, Driving.idle(), seed=1)
    first, second = next(chunks), next(chunks)
    assert first.pixel_frames.shape == (9, SIDE, SIDE, 3)
    assert second.pixel_frames.shape == (12, SIDE, SIDE, 3)
    assert not torch.equal(first.pixel_frames[-1], second.pixel_frames[-1])


@pytest.mark.parametrize("missing", ["knot-face.safetensors", "knot-face-codec.safetensors"])
def test_where_a_file_is_missing_one_sentence_says_which_and_what_to_take(assets, missing):
    (assets / missing).unlink()
    for load in (load_model, lambda name: model_loading.open_model_file(name, header_only=True)):
        with pytest.raises(CheckpointError, match=rf"knot-face is not in this copy.*{missing}.*knot-tiny") as problem:
            load("knot-face")
        assert "\n" not in str(problem.value)
    assert model_loading.built_in_models() == ()


@pytest.mark.usefixtures("assets")
def test_the_built_in_models_are_those_whose_files_are_there():
    assert model_loading.built_in_models() == ("knot-face",)
    assert model_loading.DEFAULT_MODEL in model_loading.BUILT_IN


def test_the_command_line_animates_a_photo_by_the_models_name(run, assets):
    code, said = run("--points", *POINTS)
    assert code == 0, said
    assert "aligned by your three points" in said
    with av.open(str(assets / "video.mp4")) as container:
        frames = list(container.decode(video=0))
    assert [(frame.width, frame.height) for frame in frames] == [(SIDE, SIDE)] * len(frames)
    assert len(frames) >= 12


@pytest.mark.usefixtures("assets")
def test_the_packs_own_pictures_need_no_detector_and_no_points(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for number, path in enumerate(sample_pictures(photos=True).values()):
        options = ["--model", "knot-face", "--reference", str(path), "--idle", "--seconds", "0.3", "--device", "cpu"]
        assert cli.main(["animate", *options, "--out", str(tmp_path / f"{number}.mp4")]) == 0
    assert number == 4
    assert caplog.text.count("aligned by the points that come with the picture") == 5


def test_a_face_is_found_by_the_built_in_network_where_no_detector_is_installed(run):
    code, said = run()
    assert code == 0, said
    assert "aligned by the built-in landmark network" in said
    found = find_face_points(open_image(run.photo))
    wanted = [tuple(float(number) for number in point.split(",")) for point in POINTS]
    eyes = math.dist(*wanted[:2])
    for place, right in zip(found.all, wanted, strict=True):
        assert math.dist(place, right) < 0.1 * eyes


def test_a_photo_without_a_face_is_refused_with_a_way_on(run, assets):
    code, said = run("--reference", str(write_photo(assets / "nobody.png", face=False)))
    assert code == 1
    assert "no face found in the picture; give the two eyes and the mouth as three points" in said


def test_a_saved_stream_of_a_photo_goes_on_bit_for_bit(run, assets):
    def pictures(name: str) -> list:
        return [open_image(path) for path in sorted((assets / name).glob("*.png"))]

    def folder(name: str) -> tuple[str, ...]:
        return "--format", "png-folder", "--out", str(assets / name)

    state = str(assets / "photo.state")
    assert run("--points", *POINTS, "--seconds", "0.9", "--save-state", state, *folder("first"))[0] == 0
    assert run("--points", *POINTS, "--seconds", "2.5", *folder("whole"))[0] == 0
    more = ["--model", "knot-face", "--resume", state, "--idle", "--seconds", "0.5", "--device", "cpu"]
    assert cli.main(["animate", *more, *folder("later")]) == 0
    whole, made = pictures("whole"), pictures("first") + pictures("later")
    assert len(made) == 45
    assert all(torch.equal(one, other) for one, other in zip(made, whole, strict=False))


@pytest.mark.usefixtures("assets")
def test_it_is_described_by_its_name(capsys):
    assert cli.main(["inspect", "knot-face"]) == 0
    assert json.loads(capsys.readouterr().out)["family"] == "knot-face"


def test_pasted_back_the_whole_photo_moves_in_the_face_alone(run, assets):
    code, said = run("--points", *POINTS, "--paste-back")
    assert code == 0, said
    photo = open_image(assets / "photo.png")
    with av.open(str(assets / "video.mp4")) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert shown.shape == (*PHOTO_SIZE, 3)
    corner = torch.from_numpy(shown).float()[:, -40:] / 255 - photo[:, -40:]
    assert corner.abs().mean() < 0.03
