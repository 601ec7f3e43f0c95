"""The node that returns animated frames into the whole picture."""

import torch
from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotPlacement, node_schema


class PasteBack(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingPasteBack",
            display_name="Knot Forcing Paste Back",
            category=CATEGORY,
            description="Returns animated frames into the whole picture from which their reference was cut out, of "
            "any size, with a soft edge. Outside of them every pixel stays as it was.",
            search_aliases=[
                "uncrop",
                "paste face",
                "composite",
                "stitch",
                "restore crop",
                "face back",
                "inpaint stitch",
            ],
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Frames of the stream: a batch, or the stream's chunks one by one. Their size does not "
                    "matter.",
                ),
                KnotPlacement.Input(
                    "placement",
                    tooltip="The whole picture and the place of the crop: from Portrait Crop, or from Encode "
                    "Reference Anchor if that took the crop.",
                ),
                io.Float.Input(
                    "feather",
                    default=0.1,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Width of the soft edge, as a share of the crop's shorter side (0 to 0.5; 0: a hard edge). "
                    "Where the crop reaches the picture's edge there is none.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images", tooltip="The whole picture, once for every frame, with the frame in it."
                )
            ],
        )

    @classmethod
    def execute(cls, images: torch.Tensor, placement: adapters.Placed, feather: float) -> io.NodeOutput:
        return io.NodeOutput(adapters.paste_back(images, placement, feather))
