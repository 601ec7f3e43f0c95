"""wav2vec2 features as LiveTalk, OmniAvatar and InfiniteTalk use them: one vector of all layers per pixel frame.

All of them stretch the output of wav2vec2's convolutions to one vector a pixel frame before the transformer, so its
layers run at the video's rate: 16 or 25 frames a second, not 50. Base models only (facebook/wav2vec2-base-960h,
TencentGameMate/chinese-wav2vec2-base).

Shapes: S samples at 16 kHz, N convolution steps (about 50 a second), P pixel frames, L layers, H hidden dim.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as fn
from torch import Tensor, nn

from ..errors import CheckpointError, DrivingError, SettingsError
from ..files import read_settings
from ..wan.reading import UNREADABLE, read_stored, reason

_HEAD_DIM = 64  # of every wav2vec2
_PREFIX = "wav2vec2."
_OLD_NAMES = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
_UNUSED = {"masked_spec_embed"}  # is for training alone
_SAMPLED = 64  # numbers looked at per tensor to tell two encoders apart


class SpeechEncoder:
    """A `transformers.Wav2Vec2Model` and how its input is prepared. Nothing in it changes: drivings may share it."""

    def __init__(self, network: nn.Module, *, normalise: bool = True) -> None:
        """Take a base model; `normalise` scales the input to mean 0 and variance 1.

        Raises:
            CheckpointError: the network has the structure of the large wav2vec2 models.
        """
        config = network.config
        if config.feat_extract_norm != "group" or config.do_stable_layer_norm:
            raise CheckpointError(
                f"this wav2vec2 has hidden size {config.hidden_size} and the structure of the large models; portrait "
                "networks here take features of base models, such as wav2vec2-base-960h"
            )
        self.network = network.eval().requires_grad_(False)
        self.normalise = normalise
        self.num_layers: int = config.num_hidden_layers
        self.hidden_dim: int = config.hidden_size

    @torch.no_grad()
    def states(self, samples_S: Tensor, num_pixel_frames: int, places_P: Tensor | None = None) -> Tensor:
        """float32 [P, 1 + L, H] on the CPU: what enters the transformer, then what leaves each of its layers.

        All of the sound is seen at once: this is the model as it was trained, whole. Its convolution steps are spread
        evenly over the pixel frames, first on first and last on last (linear, `align_corners`); or each pixel frame
        stands at its `places` among them (float64, from 0 on).

        Raises:
            CheckpointError: the encoder gives values that are not finite.
        """
        weight = next(self.network.parameters())
        x = samples_S.to(weight.device, weight.dtype)[None]
        if self.normalise:
            x = (x - x.mean()) / (x.var(correction=0) + 1e-7).sqrt()
        steps = self.network.feature_extractor(x)
        frames = at_pixel_frames(steps, num_pixel_frames, places_P)
        hidden, _ = self.network.feature_projection(frames.transpose(1, 2))
        encoder = self.network.encoder
        hidden = encoder.layer_norm(hidden + encoder.pos_conv_embed(hidden))
        states = [hidden]
        for layer in encoder.layers:
            left = layer(states[-1])
            states.append(left if isinstance(left, Tensor) else left[0])  # older transformers give a tuple
        found = torch.stack(states, dim=2)[0].float().cpu()
        if not found.isfinite().all():
            raise CheckpointError("the speech encoder gives values that are not finite (NaN or infinite); download it "
                                  "again")  # fmt: skip
        return found

    @cached_property
    def digest(self) -> str:
        """Tells encoders apart: sizes, and some numbers of every tensor."""
        found = hashlib.sha256(f"{self.num_layers} {self.hidden_dim} {self.normalise}".encode())
        for name, tensor in self.network.state_dict().items():
            flat = tensor.detach().reshape(-1)
            some = flat[:: max(1, flat.numel() // _SAMPLED)].float().cpu()
            found.update(f"{name} {tuple(tensor.shape)}".encode() + some.numpy().tobytes())
        return found.hexdigest()


def at_pixel_frames(steps_BHN: Tensor, num_pixel_frames: int, places_P: Tensor | None = None) -> Tensor:
    """[B, H, N] -> [B, H, P], linear between steps; `places`: see `SpeechEncoder.states`."""
    if places_P is None:
        return fn.interpolate(steps_BHN, size=num_pixel_frames, mode="linear", align_corners=True)
    last = steps_BHN.shape[-1] - 1
    low = places_P.floor().long().clamp(0, last)
    weight = (places_P - low).to(steps_BHN)
    return torch.lerp(steps_BHN[..., low], steps_BHN[..., (low + 1).clamp(max=last)], weight)


def load_speech_encoder(path: str | os.PathLike[str], device: str | torch.device = "cpu") -> SpeechEncoder:
    """Load wav2vec2 from a folder saved by transformers, or from a weights file; nothing is downloaded.

    Raises:
        CheckpointError: the path holds no wav2vec2 base model that loads.
        DrivingError: transformers is not installed.
    """
    path = Path(path)
    if path.is_dir():
        network, normalise = _from_folder(path), _folder_normalises(path)
    else:
        network, normalise = _from_file(path), True
    return SpeechEncoder(network.to(device, torch.float32), normalise=normalise)


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as problem:
        raise DrivingError(
            f"wav2vec2 needs transformers, which does not import ({problem}); pip install transformers"
        ) from problem
    return transformers


def _from_folder(folder: Path) -> nn.Module:
    if not (folder / "config.json").is_file():
        raise CheckpointError(
            f"the folder {folder} holds no config.json; give a folder of wav2vec2-base-960h, or its weights file"
        )
    transformers = _transformers()
    try:
        # read here, since transformers takes it in UTF-8 without a byte order mark alone
        config = transformers.Wav2Vec2Config.from_dict(read_settings(folder / "config.json"))
        network, info = transformers.Wav2Vec2Model.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True
        )
    except UNREADABLE as problem:
        why = reason(problem)
        raise CheckpointError(f"{folder} holds no wav2vec2 that loads ({why}); download it again") from problem
    missing = sorted(set(info["missing_keys"]) - _UNUSED)
    if missing:  # which transformers would fill with random numbers
        raise CheckpointError(f"{folder} holds no wav2vec2: {missing[0]} is missing; download it again")
    return network


def _folder_normalises(folder: Path) -> bool:
    """Whether the sound is brought to mean 0 and variance 1 first; transformers' default is that it is."""
    try:
        return bool(read_settings(folder / "preprocessor_config.json").get("do_normalize", True))
    except SettingsError:
        return True


