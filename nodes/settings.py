"""Nodes that say how a stream is generated."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .adapters import DEFAULTS
from .types import (
    ADVANCED,
    CATEGORY,
    KnotModel,
    KnotSettings,
    node_schema,
)
from .widget_checks import valid


class Settings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingSettings",
            display_name="Knot Forcing Settings",
            category=CATEGORY,
            description="How the stream is generated. 1 latent frame is 4 pixel frames: 0.16 s at 25 frames a "
            "second. The defaults are those that knot-tiny was trained with; Wan models were trained "
            "with others.",
            search_aliases=[
                "steps",
                "shift",
                "context window",
                "overlap",
                "sliding window",
                "attention sink",
                "sampler settings",
                "timesteps",
            ],
            inputs=[
                io.Int.Input(
                    "num_chunk_frames",
                    default=DEFAULTS.num_chunk_frames,
                    min=1,
                    max=16,
                    tooltip="Latent frames generated and shown together (1 to 16; 3 = 0.48 s).",
                ),
                io.Int.Input(
                    "num_knot_frames",
                    default=DEFAULTS.num_knot_frames,
                    min=0,
                    max=8,
                    tooltip="Latent frames that two neighbouring chunks share, so that the transition is not "
                    "visible (0 to 8, at most the chunk's length; 0 turns it off).",
                ),
                io.Int.Input(
                    "num_window_frames",
                    default=DEFAULTS.num_window_frames,
                    min=0,
                    max=120,
                    tooltip="Latent frames of the past that a chunk can see (0 to 120; 6 = 0.96 s). Memory "
                    "and time per chunk grow with it, not with the length of the video.",
                ),
                io.Int.Input(
                    "run_ahead_stride",
                    default=DEFAULTS.run_ahead_stride,
                    min=0,
                    max=120,
                    **ADVANCED,
                    tooltip="Latent frames by which the reference moves ahead in time when the stream catches up with"
                    " it (0 to 120; 0: it never moves).",
                ),
                io.Int.Input(
                    "run_ahead_start",
                    default=DEFAULTS.run_ahead_start,
                    min=0,
                    max=120,
                    **ADVANCED,
                    tooltip="Temporal position of the reference at the beginning of the stream, in latent frames (0 "
                    "to 120).",
                ),
                io.Int.Input(
                    "steps",
                    default=DEFAULTS.steps,
                    min=1,
                    max=50,
                    tooltip="Denoising steps per chunk (1 to 50). Time per chunk grows with them.",
                ),
                io.Float.Input(
                    "shift",
                    default=DEFAULTS.shift,
                    min=1.0,
                    max=100.0,
                    step=0.1,
                    **ADVANCED,
                    tooltip="Shifts the steps towards high noise levels (1 to 100, no unit; 1: no shift): more of the"
                    " work goes into broad shapes, less into detail.",
                ),
                io.Float.Input(
                    "fusion",
                    default=DEFAULTS.fusion,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    **ADVANCED,
                    tooltip="Weight of the earlier chunk's knot in the shared frames (0 to 1; 0.5 is the mean, 0 "
                    "keeps only the later chunk's).",
                ),
                io.Boolean.Input(
                    "use_anchor",
                    default=DEFAULTS.use_anchor,
                    tooltip="Whether chunks can see the reference. Off: the face drifts; for comparisons.",
                ),
                io.Boolean.Input(
                    "start_from_reference",
                    default=DEFAULTS.start_from_reference,
                    tooltip="On: the first frame is the reference picture itself.",
                ),
                io.Int.Input(
                    "num_sink_frames",
                    default=DEFAULTS.num_sink_frames,
                    min=0,
                    max=120,
                    **ADVANCED,
                    tooltip="First latent frames of the stream that every chunk can see, in addition to the window (0"
                    " to 120; LongLive and Reward Forcing were trained with 3, LiveTalk with 9).",
                ),
                io.Float.Input(
                    "sink_decay",
                    default=DEFAULTS.sink_decay,
                    min=0.0,
                    max=1.0,
                    step=0.001,
                    round=0.001,
                    **ADVANCED,
                    tooltip="Share of the sinks that is kept when a frame leaves the window (0 to 1; 1: they never "
                    "change; Reward Forcing was trained with 0.999).",
                ),
                io.Combo.Input(
                    "rope_positions",
                    options=list(adapters.ROPE_POSITIONS),
                    default=DEFAULTS.rope_positions,
                    **ADVANCED,
                    tooltip="Temporal positions of the frames. absolute: counted from the beginning of the stream. "
                    "window: sinks, window and chunk are counted from 0 for every chunk, for models trained "
                    "that way.",
                ),
                io.String.Input(
                    "timesteps",
                    default="",
                    **ADVANCED,
                    tooltip="Timesteps of the denoising steps, from 1000 down to above 0, such as 1000, 757, 522. "
                    "Used instead of steps and shift. Empty: steps and shift are used.",
                ),
            ],
            outputs=[
                KnotSettings.Output(
                    display_name="settings",
                    tooltip="For the stream nodes, Begin Stream and Driving Preview. Settings that cannot work are "
                    "refused.",
                )
            ],
        )

    @classmethod
    def validate_inputs(
        cls, num_chunk_frames: int | None = None, num_knot_frames: int | None = None,
        num_sink_frames: int | None = None, sink_decay: float | None = None,
        start_from_reference: bool | None = None, timesteps: str | None = None,
    ) -> bool | str:  # fmt: skip
        given = {"num_chunk_frames": num_chunk_frames, "num_knot_frames": num_knot_frames, "sink_decay": sink_decay,
                 "num_sink_frames": num_sink_frames, "start_from_reference": start_from_reference,
                 "timesteps": timesteps}  # fmt: skip
        return valid(cls, lambda: adapters.stream_settings(**given), **given)

    @classmethod
    def execute(cls, timesteps: str, **values: Any) -> io.NodeOutput:
        return io.NodeOutput(adapters.stream_settings(timesteps, **values))


class ModelSettings(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingModelSettings",
            display_name="Knot Forcing Model Settings",
            category=CATEGORY,
            description="The settings that a model was trained for, with some of them changed. Knot Forcing "
            "Settings sets all of them instead.",
            search_aliases=["override settings", "preset", "steps", "window", "first_timesteps", "sampler settings"],
            inputs=[
                KnotModel.Input("model", tooltip="The model whose settings are changed."),
                io.String.Input(
                    "changes",
                    default="",
                    multiline=True,
                    tooltip="One setting per line, such as num_window_frames = 9, steps = 2, use_anchor = off or "
                    "first_timesteps = 1000, 750, 500, 250; lengths in latent frames. Empty: no changes.",
                ),
            ],
            outputs=[
                KnotSettings.Output(
                    display_name="settings",
                    tooltip="For the stream nodes, Begin Stream and Driving Preview. Settings that cannot work are "
                    "refused.",
                ),
                io.String.Output(
                    display_name="text", tooltip="All settings, one per line, in the format of the input."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, changes: str | None = None) -> bool | str:
        return valid(cls, lambda: adapters.parse_changes(changes), changes=changes)

    @classmethod
    def execute(cls, model: adapters.Model, changes: str) -> io.NodeOutput:
        settings = adapters.model_settings(model, changes)
        return io.NodeOutput(settings, adapters.settings_text(settings))
