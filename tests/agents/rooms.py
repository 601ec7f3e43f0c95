"""Two participants of a LiveKit room without a server: streams of bytes and calls of one reach the other."""

import asyncio
from types import SimpleNamespace

from livekit import rtc


class Reader:
    """A stream of bytes as it is received."""

    def __init__(self, attributes):
        self.info, self.received = SimpleNamespace(attributes=attributes), asyncio.Queue()

    async def __anext__(self):
        data = await self.received.get()
        if data is None:
            raise StopAsyncIteration
        return data


class Participant:
    """One side's own participant."""

    kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT
    state = rtc.ParticipantState.PARTICIPANT_STATE_ACTIVE

    def __init__(self, room, identity):
        self.identity, self._room, self._rpc_handlers, self.track_publications = identity, room, {}, {}
        self.attributes = {}

    def register_rpc_method(self, method, handler):
        self._rpc_handlers[method] = handler

    async def perform_rpc(self, *, destination_identity, method, payload):
        other = self._room.other
        assert destination_identity == other.local_participant.identity
        self._room.calls.append((method, payload))
        await asyncio.sleep(0)
        call = SimpleNamespace(caller_identity=self.identity, payload=payload)
        return other.local_participant._rpc_handlers[method](call)

    async def stream_bytes(self, *, name, topic, destination_identities, attributes):
        reader = Reader(attributes)
        self._room.other.stream_handlers[topic](reader, self.identity)
        writer = SimpleNamespace(name=name, to=destination_identities)

        async def write(data):
            reader.received.put_nowait(data)

        async def aclose():
            reader.received.put_nowait(None)

        writer.write, writer.aclose = write, aclose
        return writer

    async def publish_track(self, track, options):
        async def wait_for_subscription():
            await asyncio.sleep(0)

        publication = SimpleNamespace(
            kind=track.kind, source=options.source, wait_for_subscription=wait_for_subscription
        )
        self.track_publications[len(self.track_publications)] = publication
        self._room.other.emit("track_published", publication, self)
        return publication


class Room(rtc.EventEmitter):
    """A connected room as one of the two sees it; `calls` are those that it made."""

    name = "here"

    def __init__(self, identity):
        super().__init__()
        self.local_participant, self.other = Participant(self, identity), None
        self.stream_handlers, self.calls = {}, []

    @property
    def remote_participants(self):
        other = self.other.local_participant
        return {other.identity: other}

    def isconnected(self):
        return True

    def register_byte_stream_handler(self, topic, handler):
        self.stream_handlers[topic] = handler


def pair(agent="agent", avatar="knot-forcing"):
    """The same room as the agent and as the avatar see it."""
    rooms = Room(agent), Room(avatar)
    rooms[0].other, rooms[1].other = rooms[1], rooms[0]
    rooms[1].local_participant.attributes["lk.publish_on_behalf"] = agent
    return rooms
