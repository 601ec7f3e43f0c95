"""Options of a cluster: plain values, which go to every process of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine import DEFAULT_MODEL
from ..limits import Limits
from ..media_encoder import Formats
from ..messages import Vocabulary

NAMESPACE = "knot-live"
TABLE = "knot-live-table"


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """A cluster as an operator asks for it.

    Workers that draw are between `least` and `most`; `standbys` wait beside them. Each draws `lanes` sessions at a
    time, on a processor each.
    """

    model: str = DEFAULT_MODEL
    codec: Path | None = None
    device: str = "cpu"
    text_encoder: Path | None = None  # each worker loads its own, as it does the weights
    prompt: str = ""
    least: int = 1
    most: int = 2
    standbys: int = 1
    lanes: int = 1
    sessions_per_worker: int | None = None  # None: as many as there is time for, as measured
    checkpoint_every: int = 2  # chunks: what is done again when a worker is lost
    empty_seconds: float = 60.0  # after which a worker that draws nothing may end
    hangs_after: float = 2.0  # seconds without an answer, after which a worker is killed
    badge: bool = True
    limits: Limits = field(default_factory=Limits)

    @property
    def processors(self) -> float:
        """Ray's processors for each worker."""
        return 0.0 if self.device.startswith("cuda") else float(self.lanes)

    @property
    def devices(self) -> float:
        """Ray's GPUs for each worker."""
        return 1.0 if self.device.startswith("cuda") else 0.0


@dataclass(frozen=True, kw_only=True)
class Told:
    """A worker's description of a session that it draws, or would draw, for whoever shows it."""

    width: int
    height: int
    fps: int
    words: Vocabulary
    formats: Formats
    about: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Record:
    """The record by which a gateway takes over a session that another one began."""

    session_id: str
    resume_token: str
    view_token: str
    wish: Any  # its `Create`
    told: Told
    worker: str
    formats_wanted: tuple[str, ...] = ()
