"""Nodes that say how the portrait moves over time."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .adapters import directing
from .types import ADVANCED, CATEGORY, SEED_RANGE, KnotDriving, KnotModel, node_schema

SEED_TIP = "Seed of the idle motion (any whole number from 0). The same seed gives the same motion."


def speech_inputs() -> list[io.Input]:
    """Widgets that older workflows do not have."""
    return [
        io.Float.Input(
            "gain",
            default=0.0,
            min=-40.0,
            max=40.0,
            step=0.5,
            optional=True,
            tooltip="Gain of the speech that drives the mouth, in dB (-40 to 40): louder speech opens the "
            "mouth wider. The video's sound is not changed.",
        ),
        io.Float.Input(
            "smoothing",
            default=0.0,
            min=0.0,
            max=2.0,
            step=0.04,
            optional=True,
            **ADVANCED,
            tooltip="Time over which the speech is smoothed, in seconds (0 to 2; 0: off). A longer time makes"
            " the mouth calmer. Used by knot-tiny only.",
        ),
        io.Combo.Input(
            "silence",
            options=directing.SILENCE_CHOICES,
            default="same",
            optional=True,
            tooltip="Idle motion in pauses of the speech. same: as while speaking. listen: looks at the "
            "viewer while speaking, and around in pauses. rest: holds still in pauses, except for "
            "blinks and breathing. listen and rest also keep noise in pauses from moving the mouth.",
        ),
        io.Float.Input(
            "silence_level",
            default=-45.0,
            min=-90.0,
            max=0.0,
            step=1.0,
            optional=True,
            **ADVANCED,
            tooltip="Threshold of a pause, in dB of full scale (-90 to 0): sound that stays below it, after "
            "gain, for 0.4 s or longer. Not used with silence: same.",
        ),
    ]


class DrivingFromAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingDrivingFromAudio",
            display_name="Knot Forcing Driving from Audio",
            category=CATEGORY,
            description="Speech drives the mouth; head, eyes and breathing can follow idle motion. LiveTalk, "
            "OmniAvatar and InfiniteTalk take features of the wav2vec2 encoder that they were trained"
            " with, and generate all motion from the speech.",
            search_aliases=[
                "lip sync",
                "lipsync",
                "talking head",
                "speech to face",
                "audio to motion",
                "wav2vec2",
                "voice",
            ],
            inputs=[
                KnotModel.Input("model", tooltip="The model that will be driven."),
                io.Audio.Input("audio", tooltip="Speech: any rate, any number of channels, any length."),
                io.Combo.Input(
                    "pose",
                    options=list(adapters.POSES),
                    default="idle",
                    tooltip="idle: adds procedural blinks, glances, sway and breathing. model: the model generates "
                    "the motion of head and eyes. Used by knot-tiny only.",
                ),
                io.Int.Input("seed", **SEED_RANGE, tooltip=SEED_TIP),
                io.AudioEncoder.Input(
                    "audio_encoder",
                    optional=True,
                    tooltip="The audio encoder, for models that are driven by wav2vec2 features, from Load Audio "
                    "Encoder: wav2vec2-base-960h for LiveTalk and OmniAvatar, chinese-wav2vec2-base for "
                    "InfiniteTalk. knot-tiny takes none.",
                ),
                *speech_inputs(),
            ],
            outputs=[
                KnotDriving.Output(
                    display_name="driving",
                    tooltip="The motion over time, as long as the sound: for the stream nodes and Combine Driving.",
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model: adapters.Model,
        audio: adapters.HostAudio,
        pose: str,
        seed: int,
        audio_encoder: Any = None,
        **options: Any,
    ) -> io.NodeOutput:
        heard = directing.speech_options(**options)
        return io.NodeOutput(adapters.driving_from_audio(model, audio, pose, seed, audio_encoder, heard))


class DrivingFromEncodedAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingDrivingFromEncodedAudio",
            display_name="Knot Forcing Driving from Encoded Audio",
            category=CATEGORY,
            description="Speech drives a model that uses wav2vec2, from features computed beforehand. "
            "ComfyUI computes 50 a second, but the models were trained with one per pixel frame, so "
            "they are resampled here. Driving from Audio with an audio_encoder is exact.",
            search_aliases=["lip sync", "lipsync", "wav2vec2", "audio features", "talking head"],
            inputs=[
                KnotModel.Input("model", tooltip="The model that will be driven."),
                io.AudioEncoderOutput.Input(
                    "audio_encoder_output",
                    tooltip="From Audio Encoder Encode, with the encoder that the model was "
                    "trained with: wav2vec2-base-960h for LiveTalk and OmniAvatar, "
                    "chinese-wav2vec2-base for InfiniteTalk.",
                ),
            ],
            outputs=[
                KnotDriving.Output(
                    display_name="driving", tooltip="The motion over time, as long as the sound: for the stream nodes."
                )
            ],
        )

    @classmethod
    def execute(cls, model: adapters.Model, audio_encoder_output: Any) -> io.NodeOutput:
        return io.NodeOutput(adapters.driving_from_encoded_audio(model, audio_encoder_output))


class DrivingIdle(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingDrivingIdle",
            display_name="Knot Forcing Driving Idle",
            category=CATEGORY,
            description="A listener who blinks, glances, sways and breathes with the mouth closed. It never ends,"
            " so set seconds on the stream node.",
            search_aliases=["listening", "blink", "breathing", "idle loop", "idle animation", "silent avatar"],
            inputs=[io.Int.Input("seed", **SEED_RANGE, tooltip=SEED_TIP)],
            outputs=[
                KnotDriving.Output(
                    display_name="driving", tooltip="Motion without end: set seconds on the stream node."
                )
            ],
        )

    @classmethod
    def execute(cls, seed: int) -> io.NodeOutput:
        return io.NodeOutput(adapters.driving_idle(seed))
