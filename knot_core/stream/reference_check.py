"""How well a model can render a reference, measured before a stream is made.

A small model renders what it was trained on. A chunk is drawn of the reference in one denoising step: it stands still,
then shuts its eyes and opens its mouth. Measures, all in latents, so that nothing is decoded: whether what moves is
where a face's eyes and mouth are, and how much; how far the first frame is from the reference, and how sharp; whether
what stands still does; and the contrast and detail of the reference itself. The measures of pictures that the model can
render form a cloud, and how far outside it a reference lies is its score.

`python -m knot_lab train calibrate` measures the cloud. It lies beside the weights as NAME-reference.json; a model
without that file has no score.

Shapes: F latent frames, C channels, h w latent size, M measures.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..config import StreamSettings
from ..driving import Driving
from ..errors import CheckpointError, short
from ..geometry import first_pixel_frame
from .anchor import Anchor
from .continuing import open_stream
from .pieces import alone
from .stream_model import StreamModel

GOOD_ENOUGH = 0.5  # the score from which on nothing is said
MEASURES = ("answer", "strength", "error", "contrast", "detail", "sharpness", "stillness")
_NUM_FRAMES = 4  # latent frames that are drawn: two stand still, in two it moves
_NUM_STILL = 2
_LEAST = 1e-3  # below this a measure is nothing, and its logarithm would only be large


@dataclass(frozen=True, kw_only=True, eq=False)
class Cloud:
    """The measures of pictures that a model can render."""

    takes: str  # what these pictures are, for the user
    mean: np.ndarray  # [M]
    whiten: np.ndarray  # [M, M]: turns what differs from the mean into standard deviations
    limit: float  # standard deviations of all measures together at which the score is GOOD_ENOUGH
    motion: np.ndarray  # [h, w]: where these pictures move, and how much

    def __post_init__(self) -> None:
        count = len(MEASURES)
        if self.mean.shape != (count,) or self.whiten.shape != (count, count) or self.motion.ndim != 2:
            raise CheckpointError(f"what was measured of references does not fit {count} measures; calibrate again")
        if not self.limit > 0:
            raise CheckpointError(f"the limit of references is {self.limit}; it must be above 0: calibrate again")

    @property
    def latent_size(self) -> tuple[int, int]:
        """Latent height and width of the references that were measured."""
        height, width = self.motion.shape
        return height, width

    def score(self, measures: np.ndarray) -> float:
        """The score of measures [M], in 0..1: 1 at the cloud's centre, GOOD_ENOUGH at its limit."""
        away = float(np.linalg.norm(self.whiten @ (measures - self.mean)))
        return 1 / (1 + away / self.limit)

    def to_dict(self) -> dict[str, Any]:
        """The values as the file holds them."""
        numbers = {name: getattr(self, name).round(5).tolist() for name in ("mean", "whiten", "motion")}
        return {"measures": MEASURES, "takes": self.takes, "limit": round(self.limit, 4), **numbers}


def read_cloud(path: Path) -> Cloud | None:
    """Read a file written from `Cloud.to_dict`; None if it does not exist."""
    if not path.is_file():
        return None
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        if tuple(given["measures"]) != MEASURES:
            raise CheckpointError(f"{path} holds other measures than {', '.join(MEASURES)}; calibrate the model again")
        numbers = {name: np.array(given[name], dtype=np.float64) for name in ("mean", "whiten", "motion")}
        return Cloud(takes=str(given["takes"]), limit=float(given["limit"]), **numbers)
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise CheckpointError(
            f"{path} cannot be read ({short(problem, str)}); calibrate the model again, or remove it"
        ) from problem


@torch.no_grad()
def draw_reference(model: StreamModel, anchor: Anchor, settings: StreamSettings) -> tuple[np.ndarray, np.ndarray]:
    """The reference's latents [C, h, w], and those of a chunk that is drawn of it in one step, [4, C, h, w]."""
    quick = replace(
        settings,
        num_chunk_frames=_NUM_FRAMES - 1,
        num_knot_frames=1,
        num_window_frames=0,
        num_sink_frames=0,
        steps=1,
        timesteps=(),
        first_timesteps=(),
    )
    stream = open_stream(model, anchor, quick, _still_then_moving())
    drawn = alone(stream.draw(stream.begin(stream.state), lambda _done, _stages: None))
    return _numbers(anchor.reference_BFCHW[0, 0]), _numbers(drawn.x0_BFCHW[0])


def _numbers(latents: torch.Tensor) -> np.ndarray:
    return latents.double().cpu().numpy()


def _still_then_moving() -> Driving:
    """Controls at rest, then eyes shut and mouth open."""
    moves = np.zeros(first_pixel_frame(_NUM_FRAMES), dtype=np.float32)
    moves[first_pixel_frame(_NUM_STILL) :] = 1
    return Driving.from_controls({"blink": moves, "mouth_open": moves})


def motion_map(drawn_FCHW: np.ndarray) -> np.ndarray:
    """[h, w]: how far the last latent frame is from the first."""
    return np.abs(drawn_FCHW[-1] - drawn_FCHW[0]).mean(axis=0)


def measure(reference_CHW: np.ndarray, drawn_FCHW: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """MEASURES [M] of what `draw_reference` gives, against where faces move [h, w]; logarithms but for the first."""
    moved, first = motion_map(drawn_FCHW), drawn_FCHW[0]
    detail = _detail(reference_CHW)
    amounts = (
        (moved * motion).sum() / (motion * motion).sum(),
        _rms(first - reference_CHW),
        _rms(reference_CHW),
        detail,
        _detail(first) / max(detail, _LEAST),
        _rms(drawn_FCHW[_NUM_STILL - 1] - first),
    )
    alike = np.clip(_correlation(moved, motion), -0.999, 0.999)
    return np.array([np.arctanh(alike), *np.log(np.maximum(amounts, _LEAST))])


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.square(x).mean()))


def _detail(latents_CHW: np.ndarray) -> float:
    """How much neighbouring latents differ."""
    return float(np.hypot(*(_rms(np.diff(latents_CHW, axis=axis)) for axis in (-2, -1))))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-9))


def fit_cloud(
    drawings: Sequence[tuple[np.ndarray, np.ndarray]], takes: str, limit: float, least_spread: float = 0.05
) -> Cloud:
    """The cloud of measures of many pictures that the model renders well.

    `drawings`: `draw_reference`'s result for each, latents of the reference [C, h, w] and of the chunk [F, C, h, w].

    `least_spread` is added to every measure's standard deviation: what hardly varies among these pictures, as nothing
    does in a drawing that stands still, would otherwise weigh without bound.
    """
    motion = np.mean([motion_map(drawn) for _, drawn in drawings], axis=0)
    measures = np.stack([measure(reference, drawn, motion) for reference, drawn in drawings])
    spread = np.cov(measures.T) + least_spread**2 * np.eye(len(MEASURES))
    whiten = np.linalg.inv(np.linalg.cholesky(spread))
    return Cloud(takes=takes, mean=measures.mean(axis=0), whiten=whiten, limit=limit, motion=motion)
