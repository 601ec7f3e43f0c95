"""One ComfyUI per version for the whole session; without any, the tests skip and say so."""

import json
import os
import shutil
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .. import archive
from .comfyui import PACK, Server, find_hosts, host_version

HOSTS = find_hosts() if archive.can_be_read() else []
NO_HOST = (
    f"THE HOST TESTS DID NOT RUN: {archive.NO_CLONE}."
    if not archive.can_be_read()
    else (
        "NO COMFYUI FOUND: the host tests did not run. Set COMFYUI_PATH to one or more ComfyUI folders "
        f"(separated by {os.pathsep!r}), or install the pack in ComfyUI's custom_nodes."
    )
)
if not HOSTS:
    warnings.warn(NO_HOST, stacklevel=1)

UI_WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
API_WORKFLOWS = sorted((PACK / "workflows" / "api").glob("*.json"))
STORED = PACK / "tests" / "fixtures"  # those of every released version
STORED_UI_WORKFLOWS = sorted(STORED.glob("v*/workflows/*.json"))
STORED_API_WORKFLOWS = sorted(STORED.glob("v*/workflows/api/*.json"))
LIVE_WORKFLOW = PACK / "workflows" / "api" / "portrait_live.json"
# they need no download, and nobody who finishes them
BUNDLED_WORKFLOWS = [path for path in API_WORKFLOWS if path.stem.startswith("portrait_") and path != LIVE_WORKFLOW]


def load_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server" in metafunc.fixturenames:
        hosts = HOSTS or [pytest.param(None, marks=pytest.mark.skip(reason=NO_HOST))]
        metafunc.parametrize(
            "server",
            hosts,
            indirect=True,
            scope="session",
            ids=[f"comfyui-{host_version(host)}" for host in HOSTS] or ["no-comfyui"],
        )


@pytest.fixture(scope="session", autouse=True)
def obeys_ctrl_c() -> None:
    """A shell's background job ignores it, and so would the programs that are started and interrupted here."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("comfyui")
    with Server(request.param, base) as running:
        yield running
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="session")
def object_info(server: Server) -> dict[str, Any]:
    return server.get("/object_info")
