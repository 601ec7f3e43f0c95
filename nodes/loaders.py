"""Nodes that bring something in: the model, and the pack's own portraits and speech."""

from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotModel


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingLoadModel",
            display_name="Load Knot Forcing Model",
            category=CATEGORY,
            description="Loads a streaming portrait model. knot-tiny comes with the pack and needs no download.",
            inputs=[
                io.Combo.Input("model_name", options=adapters.model_names(), default=adapters.BUILT_IN_MODEL,
                               tooltip="knot-tiny is built in (128 x 128 pixels, 25 frames a second). Other files are "
                                       "taken from ComfyUI's models/diffusion_models folder."),
                io.Combo.Input("codec", options=adapters.codec_names(), default=adapters.OWN_CODEC,
                               tooltip="Tiny video autoencoder (TAEHV structure) for a model that brings none, such as "
                                       "taew2_1 for Wan2.1; from ComfyUI's models/vae_approx folder."),
                io.Combo.Input("dtype", options=list(adapters.DTYPES), default="auto",
                               tooltip="Number format of the network's arithmetic. auto: bfloat16 where the device "
                                       "computes it natively, else float32."),
            ],
            outputs=[KnotModel.Output(display_name="model", tooltip="Network and codec, on ComfyUI's device.")],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str, codec: str, **_: str) -> str:
        return adapters.model_fingerprint(model_name, codec)

    @classmethod
    def execute(cls, model_name: str, codec: str, dtype: str) -> io.NodeOutput:
        return io.NodeOutput(adapters.open_model(model_name, codec, dtype))


class SamplePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingSamplePortrait",
            display_name="Knot Forcing Sample Portrait",
            category=f"{CATEGORY}/samples",
            description="A portrait that comes with the pack. Use Load Image for your own.",
            inputs=[
                io.Combo.Input("portrait", options=adapters.portrait_names(), tooltip="One of the pack's portraits."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One picture.")],
        )

    @classmethod
    def execute(cls, portrait: str) -> io.NodeOutput:
        return io.NodeOutput(adapters.sample_portrait(portrait))


class SampleSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingSampleSpeech",
            display_name="Knot Forcing Sample Speech",
            category=f"{CATEGORY}/samples",
            description="A speech recording that comes with the pack. Use Load Audio for your own.",
            inputs=[
                io.Combo.Input("speech", options=adapters.speech_names(), tooltip="One of the pack's recordings."),
            ],
            outputs=[io.Audio.Output(display_name="audio", tooltip="The recording, as it is in the file.")],
        )

    @classmethod
    def execute(cls, speech: str) -> io.NodeOutput:
        return io.NodeOutput(adapters.sample_speech(speech))
