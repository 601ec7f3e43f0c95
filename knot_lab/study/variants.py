"""The variants of the study: the model's own settings, with one part turned off, changed, or replaced by another
method.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from knot_core.config import StreamSettings

from .ablations import (
    RESTART_CHUNKS,
    Open,
    anchor_left_behind,
    as_set,
    knot_in_x,
    knot_in_x_alone,
    reference_first,
    restarting,
    without_overlap,
)

NOT_TRAINED = "no"
CONTROL = "control"  # what variants that have a model of their own are held against


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to stream."""

    title: str
    changes: Mapping[str, int | float | bool | str] = field(default_factory=dict)  # of the model's own settings
    opened: Open = as_set
    trained: str = NOT_TRAINED  # whether the built-in model was trained for it
    usual: bool = True  # whether a study has it that names no variants

    def settings(self, own: StreamSettings) -> StreamSettings:
        """The variant's settings, made of the model's own."""
        changes = dict(self.changes)
        if self.opened is restarting:
            changes["num_window_frames"] = RESTART_CHUNKS * own.num_chunk_frames
        if self.opened is without_overlap:
            changes["num_window_frames"] = _without_overlaps(own)
        return replace(own, **changes)


def _without_overlaps(own: StreamSettings) -> int:
    """The number of window frames that are not overlap, so that the window reaches as far back."""
    chunks = own.num_window_frames // own.num_chunk_frames
    return own.num_window_frames - chunks * own.num_knot_frames


_NO_KNOT = {"num_knot_frames": 0, "start_from_reference": False}

VARIANTS: Mapping[str, Variant] = {
    "full": Variant(title="the model's own settings", trained="yes"),
    CONTROL: Variant(
        title="the model's own settings, by a model trained on for as long as those that were trained for a variant",
        trained="yes",
    ),
    "knot0": Variant(
        title="no knot", changes=_NO_KNOT, trained="in part: in training one chunk in ten goes without its knot"
    ),
    "nofusion": Variant(title="the knot is shown to the next chunk, but not averaged with it", changes={"fusion": 0.0}),
    "knotinx": Variant(
        title="the knot also pinned in x at every step, and so settled as it was first drawn", opened=knot_in_x
    ),
    "knotclean": Variant(
        title="the knot in x alone, clean and at timestep 0, as networks without condition channels get it",
        opened=knot_in_x_alone,
        usual=False,
    ),
    "k1": Variant(title="a knot of one latent frame", changes={"num_knot_frames": 1}),
    "k2": Variant(title="a knot of two latent frames", changes={"num_knot_frames": 2}),
    "nooverlap": Variant(
        title="window of the same reach, without the frames in which chunks overlap", opened=without_overlap
    ),
    "norunahead": Variant(
        title="the anchor stays where it first stood, and the stream passes it by",
        changes={"run_ahead_stride": 0},
        opened=anchor_left_behind,
    ),
    "s2": Variant(title="running ahead by 2", changes={"run_ahead_stride": 2}),
    "s4": Variant(title="running ahead by 4", changes={"run_ahead_stride": 4}),
    "s8": Variant(title="running ahead by 8", changes={"run_ahead_stride": 8}),
    # without the anchor only the first knot knows the reference, else it would be anybody
    "noanchor": Variant(
        title="no anchor; the stream starts from the reference",
        changes={"use_anchor": False, "start_from_reference": True},
    ),
    "anchor0": Variant(title="the anchor at position 0, as an attention sink", changes={"run_ahead_stride": 0}),
    "window3": Variant(title="window of 3 latent frames", changes={"num_window_frames": 3}),
    "window6": Variant(title="window of 6 latent frames", changes={"num_window_frames": 6}),
    "window9": Variant(title="window of 9 latent frames", changes={"num_window_frames": 9}),
    "window12": Variant(title="window of 12 latent frames", changes={"num_window_frames": 12}),
    "selfforcing": Variant(
        title=f"plain Self-Forcing: no knot, reference at the first position, all of the past visible, begun anew "
        f"every {RESTART_CHUNKS} chunks (the training length)",
        changes=_NO_KNOT | {"run_ahead_stride": 0},
        opened=restarting,
    ),
    "longlive": Variant(
        title="rolling window with sinks (LongLive's form): no knot, three sinks that follow it, the "
        "reference before them",
        changes=_NO_KNOT | {"run_ahead_stride": 0, "num_sink_frames": 3, "rope_positions": "window"},
        opened=reference_first,
    ),
}


def differ(own: StreamSettings) -> tuple[str, ...]:
    """The names of ``full`` and of what is usual and not the same for a model of these settings."""
    full = VARIANTS["full"]
    return tuple(
        name
        for name, variant in VARIANTS.items()
        if variant is full
        or (variant.usual and (variant.settings(own), variant.opened) != (full.settings(own), full.opened))
    )
