"""Streaming generation: a chunk's plan, the anchor, the sampler, and a stream's state."""

from .anchor import Anchor, encode_anchor
from .model import StreamCodec, StreamDriving, StreamModel, fingerprint
from .plan import ChunkPlan, plan_chunk
from .sampler import Chunk, Stream, open_stream, resume_stream

__all__ = [
    "Anchor",
    "Chunk",
    "ChunkPlan",
    "Stream",
    "StreamCodec",
    "StreamDriving",
    "StreamModel",
    "encode_anchor",
    "fingerprint",
    "open_stream",
    "plan_chunk",
    "resume_stream",
]
