"""What clients need of a ComfyUI, without one: prompts wait in line, take a moment, and make a file."""

import asyncio
import itertools
import json
import threading
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

Json = dict


class FakeComfy:
    """Served on a thread of its own; `with FakeComfy() as comfy: comfy.url`.

    `outcome(prompt, number)` says what becomes of the prompt that is run as the `number`th: "success", "error", or
    "die", with which the server is gone at once. `refuses(prompt)` is a sentence, or None for a prompt that is taken.
    """

    def __init__(
        self,
        *,
        seconds: float = 0.05,
        outcome: Callable[[Json, int], str] = lambda _prompt, _number: "success",
        refuses: Callable[[Json], str | None] = lambda _: None,
        port: int = 0,
    ) -> None:
        self._seconds, self._outcome, self._refuses, self._port = seconds, outcome, refuses, port
        self.prompts: dict[str, Json] = {}
        self.history: dict[str, Json] = {}
        self.uploads: list[bytes] = []
        self.running: str | None = None
        self.waiting: list[str] = []
        self.alive = True
        self._numbers, self._interrupted = itertools.count(), False

    def __enter__(self) -> "FakeComfy":
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._call(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _call(self, coroutine) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    async def _start(self) -> None:
        app = web.Application()
        app.add_routes([
            web.get("/ws", self._ws), web.post("/prompt", self._prompt), web.get("/queue", self._queue),
            web.post("/queue", self._delete), web.post("/interrupt", self._interrupt),
            web.get("/history/{id}", self._history), web.post("/upload/image", self._upload),
            web.get("/object_info/{kind}", self._inputs), web.get("/view", self._view),
        ])  # fmt: skip
        self._sockets: dict[str, web.WebSocketResponse] = {}
        self._transports, self._there = set(), asyncio.Event()
        app.middlewares.append(self._remember)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        self._worker = asyncio.create_task(self._work())

    @web.middleware
    async def _remember(self, request, handler):
        self._transports.add(request.transport)
        return await handler(request)

    async def _stop(self) -> None:
        if not self.alive:
            return
        self.alive = False
        self._worker.cancel()
        for transport in self._transports:
            if transport is not None:
                transport.abort()
        await self._runner.cleanup()

    async def _work(self) -> None:
        while True:
            await self._there.wait()
            while self.waiting:
                self.running = self.waiting.pop(0)
                if not await self._run(self.running):
                    return
                self.running = None
            self._there.clear()

    async def _run(self, prompt_id: str) -> bool:
        """Whether this machine lives on."""
        outcome = self._outcome(self.prompts[prompt_id]["prompt"], next(self._numbers))
        self._interrupted = False
        until = self._loop.time() + self._seconds
        while self._loop.time() < until and not self._interrupted:
            await asyncio.sleep(0.01)
        if outcome == "die":
            asyncio.get_running_loop().create_task(self._stop())
            return False
        outcome = "interrupted" if self._interrupted else outcome
        kind = f"execution_{outcome}"
        data = {"prompt_id": prompt_id, "node_id": "6", "exception_message": "out of memory"}
        files = [{"filename": f"video_{len(self.history):05}_.mp4", "subfolder": "", "type": "output"}]
        self.history[prompt_id] = {
            "outputs": {"6": {"images": files}} if outcome == "success" else {},
            "status": {"status_str": "success" if outcome == "success" else "error", "messages": [[kind, data]]},
        }
        await self._say(prompt_id, kind, data)
        await self._say(prompt_id, "executing", {"prompt_id": prompt_id, "node": None})
        return True

    async def _say(self, prompt_id: str, kind: str, data: Json) -> None:
        socket = self._sockets.get(self.prompts[prompt_id]["client_id"])
        if socket is not None and not socket.closed:
            with suppress(ConnectionError):
                await socket.send_str(json.dumps({"type": kind, "data": data}))

    async def _ws(self, request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[request.query["clientId"]] = socket
        async for _ in socket:
            pass
        return socket

    async def _prompt(self, request):
        body = await request.json()
        if (why := self._refuses(body["prompt"])) is not None:
            return web.json_response({"error": {"message": why, "details": ""}, "node_errors": {}}, status=400)
        prompt_id = f"prompt-{len(self.prompts)}"
        self.prompts[prompt_id] = body
        self.waiting.append(prompt_id)
        self._there.set()
        return web.json_response({"prompt_id": prompt_id, "node_errors": {}})

    async def _queue(self, _):
        running = [] if self.running is None else [[0, self.running]]
        return web.json_response({"queue_running": running, "queue_pending": [[1, one] for one in self.waiting]})

    async def _delete(self, request):
        names = (await request.json()).get("delete", [])
        self.waiting = [one for one in self.waiting if one not in names]
        return web.json_response({})

    async def _interrupt(self, request):
        self._interrupted = (await request.json()).get("prompt_id") == self.running
        return web.json_response({})

    async def _history(self, request):
        found = {name: entry for name, entry in self.history.items() if name == request.match_info["id"]}
        return web.json_response(found)

    async def _upload(self, request):
        part = await (await request.multipart()).next()
        self.uploads.append(await part.read())
        return web.json_response({"name": f"{len(self.uploads)}-{part.filename}"})

    async def _inputs(self, request):
        return web.json_response({request.match_info["kind"]: {"input": {"required": {"width": [], "height": []}}}})

    async def _view(self, request):
        return web.Response(body=f"{self.url} {request.query['filename']}".encode())
