"""The anchor: what every chunk sees of the reference, wherever in time it stands.

Shapes: B batch, F latent frames, T text or image tokens, D text dim, E image dim, L tokens, N heads, K head dim,
C channels, H W latent size.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..config import StreamSettings
from ..errors import SettingsError
from ..geometry import PATCH, SPATIAL
from ..wan.branches import branches
from ..wan.rope import rotate_time
from .conditioning import Conditioning, digest_of
from .denoise import Denoiser, capture
from .reference_pictures import MOST_DETAIL, ShownReference, has_detail
from .stream_model import StreamModel, fingerprint, latent_dtype, num_points, spatial_of, wants_reference

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Anchor:
    """Immutable: never write into its tensors. Equal and hashed by what it was made of, and what it is given along."""

    reference_BFCHW: Tensor  # one clean latent frame
    conditioning: Conditioning  # what it was encoded under, and what streams of it begin with unless they are told else
    has_picture: bool = True  # else there is a prompt alone: keys and values are of nothing, to be left unused
    grey_BGCHW: Tensor | None = None  # latents of grey pictures behind the reference, until they stand still
    # At time 0, where RoPE in time turns nothing: so these are the keys before it, and `at` puts them anywhere.
    keys: tuple[Tensor, ...]  # per layer [B, L, N, K]
    values: tuple[Tensor, ...]
    model: str  # fingerprint of the model that encoded it
    digest: str
    picture_HWC: Tensor | None = None  # uint8: the reference, for codecs that copy pixels from it
    landmarks_L2: Tensor | None = None  # where they lie in it, for codecs that read them, as far as they were found
    spatial: int = SPATIAL  # pixels per latent cell, each way

    def __repr__(self) -> str:
        height, width = self.video_size
        num_tokens = self.conditioning.text_BTD.shape[1]
        prompt = f", {num_tokens} text tokens" if num_tokens > 1 else ""
        picture = f"{width}x{height}"
        return f"<{type(self).__name__} {self.digest[:8]}: {picture}, {len(self.keys)} layers{prompt}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Anchor) and self._made_of == other._made_of

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def _made_of(self) -> tuple[object, ...]:
        return self.digest, self.conditioning, self.video_size

    @property
    def latent_size(self) -> tuple[int, int]:
        """Latent height and width."""
        height, width = self.reference_BFCHW.shape[-2:]
        return height, width

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of what the network sees."""
        height, width = self.latent_size
        return self.spatial * height, self.spatial * width

    @property
    def video_size(self) -> tuple[int, int]:
        """Height and width of the frames in pixels: more than `size` where pixels are copied from a larger picture."""
        height, width = self.size if self.picture_HWC is None else self.picture_HWC.shape[:2]
        return height, width

    @property
    def shown(self) -> ShownReference | None:
        """The reference as decoders are shown it; None where it keeps no picture."""
        if self.picture_HWC is None:
            return None
        return ShownReference(
            picture_HWC=self.picture_HWC, latents_BFCHW=self.reference_BFCHW, landmarks_L2=self.landmarks_L2
        )

    def made_under(self, told: Conditioning) -> bool:
        """Whether it was encoded under these prompts and CLIP tokens, and no others."""
        return told.prompts is None and self.digest == _digest(self.model, self.reference_BFCHW, told, self.grey_BGCHW)

    def on(self, device: torch.device | str) -> "Anchor":
        """The anchor on a device; the same object if it is there already."""
        if self.reference_BFCHW.device == torch.device(device):
            return self
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        layers = {name: tuple(part.to(device) for part in getattr(self, name)) for name in ("keys", "values")}
        return replace(self, conditioning=self.conditioning.on(device), **tensors, **layers)

    def at(self, position: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Keys as if encoded at `position`, and values, layer by layer; each [B, L, N, K]."""
        for keys, values in zip(self.keys, self.values, strict=True):
            yield rotate_time(keys, position), values


@torch.no_grad()
def encode_latent_anchor(  # noqa: PLR0913 - all but the first two may be left out
    model: StreamModel,
    reference_BFCHW: Tensor,
    text_BTD: Tensor | None = None,
    image_BTE: Tensor | None = None,
    grey_BGCHW: Tensor | None = None,
    negative_BTD: Tensor | None = None,
    *,
    picture_HWC: Tensor | None = None,
    landmarks_L2: Tensor | None = None,
) -> Anchor:
    """Run the clean reference latent through the network once, at timestep 0, seeing only itself.

    `grey_BGCHW`: for networks that are shown grey pictures behind the reference, what their video autoencoder makes of
    them. `negative_BTD`: the prompt that guidance leads away from, of the prompt's shape. `picture_HWC`, uint8: the
    reference itself, for a codec that copies pixels from it, in the size of the latents or up to `MOST_DETAIL` times as
    large; others need none, and none is kept. `landmarks_L2`, in its sides: where landmarks lie, for a codec that reads
    them (`num_points`); those that are no numbers it looks for itself.

    Raises:
        SettingsError: the reference, prompt, image tokens or grey latents have another shape than the model takes.
    """
    wanted = (1, 1, model.config.out_channels)
    if reference_BFCHW.dim() != 5 or tuple(reference_BFCHW.shape[:3]) != wanted:
        raise SettingsError(
            f"the reference latent has shape {tuple(reference_BFCHW.shape)}, wanted [1, 1, {wanted[2]}, h, w]; "
            "encode one picture"
        )
    if any(side % PATCH or not side for side in reference_BFCHW.shape[-2:]):
        raise SettingsError(
            f"the reference latent has shape {tuple(reference_BFCHW.shape)}, whose height and width do not divide into "
            f"tokens; encode a picture of which both are multiples of {PATCH * spatial_of(model.codec)}"
        )
    _check_image(model, image_BTE)
    text_BTD = torch.zeros(1, 1, model.config.text_dim) if text_BTD is None else text_BTD
    _check_grey(model, reference_BFCHW, grey_BGCHW)
    _check_picture(model, reference_BFCHW, picture_HWC)
    _check_landmarks(model, landmarks_L2)
    reference, text, image, grey, negative = (
        None if given is None else given.to(model.device, latent_dtype(model), copy=True)
        for given in (reference_BFCHW, text_BTD, image_BTE, grey_BGCHW, negative_BTD)
    )
    denoiser = Denoiser.of(model, text, reference_B1CHW=reference, image_BTE=image)
    keys, values = zip(*capture(denoiser, reference), strict=True)
    made_by, conditioning = fingerprint(model), Conditioning(text_BTD=text, image_BTE=image, negative_BTD=negative)
    return Anchor(
        reference_BFCHW=reference,
        conditioning=conditioning,
        grey_BGCHW=grey,
        keys=keys,
        values=values,
        model=made_by,
        digest=_digest(made_by, reference, conditioning, grey),
        picture_HWC=picture_HWC.to(model.device, copy=True) if wants_reference(model.codec) else None,
        landmarks_L2=None if landmarks_L2 is None else landmarks_L2.to(model.device, torch.float32, copy=True),
        spatial=spatial_of(model.codec),
    )


def denoiser_of(
    model: StreamModel, anchor: Anchor, conditioning: Conditioning, settings: StreamSettings
) -> tuple[Denoiser, tuple[Anchor, ...]]:
    """Under a prompt, with the branches that guidance asks for; and the anchor as each of them sees it."""
    seen = {"reference_B1CHW": anchor.reference_BFCHW, "image_BTE": conditioning.image_BTE}
    denoiser, wanted = Denoiser.of(model, conditioning.text_BTD, **seen), branches(settings, model.config)
    if len(wanted) == 1:
        return denoiser, (anchor,)
    given = conditioning.negative_BTD
    negative = Denoiser.of(model, torch.zeros_like(conditioning.text_BTD) if given is None else given, **seen)
    keys, values = zip(*capture(negative, anchor.reference_BFCHW), strict=True)
    led = replace(anchor, keys=keys, values=values)
    return denoiser.guided(wanted, negative.context), tuple(led if branch.negative else anchor for branch in wanted)


def _digest(model: str, reference: Tensor, told: Conditioning, grey: Tensor | None) -> str:
    return digest_of(model, reference, told.text_BTD, told.image_BTE, grey, told.negative_BTD)


def _check_picture(model: StreamModel, reference_BFCHW: Tensor, picture_HWC: Tensor | None) -> None:
    """A latent alone will do for most codecs."""
    if not wants_reference(model.codec):
        return
    height, width = (spatial_of(model.codec) * side for side in reference_BFCHW.shape[-2:])
    if picture_HWC is None or picture_HWC.dtype != torch.uint8 or not has_detail(picture_HWC, (height, width)):
        found = "none" if picture_HWC is None else f"one of {tuple(picture_HWC.shape)} in {picture_HWC.dtype}"
        raise SettingsError(
            f"this model copies pixels from the reference picture and got {found}; give it as uint8 [{height}, "
            f"{width}, 3], or up to {MOST_DETAIL} times as large (encode the reference with the model's encode_anchor)"
        )


def _check_landmarks(model: StreamModel, landmarks_L2: Tensor | None) -> None:
    count = num_points(model.codec)
    if landmarks_L2 is not None and tuple(landmarks_L2.shape) != (count, 2):
        raise SettingsError(
            f"the landmarks have shape {tuple(landmarks_L2.shape)}, but this model's codec reads {count} of them; give "
            "one pair (x, y) for each, or none"
        )


def _check_grey(model: StreamModel, reference_BFCHW: Tensor, grey_BGCHW: Tensor | None) -> None:
    if grey_BGCHW is None:
        if model.config.unknown_frames == "grey":
            logger.warning(
                "This network is shown grey pictures behind the reference, and has none; zeros stand for them."
            )
        return
    wanted = tuple(reference_BFCHW.shape[2:])
    if model.config.unknown_frames != "grey" or grey_BGCHW.shape[1] < 1 or tuple(grey_BGCHW.shape[2:]) != wanted:
        raise SettingsError(
            f"the grey latents have shape {tuple(grey_BGCHW.shape)}; wanted [1, one or more, {wanted}] for a network "
            "that is shown them, and none for others"
        )


def _check_image(model: StreamModel, image_BTE: Tensor | None) -> None:
    wanted = model.config.image_dim
    if image_BTE is None:
        if wanted is not None:
            logger.warning("This network also looks at CLIP tokens of the reference, and has none; give them as image.")
    elif wanted is None or image_BTE.dim() != 3 or image_BTE.shape[-1] != wanted:
        takes = "no CLIP tokens; leave image out" if wanted is None else f"CLIP tokens of [1, number, {wanted}]"
        raise SettingsError(f"the image has shape {tuple(image_BTE.shape)}, but this network takes {takes}")
