"""A prompt as Wan networks read it: 512 UMT5 features, zero where there is no text.

In ComfyUI the stock text encoder nodes do this; here it is for stand-alone use.

Shapes: B batch (of one), T = 512 tokens, D text dim (4096 of UMT5-XXL).
"""

import html
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from .errors import CheckpointError, SettingsError
from .files import read_settings, without_mark
from .wan.reading import UNREADABLE, reason

logger = logging.getLogger(__name__)

NUM_TEXT_TOKENS = 512  # that Wan's networks were trained with
_PARTS = ("text_encoder", "tokenizer")  # folders within a pipeline that diffusers saved


class TextEncoder:
    """A `transformers.UMT5EncoderModel` with its tokenizer."""

    def __init__(self, network: nn.Module, tokenizer: Any) -> None:
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = tokenizer

    @torch.no_grad()
    def encode(self, prompt: str) -> Tensor:
        """The tokens of a prompt, float32 [1, 512, D] on the CPU; an empty prompt is its end token alone.

        Raises:
            CheckpointError: the encoder gives values that are not finite.
        """
        tokens = self.tokenizer(cleaned(prompt), add_special_tokens=True, return_tensors="pt").input_ids
        if tokens.shape[1] > NUM_TEXT_TOKENS:
            logger.warning("the prompt has %d tokens: the first %d are used", tokens.shape[1], NUM_TEXT_TOKENS)
            tokens = tokens[:, :NUM_TEXT_TOKENS]
        device = next(self.network.parameters()).device
        features_BTD = self.network(tokens.to(device), torch.ones_like(tokens, device=device)).last_hidden_state
        if not features_BTD.isfinite().all():
            raise CheckpointError("the text encoder gives values that are not finite (NaN or infinite); download it "
                                  "again, or load it in bfloat16")  # fmt: skip
        # without the padding, which the text would not look at, the encoder's work is that of the text alone
        return padded(features_BTD.cpu())


def padded(text_BTD: Tensor) -> Tensor:
    """[B, any number, D] -> float32 [B, 512, D]: cut there, zero where there is no text."""
    text_BTD = text_BTD[:, :NUM_TEXT_TOKENS].float()
    return pad(text_BTD, (0, 0, 0, NUM_TEXT_TOKENS - text_BTD.shape[1]))


def load_text_encoder(
    folder: str | os.PathLike[str], device: str | torch.device = "cpu", dtype: torch.dtype = torch.bfloat16
) -> TextEncoder:
    """Load UMT5 and its tokenizer from a folder on this machine; nothing is downloaded.

    The folder is one that transformers saved, or a pipeline of diffusers with `text_encoder` and `tokenizer`, such as
    Wan2.1-T2V-1.3B-Diffusers.

    Raises:
        CheckpointError: the folder holds no text encoder or tokenizer that loads.
        SettingsError: transformers is not installed.
    """
    encoder, tokenizer = _folders(Path(folder))
    network = _network(encoder, dtype).to(device)
    try:
        reader = _transformers().AutoTokenizer.from_pretrained(
            tokenizer, local_files_only=True, trust_remote_code=False
        )
    except UNREADABLE as problem:
        raise _no_encoder(tokenizer, f"its tokenizer does not load: {reason(problem)}") from problem
    return TextEncoder(network, reader)


def _network(folder: Path, dtype: torch.dtype) -> nn.Module:
    transformers = _transformers()
    kind = "dtype" if int(transformers.__version__.partition(".")[0]) >= 5 else "torch_dtype"
    try:
        # read here, since transformers takes it in UTF-8 without a byte order mark alone
        config = transformers.UMT5Config.from_dict(read_settings(folder / "config.json"))
        network, found = transformers.UMT5EncoderModel.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, **{kind: dtype}
        )
    except UNREADABLE as problem:
        raise _no_encoder(folder, reason(problem)) from problem
    missing = sorted(set(found["missing_keys"]) - {"encoder.embed_tokens.weight"})  # that one is `shared.weight`
    if missing:  # which transformers would fill with random numbers
        raise _no_encoder(folder, f"{missing[0]} is missing")
    return network


def _no_encoder(folder: Path, why: str) -> CheckpointError:
    return CheckpointError(
        f"{folder} holds no UMT5 text encoder that loads ({why}); give a folder with config.json, weights and "
        "tokenizer, such as that of Wan2.1-T2V-1.3B-Diffusers"
    )


def cleaned(prompt: str) -> str:
    """The text as Wan cleans it: web escapes resolved (twice: they come doubled), white space single."""
    return re.sub(r"\s+", " ", html.unescape(html.unescape(without_mark(prompt)))).strip()


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as problem:
        raise SettingsError(
            f"encoding a prompt needs transformers, which does not import ({problem}); pip install transformers"
        ) from problem
    return transformers


def _folders(folder: Path) -> tuple[Path, Path]:
    if (folder / "config.json").is_file():
        return folder, folder
    parts = tuple(folder / part for part in _PARTS)
    if not all(part.is_dir() for part in parts):
        raise CheckpointError(
            f"the text encoder's folder {folder} holds neither config.json nor {' and '.join(_PARTS)}; give one that "
            "transformers or diffusers saved"
        )
    return parts
