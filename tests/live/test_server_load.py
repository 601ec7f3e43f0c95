"""Clients that misbehave: at most their own connection ends, and the others' pictures go on coming."""

import asyncio
import contextlib
import json
import os
import random
import socket
import sys
import time
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import pytest

from ..allocated import allocated_bytes
from .serving import FPS, FRAMES, served, wire
from .test_protocol import SOUND, damaged

pytestmark = pytest.mark.alone

PLAY_RATIO = 0.99  # of the others, at least: their time without a stall
START = 0.3  # seconds that a player holds before it begins


def check_play_ratio(ratio):
    """Last in a test: where others keep the processor busy, nobody's pictures come in time."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if ratio < PLAY_RATIO and load > 1.5 * os.cpu_count():
        pytest.skip(f"NOT TESTED, the others' play ratio, {ratio:.3f}: this machine has a load of {load:.1f}")
    assert ratio >= PLAY_RATIO


def run(coroutine, seconds=300):
    return asyncio.run(asyncio.wait_for(coroutine, seconds))


class Watched:
    """Somebody who drives a session as he should, and plays it, beginning soon after its first chunk has come."""

    def __init__(self, driver) -> None:
        self.driver, self.created = driver, None
        self._begun, self._stalled, self._end = None, 0.0, 0

    async def drive(self) -> None:
        await asyncio.gather(self._receive(), self._acknowledge())

    async def _receive(self) -> None:
        while True:
            chunk = await self.driver.until("video.chunk_metadata")
            now = time.monotonic()
            self._begun = now + START if self._begun is None else self._begun
            self._stalled += max(0.0, now - self._begun - self._stalled - chunk["first_frame"] / FPS)
            self._end = chunk["first_frame"] + chunk["frames"]
            self.driver.seen.clear()

    async def _acknowledge(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            if self._begun is not None:
                played = int((time.monotonic() - self._begun - self._stalled) * FPS)
                await self.driver.say("playback.ack", epoch=0, frame=min(played, self._end - 1))

    async def more(self) -> None:
        """Wait for three chunks."""
        end = self._end + 3 * FRAMES
        while self._end < end:
            await asyncio.sleep(0.01)

    @property
    def play_ratio(self) -> float:
        """The share without stall of the time since it began."""
        return 1 - self._stalled / (time.monotonic() - self._begun)


@asynccontextmanager
async def watched(url):
    """A session that somebody drives all the while."""
    async with wire(url, "session.create") as driver:
        found = Watched(driver)
        found.created = await driver.until("session.created")
        task = asyncio.create_task(found.drive())
        try:
            await found.more()
            yield found
            assert not task.done(), "the driver's own connection has ended"
            await found.more()
        finally:
            task.cancel()


@asynccontextmanager
async def fast(url):
    """A session that is played as fast as it is made, some hundred chunks a second."""

    async def drive(driver):
        while True:
            await driver.chunks(1)
            driver.seen.clear()

    async with wire(url, "session.create") as driver:
        created = await driver.until("session.created")
        task = asyncio.create_task(drive(driver))
        yield created
        assert not task.done(), "its own connection has ended"
        task.cancel()


async def deaf(url, message):
    """A socket that has sent its first message and takes almost nothing."""
    address, loop = urlsplit(url), asyncio.get_running_loop()
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    found.setblocking(False)
    await loop.sock_connect(found, (address.hostname, address.port))
    request = (f"GET /v1/session HTTP/1.1\r\nHost: {address.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n")  # fmt: skip
    await loop.sock_sendall(found, request.encode())
    while not (await loop.sock_recv(found, 1024)).endswith(b"\r\n\r\n"):
        pass
    data = json.dumps(message).encode()
    assert len(data) < 126
    await loop.sock_sendall(found, bytes([0x81, 0x80 | len(data)]) + bytes(4) + data)
    return found


def test_a_client_that_reads_nothing_loses_its_own_connection():
    async def live():
        async with served(max_waiting_messages=300) as at, watched(at.url) as other, fast(at.url) as created:
            live = at.hub.sessions[created["session_id"]]
            ear = await deaf(at.url, {"type": "session.view", "view_token": created["view_token"]})
            while not live.viewers:
                await asyncio.sleep(0.01)
            (viewer,) = live.viewers
            while live.viewers:
                await asyncio.sleep(0.05)
                assert viewer.outbox.num_messages <= 300
            ear.close()
            return viewer.outbox.num_messages, other.play_ratio

    left, ratio = run(live())
    assert left == 0, "what waited for it is forgotten"
    check_play_ratio(ratio)


def test_a_client_that_does_not_answer_a_ping_is_let_go():
    async def live():
        async with served(heartbeat_seconds=1.0) as at, watched(at.url) as other:
            live = next(iter(at.hub.sessions.values()))
            ear = await deaf(at.url, {"type": "session.view", "view_token": other.created["view_token"]})
            while not live.viewers:
                await asyncio.sleep(0.01)
            while live.viewers:
                await asyncio.sleep(0.01)
            ear.close()

    run(live())


@pytest.mark.parametrize(
    "limits", [{"messages_per_second": 50}, {"bytes_per_second": 10_000}], ids=["messages", "bytes"]
)
def test_a_client_that_floods_loses_its_own_connection(limits):
    async def live():
        async with served(**limits) as at, watched(at.url) as other, wire(at.url, "session.create") as flood:
            await flood.until("session.created")
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):  # it ends meanwhile
                for _ in range(20_000):
                    await flood.say("ping", event_id="x" * 100)
            seen = await flood.end()
            return seen, other.play_ratio

    last, ratio = run(live())
    assert last is None or last["type"] in ("pong", "error", "video.chunk_metadata")
    check_play_ratio(ratio)


def test_ten_thousand_malformed_messages_close_at_most_their_own_connection():
    rng = random.Random(1)
    wholes = [json.dumps({"type": kind} | fields) for kind, fields, _ in SOUND if kind != "session.finish"]

    def malformed(number):
        if number % 4 == 0:
            return rng.randbytes(rng.randrange(40))
        return damaged(wholes[number % len(wholes)], rng)

    async def live():
        num_sent, num_connections = 0, 0
        limits = {"max_sessions": 50, "resume_seconds": 0.2, "messages_per_second": 1e9}
        async with served(**limits) as at, watched(at.url) as other:
            while num_sent < 10_000:
                num_connections += 1
                async with wire(at.url) as client:
                    num_sent += await shout(client, malformed, num_sent, opened=num_connections % 20 == 0)
            return num_sent, num_connections, other.play_ratio

    async def shout(client, malformed, start, *, opened):
        """Send until the connection has ended: at once where the first message opens nothing."""
        if not opened:
            await send(client, malformed(start))
            await client.end()
            return 1
        await client.say("session.create")
        await client.until("session.created")
        for number in range(1000):
            await send(client, malformed(start + number))
            if number % 50 == 0:
                client.seen.clear()
                await client.say("ping", event_id=str(number))
                await client.until("pong", event_id=str(number))
        return 1000

    async def send(client, message):
        if isinstance(message, bytes):
            await client.socket.send_bytes(message)
        else:
            await client.socket.send_str(message.encode("utf-8", "replace").decode())

    num_sent, num_connections, ratio = run(live())
    assert num_sent >= 10_000
    assert num_connections > 100
    check_play_ratio(ratio)


@pytest.mark.slow
def test_five_hundred_clients_come_and_go_and_leave_nothing():
    async def come_and_go(at, number, view_token):
        if number % 4 == 0:
            async with wire(at.url):
                return
        if number % 4 == 1:
            async with wire(at.url, "session.view", view_token=view_token) as viewer:
                await viewer.until("session.created")
                return
        async with wire(at.url, "session.create", video="fmp4" if number % 4 == 2 else "h264") as driver:
            await driver.until("session.created")
            if number % 4 == 3:
                await driver.say("session.finish")
                await driver.end()

    async def live():
        async with served(max_sessions=20, resume_seconds=0.1) as at, watched(at.url) as other:
            sizes = []
            for number in range(900):  # 400 until the allocator has what it keeps, then 500 that must leave nothing
                await come_and_go(at, number, other.created["view_token"])
                at.sessions.clear()  # the test's own
                while at.hub.num_sessions > 15:
                    await asyncio.sleep(0.05)
                if number in (399, 899):
                    while at.hub.num_sessions > 1:
                        await asyncio.sleep(0.05)
                    sizes.append((allocated_bytes(), sys.getallocatedblocks()))  # Python's blocks are not malloc's
            return sizes, at.hub.num_sessions, other.play_ratio

    (before, after), num_sessions, ratio = run(live(), 300)
    assert num_sessions == 1
    assert all(later < 1.03 * earlier for later, earlier in zip(after, before, strict=True)), (before, after)
    check_play_ratio(ratio)
