"""Streaming generation: a chunk's plan, the anchor, the sampler, and a stream's state."""

from .anchor import Anchor, encode_latent_anchor
from .changing import CHANGEABLE, change_anchor, change_settings
from .chunk_stages import Chunk
from .conditioning import Conditioning, TimedPrompts
from .continuing import (
    begin_stream,
    continue_stream,
    driving_played,
    in_whole_chunks,
    leave_state,
    open_stream,
    placed,
    restart_driving,
    resume_stream,
    state_of,
)
from .control import ACTIONS, FINISH, GO_ON, PAUSE, StreamControl
from .drawing_thread import DrawingThread
from .drawn_ahead import pipelined
from .grouping import Grouping, choose_grouping, larger_groups
from .late_decoding import LateChunk, LateDecoder, LateFrames, LateMemory
from .plan import ChunkPlan, plan_chunk
from .sampler import Stream
from .snapshot import Snapshot
from .state_file import load_stream, save_stream, stream_of_parts, stream_parts
from .stream_model import StreamCodec, StreamDriving, StreamModel, fingerprint
from .together import Together, next_chunks

__all__ = [
    "ACTIONS",
    "CHANGEABLE",
    "FINISH",
    "GO_ON",
    "PAUSE",
    "Anchor",
    "Chunk",
    "ChunkPlan",
    "Conditioning",
    "DrawingThread",
    "Grouping",
    "LateChunk",
    "LateDecoder",
    "LateFrames",
    "LateMemory",
    "Snapshot",
    "Stream",
    "StreamCodec",
    "StreamControl",
    "StreamDriving",
    "StreamModel",
    "TimedPrompts",
    "Together",
    "begin_stream",
    "change_anchor",
    "change_settings",
    "choose_grouping",
    "continue_stream",
    "driving_played",
    "encode_latent_anchor",
    "fingerprint",
    "in_whole_chunks",
    "larger_groups",
    "leave_state",
    "load_stream",
    "next_chunks",
    "open_stream",
    "pipelined",
    "placed",
    "plan_chunk",
    "restart_driving",
    "resume_stream",
    "save_stream",
    "state_of",
    "stream_of_parts",
    "stream_parts",
]
