"""Streams as values: begin one, go on chunk by chunk, save where it stands, load it again."""

from comfy_api.latest import io, ui

from . import adapters
from .sampling import SEED_TIP, run_outputs, settings_input
from .types import CATEGORY, SEED_RANGE, KnotAnchor, KnotDriving, KnotModel, KnotState, node_schema
from .widget_checks import valid

STATES = f"{CATEGORY}/states"


class BeginStream(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingBeginStream",
            display_name="Knot Forcing Begin Stream",
            category=STATES,
            description="A stream before its first chunk, as a state: for graphs that sample chunk by chunk with "
            "Sample Chunks.",
            search_aliases=["start stream", "initial state", "loop start", "empty latent"],
            inputs=[
                KnotModel.Input("model", tooltip="The model that will stream."),
                KnotAnchor.Input("anchor", tooltip="The subject: from Encode Reference Anchor, made with that model."),
                io.Int.Input("seed", **SEED_RANGE, control_after_generate=True, tooltip=SEED_TIP),
                settings_input(),
            ],
            outputs=[
                KnotState.Output(
                    display_name="state",
                    tooltip="The state before the first chunk; nothing is generated yet. For Sample Chunks and the "
                    "stream nodes.",
                )
            ],
        )

    @classmethod
    def execute(
        cls, model: adapters.Model, anchor: adapters.Anchor, seed: int, settings: adapters.StreamSettings | None = None
    ) -> io.NodeOutput:
        return io.NodeOutput(adapters.begin(model, anchor, settings, seed))


class SampleChunks(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingSampleChunks",
            display_name="Knot Forcing Sample Chunks",
            category=STATES,
            description="Continues from a state for a number of chunks, and outputs their frames and the next "
            "state. Chain several of these nodes, or pass the state round a loop. The input state is "
            "not changed.",
            search_aliases=["sampler", "next chunk", "step", "loop", "autoregressive", "continue"],
            inputs=[
                KnotModel.Input("model", tooltip="The model that the state was made with."),
                KnotState.Input("state", tooltip="From Begin Stream, Load Stream State, or another sampler."),
                KnotDriving.Input(
                    "driving", optional=True, tooltip="The motion over time; it continues where the state left it."
                ),
                io.Int.Input(
                    "chunks",
                    default=1,
                    min=1,
                    max=1000,
                    tooltip="Number of chunks (1 to 1000; one is 0.48 s with knot-tiny). All their frames are held in"
                    " memory.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="images",
                    tooltip="One batch: 9 frames for the stream's first chunk, 12 for every other one.",
                ),
                io.Latent.Output(
                    display_name="latents", tooltip="Their latent frames as one batch, 1 for 4 pixel frames."
                ),
                *run_outputs(),
                io.Float.Output(
                    display_name="start",
                    tooltip="Start time of these frames, in seconds from the beginning of the stream.",
                ),
                io.Boolean.Output(
                    display_name="finished",
                    tooltip="True once the driving has ended, so that a loop can stop; never with an endless driving.",
                ),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def execute(
        cls, model: adapters.Model, state: adapters.Snapshot, chunks: int, driving: adapters.Driving | None = None
    ) -> io.NodeOutput:
        adapters.warn_of_other_rates(cls.hidden.prompt, model.fps, slots=(0,))
        made, after, stats = adapters.sample_chunks(model, state, driving, chunks)
        images, latents = adapters.joined(made, model)
        start, finished = adapters.begins_at(model, state), adapters.played_out(driving, after)
        return io.NodeOutput(images, latents, after, stats, start, finished)


class NewDriving(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingNewDriving",
            display_name="Knot Forcing New Driving",
            category=STATES,
            description="Makes the next driving play from its beginning, such as the next sentence after the "
            "last. Without this node, a driving continues at the time that the state has reached.",
            search_aliases=["next sentence", "restart audio", "reset driving", "conversation", "dialogue"],
            inputs=[KnotState.Input("state", tooltip="A stream's state: from a node that streamed.")],
            outputs=[
                KnotState.Output(
                    display_name="state", tooltip="The same state; the next driving plays from its beginning."
                )
            ],
        )

    @classmethod
    def execute(cls, state: adapters.Snapshot) -> io.NodeOutput:
        return io.NodeOutput(adapters.restarted(state))


class SaveState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingSaveState",
            display_name="Knot Forcing Save Stream State",
            category=STATES,
            description="Writes a state to a file, so that the stream can continue in a later prompt, in another "
            "workflow or after a restart, with exactly the frames that it would have had.",
            search_aliases=["checkpoint", "resume", "continue later", "KV cache", "snapshot"],
            inputs=[
                KnotState.Input("state", tooltip="From a node that streamed."),
                io.String.Input(
                    "filename_prefix",
                    default="states/knot_forcing",
                    tooltip="Sub-folder and start of the file's name in ComfyUI's output folder; a number is added. "
                    "Load Stream State lists the files in states.",
                ),
            ],
            outputs=[
                KnotState.Output(display_name="state", tooltip="The same state, to continue from right away."),
                io.String.Output(
                    display_name="file", tooltip="The file's name in the output folder: for Load Stream State."
                ),
            ],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        return valid(cls, lambda: adapters.check_prefix(filename_prefix), filename_prefix=filename_prefix)

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        """Served from ComfyUI's cache only while the file is there."""
        return adapters.fingerprint(inputs)

    @classmethod
    def execute(cls, state: adapters.Snapshot, filename_prefix: str) -> io.NodeOutput:
        name = adapters.save_state(state, filename_prefix, cls.hidden)
        return io.NodeOutput(state, name, ui=ui.PreviewText(name))


class LoadState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingLoadState",
            display_name="Knot Forcing Load Stream State",
            category=STATES,
            description="Reads a saved state, with its anchor, settings and random state. The same model must be "
            "loaded.",
            search_aliases=["checkpoint", "resume", "continue", "KV cache", "snapshot"],
            inputs=[
                KnotModel.Input("model", tooltip="The model that the state was made with, in the same dtype."),
                io.Combo.Input(
                    "state_file",
                    options=adapters.state_names(),
                    default=adapters.NEWEST,
                    tooltip="A file in output/states. newest: the file written last. stopped: the state of the stream"
                    " that was last stopped or finished early. Press R to list new files.",
                ),
                io.String.Input(
                    "file",
                    optional=True,
                    force_input=True,
                    tooltip="A file's name in the output folder, from Save Stream State; used instead of state_file.",
                ),
            ],
            outputs=[
                KnotState.Output(
                    display_name="state",
                    tooltip="The state, to continue from any number of times: for the stream nodes and Sample Chunks.",
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, state_file: str) -> bool:  # noqa: ARG003 - files may have come since the list was made
        return True

    @classmethod
    def fingerprint_inputs(cls, state_file: str, **cables: object) -> str:
        """A cable's value is not known here; what comes through it names its own file."""
        return "" if "file" in cables else adapters.state_fingerprint(state_file)

    @classmethod
    def execute(cls, model: adapters.Model, state_file: str, file: str | None = None) -> io.NodeOutput:
        return io.NodeOutput(adapters.load_state(model, file or state_file))
