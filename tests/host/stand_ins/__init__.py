"""Nodes for the tests' ComfyUI, in place of encoders whose weights would have to be downloaded."""

import ctypes
import gc
import zlib
from collections import UserDict
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


class StandInList:
    RETURN_TYPES, OUTPUT_IS_LIST, FUNCTION, CATEGORY = ("IMAGE",), (True,), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"first": ("IMAGE",), "second": ("IMAGE",)}}

    def make(self, first: Any, second: Any) -> tuple[Any]:
        """Two pictures one by one: what comes after runs once for each."""
        return ([first, second],)


class StandInClip:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {}}

    def make(self) -> tuple[Any]:
        """As CLIP Loader gives one, as far as a prompt timeline asks it."""
        return (Encoder(),)


class Encoder:
    """Another text for every prompt."""

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list[Any]:
        rng = torch.Generator().manual_seed(zlib.crc32(tokens.encode()))
        return [[torch.randn(1, 9, 4096, generator=rng), {}]]


class StandInBreakingDriving:
    RETURN_TYPES, FUNCTION, CATEGORY = ("KNOT_FORCING_DRIVING",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"driving": ("KNOT_FORCING_DRIVING",), "latent_frame": ("INT", {})}}

    def make(self, driving: Any, latent_frame: int) -> tuple[Any]:
        """The driving, until a latent frame is asked for that it fails at."""

        class Breaking(type(driving)):
            def signal(self, first_latent: int, num_latents: int) -> torch.Tensor:
                if first_latent + num_latents > latent_frame:
                    raise RuntimeError("the stand-in breaks")
                return super().signal(first_latent, num_latents)

        return (Breaking(**{name: getattr(driving, name) for name in type(driving).__dataclass_fields__}),)


class Anything(str):
    """A type that fits every input, as nodes of other packs have it."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


class StandInWord:
    RETURN_TYPES, FUNCTION, CATEGORY = (Anything("*"),), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"text": ("STRING", {})}}

    def make(self, text: str) -> tuple[str]:
        """A word for an input that is a choice."""
        return (text,)


class StandInSharedMemory:
    RETURN_TYPES, FUNCTION, CATEGORY, INPUT_IS_LIST = ("BOOLEAN",), "look", "tests", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"chunks": ("IMAGE", {}), "whole": ("IMAGE", {})}}

    def look(self, chunks: list[torch.Tensor], whole: list[torch.Tensor]) -> tuple[bool]:
        """Whether the one batch is the list's pictures, and takes no memory of its own."""
        same = torch.equal(torch.cat(chunks), whole[0])
        return (same and all(each.untyped_storage().data_ptr() == whole[0].untyped_storage().data_ptr()
                             for each in chunks),)  # fmt: skip


class StandInSound:
    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO",), "make", "tests"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"kind": ("STRING", {})}}

    def make(self, kind: str) -> tuple[Any]:
        """What nodes of other packs put on a cable of sound."""
        tone = 0.3 * torch.sin(torch.arange(8000) / 9).expand(2, -1)
        made = {
            "none": lambda: None,
            "list": lambda: [tone],
            "array": tone.numpy,
            "no waveform": lambda: {"sample_rate": 16_000},
            "waveform none": lambda: {"waveform": None, "sample_rate": 16_000},
            "batch": lambda: {"waveform": tone.expand(3, 2, -1), "sample_rate": 16_000},
            "samples first": lambda: {"waveform": tone.T[None], "sample_rate": 16_000},
            "rate": lambda: {"waveform": tone[None], "sample_rate": "fast"},
            "nan": lambda: {"waveform": tone[None] * float("nan"), "sample_rate": 16_000},
            "empty": lambda: {"waveform": tone[None, :, :0], "sample_rate": 16_000},
            "usual": lambda: {"waveform": tone[None], "sample_rate": 16_000},
            "two axes": lambda: {"waveform": tone, "sample_rate": 16_000},
            "numpy": lambda: {"waveform": tone[None].numpy(), "sample_rate": 16_000},
            "lists": lambda: {"waveform": tone[None].tolist(), "sample_rate": 16_000},
            "int16": lambda: {"waveform": (tone[None] * 32768).round().short(), "sample_rate": torch.tensor(16_000)},
            "lazy": lambda: UserDict(waveform=tone[None], sample_rate=16_000),
        }
        return (made[kind](),)


class StandInMemory:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "look", "tests", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        return {"required": {"number": ("INT", {})}}

    def look(self, number: int) -> dict[str, Any]:  # noqa: ARG002 - so that it runs again
        """Bytes that the process has allocated and not freed, and Python objects that the collector knows.

        What the system counts beside it is what glibc keeps of freed memory for each thread, which is chance.
        """
        gc.collect()
        info = ctypes.CDLL("libc.so.6").mallinfo2
        info.restype = _MallocInfo
        told = info()
        return {"ui": {"allocated": [told.uordblks + told.hblkhd], "objects": [len(gc.get_objects())]}}


class _MallocInfo(ctypes.Structure):
    """glibc's struct mallinfo2."""

    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
    )]  # fmt: skip


NODE_CLASS_MAPPINGS = {
    kind.__name__: kind
    for kind in (
        StandInPrompt,
        StandInAudioEncoder,
        StandInClip,
        StandInBreakingDriving,
        StandInWord,
        StandInSharedMemory,
        StandInList,
        StandInSound,
        StandInMemory,
    )
}
