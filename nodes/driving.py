"""Nodes that say how the portrait moves over time."""

from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotDriving, KnotModel

SEED_RANGE = {"default": 0, "min": 0, "max": 2**64 - 1}


class DrivingFromAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingDrivingFromAudio",
            display_name="Driving from Audio",
            category=CATEGORY,
            description="Speech drives the mouth. Head, eyes and breathing can move by themselves beside it.",
            inputs=[
                KnotModel.Input("model", tooltip="The model that will be driven."),
                io.Audio.Input("audio", tooltip="Speech: any rate, any number of channels, any length."),
                io.Combo.Input("pose", options=list(adapters.POSES), default="idle",
                               tooltip="idle: blinks, glances, sway and breathing are added by rule. "
                                       "model: the model moves head and eyes as it likes."),
                io.Int.Input("seed", **SEED_RANGE, tooltip="Which idle motion; the same seed moves the same way."),
            ],
            outputs=[KnotDriving.Output(display_name="driving", tooltip="As long as the sound.")],
        )

    @classmethod
    def execute(cls, model: adapters.Model, audio: adapters.HostAudio, pose: str, seed: int) -> io.NodeOutput:
        return io.NodeOutput(adapters.driving_from_audio(model, audio, pose, seed))


class DrivingIdle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingDrivingIdle",
            display_name="Driving Idle",
            category=CATEGORY,
            description="A listener: mouth closed, blinks, glances, sways and breathes. It never ends, so the stream "
                        "must be told its seconds.",
            inputs=[io.Int.Input("seed", **SEED_RANGE, tooltip="Which idle motion; the same seed moves the same way.")],
            outputs=[KnotDriving.Output(display_name="driving", tooltip="Endless.")],
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        return io.NodeOutput(adapters.driving_idle(seed))
