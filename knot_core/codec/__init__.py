"""Video autoencoders as streams."""

from .codec_files import KINDS, load_codec
from .wan_vae import WanVideoCodec

__all__ = ["KINDS", "WanVideoCodec", "load_codec"]
