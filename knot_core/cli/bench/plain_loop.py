"""The other side of the ratio: a sliding window as one would write it first, without a cache and without a knot.

Shapes: S denoising steps, B batch, F latent frames, C channels, H W latent size.
"""

import torch
from torch import Tensor

from ...attention_cache import NoCache
from ...config import StreamSettings
from ...flow import add_noise, noise_levels, to_x0
from ...stream import Anchor, StreamDriving, StreamModel
from ...stream.denoise import Denoiser, Frames
from ...stream.reference_pictures import ChunkDecoding, References


class PlainLoop:
    """Every step of every chunk runs the network over reference, window and chunk; all frames see all frames.

    Text keys and values are made once here too, and attention goes without a mask: both are in the loop's favour.
    """

    @torch.no_grad()
    def __init__(
        self, model: StreamModel, anchor: Anchor, settings: StreamSettings, driving: StreamDriving, seed: int = 0
    ) -> None:
        self._model, self._settings, self._driving = model, settings, driving
        self._denoiser = Denoiser.of(
            model,
            anchor.conditioning.text_BTD,
            reference_B1CHW=anchor.reference_BFCHW,
            image_BTE=anchor.conditioning.image_BTE,
        )
        self._reference = anchor.reference_BFCHW[:, : int(settings.use_anchor)]
        self._rng = torch.Generator(model.device).manual_seed(seed)
        self._length = settings.num_window_frames + settings.num_sink_frames
        self._window = self._randn(1, self._length)
        self._references, self._shown = References(model.codec), (None, anchor.shown)
        self._memory, self._start = None, self._length
        self._sigmas = noise_levels(settings)

    @torch.no_grad()
    def chunk(self) -> Tensor:
        """Pictures of the next chunk, uint8 [T, H, W, 3] on the CPU."""
        return self.finish(self.denoise())

    @torch.no_grad()
    def finish(self, x0: Tensor) -> Tensor:
        """Decode latents [1, F, C, H, W] to uint8 [T, H, W, 3], and move the window on."""
        decoding = ChunkDecoding(self._references, self._memory, self._shown, x0.shape[1])
        pictures, self._memory = decoding(x0), decoding.memory
        self._window = torch.cat([self._window, x0], dim=1)[:, x0.shape[1] :]
        self._start += x0.shape[1]
        return pictures

    @torch.no_grad()
    def denoise(self) -> Tensor:
        """Clean latents of the chunk's frames, [1, F, C, H, W]."""
        known, num_chunk_frames = torch.cat([self._reference, self._window], dim=1), self._settings.num_chunk_frames
        num_known, num_frames = known.shape[1], known.shape[1] + num_chunk_frames
        rope = self._denoiser.rope(range(num_frames), known.shape[-2:])
        driving = self._denoiser.driving(self._driving.signal(self._start, num_frames)[None], num_frames)
        noise = self._randn(len(self._sigmas), num_chunk_frames)
        x = noise[:1]
        for step, sigma in enumerate(self._sigmas):
            sigma_BF = self._denoiser.layout.frame_sigmas(x.new_full((1, num_frames), sigma), num_known)
            frames = Frames(
                x_BFCHW=torch.cat([known, x], dim=1), sigma_BF=sigma_BF, known_BMCHW=known, rope=rope, driving=driving
            )
            x0 = to_x0(x, self._denoiser.velocity(frames, NoCache())[:, num_known:], sigma)
            if step + 1 < len(self._sigmas):
                x = add_noise(x0, noise[step + 1 : step + 2], self._sigmas[step + 1])
        return x0

    def _randn(self, batch: int, num_frames: int) -> Tensor:
        like = self._reference
        size = (batch, num_frames, *like.shape[2:])
        return torch.randn(size, generator=self._rng, device=like.device, dtype=like.dtype)
