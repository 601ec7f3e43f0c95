"""A live server as processes of its own, which can be watched, killed and begun again. Linux: it reads /proc."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..client import LiveError

_MARK = "KNOT_LIVE_BENCH"  # of the environment: what a server begins, inherits it, wherever it hangs in the tree
_BEGINS = 180.0  # seconds in which a server must be warm
_WARM = 180.0  # seconds in which a worker must be ready
_ENDS = 30.0  # seconds in which all of its processes must have ended
_KEPT_LINES = 200  # of its log
_WORKER = "ray::Worker"  # what Ray names processes that draw
_GATEWAY = re.compile(r"-m knot_live serve .*--cluster=(\S+)")  # what a local cluster's supervisor begins again


class Server:
    """A server on loopback, of a cluster also its Ray; `with Server(options)` begins and ends it."""

    def __init__(self, options: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._options, self._mark = list(options), secrets.token_hex(8)
        self._environment = os.environ | {"PYTHONUNBUFFERED": "1", _MARK: self._mark} | (environment or {})
        self.url, self.lines = "", []
        self._port = _free_port()  # the same for each process that holds the clients' sockets

    def __enter__(self) -> "Server":
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Start the process, and wait until it listens.

        Raises:
            LiveError: it does not.
        """
        line = [sys.executable, "-m", "knot_live", "serve", "--port", str(self._port), *self._options]
        self._process = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=self._environment)
        there = threading.Event()
        threading.Thread(target=self._read, args=(self._process, there), daemon=True).start()
        if not there.wait(_BEGINS) or not self.url or self._process.poll() is not None:
            self.end()
            raise LiveError("no_server", f"the live server did not begin: {' | '.join(self.lines[-5:])}")

    def _read(self, process: subprocess.Popen[str], there: threading.Event) -> None:
        for line in process.stderr:
            self.lines = [*self.lines[-_KEPT_LINES:], line.rstrip()]
            if (found := re.search(r"open (http://\S+)", line)) is not None:
                self.url = found[1]
                there.set()
        there.set()

    def wait_for_standby(self) -> None:
        """Wait until a worker is ready that draws nothing, and none is starting, which takes a processor meanwhile.

        Raises:
            LiveError: none is in time.
        """
        until = time.monotonic() + _WARM
        while True:
            workers = self.tell_cluster("status")["workers"]
            starts = any(one["state"] == "starting" for one in workers)
            if not starts and any(one["state"] == "ready" and not one["sessions"] for one in workers):
                return
            if time.monotonic() > until:
                raise LiveError("bench", f"no standby worker was ready in {_WARM:.0f} seconds")

    def kill_gateway(self) -> None:
        """The process that holds the clients' sockets, at once; it is begun again: by its supervisor, or here."""
        gateways = [number for number in self.processes() if _GATEWAY.search(_command(number))]
        for number in gateways:
            os.kill(number, signal.SIGKILL)
        if not gateways:
            self._process.kill()
            self._process.wait()
            self.begin()

    def address(self) -> str:
        """The address of this server's Ray.

        Raises:
            LiveError: it has none.
        """
        found = filter(None, (_GATEWAY.search(_command(number)) for number in self.processes()))
        gateway = next(found, None)
        if gateway is None:
            raise LiveError("bench", "this server has no Ray of its own; give --cluster")
        return gateway[1]

    def tell_cluster(self, *words: str) -> Any:
        """`python -m knot_live cluster ...` to this server; what it answers.

        Raises:
            LiveError: it does not.
        """
        line = [sys.executable, "-m", "knot_live", "cluster", *words, "--address", self.address()]
        run = subprocess.run(line, capture_output=True, text=True, env=self._environment, timeout=_BEGINS, check=False)
        if run.returncode:
            raise LiveError("bench", f"cluster {' '.join(words)}: {run.stderr.strip()[-300:]}")
        return json.loads(run.stdout)

    def end(self) -> None:
        """End it as an operator does; what does not end in time is killed."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_ENDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def left_over(self) -> list[str]:
        """Command lines of what still runs once it was ended, after some patience; none of it goes on afterwards."""
        until = time.monotonic() + _ENDS
        while (numbers := self.processes()) and time.monotonic() < until:
            time.sleep(0.5)
        found = [_command(number) for number in numbers]
        for number in numbers:
            os.kill(number, signal.SIGKILL)
        return found

    def processes(self) -> list[int]:
        """All that it consists of now."""
        mark = f"{_MARK}={self._mark}".encode()
        return [number for number in map(int, filter(str.isdigit, os.listdir("/proc"))) if mark in _environ(number)]

    def workers(self) -> list[int]:
        """The processes that draw sessions."""
        named = [(number, _command(number)) for number in self.processes()]
        return [number for number, name in named if name.startswith(_WORKER)]

    def memory(self) -> float:
        """MiB that all of them hold together, what they share counted once."""
        return sum(memory_of(number, "Pss") for number in self.processes())

    def seconds_used(self) -> dict[int, float]:
        """Processor seconds so far, by process."""
        return {number: processor_seconds(number) for number in self.processes()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def busiest(server: Server, seconds: float = 1.0) -> int:
    """The worker that computes most for so long.

    Raises:
        LiveError: there is none.
    """
    before = server.seconds_used()
    time.sleep(seconds)
    used = {number: value - before.get(number, value) for number, value in server.seconds_used().items()}
    found = sorted(server.workers(), key=lambda number: used.get(number, 0.0))
    if not found:
        raise LiveError("no_worker", "this server has no worker that could be killed; give --cluster")
    return found[-1]


def processor_seconds(process: int) -> float:
    """User and system time of a process, its children's not counted; 0 where there is none."""
    stat = _text(process, "stat")
    fields = stat.rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if len(fields) > 12 else 0.0


def memory_of(process: int, kind: str) -> float:
    """MiB of a process under that name of Linux's smaps_rollup, such as Pss or Anonymous; 0 where it is not told."""
    for line in _text(process, "smaps_rollup").decode().splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _environ(process: int) -> bytes:
    return _text(process, "environ")


def _command(process: int) -> str:
    return _text(process, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _text(process: int, name: str) -> bytes:
    """A file of /proc; empty where the process has ended, or is another user's."""
    try:
        return (Path("/proc") / str(process) / name).read_bytes()
    except OSError:
        return b""
