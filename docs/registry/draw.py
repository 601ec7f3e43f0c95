"""Draw the registry's icon and banner from what the pack itself makes: `python docs/registry/draw.py`, in .venv."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from knot_core import Driving, load_model, open_audio, open_image, open_stream

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[1] / "knot_core" / "assets"
PAPER, INK, ACCENT, DEEP = "#1d2733", "#f4f1ea", "#e8a13a", "#121a23"
ICON = 400  # pixels, the most that the registry takes
BANNER = (1260, 540)  # pixels: 21 to 9
FINE = 3  # drawn so much larger, then made smaller: smooth edges


def talk(name: str, seconds: float) -> list[Image.Image]:
    """The frames of a bundled portrait that says the bundled sentence."""
    model = load_model("knot-tiny", device="cpu", dtype=None)
    anchor = model.encode_anchor(open_image(ASSETS / "portraits" / f"{name}.png"))
    driving = Driving.from_audio(open_audio(ASSETS / "speech" / "hello.wav"), model)
    frames: list[Image.Image] = []
    for chunk in open_stream(model, anchor, model.settings, driving, seed=0):
        frames += [Image.fromarray(picture) for picture in np.asarray(chunk.pixel_frames)]
        if len(frames) >= seconds * model.fps:
            break
    return frames


def most_spoken(frames: list[Image.Image]) -> Image.Image:
    """The frame whose mouth differs most from the first one's."""
    mouths = [np.asarray(frame, np.float32)[72:98, 50:80] for frame in frames]
    return frames[int(np.argmax([np.abs(mouth - mouths[0]).mean() for mouth in mouths]))]


def large(picture: Image.Image, size: int) -> Image.Image:
    return picture.resize((size, size), Image.Resampling.LANCZOS).filter(ImageFilter.UnsharpMask(size // 100, 60, 2))


def knot(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, edge: str) -> None:
    box = (x - radius, y - radius, x + radius, y + radius)
    pen.ellipse(box, fill=ACCENT, outline=edge, width=round(radius / 3))


def icon(face: Image.Image) -> Image.Image:
    """A face in a ring of chunks that are joined by knots: it has no end."""
    size, chunks = ICON * FINE, 8
    sheet = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    pen, middle, ring = ImageDraw.Draw(sheet), size / 2, size * 0.40
    pen.rounded_rectangle((0, 0, size - 1, size - 1), radius=size // 6, fill=PAPER)
    round_face, mask = large(face, round(size * 0.66)), Image.new("L", (round(size * 0.66),) * 2)
    ImageDraw.Draw(mask).ellipse((0, 0, *(edge - 1 for edge in mask.size)), fill=255)
    sheet.paste(round_face, (round(middle - mask.width / 2),) * 2, mask)
    box = (middle - ring, middle - ring, middle + ring, middle + ring)
    for chunk in range(chunks):
        start, length = chunk * 360 / chunks, 360 / chunks
        pen.arc(box, start, start + length, fill=INK if chunk % 2 else ACCENT, width=size // 50)
    for angle in np.arange(chunks) * 2 * np.pi / chunks:
        x, y = middle + (ring - size / 100) * np.cos(angle), middle + (ring - size / 100) * np.sin(angle)
        knot(pen, x, y, size / 30, PAPER)
    return sheet.resize((ICON, ICON), Image.Resampling.LANCZOS)


def banner(frames: list[Image.Image]) -> Image.Image:
    """The name above a stream of pictures that goes on beyond the edge, a knot where chunks meet."""
    width, height = (edge * FINE for edge in BANNER)
    sheet = Image.new("RGB", (width, height), PAPER)
    pen, left = ImageDraw.Draw(sheet), width // 18
    pen.rectangle((0, height * 0.44, width, height), fill=DEEP)
    for words, y, tall, color in (
        ("Knot Forcing", 0.17, 0.165, ACCENT),
        ("One picture and a voice. A portrait that never has to end.", 0.32, 0.062, INK),
    ):
        pen.text((left, height * y), words, fill=color, font=ImageFont.load_default(height * tall), anchor="lm")
    cell, gap, top = round(height * 0.40), round(height * 0.035), round(height * 0.50)
    for place, frame in enumerate(frames):
        x = left + place * (cell + gap)
        sheet.paste(large(frame, cell), (x, top))
    y = top + cell // 2
    for place in range(1, len(frames)):
        x = left + place * (cell + gap) - gap / 2
        pen.line((x - gap, y, x + gap, y), fill=ACCENT, width=height // 110)
        knot(pen, x, y, gap * 0.62, DEEP)
    return sheet.resize(BANNER, Image.Resampling.LANCZOS)


def main() -> None:
    icon(most_spoken(talk("cleo", 3))).save(HERE / "icon.png", optimize=True)
    spans = np.array_split(np.arange(150), 6)
    frames = talk("ada", 6)
    banner([most_spoken([frames[0], *(frames[place] for place in span)]) for span in spans]).save(
        HERE / "banner.png", optimize=True
    )


if __name__ == "__main__":
    main()
