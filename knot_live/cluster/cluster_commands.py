"""`serve --cluster` and `cluster status | drain | update`. Ray is imported once it is needed."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from typing import Any

from ..engine import num_processors
from ..limits import Limits
from .cluster_options import ClusterOptions
from .local_ray import ClusterError, connected, import_ray, local_ray, supervised

_LOCAL = "local"
Listen = Callable[[Any], Awaitable[int]]


def add_serve(serve: argparse.ArgumentParser) -> None:
    """Options of a server whose sessions are drawn by workers."""
    group = serve.add_argument_group("many sessions (needs the extra [cluster])")
    group.add_argument("--cluster", nargs="?", const=_LOCAL, metavar="ADDRESS",
                       help="draw sessions in workers on Ray: one that begins here, or the one at ADDRESS")  # fmt: skip
    group.add_argument("--workers", default="", metavar="MIN..MAX",
                       help="that draw (default: 1..processors / lanes; 0..N: none while nobody is there)")  # fmt: skip
    group.add_argument("--standbys", type=int, default=1, metavar="N",
                       help="workers that wait until one is lost (default: %(default)s)")  # fmt: skip
    group.add_argument("--lanes", type=int, default=1, metavar="N",
                       help="that a worker draws at a time, on a processor each (default: %(default)s)")  # fmt: skip
    group.add_argument("--sessions-per-worker", type=int, metavar="N",
                       help="default: as many as can be drawn in time, by what chunks cost as measured")  # fmt: skip
    group.add_argument("--checkpoint-every", type=int, default=2, metavar="N", help="chunks (default: %(default)s)")
    group.add_argument("--hangs-after", type=float, default=2.0, metavar="S",
                       help="without an answer, after which a worker is killed (default: %(default)g)")  # fmt: skip
    group.add_argument("--ray-folder", metavar="FOLDER", help="of Ray's sockets and logs: a short path")


def add_commands(cluster: argparse.ArgumentParser) -> None:
    """Commands to a cluster that runs."""
    commands = cluster.add_subparsers(required=True, metavar="COMMAND")
    status = commands.add_parser("status", help="workers and sessions, as JSON")
    drain = commands.add_parser("drain", help="let the sessions of a worker go on elsewhere, then end it")
    drain.add_argument("worker", help="its name, as `status` says")
    update = commands.add_parser("update", help="other weights of the same shape, worker by worker; sessions stay")
    update.add_argument("model", help="a weights file or folder")
    for command, asks in (
        (status, lambda table, _: table.status.remote()),
        (drain, lambda table, options: table.drain.remote(options.worker)),
        (update, lambda table, options: table.update.remote(options.model)),
    ):
        command.add_argument("--address", default="auto", help="Ray's (default: the one on this machine)")
        command.set_defaults(run=_tell, asks=asks)


async def _tell(options: argparse.Namespace) -> int:
    return await asyncio.to_thread(_told, options)


def _told(options: argparse.Namespace) -> int:
    ray = import_ray()
    from .placing import open_table

    with connected(options.address):
        try:
            found = ray.get(options.asks(open_table(None), options))
        except ray.exceptions.RayTaskError as problem:
            raise ClusterError(str(problem.cause)) from None
        except ValueError:
            raise ClusterError(f"no live sessions are served by the Ray at {options.address}") from None
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    return 0


def workers_of(text: str, processors: int) -> tuple[int, int]:
    """MIN..MAX, or one number for both; nothing is 1 to as many as there are processors.

    Raises:
        ClusterError: it is neither.
    """
    if not text:
        return 1, max(1, processors)
    least, _, most = text.partition("..")
    try:
        found = int(least), int(most or least)
    except ValueError:
        found = -1, -1
    if not 0 <= found[0] <= found[1] or found[1] < 1:
        raise ClusterError(f"got {text!r} workers, wanted such as 1..4, or 0..4 for none while nobody is there")
    return found


def options_of(options: argparse.Namespace, limits: Limits) -> ClusterOptions:
    """The command line's options as a value."""
    counts = [options.lanes, options.checkpoint_every]
    counts += [] if options.sessions_per_worker is None else [options.sessions_per_worker]
    if options.standbys < 0 or min(counts) < 1:
        raise ClusterError(
            "--standbys is 0 or more, --lanes, --sessions-per-worker and --checkpoint-every are 1 or more"
        )
    least, most = workers_of(options.workers, num_processors() // options.lanes)
    return ClusterOptions(
        model=options.model, codec=options.codec, device=options.device, least=least, most=most,
        standbys=options.standbys, lanes=options.lanes, sessions_per_worker=options.sessions_per_worker,
        checkpoint_every=options.checkpoint_every, hangs_after=options.hangs_after,
        badge=not options.no_badge, limits=limits, prompt=options.prompt,
        text_encoder=None if options.text_encoder is None else options.text_encoder.absolute(),
    )  # fmt: skip


async def serve_cluster(
    options: argparse.Namespace, limits: Limits, listen: Listen, asked: Callable[[], asyncio.Event]
) -> int:
    """A gateway at the Ray of that address; or a Ray of this process, with a gateway that is begun again if it dies,
    until it is `asked` to end.

    Raises:
        ClusterError: it cannot be.
    """
    wanted = options_of(options, limits)
    import_ray()
    if options.cluster == _LOCAL:
        return await _serve_here(wanted, options.ray_folder, asked)
    from .gateway import ClusterStudio
    from .placing import open_table

    with connected(options.cluster):
        table = await asyncio.to_thread(open_table, wanted)
        studio = await asyncio.to_thread(ClusterStudio, table, limits)
        return await listen(studio)


async def _serve_here(wanted: ClusterOptions, folder: str | None, asked: Callable[[], asyncio.Event]) -> int:
    workers = wanted.most + wanted.standbys + 1  # one more, while weights change
    with ExitStack() as stack:
        address = stack.enter_context(local_ray(workers * wanted.processors, int(workers * wanted.devices), folder))
        return await supervised(_with_address(sys.argv[1:], address), asked())  # behind Ray, which has handlers


def _with_address(arguments: Sequence[str], address: str) -> list[str]:
    """The same command line for a gateway at that address."""
    found = list(arguments)
    place = found.index("--cluster") if "--cluster" in found else -1
    if place < 0:
        return [f"--cluster={address}" if one == f"--cluster={_LOCAL}" else one for one in found]
    following = found[place + 1 : place + 2]
    found[place : place + (2 if following == [_LOCAL] else 1)] = [f"--cluster={address}"]
    return found
