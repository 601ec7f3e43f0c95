"""A model ready to stream: network, codec and how to use them.

Shapes: B batch, F latent frames, T pixel frames, C channels, H W height and width.
"""

import logging
from dataclasses import dataclass
from functools import cached_property

import torch
from einops import rearrange
from torch import Tensor, nn

from .config import Adapter, NetworkConfig, StreamSettings
from .errors import SettingsError
from .geometry import TEMPORAL, latent_size
from .media import Fit, fit_image
from .media.reference_landmarks import NUMBERS as LANDMARK_NUMBERS
from .media.reference_landmarks import find_landmarks
from .stream import Anchor, StreamCodec, encode_latent_anchor
from .stream.decode import to_uint8
from .stream.reference_check import GOOD_ENOUGH, Cloud, draw_reference, measure
from .stream.reference_pictures import MOST_DETAIL
from .stream.stream_model import num_points, spatial_of, wants_reference
from .stream.thread_choice import choose_threads
from .wan.memory import MemoryNeed, memory_needed
from .wan.preset import Preset

logger = logging.getLogger(__name__)

# Latent frames of grey pictures behind a reference. Those after them are as the last: the Wan VAE's encoder sees no
# further back. A test says how exact that is.
NUM_GREY_LATENTS = 28


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """A loaded model: network, codec and settings. It is immutable, so streams can share it."""

    network: nn.Module
    codec: StreamCodec
    config: NetworkConfig
    preset: Preset
    device: torch.device
    dtype: torch.dtype  # of the network's matrices and attention
    threads: int | None = None  # inside operations; None: whoever opens a stream chooses
    good_references: Cloud | None = None  # measured; None: it is not known what it can render

    def __repr__(self) -> str:
        config, dtype = self.config, str(self.dtype).removeprefix("torch.")
        size = f"{config.num_layers} layers of {config.dim}"
        return f"<{type(self).__name__} {self.preset.family}: {size}, {dtype} on {self.device}>"

    @property
    def settings(self) -> StreamSettings:
        """The settings that the model was trained with."""
        return self.preset.settings

    @property
    def fps(self) -> int:
        """Pixel frames per second."""
        return self.preset.fps

    @property
    def adapter(self) -> Adapter | None:
        """The configuration of the driving adapter; None without one."""
        return self.config.adapter

    @property
    def timing(self) -> str:
        """The timing of sound relative to pixel frames: see `Preset.timing`."""
        return self.preset.timing

    @property
    def spatial(self) -> int:
        """Pixels per latent cell, each way."""
        return spatial_of(self.codec)

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Latent height and width of a picture.

        Raises:
            KnotError: it does not divide into tokens.
        """
        return latent_size(height, width, self.spatial)

    def check_detail(self, detail: int) -> None:
        """Check that frames can be so many times as large as what the network sees: see `encode_anchor`.

        Raises:
            SettingsError: they cannot.
        """
        most = MOST_DETAIL if wants_reference(self.codec) else 1
        if not 1 <= detail <= most:
            copies = f"wanted 1 to {most}" if most > 1 else "but this model draws every pixel itself; leave it at 1"
            raise SettingsError(f"detail is {detail}, {copies}")

    def threads_for(
        self, settings: StreamSettings, latent_size: tuple[int, int], *, as_before: int | None = None
    ) -> int | None:
        """Threads per operation for a stream of that latent size: the model's own, else `as_before`, else chosen by
        size.
        """
        return self.threads or as_before or choose_threads(self, settings, latent_size)

    @torch.no_grad()
    def encode_anchor(  # noqa: PLR0913 - all but the image may be left out
        self,
        image: Tensor,
        *,
        text: Tensor | None = None,
        size: tuple[int, int] | None = None,
        fit: Fit = "crop",
        image_tokens: Tensor | None = None,
        negative: Tensor | None = None,
        detail: int = 1,
    ) -> Anchor:
        """Encode an image [H, W, 3] in 0..1 as the anchor; `size`: (height, width) in pixels, `text`: [1, T, text_dim].

        `image_tokens` [1, T, image_dim] are the image's CLIP tokens, for networks that attend to them; `negative`
        [1, T, text_dim] is the negative prompt of guidance, None for the empty prompt. With `detail` from 2 to 4 a
        model that copies pixels from the image gives frames of so many times `size`, each way, as sharp as it is.

        Raises:
            SettingsError: the image, the prompt, the size or the detail does not suit the model.
        """
        if image is None:
            raise SettingsError("got no picture; give the reference as a tensor [height, width, 3] in 0..1")
        if text is None and self.preset.needs_text:
            raise SettingsError(
                f"got no prompt, but {self.preset.title or self.preset.family} is driven by text; encode one "
                "(load_text_encoder(FOLDER).encode(PROMPT)) and give it as text"
            )
        if text is not None and not self.preset.needs_text:
            raise SettingsError(
                f"got a prompt, but {self.preset.title or self.preset.family} was trained without text; leave text out"
            )
        height, width = size or (self.preset.height, self.preset.width)
        self.latent_size(height, width)  # refuses what does not divide into tokens
        self.check_detail(detail)
        pixels = rearrange(fit_image(image, height, width, fit), "h w c -> 1 1 c h w")
        picture = to_uint8(pixels[0])[0]
        if wants_reference(self.codec):  # latents of what is kept
            pixels = rearrange(picture, "h w c -> 1 1 c h w") / 255
        if self.config.unknown_frames == "grey":
            grey = pixels.new_full((1, TEMPORAL * NUM_GREY_LATENTS, *pixels.shape[2:]), 0.5)
            pixels = torch.cat([pixels, grey], dim=1)
        if detail > 1:
            large = fit_image(image, detail * height, detail * width, fit)
            picture = to_uint8(rearrange(large, "h w c -> 1 c h w"))[0]
        latents = self.codec.encode(pixels.to(self.device, self._codec_dtype)).float()
        behind = latents[:, 1:] if latents.shape[1] > 1 else None
        found = find_landmarks(picture) if num_points(self.codec) == len(LANDMARK_NUMBERS) else None
        return encode_latent_anchor(
            self, latents[:, :1], text, image_tokens, behind, negative, picture_HWC=picture, landmarks_L2=found
        )

    def score_reference(self, image: Tensor, fit: Fit = "crop", anchor: Anchor | None = None) -> float | None:
        """A score of how well a picture [H, W, 3] in 0..1 can be rendered: 1 like the training's pictures, below 0.5
        hardly.

        It is measured at the model's own size, with the picture's `anchor` if that has this size. None for a model
        whose range of references was not measured.
        """
        if self.good_references is None:
            return None
        height, width = self.good_references.latent_size
        if anchor is None or (anchor.latent_size, anchor.video_size) != ((height, width), anchor.size):
            anchor = self.encode_anchor(image, size=(self.spatial * height, self.spatial * width), fit=fit)
        drawing = draw_reference(self, anchor, self.settings)
        return self.good_references.score(measure(*drawing, self.good_references.motion))

    def warn_of_reference(self, image: Tensor, fit: Fit = "crop", anchor: Anchor | None = None) -> float | None:
        """`score_reference` of a picture [H, W, 3] in 0..1; logs one warning below 0.5. Nothing is refused."""
        score = self.score_reference(image, fit, anchor)
        if score is not None and score < GOOD_ENOUGH:
            logger.warning(
                "%s can hardly render this reference (score %.2f, wanted %.2f): it takes %s",
                self.preset.family,
                score,
                GOOD_ENOUGH,
                self.good_references.takes,
            )
        return score

    def memory_needed(self, settings: StreamSettings | None = None, size: tuple[int, int] | None = None) -> MemoryNeed:
        """Bytes that a stream takes, weights included; `size` is (height, width) in pixels."""
        size = size or (self.preset.height, self.preset.width)
        settings = settings or self.settings
        return memory_needed(
            self.config, settings, size, self.dtype, has_text=self.preset.needs_text, spatial=self.spatial
        )

    @cached_property
    def _codec_dtype(self) -> torch.dtype:
        return next(self.codec.parameters()).dtype if isinstance(self.codec, nn.Module) else torch.float32
