"""A real ComfyUI as its own process, and a client that talks to it over HTTP and the websocket, as users do."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

from .. import archive

PACK = Path(__file__).resolve().parents[2]
STAND_INS = Path(__file__).with_name("stand_ins")
START_LIMIT = 300  # seconds; a start takes about 12 on two idle cores
IDLE_LIMIT = 30  # seconds from a prompt's end until the queue is empty
RUN_LIMIT = 600  # seconds for one prompt; the longest takes about 10 there

Json = dict[str, Any]


def find_hosts() -> list[Path]:
    """ComfyUI folders: COMFYUI_PATH (separated like PATH), else the one this pack is installed in, else ~/comfy."""
    named = [Path(part).expanduser() for part in os.environ.get("COMFYUI_PATH", "").split(os.pathsep) if part]
    around = [PACK.parents[1]] if PACK.parent.name == "custom_nodes" else []
    usual = [Path("~/comfy/ComfyUI").expanduser(), Path("~/comfy/ComfyUI-0.8").expanduser()]
    if named and not all((path / "main.py").is_file() for path in named):
        raise ValueError(f"COMFYUI_PATH: got {named}, wanted folders that hold ComfyUI's main.py")
    for candidates in (named, around, usual):
        found = [path for path in candidates if (path / "main.py").is_file()]
        if found:
            return found
    return []


def host_python(host: Path) -> str:
    """The tree's own interpreter, where it has one."""
    options = (host / ".venv/bin/python", host / ".venv/Scripts/python.exe")
    return next((str(path) for path in options if path.exists()), sys.executable)


def host_version(host: Path) -> str:
    return (host / "comfyui_version.py").read_text(encoding="utf-8").split('__version__ = "')[1].split('"')[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@dataclass(kw_only=True)
class Run:
    """What one queued prompt sent back."""

    prompt_id: str
    status: str = "queued"  # success | error | interrupted
    error: Json = field(default_factory=dict)
    outputs: Json = field(default_factory=dict)
    cached: list[str] = field(default_factory=list)
    progress: list[Json] = field(default_factory=list)
    num_previews: int = 0


class Server:
    """One ComfyUI on a free port in a temporary base directory; `with Server(...)` starts and ends it."""

    def __init__(self, host: Path, base: Path) -> None:
        self.host, self.base, self.port = host, base, free_port()
        self.log = base / "comfyui.log"
        self.pack = base / "custom_nodes" / "knot-forcing"
        archive.install(self.pack)
        shutil.copytree(STAND_INS, base / "custom_nodes" / STAND_INS.name)

    def __enter__(self) -> "Server":
        arguments = ["--cpu", "--port", str(self.port), "--base-directory", str(self.base), "--disable-auto-launch"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [host_python(self.host), "main.py", *arguments, "--database-url", "sqlite:///:memory:"],
                cwd=self.host,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        try:
            self._wait_until_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_LIMIT
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended at its start:\n{self.log_tail()}")
            try:
                self.get("/system_stats")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.5)
            else:
                return
        raise TimeoutError(f"ComfyUI did not answer in {START_LIMIT} s:\n{self.log_tail()}")

    def log_tail(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-4000:]

    def data(self, path: str) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
            return answer.read()

    def text(self, path: str) -> str:
        return self.data(path).decode()

    def get(self, path: str) -> Any:
        return json.loads(self.text(path))

    def post(self, path: str, body: Json) -> Any:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as refusal:
            raise ValueError(f"{path} answered {refusal.code}: {refusal.read().decode()}") from refusal
        return json.loads(text) if text else {}

    def wait_until_idle(self) -> None:
        """Nothing runs and nothing waits: ComfyUI tells a prompt's end first, and takes it out of the queue then."""
        deadline = time.monotonic() + IDLE_LIMIT
        while (queue := self.get("/queue")) != {"queue_running": [], "queue_pending": []}:
            assert time.monotonic() < deadline, f"after {IDLE_LIMIT} seconds the queue still holds {queue}"
            time.sleep(0.05)

    def run(self, prompt: Json, *, interrupt_after: int | None = None) -> Run:
        """Queue an API-format prompt and follow it to its end; `interrupt_after` presses stop at that many previews."""
        client = uuid.uuid4().hex
        socket_url = f"ws://127.0.0.1:{self.port}/ws?clientId={client}"
        connection = websocket.create_connection(socket_url, timeout=RUN_LIMIT)
        try:
            queued = self.post("/prompt", {"prompt": prompt, "client_id": client, "prompt_id": str(uuid.uuid4())})
            run = Run(prompt_id=queued["prompt_id"])
            for message in self._messages(connection):
                if self._note(run, message):
                    return run
                if interrupt_after is not None and run.num_previews >= interrupt_after:
                    interrupt_after = None
                    self.post("/interrupt", {"prompt_id": run.prompt_id})
        finally:
            connection.close()
        raise TimeoutError(f"prompt not done in {RUN_LIMIT} s:\n{self.log_tail()}")

    @staticmethod
    def _messages(connection: websocket.WebSocket) -> Iterator[str | bytes]:
        deadline = time.monotonic() + RUN_LIMIT
        while time.monotonic() < deadline:
            yield connection.recv()

    @staticmethod
    def _note(run: Run, message: str | bytes) -> bool:
        """Add one message to the run; True when it was the last."""
        if isinstance(message, bytes):
            run.num_previews += 1
            return False
        event = json.loads(message)
        kind, data = event["type"], event.get("data", {})
        if data.get("prompt_id") != run.prompt_id:
            return False
        if kind == "executed":
            run.outputs[data["node"]] = data["output"]
        elif kind == "execution_cached":
            run.cached = data["nodes"]
        elif kind == "progress":
            run.progress.append(data)
        elif kind in ("execution_success", "execution_error", "execution_interrupted"):
            run.status, run.error = kind.removeprefix("execution_"), data
            return True
        return False

    def file(self, result: Json) -> Path:
        """The file on disc that a `ui` result of a node names."""
        return self.base / result["type"] / result["subfolder"] / result["filename"]
