"""Queue a live session on a ComfyUI, drive it, fetch the recording. No editor is needed.

    python clients/live.py --say "Good morning." --seconds 5 --out videos
    python clients/live.py --audio speech.wav --control yaw=0.4 --gesture smile --out videos
    python clients/live.py --reference me.png --say "Hello." --set 7.longest=60

It attaches to the node Knot Forcing Live over ComfyUI's own address, sends what the options say, and finishes the
session once all of it was said, and at least so many seconds were shown. It needs Python 3.10 and
`pip install websocket-client`. Ctrl-C finishes at once. Paths of fetched files go to standard output, all else to
standard error. Exit codes: 0 all is there; 1 it failed, and one sentence says why; 2 wrong options; 130 stopped.
"""

import argparse
import json
import struct
import sys
import time
import wave
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import websocket

_HERE = Path(__file__).resolve().parent


def _beside(name: str) -> Any:
    """Another client of this folder, which is no package; it may have the name of a module of the standard library."""
    spec = spec_from_file_location(f"knot_forcing_{name}", _HERE / f"{name}.py")
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


queue = _beside("queue")

Json = dict[str, Any]
WORKFLOW = _HERE.parent / "workflows" / "api" / "portrait_live.json"
EVENT = "knot_forcing.live_session"
HEADER = struct.Struct("<BBHIQ")  # kind, flags, epoch, index, position: docs/live.md
VIDEO, SPEECH = 1, 16
PIECE = 0.25  # seconds of sound in a message
STARTS_WITHIN = 600.0  # seconds: other prompts may be before it in the queue
QUIET = 0.5  # seconds without a message, after which Ctrl-C is looked for


class Session:
    """A session that this client drives. Pictures are acknowledged as they come, so none waits."""

    def __init__(self, comfy: Any, begun: Json, rate: int) -> None:
        url = comfy.url.replace("http", "ws", 1) + begun["url"]
        try:
            self.socket = websocket.create_connection(url, timeout=queue.PATIENCE, suppress_origin=True)
        except (OSError, websocket.WebSocketException) as problem:
            raise queue.FailedError(f"the session cannot be attached to ({queue.one_line(problem):.200})") from problem
        speech = {"rate": rate, "mode": "reply"}
        self.send("session.attach", session=begun["session"], token=begun["token"], speech=speech)
        self.epoch, self.shown, self.spoken_at = 0, 0, None
        self.created = self._answer()
        self.fps = self.created["fps"]
        self.socket.settimeout(QUIET)

    def send(self, kind: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **fields}))

    def speak(self, samples: bytes, rate: int) -> None:
        """PCM16, in pieces, and that it is all."""
        size = 2 * round(rate * PIECE)
        for number, place in enumerate(range(0, len(samples), size)):
            self.socket.send_binary(HEADER.pack(SPEECH, 0, 0, number, 0) + samples[place : place + size])
        self.send("input_audio_buffer.commit")

    def messages(self) -> Iterator[Json]:
        """What is said of it until it has ended; an empty one when none came for a while."""
        while True:
            try:
                message = self.socket.recv()
            except websocket.WebSocketTimeoutException:
                yield {}
                continue
            except (OSError, websocket.WebSocketException) as problem:
                raise queue.FailedError(f"the connection to the session broke ({problem})") from problem
            if isinstance(message, bytes):
                self._see(message)
            elif message:
                yield self._note(json.loads(message))
            else:
                return

    def _answer(self) -> Json:
        said = json.loads(self.socket.recv())
        if said["type"] == "error":
            raise queue.FailedError(said["message"])
        return said

    def _see(self, message: bytes) -> None:
        kind, _, self.epoch, _, position = HEADER.unpack_from(message)
        if kind == VIDEO:
            self.shown = position + 1
            self.send("playback.ack", epoch=self.epoch, frame=position)

    def _note(self, said: Json) -> Json:
        """When speech was in a chunk last, in pixel frames."""
        if said["type"] == "video.chunk_metadata" and said.get("speech"):
            self.spoken_at = said["first_frame"] + said["frames"]
        return said


def begun(comfy: Any, run: Any) -> Json:
    """What is told of the session, once the node has begun."""
    deadline = time.monotonic() + STARTS_WITHIN
    for message in comfy.messages():
        if isinstance(message, str) and message:
            event = json.loads(message)
            data = event.get("data") or {}
            if event["type"] == EVENT and data["prompt_id"] == run.prompt_id:
                return data
            run.hear(message)
        if run.ended or time.monotonic() > deadline:
            raise queue.FailedError(
                run.reason or "no live session has begun: is there a Knot Forcing Live in the graph?"
            )
    raise AssertionError("unreachable: messages never end by themselves")


