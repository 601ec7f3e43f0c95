"""A tiny model of the family knot-face with random weights, as its two files, and a photo-like picture for it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import save_file

from knot_core.codec.warping import WarpingCodec
from knot_core.codec.warping_networks import WarpingConfig
from knot_core.config import UNITS_DIM, AdapterConfig, NetworkConfig
from knot_core.model_loading import ASSETS
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork

from .core.conftest import randomise

SIDE = 64  # pixels of its videos
PHOTO_SIZE = (300, 420)  # height and width
SCALE, TOP, LEFT = 0.5, 20, 90  # of the portrait in the photo
POINTS = tuple(f"{LEFT + SCALE * x:g},{TOP + SCALE * y:g}" for x, y in ((203, 215), (309, 215), (256, 331)))


def write_face_model(folder: Path, seed: int = 0) -> Path:
    """Write knot-face.safetensors and knot-face-codec.safetensors; the first one's path."""
    adapter = AdapterConfig(signal_dim=UNITS_DIM, num_packed=4, hidden_dim=8, blocks=(0, 1))
    config = NetworkConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=2, in_channels=36, layout="inpaint36",
                           text_dim=16, freq_dim=16, adapter=adapter)  # fmt: skip
    path = folder / "knot-face.safetensors"
    preset = replace(PRESETS["knot-face"], height=SIDE, width=SIDE)
    save_network(path, randomise(WanNetwork(config), seed), preset)
    codec = WarpingCodec(WarpingConfig(encoder=(4, 4, 4, 6), decoder=(6, 4, 4), reference=4))
    tensors = {name: tensor.contiguous() for name, tensor in randomise(codec, seed + 1).state_dict().items()}
    save_file(tensors, folder / "knot-face-codec.safetensors")
    return path


def write_photo(path: Path, *, face: bool = True) -> Path:
    """A bundled portrait, smaller, in front of something else: its eyes and mouth are at `POINTS`. Or nobody at all."""
    height, width = PHOTO_SIZE
    noise = np.random.default_rng(0).integers(60, 120, (height // 20, width // 20, 3), dtype=np.uint8)
    photo = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    if face:
        with Image.open(ASSETS / "portraits" / "ada.png") as portrait:
            side = round(SCALE * portrait.width)
            photo.paste(portrait.convert("RGB").resize((side, side)), (LEFT, TOP))
    photo.save(path)
    return path
