"""Nodes that crop a portrait out of a picture, and paste animated frames back into it."""

from typing import Any

import torch
from comfy_api.latest import io

from . import adapters
from .adapters import directing
from .types import CATEGORY, KnotPlacement, node_schema
from .widget_checks import valid


class PortraitCrop(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingPortraitCrop",
            display_name="Knot Forcing Portrait Crop",
            category=CATEGORY,
            description="Crops a portrait around the largest face, and shows how and where the face was found: by"
            " MediaPipe or OpenCV if one is installed, else by the outline of head and shoulders "
            "against a fairly even background. If none is found, it crops the centre and warns.",
            search_aliases=["face crop", "crop face", "face detection", "headshot", "auto crop", "head and shoulders"],
            inputs=[
                io.Image.Input("image", tooltip="One picture or several, any size; a face from the front."),
                io.Int.Input(
                    "width",
                    default=512,
                    min=64,
                    max=2048,
                    step=16,
                    tooltip="Width of the portrait in pixels (64 to 2048), a multiple of 16, since a token "
                    "of the network covers 16 x 16.",
                ),
                io.Int.Input(
                    "height",
                    default=512,
                    min=64,
                    max=2048,
                    step=16,
                    tooltip="Height of the portrait in pixels (64 to 2048), a multiple of 16. It may differ from the "
                    "width.",
                ),
                io.Float.Input(
                    "room",
                    default=2.8,
                    min=1.0,
                    max=10.0,
                    step=0.1,
                    tooltip="The portrait's shorter side, in face widths (1 to 10). 2.8 is close to knot-tiny's own "
                    "portraits.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="image", tooltip="The cropped images, one for each input image, all of that size."
                ),
                KnotPlacement.Output(
                    display_name="placement",
                    is_output_list=True,
                    tooltip="The picture, and where its crop lies in it: for Paste Back and Stream to Video. One for "
                    "each input image.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, width: int | None = None, height: int | None = None) -> bool | str:
        return valid(cls, lambda: directing.check_portrait_size(height, width), width=width, height=height)

    @classmethod
    def execute(cls, image: Any, width: int, height: int, room: float) -> io.NodeOutput:
        return io.NodeOutput(*directing.crop_portraits(image, width, height, room))


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
