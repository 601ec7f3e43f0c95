"""Nodes for the tests' ComfyUI, in place of encoders whose weights would have to be downloaded."""

from typing import Any

import torch
from comfy.audio_encoders.audio_encoders import AudioEncoderModel


class StandInPrompt:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CONDITIONING",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"seed": ("INT", {"default": 0})}}

    def make(self, seed: int) -> tuple[Any]:
        """As CLIP Text Encode gives one."""
        return ([[torch.randn(1, 9, 4096, generator=torch.Generator().manual_seed(seed)), {}]],)


class StandInAudioEncoder:
    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO_ENCODER",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"embed_dim": ("INT", {}), "num_heads": ("INT", {}), "num_layers": ("INT", {})}}

    def make(self, **sizes: int) -> tuple[Any]:
        """As Audio Encoder Loader gives one, small, with random weights."""
        encoder = AudioEncoderModel({"model_type": "wav2vec2", **sizes, "conv_norm": False, "conv_bias": False,
                                     "do_normalize": False, "do_stable_layer_norm": False})  # fmt: skip
        for parameter in encoder.model.parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        return (encoder,)


NODE_CLASS_MAPPINGS = {"StandInPrompt": StandInPrompt, "StandInAudioEncoder": StandInAudioEncoder}
