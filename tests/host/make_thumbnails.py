"""Run every workflow in a ComfyUI and draw its thumbnail from the video that it made.

    python -m pytest tests/host/make_thumbnails.py      (it is no test: pytest finds ComfyUI and starts it)

`-k` with a workflow's name draws that one. Those whose files must be downloaded cannot run here: they get a card that
says what goes in and what comes out.
"""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from .comfyui import PACK, Server
from .conftest import BUNDLED_WORKFLOWS, LIVE_WORKFLOW, load_json
from .live_sessions import Driving
from .test_queued_workflows import succeed, videos

SIZE = 512  # pixels; the template browser shows a square
GRID = 2  # so many frames each way, in reading order
BAND = 128  # pixels below the frames, for the words
MARGIN = 6  # pixels between frames
WORDS = {
    "portrait_from_audio": ("Talk", "speech moves the mouth"),
    "portrait_photo": ("Photo", "a person's photo talks"),
    "portrait_idle": ("Idle", "listens, blinks, breathes"),
    "portrait_chunks": ("Chunks", "a list of pictures as it comes"),
    "portrait_resume": ("Resume", "saved, loaded, gone on from"),
    "portrait_loop": ("Step by step", "the state in your hands"),
    "portrait_directed": ("Direct", "speech, key frames, prompts"),
    "portrait_timeline": ("Timeline", "a face by key frames"),
    "portrait_hybrid": ("Hybrid", "speech here, head and eyes there"),
    "portrait_headless": ("Headless", "queued by a program"),
}
CARDS = {
    "self_forcing_text_to_stream": ("Self-Forcing", ("a prompt", "Wan2.1: LoRA, fp8, GGUF", "a video without end")),
    "livetalk_portrait": ("LiveTalk", ("photo, speech, prompt", "Wan2.1 with audio modules", "a portrait that talks")),
}
PAPER, INK, ACCENT = "#1d2733", "#f4f1ea", "#e8a13a"


@pytest.mark.parametrize("path", BUNDLED_WORKFLOWS, ids=lambda path: path.stem)
def test_draw_thumbnail(server: Server, path: Path) -> None:
    *_, video = sorted(videos(server, succeed(server, load_json(path))))
    draw(video, *WORDS[path.stem]).save(PACK / "workflows" / f"{path.stem}.jpg", quality=88)


def test_draw_live_thumbnail(server: Server) -> None:
    """Somebody must drive it: it turns, nods, and speaks."""
    with Driving(server, load_json(LIVE_WORKFLOW)) as session:
        session.attach()
        for controls in ({"yaw": -0.7}, {"yaw": 0.0, "mouth_open": 0.8}, {"mouth_open": 0.0, "roll": 0.5}):
            session.chunks(4)
            session.send("session.interaction", controls=controls)
        session.chunks(6)
        session.send("session.finish")
        session.hear("session.ended")
        (video,) = videos(server, session.end())
    picture = draw(video, "Live", "talk to it, move it, now")
    picture.save(LIVE_WORKFLOW.parents[1] / f"{LIVE_WORKFLOW.stem}.jpg", quality=88)


@pytest.mark.parametrize("name", CARDS)
def test_draw_card(name: str) -> None:
    card(*CARDS[name]).save(PACK / "workflows" / f"{name}.jpg", quality=88)


def write(pen: ImageDraw.ImageDraw, place: tuple[int, int], words: str, size: int, color: str) -> None:
    pen.text(place, words, fill=color, font=ImageFont.load_default(size), anchor="mm")


def knot(pen: ImageDraw.ImageDraw, x: int, y: int, radius: int = 9) -> None:
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ACCENT, outline=PAPER, width=2)


def card(title: str, steps: tuple[str, ...]) -> Image.Image:
    """Its parts from top to bottom, with a knot in the thread between them."""
    sheet = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen, step = ImageDraw.Draw(sheet), SIZE // (len(steps) + 1)
    write(pen, (SIZE // 2, step // 2 + 8), title, 56, ACCENT)
    for place, words in enumerate(steps, start=1):
        y = place * step
        pen.rounded_rectangle((40, y, SIZE - 40, y + step * 3 // 5), radius=14, outline=INK, width=3)
        write(pen, (SIZE // 2, y + step * 3 // 10), words, 28, INK)
        if place < len(steps):
            pen.line((SIZE // 2, y + step * 3 // 5, SIZE // 2, y + step), fill=ACCENT, width=4)
            knot(pen, SIZE // 2, y + step * 4 // 5)
    return sheet


def draw(video: Path, title: str, words: str) -> Image.Image:
    """Frames from first to last, the thread from one to the next, and what the workflow is for."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    sheet = Image.new("RGB", (SIZE, SIZE), PAPER)
    pen, wide, high = ImageDraw.Draw(sheet), SIZE // GRID, (SIZE - BAND) // GRID
    for place, index in enumerate(np.linspace(0, len(frames) - 1, GRID**2).round().astype(int)):
        corner = (place % GRID * wide + MARGIN // 2, place // GRID * high + MARGIN // 2)
        sheet.paste(cut(frames[index], wide - MARGIN, high - MARGIN), corner)
    for row in range(GRID):
        for column in range(1, GRID):
            knot(pen, column * wide, row * high + high // 2)
    write(pen, (SIZE // 2, SIZE - BAND * 5 // 8), title, 54, ACCENT)
    write(pen, (SIZE // 2, SIZE - BAND // 5), words, 28, INK)
    return sheet


def cut(frame: Image.Image, width: int, height: int) -> Image.Image:
    """To that shape: as wide as it is, the middle of its height."""
    wanted = frame.width * height / width
    top = (frame.height - wanted) / 2
    box = (0.0, top, float(frame.width), top + wanted)
    return frame.resize((width, height), Image.Resampling.LANCZOS, box=box)
