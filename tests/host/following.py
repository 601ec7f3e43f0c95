"""One queued prompt, message by message, for tests that do something while it runs."""

import json
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from types import TracebackType
from typing import Any

import websocket

from .comfyui import RUN_LIMIT, Run, Server

EVENT = "knot_forcing.live"
ROUTE = "/knot_forcing/control"
Json = dict[str, Any]


class Following:
    """`with Following(server, prompt) as run:` queues it; whatever happens, it is stopped at the end."""

    EVENT = EVENT

    def __init__(self, server: Server, prompt: Json) -> None:
        self.server, self.prompt = server, prompt
        self.run = Run(prompt_id=str(uuid.uuid4()))
        self.live: list[Json] = []  # what the pack told, oldest first

    def __enter__(self) -> "Following":
        client = uuid.uuid4().hex
        self._socket = websocket.create_connection(
            f"ws://127.0.0.1:{self.server.port}/ws?clientId={client}", timeout=RUN_LIMIT
        )
        self.server.post("/prompt", {"prompt": self.prompt, "client_id": client, "prompt_id": self.run.prompt_id})
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.post("/interrupt", {"prompt_id": self.run.prompt_id})
        self._socket.close()
        self.server.wait_until_idle()

    def until(self, wanted: Callable[[Json], Any]) -> Json:
        """The next event of the pack that is wanted."""
        while not self._hear(lambda event: event["type"] == self.EVENT and wanted(event["data"])):
            assert self.run.status == "queued", f"{self.run.status} {self.run.error}\n{self.server.log_tail()}"
        return self.live[-1]

    def chunks(self, count: int) -> Json:
        """After so many more of them."""
        for _ in range(count):
            self.until(lambda data: "chunk" in data)
        return self.live[-1]

    def end(self) -> Run:
        while self.run.status == "queued":
            self._hear(lambda _: False)
        return self.run

    def ask(self, action: str, path: str = ROUTE) -> Json:
        """As the client that queued it may."""
        newest = self.live[-1]
        status, said = ask(
            self.server, {"stream": newest["stream"], "token": newest["control"]["token"], "action": action}, path=path
        )
        assert status == 200, said
        return said

    def ask_refused(self, action: str) -> int:
        """The status."""
        newest = self.live[-1]
        wish = {"stream": newest["stream"], "token": newest["control"]["token"], "action": action}
        return ask(self.server, wish)[0]

    def _hear(self, wanted: Callable[[Json], Any]) -> bool:
        message = self._socket.recv()
        if isinstance(message, str):
            event = json.loads(message)
            if event["type"] == self.EVENT and event["data"]["prompt_id"] == self.run.prompt_id:
                self.live.append(event["data"])
            self.server._note(self.run, message)
            return bool(wanted(event))
        self.run.num_previews += 1
        return False


def ask(
    server: Server, body: object, *, path: str = ROUTE, method: str = "POST", host: str | None = None,
    kind: str | None = "application/json", **headers: str,
) -> tuple[int, Json]:  # fmt: skip
    """The status and the answer; `body` is sent as it is if it is bytes, else as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", None if method in ("GET", "HEAD") else data, method=method
    )
    given = {"Content-Type": kind, "Host": host} | {name.replace("_", "-"): value for name, value in headers.items()}
    for name, value in given.items():
        if value is not None:
            request.add_header(name, value)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refusal:
        text = refusal.read()
        return refusal.code, json.loads(text) if text.startswith(b"{") else {"plain": text.decode()}
