"""A video autoencoder that moves a reference picture: latents carry geometry and motion, pixels come from the picture.

The decoder turns the latents of a frame and those of the reference into a backward flow, a mask and a residual:

    out = (1 - mask) * gain * warp(reference, flow) + mask * residual

Where the latents equal the reference's, the flow, the mask and the logarithm of the gain are zero, so the reference
comes back as it is, within a latent frame of what moved before; that is built in and not learnt. What is decoded
stands still away from where heads lie in training (`head_window.py`): backgrounds and clothes do not stir, and what is
pasted back into a whole picture has no seam.

Latent frame 0 covers one pixel frame, every later one four. The encoder sees four pixel frames at once and nothing
else, so a picture that stands still has the reference's latents for ever.

Shapes: ``B`` batch, ``T`` pixel frames, ``F`` latent frames, ``C`` channels, ``H W`` picture, ``h w`` latent size
(H/16, W/16); N = B*T.
Sources: first-order motion (arXiv 2003.00196) for flow, occlusion and residual; TAEHV for the memory in time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as fn

from ..errors import CheckpointError, short
from ..geometry import TEMPORAL
from .head_window import head_window
from .landmark_code import token_means, with_means
from .latent_matching import warp
from .photo_tones import tone_matrix
from .warping_networks import (
    SPATIAL,
    Decoder,
    Encoder,
    Memory,
    Motion,
    ReadReference,
    WarpingConfig,
    enlarged,
    repeated,
)

_TRIM = TEMPORAL - 1  # latent frame 0 decodes to four pixel frames, of which the last one is the picture
GAIN = 8  # pixels for one of the gain
_KEY = "decoder.head.weight"  # by which the files are known
_MIX = "decoder.points.mix"  # of those that read landmarks
_CODE = "decoder.points.code.reads"  # of those whose latents' means tell how landmarks move


class WarpingCodec(nn.Module):
    """Encoder and decoder. Pixels are in 0..1, latents have a standard deviation of about 1."""

    spatial = SPATIAL
    wants_reference = True

    def __init__(self, config: WarpingConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        with torch.no_grad():  # at first the reference stands still
            self.decoder.coarse.weight.zero_()
            self.decoder.coarse.bias.zero_()
            self.decoder.head.weight.zero_()
            self.decoder.head.bias.copy_(torch.tensor([0.0] * 8 + [-3.0] * 4 + [0.0] * 48))

    @staticmethod
    def from_state_dict(state: Mapping[str, Tensor]) -> WarpingCodec:
        """Build with the widths that the tensors have, and load them; ``CheckpointError`` where they do not fit."""
        config = read_config(state)
        _check_shapes(state, config)
        codec = WarpingCodec(config)
        try:
            codec.load_state_dict(state)
        except RuntimeError as error:
            raise CheckpointError(f"this is no warping autoencoder ({short(error, str)}); get it again") from error
        return codec.to(memory_format=torch.channels_last).eval()

    def encode(self, pixels: Tensor, reference: ReadReference | None = None) -> Tensor:
        """pixels [B, T, 3, H, W], T = 1 + 4 (F - 1), H and W multiples of 16 -> latents [B, F, C, H/16, W/16].

        Where their means tell how landmarks move, it is from those of `reference`, or else of the first picture.
        """
        batch, num_frames = pixels.shape[:2]
        if num_frames % TEMPORAL != 1:
            raise ValueError(f"cannot encode {num_frames} pixel frames; give 1, 5, 9, ... (1 + 4 n) of them")
        _check_size(pixels)
        latents = self.encoder.still(_laid_out(pixels[:, 0]))[:, None]
        if num_frames > 1:
            later = self.encoder(_laid_out(pixels[:, 1:].flatten(0, 1))).unflatten(0, (batch, -1))
            latents = torch.cat([latents, later], dim=1)
        elif reference is None:
            return latents
        return self._coded(latents, latents[:, 0] if reference is None else reference.latents_BCHW)

    def _coded(self, latents_BFChw: Tensor, still_BChw: Tensor) -> Tensor:
        """Latents as the encoder gives them, with the means that tell how landmarks move that are read from them."""
        points, (batch, num) = self.decoder.points, latents_BFChw.shape[:2]
        if points is None or points.code is None:
            return latents_BFChw
        count = batch * num // len(still_BChw)
        own, still, there = latents_BFChw.flatten(0, 1), repeated(still_BChw, count), points.reader(still_BChw)
        moved = (points.reader(own).places_NL2 - there.repeated(count).places_NL2).unflatten(0, (-1, TEMPORAL))
        coded = with_means(own, token_means(still) + points.code.written(moved))
        return coded.unflatten(0, (batch, num))

    @property
    def num_points(self) -> int:
        """How many landmarks it reads from latents."""
        return self.config.points

    def read_reference(
        self, pixels_BCHW: Tensor, latents_BCHW: Tensor | None = None, landmarks_L2: Tensor | None = None
    ) -> ReadReference:
        """A picture [B, 3, H, W] in 0..1 as `decode` takes it; its latents are computed where they are not given.

        `landmarks_L2`, in sides of the picture, says where landmarks lie; those that are no numbers are read from the
        latents.

        With latents the picture may be a whole number of times as large as what they were encoded from: `decode` then
        gives pictures of its size, with its detail.
        """
        _check_size(pixels_BCHW)
        pixels = _laid_out(pixels_BCHW.to(self.decoder.first.weight))
        latents = self.encoder.still(pixels) if latents_BCHW is None else latents_BCHW.to(pixels)
        seen = fn.adaptive_avg_pool2d(pixels, [SPATIAL * side for side in latents.shape[-2:]])
        window = head_window(*(side // 2 for side in seen.shape[-2:])).to(pixels)
        points = self.decoder.points
        return ReadReference(
            pixels_BCHW=pixels,
            latents_BCHW=latents,
            features_BCHW=self.decoder.reference(2 * seen - 1),
            window_HW=window,
            points=None if points is None else points.reader(latents).told(landmarks_L2),
            tone_B33=tone_matrix(fn.avg_pool2d(seen, 2), window),
        )

    def decode(
        self, latents: Tensor, memory: Memory | None = None, reference: ReadReference | None = None
    ) -> tuple[Tensor, Memory]:
        """latents [B, F, C, h, w] -> pixels [B, T, 3, H, W] in 0..1, and the memory for the next call.

        Pixels have the size of the reference's picture.

        Without memory the first latent is the stream's first: it gives one pixel frame, all others give four.
        """
        if reference is None:
            raise ValueError("this autoencoder moves a reference picture and got none; give what read_reference made")
        motion, after = self.decoder(latents.to(self.decoder.first.weight.dtype), reference, memory)
        pixels = composed(within(decided(motion), reference.window_HW), reference).unflatten(0, (len(latents), -1))
        return (pixels[:, _TRIM:] if memory is None else pixels), after


def decided(motion: Motion) -> Motion:
    """The motion with a mask that is 0 below a quarter and 1 above three. Trained as a mean, it hedges where it is not
    sure, and a face half copied and half painted is a blurred one.
    """
    return replace(motion, mask_N1HW=(2 * motion.mask_N1HW - 0.5).clamp(0, 1))


def within(motion: Motion, window_HW: Tensor) -> Motion:
    """The motion where the window, at half the size, is 1; none where it is 0."""
    return replace(
        motion,
        flow_N2HW=window_HW * motion.flow_N2HW,
        mask_N1HW=window_HW * motion.mask_N1HW,
        log_gain_N1HW=fn.avg_pool2d(window_HW[None, None], GAIN // 2) * motion.log_gain_N1HW,
    )


def composed(motion: Motion, reference: ReadReference) -> Tensor:
    """(1 - mask) * gain * warp(reference, flow) + mask * residual: [N, 3, H, W], of the reference's size"""
    count, detail = len(motion.flow_N2HW) // len(reference.pixels_BCHW), reference.detail
    # A larger picture has finer detail than is seen; Metal takes places bilinearly alone.
    between = "bicubic" if detail == 1 and reference.pixels_BCHW.device.type != "mps" else "bilinear"
    flow = enlarged(motion.flow_N2HW, 2 * detail)
    copied = warp(repeated(reference.pixels_BCHW, count), flow, 1 / detail, between).clamp(0, 1)
    copied = copied * enlarged(motion.log_gain_N1HW.exp(), GAIN * detail)
    painted = motion.residual_N3HW if detail == 1 else enlarged(motion.residual_N3HW, detail)
    return torch.lerp(copied, painted, enlarged(motion.mask_N1HW, 2 * detail))


