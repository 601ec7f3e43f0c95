"""wav2vec2 as ComfyUI loaded it, as the speech encoder of a driving."""

from typing import Any

import comfy.model_management as host
import torch
from comfy.model_patcher import ModelPatcher
from einops import rearrange
from torch import Tensor

from ...knot_core import KnotError, Model
from ...knot_core.driving import SpeechEncoder
from ...knot_core.driving.wav2vec import at_pixel_frames
from .host_model import HostModel


class HostSpeechEncoder(SpeechEncoder):
    """Its layers run at the video's rate, as portrait networks were trained; ComfyUI's own node runs 50 a second."""

    def __init__(self, encoder: Any, model: Model) -> None:
        network = getattr(encoder, "model", None)
        parts = ("feature_extractor", "feature_projection", "encoder")
        if not all(hasattr(network, part) for part in parts) or network.encoder.do_stable_layer_norm:
            raise KnotError(f"got an audio encoder of {type(network).__name__}, wanted a wav2vec2 base model: choose "
                            f"{model.preset.speech}")  # fmt: skip
        self.network, self._patcher = network, encoder.patcher
        self._beside: tuple[ModelPatcher, ...] = model.patchers if isinstance(model, HostModel) else ()
        self.normalise = True  # base models were trained on sound of mean 0 and variance 1; ComfyUI leaves it as it is
        self.num_layers = len(network.encoder.layers)
        self.hidden_dim = network.encoder.layer_norm.normalized_shape[0]

    @property
    def digest(self) -> str:
        """Tells encoders apart."""
        return str(self._patcher.patches_uuid)

    @torch.no_grad()
    def states(self, samples_S: Tensor, num_pixel_frames: int, places_P: Tensor | None = None) -> Tensor:
        """float32 [P, 1 + L, H] on the CPU: what enters the transformer, then what leaves each of its layers."""
        host.load_models_gpu([self._patcher, *self._beside])
        x = samples_S.to(self._patcher.load_device, torch.float32)[None]
        if self.normalise:
            x = (x - x.mean()) / (x.var(correction=0) + 1e-7).sqrt()
        steps = rearrange(self.network.feature_extractor(x), "b n h -> b h n")
        frames = at_pixel_frames(steps, num_pixel_frames, places_P)
        hidden = self.network.feature_projection(rearrange(frames, "b h p -> b p h"))
        _, states = self.network.encoder(hidden)
        return torch.stack(states, dim=2)[0].float().cpu()
