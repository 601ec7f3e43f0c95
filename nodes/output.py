"""The node that streams straight into a file."""

from comfy_api.latest import InputImpl, io, ui

from . import adapters
from .sampling import settings_input, stream_inputs
from .types import CATEGORY


class StreamToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="KnotForcingStreamToVideo",
            display_name="Knot Forcing Stream to Video",
            category=CATEGORY,
            description="Generates the stream chunk by chunk into an MP4 file in ComfyUI's output folder. Memory does "
                        "not grow with the length. Stopped early, the file keeps what was made and plays.",
            inputs=[
                *stream_inputs(),
                io.String.Input("filename_prefix", default="video/knot_forcing",
                                tooltip="Sub-folder and start of the file's name in the output folder."),
                settings_input(),
                io.Audio.Input("audio", optional=True,
                               tooltip="The sound track from the video's start; cut, or followed by silence."),
            ],
            outputs=[io.Video.Output(display_name="video", tooltip="The file: H.264, and AAC when there is sound.")],
            is_output_node=True,
        )

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls, model: adapters.Model, anchor: adapters.Anchor, seed: int, seconds: float, filename_prefix: str,
        driving: adapters.Driving | None = None, settings: adapters.StreamSettings | None = None,
        audio: adapters.HostAudio | None = None,
    ) -> io.NodeOutput:
        target = adapters.output_file(filename_prefix)
        chunks = adapters.stream_chunks(model, anchor, driving, settings, seed, seconds)
        adapters.write_video(target.path, chunks, model, audio)
        saved = ui.SavedResult(target.path.name, target.subfolder, io.FolderType.output)
        return io.NodeOutput(InputImpl.VideoFromFile(str(target.path)), ui=ui.PreviewVideo([saved]))
