"""Run every workflow in a ComfyUI and draw its thumbnail from the video that it made.

    python -m pytest tests/host/make_thumbnails.py      (it is no test: pytest finds ComfyUI and starts it)

Those whose files must be downloaded cannot run here: they get a card that says what goes in and what comes out.
"""

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .comfyui import PACK, Server
from .conftest import BUNDLED_WORKFLOWS, load_json
from .test_run import succeed, videos

SIZE = 512  # pixels; the template browser shows a square
GRID = 2  # so many frames each way, in reading order
CARDS = {
    "self_forcing_text_to_stream": ("Self-Forcing", ("a prompt", "Wan2.1: LoRA, fp8, GGUF", "a video without end")),
    "livetalk_portrait": ("LiveTalk", ("photo, speech, prompt", "Wan2.1 with audio modules", "a portrait that talks")),
}
PAPER, INK, ACCENT = "#1d2733", "#f4f1ea", "#e8a13a"


def test_draw_thumbnails(server: Server) -> None:
    for path in BUNDLED_WORKFLOWS:
        *_, video = sorted(videos(server, succeed(server, load_json(path))))
        draw(video).save(PACK / "workflows" / f"{path.stem}.jpg", quality=88)


def test_draw_cards() -> None:
    for name, (title, steps) in CARDS.items():
        card(title, steps).save(PACK / "workflows" / f"{name}.jpg", quality=88)


def card(title: str, steps: tuple[str, ...]) -> Image.Image:
    """Its parts from top to bottom, with a knot in the thread between them."""
    sheet = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen, step = ImageDraw.Draw(sheet), SIZE // (len(steps) + 2)
    pen.text((SIZE // 2, step * 2 // 3), title, fill=ACCENT, font=ImageFont.load_default(56), anchor="mm")
    for place, words in enumerate(steps, start=1):
        y = place * step + step // 3
        pen.rounded_rectangle((40, y, SIZE - 40, y + step * 3 // 5), radius=14, outline=INK, width=3)
        pen.text((SIZE // 2, y + step * 3 // 10), words, fill=INK, font=ImageFont.load_default(26), anchor="mm")
        if place < len(steps):
            pen.line((SIZE // 2, y + step * 3 // 5, SIZE // 2, y + step), fill=ACCENT, width=4)
            pen.ellipse((SIZE // 2 - 9, y + step * 4 // 5 - 9, SIZE // 2 + 9, y + step * 4 // 5 + 9), fill=ACCENT)
    return sheet


def draw(video: str) -> Image.Image:
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    sheet, cell = Image.new("RGB", (SIZE, SIZE)), SIZE // GRID
    for place, index in enumerate(np.linspace(0, len(frames) - 1, GRID**2).round().astype(int)):
        corner = (place % GRID * cell, place // GRID * cell)
        sheet.paste(frames[index].resize((cell, cell), Image.Resampling.LANCZOS), corner)
    return sheet
