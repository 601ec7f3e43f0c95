"""The node that turns the reference picture into an anchor."""

import torch
from comfy_api.latest import io

from . import adapters
from .types import CATEGORY, KnotAnchor, KnotModel

SIZE_RANGE = {"default": 0, "min": 0, "max": 2048, "step": 16}


class EncodeAnchor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingEncodeAnchor",
            display_name="Encode Reference Anchor",
            category=CATEGORY,
            description="Runs the reference picture through the model once and keeps what every chunk will look back "
                        "at: the person's looks. Encode once, use for any number of streams.",
            inputs=[
                KnotModel.Input("model", tooltip="The model that will stream; an anchor fits only the model it was "
                                                 "made with."),
                io.Image.Input("image", tooltip="The reference portrait: one picture, any size."),
                io.Combo.Input("fit", options=list(adapters.FITS), default=adapters.FITS[0],
                               tooltip="How a picture of another shape is brought to the video's: crop keeps the "
                                       "centre, letterbox keeps everything and adds bars."),
                io.Int.Input("width", **SIZE_RANGE,
                             tooltip="Of the video, in pixels: a multiple of 16. 0: the model's own."),
                io.Int.Input("height", **SIZE_RANGE,
                             tooltip="Of the video, in pixels: a multiple of 16. 0: the model's own."),
            ],
            outputs=[KnotAnchor.Output(display_name="anchor", tooltip="The reference's keys and values; immutable.")],
        )

    @classmethod
    def execute(cls, model: adapters.Model, image: torch.Tensor, fit: str, width: int, height: int) -> io.NodeOutput:
        return io.NodeOutput(adapters.encode_anchor(model, image, fit, height, width))