def drive(session: Session, options: argparse.Namespace, sound: bytes) -> None:
    """Say and do what the options say, then wait for the session's end."""
    if options.control:
        session.send("session.interaction", controls=dict(options.control))
    for name in options.gesture:
        session.send("session.interaction", gesture={"name": name})
    if sound:
        session.speak(sound, options.rate)
    if options.say:
        session.send("session.say", text=options.say, voice=options.voice)
    speaks, finishing = bool(sound or options.say), False
    with queue.CtrlC() as ctrl_c:
        for said in session.messages():
            if said.get("type") == "error":
                raise queue.FailedError(said["message"])
            if said.get("type") == "session.ended":
                queue.say(f"ended: {said['message']}")
                return
            if not finishing and (ctrl_c.presses or _is_done(session, options.seconds, speaks=speaks)):
                finishing = True
                session.send("session.finish")


def _is_done(session: Session, seconds: float, *, speaks: bool) -> bool:
    """So many seconds were shown, and what was to be said is a second ago."""
    silent = session.spoken_at is not None and session.shown > session.spoken_at + session.fps
    return session.shown >= seconds * session.fps and (silent or not speaks)


def play(options: argparse.Namespace) -> int:
    """Queue, drive, fetch; the exit code."""
    sound = _sound(options)
    prompt = queue.read_workflow(options.workflow)
    options.out.mkdir(parents=True, exist_ok=True)
    comfy = queue.Comfy(options.server)
    for setting in options.set:
        queue.put_value(comfy, prompt, setting)
    if options.reference is not None:
        queue.put_file(prompt, "reference", comfy.upload(options.reference))
    run = queue.Run(comfy.queue(prompt), prompt)
    queue.say(f"queued as {run.prompt_id}")
    try:
        drive(Session(comfy, begun(comfy, run), options.rate), options, sound)
    except BaseException:
        comfy.stop(run.prompt_id)
        raise
    queue.watch(comfy, run)
    for place in queue.results(comfy, run):
        print(comfy.fetch(place, options.out), flush=True)
    if run.state == "error":
        raise queue.FailedError(run.reason)
    return 0 if run.state == "success" else 130


def _sound(options: argparse.Namespace) -> bytes:
    """PCM16 mono of the WAV file; sets its rate."""
    options.rate = 24_000
    if options.audio is None:
        return b""
    try:
        with wave.open(str(options.audio), "rb") as file:
            if file.getsampwidth() != 2:
                raise queue.FailedError(f"{options.audio} has {8 * file.getsampwidth()} bits, wanted a WAV file of 16")
            options.rate, count, data = file.getframerate(), file.getnchannels(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as problem:
        raise queue.FailedError(f"{options.audio} is no WAV file ({problem})") from problem
    return b"".join(data[place : place + 2] for place in range(0, len(data), 2 * count))  # the first channel


def _control(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    head, _, tail = str(__doc__).partition("\n\n")
    made = argparse.ArgumentParser(description=head, epilog=tail, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--server", default="http://127.0.0.1:8188", metavar="URL", help="where ComfyUI answers (default: %(default)s)")
    add("--workflow", type=Path, default=WORKFLOW, metavar="FILE", help=f"in API form (default: {WORKFLOW.name})")
    add("--reference", type=Path, metavar="FILE", help="your picture, in place of the sample portrait")
    add("--say", metavar="TEXT", help="a sentence; ComfyUI's machine needs espeak-ng")
    add("--voice", default="", metavar="NAME", help="that says it")
    add("--audio", type=Path, metavar="FILE.wav", help="sound that it says, WAV of 16 bits")
    add(
        "--control",
        action="append",
        default=[],
        type=_control,
        metavar="NAME=VALUE",
        help="such as yaw=0.4; repeatable",
    )
    add("--gesture", action="append", default=[], metavar="NAME", help="such as nod or smile; may be repeated")
    add("--seconds", type=float, default=3.0, metavar="S", help="that are shown at least (default: %(default)s)")
    add("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="any other input; may be repeated")
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for the recording (default: %(default)s)")
    return made.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    return queue.exit_code(lambda: play(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
