"""A worker: one process on one device, with the weights, and the sessions that it draws."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Condition
from typing import Any

import ray

from ..controls import Control
from ..engine import (
    KnotError,
    Model,
    SettingsError,
    SharedWeights,
    Snapshot,
    fingerprint,
    load_model,
    load_text_encoder,
    share_weights,
    stream_of_parts,
)
from ..journal import Journal
from ..media_encoder import ChunkEncoder
from ..messages import Create
from ..protocol import ProtocolError
from ..replaying import Resumed, Standing
from ..session import Session
from ..studio import Studio, words_of
from .cluster_options import ClusterOptions, Told
from .failover import Lost
from .hosting import Hosted, Item

logger = logging.getLogger(__name__)


class Worker:
    """All but drawing and encoding runs in the actor's event loop."""

    def __init__(
        self, name: str, options: ClusterOptions, steps: Any = None, shared: SharedWeights | None = None
    ) -> None:
        """Load the weights, and what reads prompts. `steps` are those that another worker has measured, `shared` the
        files that it loaded.
        """
        self.name, self._options = name, options
        model, self._shared = _loaded(options, shared)
        reads = None if options.text_encoder is None else load_text_encoder(options.text_encoder).encode
        self._studio = Studio(model, options.limits, badge=options.badge, encode_text=reads, prompt=options.prompt,
                              lanes=options.lanes)  # fmt: skip
        self._studio.warm(steps)
        self._sessions: dict[str, Hosted] = {}
        self._encoders: dict[str, ChunkEncoder] = {}
        self._packing = ThreadPoolExecutor(1, "knot-live-checkpoints")

    async def pulse(self) -> dict[str, Any]:
        """That it lives, and how its sessions are."""
        ratios = {name: hosted.session.play_ratio for name, hosted in self._sessions.items()}
        differs = sum(getattr(hosted.session, "differs", 0) for hosted in self._sessions.values())
        return {"pid": os.getpid(), "sessions": ratios, "differs": differs, "steps": self._studio.steps,
                "room_for": self._studio.room_for, "strained": self._studio.ticker.strained}  # fmt: skip

    async def shared(self) -> SharedWeights | None:
        """Files whose memory workers of one machine share; None: they cannot."""
        return self._shared

    async def told(self) -> Told:
        """A description of this worker's sessions."""
        return self._told(ChunkEncoder(*self._size), self._studio.about())

    async def keep_picture(self, name: str, picture: Any) -> None:
        """A picture [H, W, 3] that somebody has sent, by its name."""
        self._studio.references.put(name, picture)

    async def create(self, session_id: str, wish: Create) -> Told:
        """A session before its first chunk; drawn once a gateway attaches.

        Raises:
            ProtocolError: its reference or its settings cannot be.
        """
        return await self._host(session_id, partial(self._begin, wish), None)

    async def resume(self, session_id: str, wish: Create, lost: Lost) -> Told:
        """A session that was drawn elsewhere; what was done since its checkpoint is done again.

        Raises:
            StateError: it cannot be of this model.
        """
        begin = partial(self._begin, wish) if lost.checkpoint is None else partial(self._go_on, lost)
        told = await self._host(session_id, begin, lost)
        for number, control in lost.left:
            self._sessions[session_id].apply(number, control)
        return told

    async def attach(self, session_id: str, fresh: bool) -> AsyncIterator[list[Item]]:
        """All that comes of a session, as lists; see `Hosted.attach`."""
        hosted, loop, there = self._sessions[session_id], asyncio.get_running_loop(), asyncio.Event()
        outlet = hosted.attach(lambda: loop.call_soon_threadsafe(there.set), fresh=fresh)
        while (items := outlet.take()) is not None:
            if items:
                yield items
            else:
                await there.wait()
                there.clear()
        if not hosted.alive:
            self._sessions.pop(session_id, None)
            self._encoders.pop(session_id, None)

    async def apply(self, session_id: str, number: int, control: Control) -> None:
        """Ask a session for something; one that is gone has been asked in vain."""
        if (hosted := self._sessions.get(session_id)) is not None:
            hosted.apply(number, control)

    async def acknowledge(self, session_id: str, epoch: int, frame: int, transport: float | None = None) -> None:
        """Its driver has shown that frame; see `Session.acknowledge`."""
        if (hosted := self._sessions.get(session_id)) is not None:
            hosted.session.acknowledge(epoch, frame, transport)

    async def want(self, session_id: str, name: str) -> None:
        """Encode it in that format, too."""
        if (encoder := self._encoders.get(session_id)) is not None:
            encoder.wanted.add(name)

    async def leave(self) -> list[str]:
        """Let all sessions go on elsewhere, each at the end of its chunk."""
        for hosted in self._sessions.values():
            hosted.leave()
        return list(self._sessions)

    async def read_file(self, path: Any) -> bytes:
        """A recording that was made here."""
        return await asyncio.to_thread(path.read_bytes)

    @property
    def _size(self) -> tuple[int, int, int]:
        model = self._studio.model
        return model.preset.width, model.preset.height, model.fps

    def _told(self, encoder: ChunkEncoder, about: dict[str, Any]) -> Told:
        width, height, fps = self._size
        return Told(width=width, height=height, fps=fps, words=words_of(self._studio.model), formats=encoder.formats,
                    about=about)  # fmt: skip

    async def _host(self, session_id: str, begin: Any, lost: Lost | None) -> Told:
        if (before := self._sessions.pop(session_id, None)) is not None:
            before.leave()
        encoder = ChunkEncoder(*self._size)
        try:
            hosted = await asyncio.to_thread(
                Hosted, begin, encoder, self._studio.ticker, self._packing, self._options.checkpoint_every, lost
            )
        except KnotError as problem:
            raise ProtocolError("bad_value", str(problem)) from None
        self._sessions[session_id], self._encoders[session_id] = hosted, encoder
        return self._told(encoder, self._studio.about() | {"steps": hosted.session.adapting.rung.shape.steps})

    def _begin(self, wish: Create, hosted: Hosted, changed: Condition) -> Session:
        return self._studio.session(wish, on_event=hosted.tell, before_chunk=hosted.before_chunk, changed=changed,
                                    journal=Journal(hosted.write))  # fmt: skip

    def _go_on(self, lost: Lost, hosted: Hosted, changed: Condition) -> Resumed:
        checkpoint = lost.checkpoint
        standing = Standing(at=self._snapshot(lost), notes=checkpoint.notes, steps=lost.steps, made=lost.made,
                            epoch=lost.epoch, recording=lost.recording)  # fmt: skip
        return Resumed(self._studio.model, standing, write=hosted.write, on_event=hosted.tell, changed=changed,
                       before_chunk=hosted.before_chunk, **self._studio.options())  # fmt: skip

    def _snapshot(self, lost: Lost) -> Snapshot:
        """The saved stream; with other weights of the same shapes it goes on from there, too."""
        model, header = self._studio.model, lost.checkpoint.header
        tensors = {name: part.tensor() for name, part in lost.parts.items()}
        own = fingerprint(model)
        at = stream_of_parts({**header, "model": own}, tensors, model, "the session's checkpoint")
        return at if header["model"] == own else replace(at, anchor=self._studio.anchor(lost.reference))


def _loaded(options: ClusterOptions, shared: SharedWeights | None) -> tuple[Model, SharedWeights | None]:
    """The model, on a CPU from files whose memory is shared, which the first worker of a machine writes."""
    if shared is not None and Path(shared.path).is_file():
        return shared.load(), shared
    model = load_model(options.model, options.device, codec=options.codec)
    if model.device.type != "cpu":
        return model, None
    try:
        shared = share_weights(model, Path.home() / ".cache" / "knot-forcing" / "shared-weights")
    except (SettingsError, OSError) as problem:
        logger.info("workers of this machine hold a copy of the weights each: %s", problem)
        return model, None
    return shared.load(), shared


WorkerActor = ray.remote(Worker)