def read_config(state: Mapping[str, Tensor]) -> WarpingConfig:
    """Widths from the tensors' shapes."""
    try:
        encoder = tuple(state[f"encoder.{name}.weight"].shape[0] for name in ("frame.0", "frame.2", "frame.5", "merge"))
        first, coarse, join = (state[f"decoder.{name}.weight"].shape for name in ("first", "coarse", "join"))
        decoder = (first[0], coarse[1], join[0])
        reference = state["decoder.reference.2.weight"].shape[0]
        latent = state["encoder.group.5.weight"].shape[0]
        groups, points = state[_MIX].shape if _MIX in state else (WarpingConfig.groups, 0)
    except KeyError as error:
        raise CheckpointError(f"this is no warping autoencoder: the tensor {error} is missing; get it again") from error
    except (IndexError, ValueError) as error:
        raise CheckpointError("this is no warping autoencoder: a weight has too few or too many dimensions") from error
    if min(*encoder, *decoder, reference, latent, groups) < 1 or (_MIX in state and points < 1):
        raise CheckpointError("this is no warping autoencoder: it has layers of no width; get it again")
    return WarpingConfig(
        encoder=encoder, decoder=decoder, reference=reference, latent_channels=latent, points=points, groups=groups,
        coded=_CODE in state,
    )  # fmt: skip


def is_warping(names: Mapping[str, Tensor]) -> bool:
    """Whether tensors of these names are a warping autoencoder's."""
    return _KEY in names


def _laid_out(x_NCHW: Tensor) -> Tensor:
    return x_NCHW.contiguous(memory_format=torch.channels_last)


def _check_size(pixels: Tensor) -> None:
    if pixels.shape[-1] % SPATIAL or pixels.shape[-2] % SPATIAL:
        raise ValueError(
            f"cannot encode pictures of {tuple(pixels.shape[-2:])}; both sides must be multiples of {SPATIAL}"
        )


def _check_shapes(state: Mapping[str, Tensor], config: WarpingConfig) -> None:
    """Every tensor as one of those widths has it: before they are made, since a small file may claim any width."""
    with torch.device("meta"):
        wanted = {name: tensor.shape for name, tensor in WarpingCodec(config).state_dict().items()}
    for name, shape in wanted.items():
        if name not in state or state[name].shape != shape:
            found = short(list(state[name].shape)) if name in state else "missing"
            raise CheckpointError(
                f"this is no warping autoencoder: {name} is {found}, wanted {list(shape)}; get it again"
            )
