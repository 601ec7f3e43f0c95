"""The streaming sampler: a stream from its beginning to its end in one node, and inputs that several nodes share."""

from comfy_api.latest import io

from . import adapters
from .types import (
    ADVANCED,
    CATEGORY,
    SEED_RANGE,
    KnotAnchor,
    KnotDriving,
    KnotModel,
    KnotSettings,
    KnotState,
    KnotStats,
    node_schema,
)
from .widget_checks import valid

SEED_TIP = "Seed of the noise (any whole number from 0). The same seed, machine and settings give the same frames."


def stream_inputs(*, endless: bool = False) -> list[io.Input]:
    """The cables and widgets of everything that runs a stream; `endless`: it may run until it is stopped."""
    without_end = " -1: without end, until you finish or stop it." if endless else ""
    return [
        KnotModel.Input("model", tooltip="From Load Knot Forcing Model, or Knot Forcing from MODEL."),
        KnotAnchor.Input(
            "anchor",
            optional=True,
            tooltip="The subject or the prompt: from Encode Reference Anchor, made with the same model. Required "
            "for a new stream; a state has its own.",
        ),
        KnotDriving.Input(
            "driving",
            optional=True,
            tooltip="The motion over time: from a Driving node. Not connected: the model generates motion by "
            "itself; models driven by text alone need none.",
        ),
        io.Int.Input("seed", **SEED_RANGE, control_after_generate=True, tooltip=SEED_TIP),
        io.Float.Input(
            "seconds",
            default=0.0,
            min=-1.0 if endless else 0.0,
            max=86400.0,
            step=0.04,
            tooltip="Length in seconds (0 to 86400). A stream that is longer than its driving continues in "
            f"silence. 0: as long as the driving, which must then have an end.{without_end}",
        ),
    ]


def settings_input() -> io.Input:
    return KnotSettings.Input(
        "settings",
        optional=True,
        tooltip="From Knot Forcing Settings or Knot Forcing Model Settings. Not connected: the settings "
        "that the model was trained with.",
    )


def state_input() -> io.Input:
    return KnotState.Input(
        "state",
        optional=True,
        tooltip="A state to continue from, frame for frame: from Load Stream State, or from a node that "
        "streamed before. It brings its anchor, settings and random state; seed is then not used.",
    )


def whole_chunks_input() -> io.Input:
    return io.Boolean.Input(
        "whole_chunks",
        default=False,
        optional=True,
        **ADVANCED,
        tooltip="On: the stream ends with a whole chunk, up to 0.5 s later, so that a video continued "
        "from its state joins without a gap. Off: the length is exactly as set.",
    )


def run_outputs() -> list[io.Output]:
    return [
        KnotState.Output(
            display_name="state",
            tooltip="The stream's state after its last chunk, to save or to continue from. It is immutable.",
        ),
        KnotStats.Output(display_name="stats", tooltip="Time and memory of each chunk: for Stream Stats."),
    ]


class Stream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingStream",
            display_name="Knot Forcing Stream",
            category=CATEGORY,
            description="Generates the stream and outputs every chunk as a batch of its own, in a list. All "
            "frames are held in memory; for long videos use Knot Forcing Stream to Video.",
            search_aliases=[
                "sampler",
                "KSampler",
                "chunks",
                "talking head",
                "portrait animation",
                "avatar",
                "real time",
                "image batch list",
            ],
            inputs=[*stream_inputs(), settings_input(), state_input(), whole_chunks_input()],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    is_output_list=True,
                    tooltip="One batch of frames per chunk: 9 frames, then 12, 12, ... The last is cut to "
                    "the length asked for.",
                ),
                io.Latent.Output(
                    display_name="latents",
                    is_output_list=True,
                    tooltip="One batch of latent frames per chunk, 1 for 4 pixel frames. For a Wan model in the "
                    "format of its VAE; knot-tiny has its own latent space.",
                ),
                *run_outputs(),
                io.Image.Output(
                    display_name="all_images",
                    tooltip="All frames as one batch, which shares its memory with images: for Create Video and Save "
                    "Video.",
                ),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, seconds: float | None = None) -> bool | str:
        return valid(cls, lambda: adapters.check_seconds(seconds), seconds=seconds)

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        model: adapters.Model,
        seed: int,
        seconds: float,
        anchor: adapters.Anchor | None = None,
        driving: adapters.Driving | None = None,
        settings: adapters.StreamSettings | None = None,
        state: adapters.Snapshot | None = None,
        whole_chunks: bool = False,
    ) -> io.NodeOutput:
        begun = adapters.begun_or_given(model, anchor, settings, seed, state)
        adapters.warn_of_other_rates(cls.hidden.prompt, model.fps, slots=(0, 4))
        latents = []
        with adapters.streaming(model, begun, driving, seconds, whole_chunks=whole_chunks) as run:
            frames = adapters.StreamPictures(run.num_pixel_frames)
            for chunk in run:
                run.log.add(chunk)
                frames.add(chunk)
                latents.append(adapters.to_latent(chunk, model))
            return io.NodeOutput(frames.by_chunk, latents, run.state(), run.stats(), frames.whole)
