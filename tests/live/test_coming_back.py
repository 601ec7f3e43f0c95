"""Who comes back to a session sees all of it, wherever the connection was lost."""

import asyncio
import json
from types import MappingProxyType

from knot_live.limits import Limits
from knot_live.live_session import Client, LiveSession
from knot_live.media_encoder import ChunkEncoder, EncodedChunk
from knot_live.outbox import Outbox

from .serving import FPS, WORDS
from .test_client import run


class Pieces:
    """A source whose pieces a test hands out."""

    formats, worker = ChunkEncoder(32, 32, FPS).formats, "local"

    def listen(self, audience):
        self.audience = audience

    def apply(self, _):
        return 1

    def want(self, name):
        pass

    def piece(self, first, *, key):
        about = {"first_frame": first, "frames": 4, "epoch": 0, "chunk": first // 12, "applied": [], "seconds": {}}
        return EncodedChunk(epoch=0, chunk=first // 12, first_frame=first, num_frames=4, key=key, about=about,
                            media={"h264": (b"picture",), "pcm16": (b"sound",)})  # fmt: skip


class Still:
    """A session that is made, and draws nothing by itself."""

    words, about, fps, identity = WORDS, MappingProxyType({}), FPS, None

    def __init__(self):
        self.made = Pieces()

    def source(self):
        return self.made


def test_who_comes_back_inside_a_chunk_misses_none_of_its_pieces():
    """What he had seen of the chunk comes again, because the rest cannot be decoded without its key frame."""

    async def live():
        made, limits = Still(), Limits()
        session = LiveSession(made, limits, lambda _: None)
        show, frames = made.made.audience.show, []
        for last, pieces in ((-1, ((0, True), (4, False))), (7, ((8, False), (12, True)))):
            outbox = Outbox(limits.max_waiting_messages, limits.max_waiting_bytes)
            client = Client(outbox, "h264", "pcm16", drives=True)
            session.drive(client, last)
            for first, key in pieces:
                show(made.made.piece(first, key=key))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            session.leave(client)
            messages = [await outbox.take() for _ in range(outbox.num_messages)]
            told = [json.loads(message) for message in messages if isinstance(message, str)]
            frames.append([one["first_frame"] for one in told if one["type"] == "video.chunk_metadata"])
        return frames

    assert run(live()) == [[0, 4], [0, 4, 8, 12]]
