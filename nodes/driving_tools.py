"""Tools around drivings: timelines, pose from a video, two drivings combined, and a plot of one."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .adapters import directing
from .types import ADVANCED, CATEGORY, KnotAnchor, KnotDriving, KnotSettings, node_schema
from .widget_checks import valid

EXPRESSION = """{
  "seconds": 8,
  "loop": true,
  "yaw": [[0, 0], [2, 0.5, "out"], [4, -0.4], [8, 0]],
  "brow": [[0, 0], [1.5, 0.8, "hold"], [3, 0]]
}"""


class ExpressionTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingExpressionTimeline",
            display_name="Knot Forcing Expression Timeline",
            category=CATEGORY,
            description="Key frames for head, eyes and mouth, drawn as curves or written as text: each control "
            "has a list of [seconds, value, ease]. Combine Driving leaves controls that are not "
            "listed unchanged.",
            search_aliases=[
                "keyframes",
                "key frames",
                "animation curve",
                "head pose",
                "facial expression",
                "blend shapes",
                "gaze",
                "emotion",
            ],
            inputs=[
                io.String.Input(
                    "timeline",
                    multiline=True,
                    default=EXPRESSION,
                    tooltip="JSON. Controls: yaw, pitch, roll, gaze, brow, mouth_wide (-1 to 1), blink, mouth_open (0"
                    " to 1). Times in seconds. Ease, the interpolation to the next key: in-out (default), "
                    "linear, in, out, hold. Also: seconds (the length), loop (true: endless).",
                ),
            ],
            outputs=[
                KnotDriving.Output(
                    display_name="driving",
                    tooltip="The motion over time, as long as the timeline; endless if it loops.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, timeline: str | None = None) -> bool | str:
        return valid(cls, lambda: directing.expression_timeline(timeline), timeline=timeline)

    @classmethod
    def execute(cls, timeline: str) -> io.NodeOutput:
        return io.NodeOutput(directing.expression_timeline(timeline))


class PoseFromVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingPoseFromVideo",
            display_name="Knot Forcing Pose from Video",
            category=CATEGORY,
            description="Head, eyes and brows of a person in a video drive the portrait. Requires the package "
            "mediapipe; without it, this node says how to install it.",
            search_aliases=[
                "face tracking",
                "motion transfer",
                "driving video",
                "face landmarks",
                "mediapipe",
                "reenactment",
                "LivePortrait",
            ],
            inputs=[
                io.Video.Input("video", tooltip="A clip of one face from the front, any size and frame rate."),
                io.Boolean.Input(
                    "mouth",
                    default=False,
                    tooltip="On: the mouth follows the clip, too. Off: the mouth is left to speech.",
                ),
                io.Float.Input(
                    "smoothing",
                    default=0.12,
                    min=0.0,
                    max=2.0,
                    step=0.04,
                    **ADVANCED,
                    tooltip="Time over which the measured motion is smoothed, in seconds (0 to 2; 0: off).",
                ),
            ],
            outputs=[
                KnotDriving.Output(
                    display_name="driving",
                    tooltip="The motion over time, as long as the clip: for Combine Driving or the stream nodes.",
                )
            ],
        )

    @classmethod
    def execute(cls, video: Any, mouth: bool, smoothing: float) -> io.NodeOutput:
        return io.NodeOutput(directing.pose_from_video(video, mouth, smoothing))


def weight_input(name: str, default: float, what: str) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.0,
        max=1.0,
        step=0.05,
        tooltip=f"Share of the second driving's {what} (0: none, 1: all).",
    )


class CombineDriving(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingCombineDriving",
            display_name="Knot Forcing Combine Driving",
            category=CATEGORY,
            description="Combines two drivings, for example speech for the mouth from the first with head and "
            "eyes from the second, in any proportion. Controls that the second does not set are taken"
            " from the first.",
            search_aliases=["mix motion", "blend motion", "merge driving", "hybrid", "layer animation"],
            inputs=[
                KnotDriving.Input(
                    "first", tooltip="Its speech is used, and its length is the result's unless it is endless."
                ),
                KnotDriving.Input("second", tooltip="Applied over the first, by the weights below."),
                io.Combo.Input(
                    "mode",
                    options=list(directing.MODES),
                    default="blend",
                    tooltip="blend: interpolates from the first's motion to the second's. add: adds the second's "
                    "motion to the first's, so that idle motion continues.",
                ),
                weight_input("head", 1.0, "yaw, pitch and roll"),
                weight_input("eyes", 1.0, "blinks and gaze"),
                weight_input("brow", 1.0, "brows"),
                weight_input("mouth", 0.0, "mouth"),
                io.Boolean.Input(
                    "endless",
                    default=False,
                    tooltip="On: the driving never ends, and the stream node's seconds set the length.",
                ),
            ],
            outputs=[
                KnotDriving.Output(
                    display_name="driving",
                    tooltip="The combined driving. Its length is the first's, or the second's if the first has no end.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, first: adapters.Driving, second: adapters.Driving, mode: str, endless: bool, **weights: float
    ) -> io.NodeOutput:
        return io.NodeOutput(directing.combine_drivings(first, second, mode, endless, **weights))


class DrivingPreview(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingDrivingPreview",
            display_name="Knot Forcing Driving Preview",
            category=CATEGORY,
            description="Plots a driving over time: the speech, a curve for each control, prompts, and where "
            "chunks begin. It runs no model, so it is fast.",
            search_aliases=["plot", "graph", "curves", "waveform", "spectrogram", "visualize motion"],
            inputs=[
                KnotDriving.Input("driving", tooltip="From any Driving node."),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.04,
                    tooltip="Start of the plot, in seconds (0 to 86400).",
                ),
                io.Float.Input(
                    "seconds",
                    default=0.0,
                    min=0.0,
                    max=3600.0,
                    step=0.04,
                    tooltip="Length of the plot, in seconds (0 to 3600). 0: the whole driving, or 10 s of an endless "
                    "one.",
                ),
                io.Int.Input(
                    "width",
                    default=960,
                    min=320,
                    max=4096,
                    step=16,
                    **ADVANCED,
                    tooltip="Width of the picture in pixels (320 to 4096).",
                ),
                KnotAnchor.Input("anchor", optional=True, tooltip="From Prompt Timeline: its prompts are shown too."),
                KnotSettings.Input(
                    "settings",
                    optional=True,
                    tooltip="The stream's settings, for the length of a chunk. Not connected: 3 latent frames, 0.48 s.",
                ),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One picture, for Preview Image.")],
        )

    @classmethod
    def execute(
        cls,
        driving: adapters.Driving,
        start: float,
        seconds: float,
        width: int,
        anchor: adapters.Anchor | None = None,
        settings: adapters.StreamSettings | None = None,
    ) -> io.NodeOutput:
        return io.NodeOutput(directing.preview_driving(driving, anchor, settings, start, seconds, width))
