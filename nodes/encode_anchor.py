"""The node that turns the reference picture, the prompt, or both into an anchor."""

from typing import Any

import torch
from comfy_api.latest import io, ui

from . import adapters
from .types import CATEGORY, KnotAnchor, KnotModel, KnotPlacement, node_schema
from .widget_checks import valid

SIZE_RANGE = {"default": 0, "min": 0, "max": 2048, "step": 16}


class EncodeAnchor(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingEncodeAnchor",
            display_name="Knot Forcing Encode Reference Anchor",
            category=CATEGORY,
            description="Runs the reference image through the model once and caches its keys and values, so that "
            "every chunk keeps the subject's identity. It also takes the prompt of models that are "
            "driven by text. Encode once and use it for any number of streams.",
            search_aliases=[
                "reference image",
                "portrait to video",
                "identity",
                "face reference",
                "image to video",
                "KV cache",
                "conditioning",
            ],
            inputs=[
                KnotModel.Input(
                    "model", tooltip="The model that will stream; an anchor fits only the model it was made with."
                ),
                io.Image.Input(
                    "image",
                    optional=True,
                    tooltip="The reference: one portrait from the front, any size. knot-tiny takes drawn "
                    "portraits like its samples, not photos; knot-face and LiveTalk take photos. Not connected: "
                    "the prompt alone, for models that are driven by text.",
                ),
                io.Combo.Input(
                    "fit",
                    options=list(adapters.FITS),
                    default=adapters.FITS[0],
                    tooltip="How to fit the image to the output aspect ratio: crop keeps the centre, letterbox "
                    "keeps the whole image and adds bars.",
                ),
                io.Int.Input(
                    "width",
                    **SIZE_RANGE,
                    tooltip="Width of the video in pixels, a multiple of 16 (16 to 2048). 0 in both width and height:"
                    " the model's own size; knot-tiny was trained for 128.",
                ),
                io.Int.Input(
                    "height",
                    **SIZE_RANGE,
                    tooltip="Height of the video in pixels, a multiple of 16 (16 to 2048). 0 in both width and "
                    "height: the model's own size. It may differ from the width.",
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="The prompt, for Wan models: from CLIP Text Encode with the UMT5 text encoder (CLIP type "
                    "wan); if there are several entries, the first is used. knot-tiny takes none.",
                ),
                io.ClipVisionOutput.Input(
                    "clip_vision_output",
                    optional=True,
                    tooltip="The reference's CLIP tokens, for image-to-video models (36 input channels, with image "
                    "embedding): from CLIP Vision Encode.",
                ),
                io.Vae.Input(
                    "vae",
                    optional=True,
                    tooltip="Wan 2.1 VAE to encode the reference with, more exact than a tiny codec. Not connected: "
                    "the model's codec is used. knot-tiny takes none.",
                ),
                io.Combo.Input(
                    "pictures",
                    options=list(adapters.PICTURES),
                    default=adapters.PICTURES[0],
                    optional=True,
                    tooltip="For a batch of images, such as the frames of an animated WebP or GIF from Load Image. "
                    "all: a stream for each image, one after the other. first: only the first image is used.",
                ),
                io.Conditioning.Input(
                    "negative",
                    optional=True,
                    tooltip="The negative prompt, for models with guidance (Wan2.1, OmniAvatar, InfiniteTalk): "
                    "from CLIP Text Encode. Not connected: no words. Few-step models take none.",
                ),
                io.Combo.Input(
                    "align",
                    options=adapters.ALIGN_CHOICES,
                    default=adapters.ALIGN_CHOICES[0],
                    optional=True,
                    tooltip="Bring the face to where the model has faces. auto: for models whose faces are aligned, or "
                    "if there are points; knot-tiny's are not. on: always. off: never; fit applies.",
                ),
                io.String.Input(
                    "points",
                    default="",
                    optional=True,
                    tooltip="The two eyes and the mouth in pixels of the picture, such as 97,112 159,112 128,178: "
                    "click them in the picture below. Empty: the face is found.",
                ),
                io.Int.Input(
                    "detail",
                    default=1,
                    min=1,
                    max=4,
                    optional=True,
                    tooltip="How many times as large the video is, each way, as sharp as the picture is: 1 to 4. For "
                    "models that copy pixels from the picture (knot-face, 256 pixels); others take 1.",
                ),
            ],
            outputs=[
                KnotAnchor.Output(
                    display_name="anchor",
                    is_output_list=True,
                    tooltip="The reference's keys and values, and the prompt; immutable. For several images there is "
                    "one anchor each, and a stream runs for each in turn.",
                ),
                KnotPlacement.Output(
                    display_name="placement",
                    is_output_list=True,
                    tooltip="The picture, and where the reference lies in it: for Paste Back and Stream to Video.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, width: int | None = None, height: int | None = None, align: str | None = None, points: str | None = None
    ) -> bool | str:
        sized = valid(cls, lambda: adapters.picture_size(height, width), width=width, height=height)
        aligned = valid(cls, lambda: adapters.check_align(align, points), align=align, points=points)
        return aligned if sized is True else sized

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        model: adapters.Model,
        fit: str,
        width: int,
        height: int,
        image: torch.Tensor | None = None,
        conditioning: Any = None,
        clip_vision_output: Any = None,
        vae: Any = None,
        pictures: str = adapters.PICTURES[0],
        negative: Any = None,
        align: str = adapters.ALIGN_CHOICES[0],
        points: str = "",
        detail: int = 1,
    ) -> io.NodeOutput:
        size, given = adapters.picture_size(height, width), (conditioning, clip_vision_output, vae, negative)
        chosen = adapters.chosen_pictures(image, pictures)
        if image is None:
            return io.NodeOutput([adapters.anchor_from_inputs(model, None, fit, size, *given)], [adapters.NO_VALUE])
        whole = adapters.reference_size(model, size, detail)
        taken = [adapters.take_reference(model, one, fit, whole, align, points) for one in chosen]
        anchors = [adapters.anchor_from_inputs(model, one.given, fit, size, *given, detail=detail) for one in taken]
        shown = ui.PreviewImage(torch.cat([one.shown for one in taken]))
        return io.NodeOutput(anchors, [one.placed for one in taken], ui=shown)