def _from_file(path: Path) -> nn.Module:
    tensors = {_current_name(name): tensor for name, tensor in read_stored(path, header_only=False).tensors.items()}
    transformers = _transformers()
    try:
        network = transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**_sizes(tensors)))
    except KeyError as problem:
        raise CheckpointError(f"{path} is no wav2vec2: it has no {problem}; give wav2vec2-base-960h") from problem
    except (IndexError, ValueError, RuntimeError) as problem:
        raise CheckpointError(f"{path} is no wav2vec2: its tensors have other shapes; give wav2vec2-base-960h"
                              ) from problem  # fmt: skip
    wanted = network.state_dict()
    missing = sorted(set(wanted) - set(tensors) - _UNUSED)
    wrong = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    if missing or wrong:
        raise CheckpointError(
            f"{path} is no wav2vec2 base model: {(missing + wrong)[0]} is missing or of another shape; "
            "give wav2vec2-base-960h or chinese-wav2vec2-base"
        )
    network.load_state_dict({name: tensors.get(name, default) for name, default in wanted.items()})
    return network


def _current_name(name: str) -> str:
    name = name.removeprefix(_PREFIX)
    stem, _, last = name.rpartition(".")
    return f"{stem}.{_OLD_NAMES[last]}" if last in _OLD_NAMES else name


def _sizes(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Settings of a `Wav2Vec2Config`, from the tensors' shapes; the rest is as in every base model."""
    hidden = tensors["encoder.layer_norm.weight"].shape[0]
    position = tensors["encoder.pos_conv_embed.conv.parametrizations.weight.original1"].shape
    convolutions = [tensors[f"feature_extractor.conv_layers.{i}.conv.weight"].shape for i in range(7)]
    layers = [int(found[1]) for name in tensors if (found := re.match(r"encoder\.layers\.(\d+)\.", name))]
    return {
        "hidden_size": hidden,
        "num_hidden_layers": 1 + max(layers, default=-1),
        "num_attention_heads": max(1, hidden // _HEAD_DIM),
        "intermediate_size": tensors["encoder.layers.0.feed_forward.intermediate_dense.weight"].shape[0],
        "conv_dim": tuple(shape[0] for shape in convolutions),
        "conv_kernel": tuple(shape[2] for shape in convolutions),
        "num_conv_pos_embeddings": position[2],
        "num_conv_pos_embedding_groups": hidden // position[1],
        "feat_extract_norm": "layer" if "feature_extractor.conv_layers.1.layer_norm.weight" in tensors else "group",
    }
