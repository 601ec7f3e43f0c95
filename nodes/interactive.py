"""The node that is talked to while it streams."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .adapters.live_runs import LONGEST, LiveInputs, run_live
from .output import shown, video_of
from .sampling import SEED_TIP, run_outputs, settings_input
from .types import ADVANCED, CATEGORY, SEED_RANGE, KnotAnchor, KnotDriving, KnotModel, node_schema
from .widget_checks import valid


class Live(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingLive",
            display_name="Knot Forcing Live",
            category=CATEGORY,
            description="A live session in the node: talk to the portrait, move it and let it speak while it streams. "
            "It runs until you press Finish, or its longest time is over; the queue waits meanwhile. What was "
            "shown is recorded into ComfyUI's output folder.",
            search_aliases=[
                "interactive",
                "real time",
                "microphone",
                "webcam",
                "avatar",
                "puppet",
                "conversation",
                "text to speech",
                "VTuber",
                "talking head",
            ],
            inputs=[
                KnotModel.Input("model", tooltip="From Load Knot Forcing Model, or Knot Forcing from MODEL."),
                KnotAnchor.Input(
                    "anchor", tooltip="The subject: from Encode Reference Anchor, made with the same model."
                ),
                io.Int.Input("seed", **SEED_RANGE, control_after_generate=True, tooltip=SEED_TIP),
                io.Float.Input(
                    "longest",
                    default=0.0,
                    min=0.0,
                    max=LONGEST,
                    step=1.0,
                    tooltip="Seconds after which the session ends by itself (0 to 3600). 0: when you press Finish, and "
                    "after an hour at the latest.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="video/knot_forcing_live",
                    tooltip="Sub-folder and start of the recording's name in ComfyUI's output folder; a number is "
                    "added.",
                ),
                settings_input(),
                KnotDriving.Input(
                    "driving",
                    optional=True,
                    tooltip="How it moves where you do not move it: from a driving node of controls, such as "
                    "Expression Timeline, which can be edited meanwhile. Not connected: it idles.",
                ),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip="wav2vec2 from Load Audio Encoder, for models that hear through it. knot-tiny needs none.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The model's text encoder, so that the prompt can be typed in meanwhile. For models that "
                    "take text; knot-tiny takes none.",
                ),
                io.Combo.Input(
                    "video_format",
                    options=list(adapters.FORMAT_NAMES),
                    default=adapters.FORMAT_NAMES[0],
                    optional=True,
                    tooltip="Of the recording, as in Stream to Video. h264-mp4 plays everywhere.",
                ),
                io.Combo.Input(
                    "if_stopped",
                    options=list(adapters.KEEPING),
                    default=adapters.KEEPING[0],
                    optional=True,
                    **ADVANCED,
                    tooltip="Where a session leaves its state when it ends: one file in output/states, which the next "
                    "one replaces; a file of its own there; or nowhere. in temp means the one file.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The recording: what was shown, with its sound."),
                *run_outputs(),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, longest: float | None = None, filename_prefix: str | None = None) -> bool | str:
        length = valid(cls, lambda: adapters.check_seconds(longest), longest=longest)
        named = valid(cls, lambda: adapters.check_prefix(filename_prefix), filename_prefix=filename_prefix)
        return named if length is True else length

    @classmethod
    def fingerprint_inputs(cls, **_inputs: object) -> float:
        """Never the same: what somebody did is not to be had from a cache."""
        return float("nan")

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        model: adapters.Model,
        anchor: adapters.Anchor,
        seed: int,
        longest: float,
        filename_prefix: str,
        settings: adapters.StreamSettings | None = None,
        driving: adapters.Driving | None = None,
        audio_encoder: Any = None,
        clip: Any = None,
        video_format: str = adapters.FORMAT_NAMES[0],
        if_stopped: str = adapters.KEEPING[0],
    ) -> io.NodeOutput:
        begun = adapters.begin(model, anchor, settings, seed)
        target = adapters.output_target(filename_prefix, video_format, begun, cls.hidden)
        inputs = LiveInputs(
            model=model, begun=begun, own_settings=settings is None, driving=driving, seed=seed, seconds=longest,
            clip=clip, audio_encoder=audio_encoder, hidden=cls.hidden,
        )  # fmt: skip
        written = run_live(inputs, target.path, video_format, if_stopped)
        return io.NodeOutput(video_of(written), written.state, written.stats, ui=shown(written, target.subfolder))
