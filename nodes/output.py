"""The node that streams straight into a file."""

from comfy_api.latest import InputImpl, io, ui

from . import adapters
from .sampling import run_outputs, settings_input, state_input, stream_inputs, whole_chunks_input
from .types import ADVANCED, CATEGORY, KnotPlacement, node_schema
from .widget_checks import valid


class StreamToVideo(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="KnotForcingStreamToVideo",
            display_name="Knot Forcing Stream to Video",
            category=CATEGORY,
            description="Generates the stream chunk by chunk into a file in ComfyUI's output folder, and plays it"
            " in the node meanwhile, where it can be paused or finished. Memory does not grow with "
            "the length. If the stream ends early, the file holds everything generated so far, and a "
            "state is saved to continue from.",
            search_aliases=[
                "save video",
                "video combine",
                "endless video",
                "live preview",
                "talking head",
                "avatar",
                "real time",
                "sampler",
                "MP4",
                "ProRes",
                "WebM",
            ],
            inputs=[
                *stream_inputs(endless=True),
                io.String.Input(
                    "filename_prefix",
                    default="video/knot_forcing",
                    tooltip="Sub-folder and start of the file's name in ComfyUI's output folder; a number is added.",
                ),
                settings_input(),
                io.Audio.Input(
                    "audio",
                    optional=True,
                    tooltip="The video's sound track: it begins where the driving does, and is cut, or "
                    "followed by silence, to the video's length. Not connected: a silent video.",
                ),
                state_input(),
                io.Combo.Input(
                    "video_format",
                    options=list(adapters.FORMAT_NAMES),
                    default=adapters.FORMAT_NAMES[0],
                    optional=True,
                    tooltip="h264-mp4 plays everywhere and loses no chunk even in a power cut. h265-mp4 and "
                    "av1-mp4 are smaller, vp9-webm is for the web, prores-mov for editing. "
                    "png-folder is a folder of pictures with sound.wav and gives no video output.",
                ),
                io.Combo.Input(
                    "if_stopped",
                    options=list(adapters.KEEPING),
                    default=adapters.KEEPING[0],
                    optional=True,
                    **ADVANCED,
                    tooltip="Where the state is saved if the stream is finished early, stopped, or fails: in one file"
                    " in output/states, which the next such stream replaces; in a file of its own there; or "
                    "nowhere. in temp, from older workflows, means the one file.",
                ),
                whole_chunks_input(),
                KnotPlacement.Input(
                    "placement",
                    optional=True,
                    tooltip="From Portrait Crop or Encode Reference Anchor: the video is the whole picture, with the "
                    "animated part in its place. Not connected: the animated part alone.",
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="The file itself; no frames are held in memory."),
                *run_outputs(),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, seconds: float | None = None, filename_prefix: str | None = None) -> bool | str:
        length = valid(cls, lambda: adapters.check_seconds(seconds), seconds=seconds)
        named = valid(cls, lambda: adapters.check_prefix(filename_prefix), filename_prefix=filename_prefix)
        return named if length is True else length

    @classmethod
    def fingerprint_inputs(cls, **inputs: object) -> str:
        """Served from ComfyUI's cache only while the file exists, and if the stream was not ended early."""
        return adapters.fingerprint(inputs)

    @classmethod
    def execute(  # noqa: PLR0913, PLR0917 - one for every cable and widget
        cls,
        model: adapters.Model,
        seed: int,
        seconds: float,
        filename_prefix: str,
        anchor: adapters.Anchor | None = None,
        driving: adapters.Driving | None = None,
        settings: adapters.StreamSettings | None = None,
        audio: adapters.HostAudio | None = None,
        state: adapters.Snapshot | None = None,
        video_format: str = adapters.FORMAT_NAMES[0],
        if_stopped: str = adapters.KEEPING[0],
        whole_chunks: bool = False,
        placement: adapters.Placed | None = None,
    ) -> io.NodeOutput:
        begun = adapters.begun_or_given(model, anchor, settings, seed, state)
        target = adapters.output_target(filename_prefix, video_format, begun, cls.hidden)
        with adapters.streaming(model, begun, driving, seconds, whole_chunks=whole_chunks) as run:
            written = adapters.write_stream(
                run, target.path, video_format=video_format, audio=audio, keep_state=if_stopped,
                played=adapters.seconds_played(model, begun), workflow=adapters.workflow_id(cls.hidden.extra_pnginfo),
                metadata=adapters.container_metadata(cls.hidden.prompt, cls.hidden.extra_pnginfo), placed=placement,
            )  # fmt: skip
        return handed_on(written, target.subfolder, cls.hidden.prompt)


def handed_on(written: adapters.Written, subfolder: str, prompt: object) -> io.NodeOutput:
    adapters.written(prompt, written.path, whole=not written.cut_short)
    return io.NodeOutput(video_of(written), written.state, written.stats, ui=shown(written, subfolder))


def video_of(written: adapters.Written) -> io.Video.Type:
    """A folder of pictures is none: what would take it does not run."""
    return adapters.NO_VALUE if written.path.is_dir() else InputImpl.VideoFromFile(str(written.path))


def shown(written: adapters.Written, subfolder: str) -> ui.PreviewVideo:
    """The file; of a folder of pictures the video that was played meanwhile."""
    if written.path.is_dir() and written.preview is not None:
        preview = ui.SavedResult(written.preview.name, written.preview.parent.name, io.FolderType.temp)
        return ui.PreviewVideo([preview])
    return ui.PreviewVideo([ui.SavedResult(written.path.name, subfolder, io.FolderType.output)])
