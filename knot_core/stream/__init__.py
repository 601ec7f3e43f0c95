"""Streaming generation: a chunk's plan, the anchor, the sampler, and a stream's state."""

from .anchor import Anchor, encode_anchor
from .continuing import (
    begin_stream,
    continue_stream,
    driving_played,
    in_whole_chunks,
    leave_state,
    placed,
    restart_driving,
    state_of,
)
from .model import StreamCodec, StreamDriving, StreamModel, fingerprint
from .plan import ChunkPlan, plan_chunk
from .sampler import Chunk, Stream, open_stream, resume_stream
from .state import Snapshot, load_stream, save_stream

__all__ = [
    "Anchor",
    "Chunk",
    "ChunkPlan",
    "Snapshot",
    "Stream",
    "StreamCodec",
    "StreamDriving",
    "StreamModel",
    "begin_stream",
    "continue_stream",
    "driving_played",
    "encode_anchor",
    "fingerprint",
    "in_whole_chunks",
    "leave_state",
    "load_stream",
    "open_stream",
    "placed",
    "plan_chunk",
    "restart_driving",
    "resume_stream",
    "save_stream",
    "state_of",
]
