"""The node that changes a stream's prompt while it runs."""

from typing import Any

from comfy_api.latest import io

from . import adapters
from .adapters import directing
from .types import ADVANCED, CATEGORY, KnotAnchor, KnotModel, KnotSettings, node_schema
from .widget_checks import valid

PROMPTS = "0:00 a calm face / 0:12 laughing"


class PromptTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingPromptTimeline",
            display_name="Knot Forcing Prompt Timeline",
            category=CATEGORY,
            description="Changes the prompt while the stream runs: each prompt takes effect with the first chunk "
            "that starts at or after its time. For models that take text; knot-tiny takes none.",
            search_aliases=[
                "prompt schedule",
                "prompt travel",
                "prompt scheduling",
                "scene change",
                "interactive prompt",
            ],
            inputs=[
                KnotAnchor.Input("anchor", tooltip="The reference whose prompt changes: from Encode Reference Anchor."),
                io.String.Input(
                    "prompts",
                    multiline=True,
                    default=PROMPTS,
                    tooltip="minutes:seconds and a prompt, separated by / or a new line; the first at 0:00. A prompt "
                    "takes effect with the first chunk that starts at or after its time.",
                ),
                io.Int.Input(
                    "blend_chunks",
                    default=0,
                    min=0,
                    max=100,
                    tooltip="Chunks over which one prompt is blended into the next (0 to 100; a chunk of 3 latent "
                    "frames is 0.48 s at 25 frames a second). 0: at once.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="The model's text encoder: UMT5 of Wan 2.1, from Load CLIP (type wan). Not connected: the"
                    " prompts are only shown in Driving Preview.",
                ),
                KnotModel.Input(
                    "model",
                    optional=True,
                    tooltip="The model that will stream, for its frame rate and chunks in the plan. Not "
                    "connected: 25 frames a second, 3 latent frames a chunk.",
                ),
                KnotSettings.Input(
                    "settings",
                    optional=True,
                    tooltip="The stream's settings, for the length of a chunk in the plan. Not connected: the model's.",
                ),
                io.Boolean.Input(
                    "recache",
                    default=False,
                    optional=True,
                    **ADVANCED,
                    tooltip="On: at every change, the keys and values of the past frames are computed again under the"
                    " new prompt, so that it takes effect sooner (LongLive's KV recache). This takes as long "
                    "as one denoising step of as many frames.",
                ),
            ],
            outputs=[
                KnotAnchor.Output(
                    display_name="anchor",
                    tooltip="The same reference, with its prompts: for the stream nodes and Driving Preview.",
                ),
                io.String.Output(
                    display_name="plan",
                    tooltip="The chunk and the second at which each prompt begins, as text.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompts: str | None = None) -> bool | str:
        return valid(cls, lambda: directing.parse_prompts(prompts), prompts=prompts)

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        anchor: adapters.Anchor,
        prompts: str,
        blend_chunks: int,
        clip: Any = None,
        model: adapters.Model | None = None,
        settings: adapters.StreamSettings | None = None,
        recache: bool = False,
    ) -> io.NodeOutput:
        return io.NodeOutput(
            *directing.direct_prompts(anchor, prompts, blend_chunks, clip, model, settings, recache=recache)
        )
