"""Run every workflow in a ComfyUI and draw its thumbnail from the video that it made.

    python -m pytest tests/host/make_thumbnails.py      (it is no test: pytest finds ComfyUI and starts it)
"""

import av
import numpy as np
from PIL import Image

from .comfyui import PACK, Server
from .conftest import API_WORKFLOWS, load_json
from .test_run import succeed, videos

SIZE = 512  # pixels; the template browser shows a square
GRID = 2  # so many frames each way, in reading order


def test_draw_thumbnails(server: Server) -> None:
    for path in API_WORKFLOWS:
        (video,) = videos(server, succeed(server, load_json(path)))
        draw(video).save(PACK / "workflows" / f"{path.stem}.jpg", quality=88)


def draw(video: str) -> Image.Image:
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]
    sheet, cell = Image.new("RGB", (SIZE, SIZE)), SIZE // GRID
    for place, index in enumerate(np.linspace(0, len(frames) - 1, GRID**2).round().astype(int)):
        corner = (place % GRID * cell, place // GRID * cell)
        sheet.paste(frames[index].resize((cell, cell), Image.Resampling.LANCZOS), corner)
    return sheet
