"""Nodes that bring something in: the model, and the pack's own portraits and speech."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .types import ADVANCED, CATEGORY, KnotModel, node_schema

FAMILY_TIP = (
    "The public model family, which sets how the model streams (steps, window, sinks, frame "
    "rate, size). auto: detected from the structure and the file's name; the log says which "
    "family was chosen and why."
)
VAE_TIP = "A Wan 2.1 VAE, which decodes the frames if no tiny decoder is chosen or found. knot-tiny takes none."


class LoadModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingLoadModel",
            display_name="Load Knot Forcing Model",
            category=CATEGORY,
            description="Loads a streaming portrait model. knot-tiny comes with the pack and needs no download. "
            "It also loads Wan2.1 files of the causal families, including those that ComfyUI's own "
            "loader cannot read (.pt files with several sets of weights, LiveTalk's audio modules).",
            search_aliases=[
                "checkpoint loader",
                "knot-tiny",
                "knot-face",
                "Wan",
                "Self-Forcing",
                "CausVid",
                "LongLive",
                "LiveTalk",
                "OmniAvatar",
                "InfiniteTalk",
                "avatar",
                "talking head",
                "real time",
            ],
            inputs=[
                io.Combo.Input(
                    "model_name",
                    options=adapters.model_names(),
                    default=adapters.DEFAULT_MODEL,
                    tooltip="Built in, 25 frames a second: knot-tiny (drawn portraits, 128 x 128 pixels) and, where "
                    "the pack brings its weights, knot-face (photos, 256 x 256). Other files are taken from "
                    "ComfyUI's models/diffusion_models folder.",
                ),
                io.Combo.Input(
                    "codec",
                    options=adapters.codec_names(adapters.OWN_CODEC),
                    default=adapters.OWN_CODEC,
                    **ADVANCED,
                    tooltip="The video decoder. the model's own: for knot-tiny its codec; for a Wan model a tiny "
                    "decoder (taew2_1) if models/vae_approx has one, else the connected vae. vae: the "
                    "connected VAE. Or a file in models/vae_approx.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(adapters.DTYPES),
                    default="auto",
                    **ADVANCED,
                    tooltip="Data type of the network's computation. auto: bfloat16 where the device supports it "
                    "natively, else float32; for a Wan model ComfyUI's choice.",
                ),
                io.Combo.Input(
                    "family", options=adapters.FAMILIES, default=adapters.AUTO, tooltip=FAMILY_TIP, **ADVANCED
                ),
                io.Combo.Input(
                    "lora_name",
                    options=adapters.lora_names(),
                    default=adapters.NONE,
                    **ADVANCED,
                    tooltip="LoRA from ComfyUI's models/loras folder, including formats that Load LoRA does not read,"
                    " such as LongLive's lora.pt. For more than one, connect wan_model to Load LoRA, and that"
                    " to Knot Forcing from MODEL.",
                ),
                io.Float.Input(
                    "lora_strength",
                    default=1.0,
                    min=-100.0,
                    max=100.0,
                    step=0.01,
                    **ADVANCED,
                    tooltip="Strength of the LoRA (-100 to 100, no unit; 1: as trained).",
                ),
                io.Vae.Input("vae", optional=True, tooltip=VAE_TIP),
                io.Combo.Input(
                    "weights",
                    options=adapters.WEIGHTS,
                    default=adapters.AUTO,
                    optional=True,
                    **ADVANCED,
                    tooltip="The set of weights to load from a training checkpoint that holds several. auto: the one "
                    "that its family uses. generator_ema: the average over the training. generator: the final"
                    " weights.",
                ),
                io.Int.Input(
                    "threads",
                    default=0,
                    min=0,
                    max=256,
                    optional=True,
                    **ADVANCED,
                    tooltip="CPU threads per operation, for knot-tiny on a CPU (0 to 256). 0: chosen by its size: 1, "
                    "with generating, decoding and writing in parallel. Another number changes the frames of "
                    "a seed by rounding errors.",
                ),
            ],
            outputs=[
                KnotModel.Output(
                    display_name="model",
                    tooltip="Network and codec, on ComfyUI's device: for Encode "
                    "Reference Anchor, the Driving and stream nodes.",
                ),
                io.Model.Output(
                    display_name="wan_model",
                    tooltip="The network of a Wan file for ComfyUI's own nodes, such as Load LoRA; it includes its "
                    "audio modules. knot-tiny has none.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, model_name: str, codec: str, lora_name: str, **_: object) -> str:
        return adapters.model_fingerprint(model_name, codec, lora_name)

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        model_name: str,
        codec: str,
        dtype: str,
        family: str,
        lora_name: str,
        lora_strength: float,
        vae: Any = None,
        weights: str = adapters.AUTO,
        threads: int = 0,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *adapters.open_model(model_name, codec, dtype, family, lora_name, lora_strength, vae, weights, threads)
        )


class FromModel(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingFromModel",
            display_name="Knot Forcing from MODEL",
            category=CATEGORY,
            description="Streams with a Wan2.1 MODEL as ComfyUI loaded it: fp8, GGUF, LoRAs applied, partly "
            "offloaded. ComfyUI keeps managing the weights. Guidance, samplers and patches of other "
            "nodes are not used.",
            search_aliases=[
                "Wan",
                "GGUF",
                "fp8",
                "LoRA",
                "quantized",
                "Self-Forcing",
                "model converter",
                "diffusion model",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="A plain Wan2.1 network (text or image to video, 1.3B or 14B): from "
                    "Load Diffusion Model, a GGUF loader, Load LoRA.",
                ),
                io.Combo.Input("family", options=adapters.FAMILIES, default=adapters.AUTO, tooltip=FAMILY_TIP),
                io.Combo.Input(
                    "codec",
                    options=adapters.codec_names(adapters.AUTO),
                    default=adapters.AUTO,
                    **ADVANCED,
                    tooltip="The video decoder. auto: a tiny, fast decoder (taew2_1) if models/vae_approx has one, "
                    "else the connected vae. vae: the connected VAE. Or a file in models/vae_approx.",
                ),
                io.Combo.Input(
                    "audio_modules",
                    options=adapters.audio_module_names(),
                    default=adapters.NONE,
                    **ADVANCED,
                    tooltip="File in models/diffusion_models to take audio modules from (LiveTalk's, OmniAvatar's, "
                    "InfiniteTalk's), which ComfyUI's own loader leaves out. none: the modules that Load Knot"
                    " Forcing Model attached to the MODEL, if any.",
                ),
                io.Vae.Input("vae", optional=True, tooltip=VAE_TIP),
            ],
            outputs=[
                KnotModel.Output(
                    display_name="model", tooltip="The same network, ready to stream: as from Load Knot Forcing Model."
                )
            ],
        )

    @classmethod
    def execute(cls, model: Any, family: str, codec: str, audio_modules: str, vae: Any = None) -> io.NodeOutput:
        return io.NodeOutput(adapters.model_from_host(model, family, codec, audio_modules, vae))


class SamplePortrait(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingSamplePortrait",
            display_name="Knot Forcing Sample Portrait",
            category=f"{CATEGORY}/samples",
            description="A portrait that comes with the pack. Use Load Image for your own.",
            search_aliases=["example image", "demo portrait", "test face"],
            inputs=[
                io.Combo.Input("portrait", options=adapters.portrait_names(), tooltip="One of the pack's portraits."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="One picture: for Encode Reference Anchor.")],
        )

    @classmethod
    def execute(cls, portrait: str) -> io.NodeOutput:
        return io.NodeOutput(adapters.sample_portrait(portrait))


class SampleSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingSampleSpeech",
            display_name="Knot Forcing Sample Speech",
            category=f"{CATEGORY}/samples",
            description="A speech recording that comes with the pack. Use Load Audio for your own.",
            search_aliases=["example audio", "demo voice", "test speech"],
            inputs=[
                io.Combo.Input("speech", options=adapters.speech_names(), tooltip="One of the pack's recordings."),
            ],
            outputs=[
                io.Audio.Output(
                    display_name="audio",
                    tooltip="The recording, as it is in the file: for Driving from Audio, and as the video's sound.",
                )
            ],
        )

    @classmethod
    def execute(cls, speech: str) -> io.NodeOutput:
        return io.NodeOutput(adapters.sample_speech(speech))
