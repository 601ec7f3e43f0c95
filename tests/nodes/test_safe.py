"""What the pack's sources never do: run what a file says, open the network; and that one file alone takes requests."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACK = Path(__file__).resolve().parents[2]
TRAINING = PACK / "knot_core" / "train"  # a command of its own, which no node reaches; it calls a compiler
LIVE_BENCH = PACK / "knot_live" / "bench"  # likewise: it starts the server that it measures, and a browser
BEGIN_PROCESSES = {
    PACK / "knot_core" / "cli" / "bench" / name for name in ("busy_processes.py", "streams_benchmark.py")
}
# the archive has none of these
SOURCES = [
    path
    for pattern in ("__init__.py", "knot_core/**/*.py", "knot_live/**/*.py", "nodes/**/*.py")
    for path in sorted(PACK.glob(pattern))
    if not {TRAINING, LIVE_BENCH} & {*path.parents} and path not in BEGIN_PROCESSES and "__pycache__" not in path.parts
]
SCRIPTS = sorted((PACK / "web").rglob("*.js"))
# modules that run other programs or code, or talk to other machines
MODULES = {
    "aiohttp", "asyncio", "code", "cloudpickle", "ctypes", "dill", "ftplib", "http", "httpx", "huggingface_hub",
    "joblib", "marshal", "multiprocessing", "pty", "requests", "runpy", "shelve", "smtplib", "socket", "socketserver",
    "ssl", "subprocess", "telnetlib", "urllib", "urllib3", "webbrowser", "websocket", "xmlrpc",
}  # fmt: skip
CALLS = {"__import__", "breakpoint", "compile", "eval", "exec", "input"}
METHODS = {  # of modules that are there for other things
    "os": {"system", "popen", "fork", "startfile", "execv", "execve", "execvp", "spawnl", "spawnv", "posix_spawn"},
    "pickle": {"load", "loads", "Unpickler"},
    "torch": {"hub", "jit", "package"},
    "yaml": {"load", "unsafe_load"},
}
SERVER = {"client_id", "send_progress_text", "send_sync"}  # what is used of ComfyUI's
DOORS = {  # the routes, whose refusals tests/host/test_pause_and_finish.py and test_live_session.py try
    "routes.py": {"import aiohttp", "import asyncio", "a route: server.routes"},
    "live_routes.py": {"import aiohttp", "import asyncio", "a route: server.routes"},
    "live_hub.py": {"import asyncio", "PromptServer.instance.loop"},
    "__init__.py": {"a route: adapters.add_routes"},
}

LIVE = {  # a server that a command starts, whose refusals tests/live tries; access.py takes addresses apart
    "access.py": {"import urllib.parse"},
    "client.py": {"import aiohttp", "import asyncio"},
    "cluster_commands.py": {"import asyncio"},
    "commands.py": {"import asyncio", "import webbrowser"},
    "connection.py": {"import asyncio"},
    "due_media.py": {"import asyncio"},
    "health.py": {"import aiohttp", "a route: web.RouteDef"},
    "hub.py": {"import asyncio"},
    "live_session.py": {"import asyncio"},
    "livekit.py": {"import asyncio"},
    "local_ray.py": {"import asyncio"},  # Ray, where an operator wants it, and gateways as processes of this Python
    "outbox.py": {"import asyncio"},
    "pipecat.py": {"import asyncio"},
    "placing.py": {"import asyncio"},
    "player.py": {"import asyncio"},
    "remote_source.py": {"import asyncio"},
    "server.py": {
        "import aiohttp",
        "import asyncio",
        "import ssl",
        "a route: app.router",
        "a route: app.add_routes",
        "a route: self._services.health.routes",
    },
    "sources.py": {"import asyncio"},
    "speaking.py": {"import subprocess"},  # espeak-ng alone, and without a shell
    "talk.py": {"import asyncio"},
    "worker.py": {"import asyncio"},
    "webrtc.py": {"import asyncio"},  # peer connections by aiortc, where an operator wants them
    "websocket.py": {"import aiohttp", "import asyncio"},
}

HTML_OR_CODE = (
    r"\beval\(", r"new Function", r"innerHTML", r"outerHTML", r"insertAdjacentHTML",
    r"document\.write", r"importScripts", r"new WebSocket", r"XMLHttpRequest", r"\bimport\(",
)  # fmt: skip


def offences(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        yield from _imported(node)
        if isinstance(node, ast.Call):
            yield from _called(node)
        if isinstance(node, ast.Attribute):
            yield from _used(node)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
        if node.module in METHODS:
            yield from (f"from {node.module} import {alias.name}" for alias in node.names
                        if alias.name in METHODS[node.module])  # fmt: skip
    else:
        return
    yield from (f"import {name}" for name in names if name.partition(".")[0] in MODULES)


def _called(node: ast.Call) -> Iterator[str]:
    called = ast.unparse(node.func)
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if called in CALLS:
        yield called
    if called == "torch.load" and given.get("weights_only") != "True":
        yield "torch.load without weights_only=True"
    if called in ("np.load", "numpy.load") and "allow_pickle" in given:
        yield "np.load of pickles"
    if called.endswith("from_pretrained") and given.get("local_files_only") != "True":
        yield "from_pretrained without local_files_only=True"
    if given.get("trust_remote_code", "False") != "False":
        yield "trust_remote_code"
    if given.get("shell", "False") != "False":
        yield "a shell"


def _used(node: ast.Attribute) -> Iterator[str]:
    owner = ast.unparse(node.value)
    if node.attr in METHODS.get(owner, ()):
        yield f"{owner}.{node.attr}"
    if owner == "PromptServer.instance" and node.attr not in SERVER:
        yield f"{owner}.{node.attr}"
    if node.attr in ("routes", "add_routes", "router"):
        yield f"a route: {ast.unparse(node)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACK)))
def test_a_source_runs_no_strangers_code_and_opens_no_network(path: Path) -> None:
    rules = next(
        (rules for folder, rules in (("nodes", DOORS), ("knot_live", LIVE)) if PACK / folder in path.parents), {}
    )
    allowed = rules.get(path.name, set())
    assert set(offences(path.read_text(encoding="utf-8"))) <= allowed


@pytest.mark.parametrize(
    "source",
    [
        "import socket", "from urllib.request import urlopen", "import pickle; pickle.loads(x)", "eval(x)",
        "os.system(x)",
        "from pickle import loads", "torch.load(x)", "torch.load(x, weights_only=False)", "torch.hub.load(x)",
        "np.load(x, allow_pickle=True)", "A.from_pretrained(x)", "PromptServer.instance.routes.get('/x')",
        "A.from_pretrained(x, local_files_only=True, trust_remote_code=True)", "f(x, shell=True)",
    ],
)  # fmt: skip
def test_the_look_finds_what_it_looks_for(source: str) -> None:
    assert list(offences(source))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_makes_no_html_of_data_and_asks_no_other_host(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    for pattern in HTML_OR_CODE:
        assert not re.search(pattern, source), pattern
    addresses = set(re.findall(r"[\"'`](?:https?:)?//[^\"'`\s]+", source))
    assert {address for address in addresses if "w3.org" not in address} == set(), "namespaces alone are no address"
