"""ComfyUI nodes. Each one translates between cables and `knot_core`; the algorithm is not here."""

from comfy_api.latest import ComfyExtension, io

from . import adapters
from .adapters.live_routes import add_live_routes
from .cropping import PasteBack, PortraitCrop
from .driving import DrivingFromAudio, DrivingFromEncodedAudio, DrivingIdle
from .driving_tools import CombineDriving, DrivingPreview, ExpressionTimeline, PoseFromVideo
from .encode_anchor import EncodeAnchor
from .interactive import Live
from .loaders import FromModel, LoadModel, SamplePortrait, SampleSpeech
from .output import StreamToVideo
from .prompt_timeline import PromptTimeline
from .sampling import Stream
from .settings import ModelSettings, Settings
from .state import BeginStream, LoadState, NewDriving, SampleChunks, SaveState
from .stats import Stats

NODES: list[type[io.ComfyNode]] = [
    LoadModel,
    FromModel,
    SamplePortrait,
    SampleSpeech,
    EncodeAnchor,
    DrivingFromAudio,
    DrivingFromEncodedAudio,
    DrivingIdle,
    ExpressionTimeline,
    PromptTimeline,
    PoseFromVideo,
    CombineDriving,
    DrivingPreview,
    PortraitCrop,
    PasteBack,
    Settings,
    ModelSettings,
    Stream,
    StreamToVideo,
    Live,
    BeginStream,
    SampleChunks,
    NewDriving,
    SaveState,
    LoadState,
    Stats,
]


class KnotForcingExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [adapters.with_warnings(node) for node in NODES]


async def comfy_entrypoint() -> KnotForcingExtension:
    adapters.add_routes()
    add_live_routes()
    return KnotForcingExtension()
