"""The command line: `python -m knot_live serve | cluster | talk | bench | simulate`."""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

from . import face_pose, server_metrics, simulate_command, webrtc
from .access import (
    ALLOWED_ORIGINS,
    TOKEN,
    AccessError,
    AccessRules,
    check_exposure,
    listed,
    operators_token,
    plain_origins,
)
from .camera import Cameras
from .client import LiveError
from .cluster.cluster_commands import add_commands, add_serve, serve_cluster
from .cluster.local_ray import ClusterError
from .engine import BUILT_IN, DEFAULT_MODEL, KnotError, built_in_models, load_model, load_text_encoder
from .health import Health
from .hub import Hub
from .json_logs import log_to_stderr
from .limits import Limits
from .server import Address, LiveServer, Services, running
from .sound_bytes import SOUND_RATE
from .studio import Studio
from .talk import Talk, sound_of, talk

logger = logging.getLogger(__name__)

_MOST_SESSIONS = 256  # where no number is asked for


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code. What the user got wrong is said in one sentence."""
    options = _parser().parse_args(arguments)
    log_to_stderr(options.log_format)
    try:
        return asyncio.run(options.run(options)) or 0
    except (KnotError, AccessError, LiveError, ClusterError, OSError) as problem:
        sys.stderr.write(f"error: {problem}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _model_of_the_page() -> str:
    """The model that a server takes where none is named: that of photos, where its files are in this copy."""
    return "knot-face" if "knot-face" in built_in_models() else DEFAULT_MODEL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m knot_live", description="Live sessions.")
    parser.set_defaults(log_format="text")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="a page and a WebSocket for live sessions")
    serve.set_defaults(run=_serve)
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    serve.add_argument("--port", type=int, default=8765, help="default: %(default)s; 0: any that is free")
    serve.add_argument("--model", default=_model_of_the_page(),
                       help=f"{', '.join(BUILT_IN)}, or a weights file or folder (default: %(default)s)")  # fmt: skip
    serve.add_argument("--codec", type=Path, help="weights of a video autoencoder, for models without their own")
    serve.add_argument("--device", default="cpu", help="where it computes (default: %(default)s)")
    serve.add_argument("--text-encoder", type=Path, metavar="FOLDER", help="what reads prompts, for models with text")
    serve.add_argument("--prompt", default="", help="what sessions of such a model begin with")
    serve.add_argument("--token-file", type=Path, metavar="FILE", help="what clients must know; needed beyond loopback")
    serve.add_argument("--tls-cert", type=Path, metavar="FILE", help="certificate, for https")
    serve.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    serve.add_argument("--max-sessions", type=int, metavar="N",
                       help="at a time (default: as many as can be drawn in time, as measured)")  # fmt: skip
    serve.add_argument("--idle-seconds", type=float, default=Limits.idle_seconds, metavar="S",
                       help="after which a session that is left alone is ended (default: %(default)g)")  # fmt: skip
    serve.add_argument("--session-seconds", type=float, default=Limits.session_seconds, metavar="S",
                       help="that a session lasts at most (default: %(default)g)")  # fmt: skip
    serve.add_argument("--webrtc", action="store_true", help="offer WebRTC as well: it opens UDP ports (needs aiortc)")
    serve.add_argument("--stun", action="append", default=[], metavar="stun:HOST:PORT",
                       help="with --webrtc, behind a NAT: what tells this machine its address")  # fmt: skip
    serve.add_argument("--metrics", action="store_true",
                       help="show /metrics to whoever reaches the server, not only for its token")  # fmt: skip
    serve.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="of what is logged (default: %(default)s)"
    )
    serve.add_argument("--no-badge", action="store_true", help="no AI badge on the page")
    serve.add_argument("--open", action="store_true", help="open the page in the browser")
    add_serve(serve)
    add_commands(commands.add_parser("cluster", help="look at a cluster, drain a worker, change the weights"))
    _add_talk(commands.add_parser("talk", help="drive a server with sound or a sentence, and write what comes"))
    _add_bench(commands.add_parser("bench", help="how long a person at the page waits, in a real browser"))
    simulate = commands.add_parser(
        "simulate", help="thousands of sessions over simulated cards: what the rules come to"
    )
    simulate_command.add_options(simulate)
    simulate.set_defaults(run=_simulate)
    return parser


async def _simulate(options: argparse.Namespace) -> None:
    sys.stdout.write(simulate_command.run(options) + "\n")


def _add_bench(bench: argparse.ArgumentParser) -> None:
    bench.set_defaults(run=_bench)
    bench.add_argument("--model", default=DEFAULT_MODEL, help="of the server (default: %(default)s)")
    bench.add_argument("--json", type=Path, metavar="FILE", help="where all figures go")
    bench.add_argument("--events", type=int, default=60, metavar="N", help="of each kind (default: %(default)s)")
    bench.add_argument("--chunks", type=int, nargs="+", default=[3, 1], metavar="N", help="chunk lengths, default: 3 1")
    bench.add_argument(
        "--runs", nargs="+", default=[], metavar="RUN", help="slider, onset, barge-in, mirror; default: all"
    )
    bench.add_argument("--minutes", type=int, metavar="N", help="one session that lasts so long, instead of the events")
    bench.add_argument("--costs", action="store_true", help="processor time of a chunk, without a browser")
    bench.add_argument("--changing", action="store_true", help="everything changes in it, and the connection is lost")
    with contextlib.suppress(ModuleNotFoundError):  # an installed pack has no bench, and says so when it is run
        from .bench import server_command

        server_command.add_options(bench)


async def _bench(options: argparse.Namespace) -> None:
    try:
        from .bench import bench_command, chunk_costs, server_command
    except ModuleNotFoundError:
        raise LiveError("bench", "measuring needs a clone of the repository; this is an installed pack") from None

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    if server_command.asked(options):
        found = await server_command.measure(options, say)
        bench_command.write_json(found, options.json)
        sys.stdout.write(server_command.written(found) + "\n")
        return
    runs = tuple(options.runs or bench_command.RUNS)
    if options.costs:
        found = await asyncio.to_thread(chunk_costs.bench_costs, say, options.model)
    elif options.minutes is not None:
        found = await asyncio.to_thread(
            bench_command.bench_long, options.minutes, say, options.model, changing=options.changing
        )
    else:
        found = await asyncio.to_thread(
            bench_command.bench, options.events, tuple(options.chunks), runs, say, options.model
        )
    sys.stdout.write(bench_command.write(found, options.json) + "\n")


def _add_talk(talk: argparse.ArgumentParser) -> None:
    talk.set_defaults(run=_talk)
    talk.add_argument("--reference", default="ada", help="a bundled portrait's name, or a picture file")
    talk.add_argument("--points", nargs=3, default=(), metavar="X,Y",
                      help="eyes and mouth in pixels of that file, where no face is found")  # fmt: skip
    talk.add_argument("--audio", type=Path, metavar="FILE", help="what is said")
    talk.add_argument("--text", help="a sentence that is said, after the sound if there is any")
    talk.add_argument("--voice", default="", help="that says it")
    talk.add_argument("--out", type=Path, required=True, metavar="FILE.mp4")
    talk.add_argument("--server", metavar="URL", help="default: one that runs for this alone")
    talk.add_argument("--model", default=DEFAULT_MODEL, help="of that one (default: %(default)s)")
    talk.add_argument("--token-file", type=Path, metavar="FILE", help=f"or {TOKEN} in the environment")


async def _serve(options: argparse.Namespace) -> int:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise AccessError("--tls-cert and --tls-key go together")
    token = operators_token(options.token_file)
    tls = None if options.tls_cert is None else (options.tls_cert, options.tls_key)
    address = Address(host=options.host, port=options.port, tls=tls)
    if options.metrics and (why := server_metrics.missing()) is not None:
        raise AccessError(why)
    limits = Limits(max_sessions=_MOST_SESSIONS if options.max_sessions is None else options.max_sessions,
                    idle_seconds=options.idle_seconds, session_seconds=options.session_seconds)  # fmt: skip
    check_exposure(address.host, token)  # before a model is loaded
    if options.cluster is not None:

        def listen(studio: Any) -> Awaitable[int]:
            return _listen(options, studio, address, token, studio)

        return await serve_cluster(options, limits, listen, _asked_to_end)
    model = load_model(options.model, options.device, codec=options.codec)
    reads = None if options.text_encoder is None else load_text_encoder(options.text_encoder).encode
    studio = Studio(model, limits, badge=not options.no_badge, encode_text=reads, prompt=options.prompt,
                    measures=options.max_sessions is None)  # fmt: skip
    return await _listen(options, studio, address, token)


async def _listen(
    options: argparse.Namespace, studio: Any, address: Address, token: str | None,
    cluster: Any = None,
) -> int:  # fmt: skip
    """Until Ctrl-C."""
    ice_servers = _ice_servers(options)
    async with live_server(studio, address, token, ice_servers, open_metrics=options.metrics, cluster=cluster) as at:
        logger.info("open %s in a browser; Ctrl-C ends the server", at.url)
        if options.open:
            # beside everything else: where there is no window, it may be a browser in this very terminal
            Thread(target=webbrowser.open, args=(at.url,), daemon=True).start()
        await _interrupted()
    return 0


def _ice_servers(options: argparse.Namespace) -> tuple[str, ...] | None:
    """The STUN servers of WebRTC; None where it is not offered.

    Raises:
        AccessError: it cannot be, or a server is none.
    """
    if not options.webrtc and options.stun:
        raise AccessError("--stun is WebRTC's; give --webrtc as well")
    if options.webrtc and not webrtc.available():
        raise AccessError('WebRTC needs aiortc, and a PyAV with Opus: pip install "knot-forcing[webrtc]"')
    wrong = [url for url in options.stun if not url.startswith(("stun:", "stuns:"))]
    if wrong:
        raise AccessError(f"got {wrong[0]!r:.80} for --stun, wanted such as stun:stun.example.com:3478")
    return tuple(options.stun) if options.webrtc else None


async def _talk(options: argparse.Namespace) -> None:
    if options.audio is None and options.text is None:
        raise AccessError("nothing is to be said; give --audio or --text")
    samples, rate = (None, SOUND_RATE) if options.audio is None else sound_of(options.audio)
    what = Talk(samples, rate, options.text, options.voice)
    token = operators_token(options.token_file)
    async with contextlib.AsyncExitStack() as stack:
        url = options.server
        if url is None:
            own = live_server(Studio(load_model(options.model), Limits()), Address(port=0))
            url = (await stack.enter_async_context(own)).url
        seconds = await talk(url, options.reference, what, options.out, token, points=" ".join(options.points))
    sys.stdout.write(json.dumps({"out": str(options.out), "seconds": round(seconds, 2)}) + "\n")


@asynccontextmanager
async def live_server(
    studio: Studio,
    address: Address,
    token: str | None = None,
    ice_servers: tuple[str, ...] | None = None,
    *,
    open_metrics: bool = False,
    cluster: Any = None,
) -> AsyncIterator[Address]:
    """A server of that studio's sessions while it listens, warmed up; `ice_servers` as in `Services`.

    Its figures are shown for the token, or with `open_metrics` to everybody who reaches it. `cluster` is a
    `ClusterStudio`, whose sessions may stand already.

    Raises:
        AccessError: others reach that address, and there is no token.
        OSError: it cannot listen there.
    """
    cameras = Cameras()
    try:
        await asyncio.to_thread(studio.warm)
        observer = None if server_metrics.missing() else server_metrics.Metrics()
        hub = Hub(studio.make, studio.limits, lambda live: cameras.forget(live.source), observer,
                  lasting=cluster is not None)  # fmt: skip
        for made in [] if cluster is None else await asyncio.to_thread(cluster.standing):
            hub.add(made).take_over()
        if observer is not None:
            observer.watch(hub)
        trouble = Health.trouble if cluster is None else cluster.trouble
        health = Health(metrics=observer, token=None if open_metrics else token, trouble=trouble)
        services = Services(about=studio.about, add_reference=studio.references.add,
                            picture_of=studio.references.shown, cameras=None if face_pose.missing() else cameras,
                            ice_servers=ice_servers,
                            health=health)  # fmt: skip
        origins = plain_origins(listed(os.environ.get(ALLOWED_ORIGINS, "")))
        rules = AccessRules(listens=(address.host,), origins=origins, server="server")
        async with running(LiveServer(hub, services, rules, token), address, token) as at:
            yield at
    finally:
        cameras.close()
        studio.close()


async def _interrupted() -> None:
    """Until Ctrl-C, or until the process is asked to end."""
    await _asked_to_end().wait()


def _asked_to_end() -> asyncio.Event:
    """Set by Ctrl-C, or when the process is asked to end."""
    asked, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: there Ctrl-C raises KeyboardInterrupt
            loop.add_signal_handler(number, asked.set)
    return asked
