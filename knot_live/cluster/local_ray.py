"""Ray on this machine, and on loopback alone; and connections to one that runs."""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_STORE = 100 * 2**20  # bytes of Ray's object store: checkpoints pass through it
_SETTLED = 30.0  # seconds after which a gateway that ends counts as one that ran
_MOST_IN_A_ROW = 5
_QUICKLY = {
    "timeout_ms_task_wait_for_death_info": 50,  # else a call to a dead worker waits a second for the reason
    "kill_worker_timeout_milliseconds": 200,  # else a worker that hangs has five seconds to end by itself
}


class ClusterError(ValueError):
    """A reason why a cluster cannot run, in one sentence."""


def import_ray() -> Any:
    """The package, told to report nothing to anybody, and to stay on loopback where it starts by itself.

    Raises:
        ClusterError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # else it would listen on all addresses of the machine, also for itself alone
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    for name, milliseconds in _QUICKLY.items():
        os.environ.setdefault(f"RAY_{name}", str(milliseconds))
    if "ray" not in sys.modules and (Path.home() / ".ray" / "auth_token").is_file():
        # a Ray that was begun by `ray.init` asks for it (2.60), and one that joins does not look for it by itself;
        # an imported Ray has read the variable, and `ray.init` takes one set later for one that has been read
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
    except ModuleNotFoundError:
        raise ClusterError("a cluster needs Ray: pip install 'knot-forcing[cluster]'") from None
    return ray


@contextlib.contextmanager
def local_ray(processors: float, devices: int, folder: str | None = None) -> Iterator[str]:
    """A Ray of this process, which ends with it; gives its address. `folder`: of its sockets, a short path."""
    ray = import_ray()
    found = ray.init(
        address="local", namespace="knot-live", include_dashboard=False, num_cpus=int(processors), num_gpus=devices,
        object_store_memory=_STORE, log_to_driver=False, configure_logging=False, _temp_dir=folder,
    )  # fmt: skip
    try:
        yield found.address_info["gcs_address"]
    finally:
        ray.shutdown()


@contextlib.contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to the Ray at that address; `auto` is the one of this machine.

    Raises:
        ClusterError: there is none.
    """
    ray = import_ray()
    try:
        ray.init(address=address, namespace="knot-live", log_to_driver=False, configure_logging=False)
    except ConnectionError as problem:
        raise ClusterError(f"there is no Ray at {address} ({problem})".replace("\n", " ")) from None
    try:
        yield
    finally:
        ray.shutdown()


async def supervised(arguments: Sequence[str], asked: asyncio.Event) -> int:
    """A gateway as a process of its own, begun again when it dies, until it ends by itself or that is `asked`.

    One that ends at its very start has said why, and one that dies again and again is given up. Gives the last one's
    exit code.
    """
    in_a_row, ran, ending = 0, False, asyncio.create_task(asked.wait())
    while True:
        since = time.monotonic()
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "knot_live", *arguments)
        died = asyncio.create_task(process.wait())
        await asyncio.wait({died, ending}, return_when=asyncio.FIRST_COMPLETED)
        if ending.done():
            return await _ended(process)
        in_a_row = in_a_row + 1 if time.monotonic() - since < _SETTLED else 0
        ran = ran or in_a_row == 0
        at_start = process.returncode > 0 and not ran
        if process.returncode in (0, 130) or at_start or in_a_row >= _MOST_IN_A_ROW:
            ending.cancel()
            return process.returncode
        sys.stderr.write(f"the gateway has died ({process.returncode}) and is begun again\n")


async def _ended(process: asyncio.subprocess.Process) -> int:
    """Asked to end, which the terminal may have done already."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), 20)
    except asyncio.TimeoutError:
        process.kill()
        return await process.wait()
