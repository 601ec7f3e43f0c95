"""A driving as a picture: its curves over time, what it leaves to the model, and where chunks begin.

Shapes: P pixel frames, M mel bands, W columns of the picture.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ..errors import DrivingError
from ..geometry import first_pixel_frame
from .audio import FPS, HOPS_PER_PIXEL_FRAME, MEL_DIM, NUM_MELS, SILENCE
from .expression_controls import CONTROLS, POSE_CONTROLS, RANGES
from .lengths import format_clock
from .timeline import Driving

MAX_SECONDS = 3600.0  # in one picture
MAX_START = 1e9  # seconds: 31 years
DEFAULT_SECONDS = 10.0  # of a driving without end
_LABEL, _RIGHT, _TOP, _BOTTOM = 104, 12, 10, 26  # margins in pixels
_SPEECH, _ROW, _GAP, _PROMPTS = 72, 40, 6, 22  # heights in pixels
_LOUDEST = 3.0  # of log-mel, shown brightest
_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600)  # seconds between two marks
_MIN_TICK = 70  # pixels between two marks

_PAPER, _PANEL, _INK, _FAINT, _GRID = "#ffffff", "#f3f4f6", "#1f2937", "#9ca3af", "#d9dce1"
_LINES = {"pose": "#2563eb", "mouth": "#dc2626"}
_HEAT = np.array([[243, 244, 246], [147, 180, 240], [37, 99, 235], [17, 24, 80]], dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class PreviewOptions:
    """The part of a driving to plot, and the size of the plot."""

    seconds: float = 0.0  # from the start on; 0: all of the driving, DEFAULT_SECONDS of one without end
    start: float = 0.0  # seconds
    width: int = 960  # pixels; the height follows
    chunk_frames: int = 0  # latent frames; marks where chunks begin, 0 marks none
    prompts: Sequence[tuple[float, str]] = ()  # seconds from which each holds

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("seconds", self.seconds, 0, MAX_SECONDS),
            ("start", self.start, 0, MAX_START),
            ("width", self.width, 320, 4096),
            ("chunk_frames", self.chunk_frames, 0, 1000),
        ):
            if not low <= value <= high:
                raise DrivingError(f"{name} of the preview is {value}; it must be from {low} to {high}")


def draw_driving(driving: Driving, options: PreviewOptions | None = None) -> Image.Image:
    """RGB picture: speech on top, a row for each control, time below."""
    driving.require_controls("a driving of wav2vec2 features has no curves to plot; leave the preview out")
    options = options or PreviewOptions()
    first, count = _shown_frames(driving, options)
    heights = [_SPEECH, *[_ROW] * len(CONTROLS), *[_PROMPTS] * bool(options.prompts)]
    height = _TOP + sum(heights) + _GAP * len(heights) + _BOTTOM
    image = Image.new("RGB", (options.width, height), _PAPER)
    sheet = _Sheet(image, first, count)
    # one frame a column at most: of a long driving each column shows its own frame, blinks between two may be missed
    columns = np.unique(np.linspace(0, count - 1, min(count, 2 * sheet.width)).round().astype(np.int64))
    signal = driving.pixel_signal(first + columns).numpy()
    tops = _TOP + np.concatenate([[0], np.cumsum([row + _GAP for row in heights])])
    _draw_speech(sheet, int(tops[0]), columns, signal[:, :MEL_DIM], given=driving.speech is not None)
    for row, name in enumerate(CONTROLS):
        group = "pose" if name in POSE_CONTROLS else "mouth"
        values = signal[:, MEL_DIM + row] if getattr(driving, group) is not None else None
        _draw_control(sheet, int(tops[1 + row]), name, columns, values)
    if options.prompts:
        _draw_prompts(sheet, int(tops[-2]), options.prompts)
    _draw_time(sheet, int(tops[-1]) - _GAP, options.chunk_frames)
    return image


class _Sheet:
    """The picture, and where a pixel frame lies on it."""

    def __init__(self, image: Image.Image, first: int, count: int) -> None:
        self.image, self.first, self.count = image, first, count
        self.draw = ImageDraw.Draw(image)
        self.font = ImageFont.load_default()
        self.left, self.width = _LABEL, image.width - _LABEL - _RIGHT

    def x(self, frame: float) -> float:
        """The x coordinate, in pixels, of a frame counted from the first that is shown."""
        return self.left + (frame + 0.5) * self.width / self.count

    def panel(self, top: int, height: int, name: str) -> None:
        self.draw.rectangle((self.left, top, self.left + self.width - 1, top + height - 1), fill=_PANEL)
        self.draw.text((8, top + height / 2), name, fill=_INK, font=self.font, anchor="lm")

    def say(self, top: int, height: int, text: str) -> None:
        self.draw.text((self.left + 8, top + height / 2), text, fill=_FAINT, font=self.font, anchor="lm")


def _shown_frames(driving: Driving, options: PreviewOptions) -> tuple[int, int]:
    """The first pixel frame and how many."""
    first, length = round(options.start * FPS), driving.num_pixel_frames
    if options.seconds:
        return first, max(1, round(options.seconds * FPS))
    if length is None:
        return first, round(DEFAULT_SECONDS * FPS)
    if first >= length:
        raise DrivingError(f"the preview starts at {options.start:g} s, but the driving lasts {length / FPS:g} s")
    return first, min(length - first, round(MAX_SECONDS * FPS))


def _draw_speech(sheet: _Sheet, top: int, columns: np.ndarray, mel: np.ndarray, *, given: bool) -> None:
    sheet.panel(top, _SPEECH, "speech")
    if not given:
        sheet.say(top, _SPEECH, "not given: nothing is said")
        return
    bands = mel.reshape(len(mel), HOPS_PER_PIXEL_FRAME, NUM_MELS).mean(axis=1).T[::-1]  # low notes at the bottom
    level = np.clip((bands - SILENCE) / (_LOUDEST - SILENCE), 0, 1) * (len(_HEAT) - 1)
    lower = np.minimum(level.astype(int), len(_HEAT) - 2)
    colours = _HEAT[lower] + (_HEAT[lower + 1] - _HEAT[lower]) * (level - lower)[..., None]
    # of each picture column the frame that lies there, so that it lies over the curves
    frame = (np.arange(sheet.width) + 0.5) * sheet.count / sheet.width - 0.5
    nearest = np.clip(np.searchsorted(columns, frame), 0, len(columns) - 1)
    heat = Image.fromarray(colours[:, nearest].astype(np.uint8)).resize(
        (sheet.width, _SPEECH), Image.Resampling.NEAREST
    )
    sheet.image.paste(heat, (sheet.left, top))


def _draw_control(sheet: _Sheet, top: int, name: str, columns: np.ndarray, values: np.ndarray | None) -> None:
    sheet.panel(top, _ROW, name)
    if values is None:
        sheet.say(top, _ROW, "not given: the model's own")
        return
    low, high = RANGES[name]
    for text, value, anchor in ((f"{high:g}", high, "rt"), (f"{low:g}", low, "rb")):
        at = top if value == high else top + _ROW
        sheet.draw.text((sheet.left - 6, at), text, fill=_FAINT, font=sheet.font, anchor=anchor)

    def y(value: np.ndarray | float) -> np.ndarray | float:
        return top + 3 + (_ROW - 7) * (high - value) / (high - low)

    rest = float(y(0.0))
    sheet.draw.line((sheet.left, rest, sheet.left + sheet.width - 1, rest), fill=_GRID)
    points = list(zip(sheet.x(columns).tolist(), y(values.astype(np.float64)).tolist(), strict=True))
    colour = _LINES["pose" if name in POSE_CONTROLS else "mouth"]
    if len(points) == 1:
        points = [(sheet.left, points[0][1]), (sheet.left + sheet.width - 1, points[0][1])]
    sheet.draw.line(points, fill=colour, width=2, joint="curve")


def _draw_prompts(sheet: _Sheet, top: int, prompts: Sequence[tuple[float, str]]) -> None:
    sheet.panel(top, _PROMPTS, "prompt")
    starts = [seconds * FPS - sheet.first for seconds, _ in prompts]
    for start, end, (_, text) in zip(starts, [*starts[1:], math.inf], prompts, strict=True):
        left, right = (sheet.x(min(max(at, 0), sheet.count) - 0.5) for at in (start, end))
        if right - left < 1:
            continue
        sheet.draw.line((left, top, left, top + _PROMPTS - 1), fill=_INK, width=2)
        room = int(right - left) - 8
        sheet.draw.text(
            (left + 6, top + _PROMPTS / 2), _cut(sheet, text, room), fill=_INK, font=sheet.font, anchor="lm"
        )


def _cut(sheet: _Sheet, text: str, room: int) -> str:
    if sheet.font.getlength(text) <= room:
        return text
    while text and sheet.font.getlength(text + "...") > room:
        text = text[:-1]
    return text + "..." if text else ""


def _draw_time(sheet: _Sheet, bottom: int, chunk_frames: int) -> None:
    if chunk_frames:
        _draw_chunks(sheet, bottom, chunk_frames)
    tick = next((step for step in _TICKS if step * FPS * sheet.width / sheet.count >= _MIN_TICK), _TICKS[-1])
    number = math.ceil(sheet.first / FPS / tick - 1e-9)
    while (at := number * tick * FPS - sheet.first) < sheet.count:
        x = sheet.x(at - 0.5)
        sheet.draw.line((x, bottom, x, bottom + 4), fill=_INK)
        text = format_clock(number * tick)
        sheet.draw.text((x, bottom + 7), text, fill=_INK, font=sheet.font, anchor="lt" if at < 1 else "mt")
        number += 1


def _draw_chunks(sheet: _Sheet, bottom: int, chunk_frames: int) -> None:
    """A faint line where each chunk begins, unless they would be too many to tell apart."""
    step = 4 * chunk_frames * sheet.width / sheet.count
    if step < 6:
        return
    chunk = max(0, sheet.first // (4 * chunk_frames) - 1)
    while (at := first_pixel_frame(chunk * chunk_frames) - sheet.first) < sheet.count:
        if at > 0:
            x = sheet.x(at - 0.5)
            sheet.draw.line((x, bottom, x, bottom + 4), fill=_FAINT)
            for y in range(_TOP, bottom, 6):
                sheet.draw.point((x, y), fill=_FAINT)
        chunk += 1
