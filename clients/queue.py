"""Queue a workflow on a ComfyUI, watch its chunks arrive, fetch the result. No editor is needed.

    python clients/queue.py                                       a bundled portrait says a bundled sentence
    python clients/queue.py --reference me.png --audio speech.wav --out videos
    python clients/queue.py --workflow workflows/api/portrait_idle.json --seconds 30 --set 7.seed=5

It needs Python 3.10 and `pip install websocket-client`. ComfyUI may run on another machine. Ctrl-C finishes the stream
after the chunk at hand, as a success: what follows in the workflow runs, and all is fetched. Where there is none yet,
or if it is pressed again, everything stops on the server at once, and what was made is fetched. Paths
of fetched files go to standard output, everything else to standard error.
Exit codes: 0 all is there; 1 it failed, and one sentence says why; 2 wrong options; 130 stopped.
"""

import sys
from pathlib import Path

if str(Path(__file__).parent) in sys.path:  # this file has the name of a module that the standard library imports
    sys.path.remove(str(Path(__file__).parent))

import argparse
import http.client
import json
import os
import shutil
import signal
import struct
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, BinaryIO

import websocket

Json = dict[str, Any]
WORKFLOW = Path(__file__).resolve().parents[1] / "workflows" / "api" / "portrait_headless.json"
STAND_INS = {  # by option: the node that loads an uploaded file, that node's input, and whose place it takes
    "reference": ("LoadImage", "image", ("KnotForcingSamplePortrait", "LoadImage")),
    "audio": ("LoadAudio", "audio", ("KnotForcingSampleSpeech", "LoadAudio")),
}
SHOWS_ITS_INPUT = ("KnotForcingEncodeAnchor",)  # the part of the reference that it took, which is no result
STREAMS = ("KnotForcingStreamToVideo", "KnotForcingStream", "KnotForcingBeginStream")  # take --seed and --seconds
QUIET = 1.0  # seconds without a message, after which Ctrl-C is looked for
PATIENCE = 60.0  # seconds for an answer over HTTP
ENDS = ("execution_success", "execution_error", "execution_interrupted")
WITHOUT_END = 10**9  # pixel frames that a stream without end is announced with
PREVIEW_IMAGE, PNG = 1, 2  # a binary message: its kind and its format, big-endian, and the picture


class FailedError(Exception):
    """What went wrong, in one sentence for whoever runs this."""


class SilentError(FailedError):
    """No ComfyUI answers there, or it no longer does."""


class RefusedError(FailedError):
    """ComfyUI does not take what it was sent."""


def say(text: object) -> None:
    print(text, file=sys.stderr, flush=True)


def one_line(text: object) -> str:
    return " ".join(str(text).split())


class Comfy:
    """A ComfyUI, over HTTP and its websocket."""

    def __init__(self, address: str) -> None:
        self.url = (address if "://" in address else f"http://{address}").rstrip("/")
        self.client = uuid.uuid4().hex
        url = f"{self.url.replace('http', 'ws', 1)}/ws?clientId={self.client}"
        try:
            self.socket = websocket.create_connection(url, timeout=PATIENCE)
        except (OSError, ValueError, websocket.WebSocketException) as problem:
            raise self._silent(problem) from problem
        self.socket.settimeout(QUIET)

    def open(self, path: str, body: bytes | None = None, kind: str = "application/json") -> BinaryIO:
        """GET, or POST where there is a body."""
        request = urllib.request.Request(self.url + path, body, {"Content-Type": kind} if body is not None else {})
        try:
            return urllib.request.urlopen(request, timeout=PATIENCE)
        except urllib.error.HTTPError as refusal:
            raise RefusedError(complaint(refusal.read(), f"{refusal.code} {refusal.reason}: {path}")) from refusal
        except (OSError, http.client.HTTPException) as problem:
            raise self._silent(problem) from problem

    def ask(self, path: str, body: Json | None = None) -> Json:
        with self.open(path, None if body is None else json.dumps(body).encode()) as answer:
            return json.loads(answer.read() or b"{}")

    def upload(self, file: Path) -> str:
        """Into ComfyUI's input folder; its name there, which differs where another file has the name already."""
        edge = uuid.uuid4().hex
        name = urllib.parse.quote(file.name, safe=" -.()")  # a quote or a line break would end the header
        head = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n\r\n'
        body = head.encode() + file.read_bytes() + f"\r\n--{edge}--\r\n".encode()
        with self.open("/upload/image", body, f"multipart/form-data; boundary={edge}") as answer:
            return json.load(answer)["name"]

    def queue(self, prompt: Json) -> str:
        answer = self.ask("/prompt", {"prompt": prompt, "client_id": self.client})
        if answer.get("node_errors"):  # ComfyUI runs the part of a workflow that it understands; this does not
            self.stop(answer["prompt_id"])
            raise RefusedError(complaint(json.dumps(answer), ""))
        return answer["prompt_id"]

    def stop(self, prompt_id: str) -> None:
        """Wherever it stands: still waiting, or running."""
        self.ask("/queue", {"delete": [prompt_id]})
        self.ask("/interrupt", {"prompt_id": prompt_id})

    def finish(self, stream: str, control: Json) -> bool:
        """After its chunk at hand; False if that is refused, or too late."""
        wish = {"stream": stream, "token": control["token"], "action": "finish"}
        try:
            self.ask(control["url"], wish)
        except FailedError as refusal:
            say(f"it cannot be finished: {refusal}")
            return False
        return True

    def knows(self, prompt_id: str) -> bool:
        """Whether it waits or runs."""
        queue = self.ask("/queue")
        return any(entry[1] == prompt_id for entry in queue["queue_running"] + queue["queue_pending"])

    def messages(self) -> Iterator[str | bytes]:
        """As they come; an empty one when none came for a while."""
        while True:
            try:
                yield self.socket.recv()
            except websocket.WebSocketTimeoutException:
                yield ""
            except (OSError, websocket.WebSocketException) as problem:
                raise SilentError(f"the connection to {self.url} broke ({problem}); the stream may go on") from problem

    def fetch(self, place: Json, folder: Path) -> Path:
        """A file of its output or temp folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / Path(place["filename"]).name
        part = target.with_name(f"{target.name}.part")
        query = urllib.parse.urlencode({key: place[key] for key in ("filename", "subfolder", "type")})
        try:
            with self.open(f"/view?{query}") as answer, part.open("wb") as file:
                shutil.copyfileobj(answer, file)
            os.replace(part, target)
        finally:
            part.unlink(missing_ok=True)
        return target

    def _silent(self, problem: Exception) -> SilentError:
        return SilentError(
            f"no ComfyUI answers at {self.url} ({one_line(problem):.100}); start it, or name another with --server"
        )


def complaint(answer: str | bytes, otherwise: str) -> str:
    """What ComfyUI finds wrong with a prompt: the first thing, and how many more there are."""
    try:
        said = json.loads(answer)
        found = [
            f"node {key} ({node['class_type']}): {error['message']}: {error['details']}"
            for key, node in dict(said["node_errors"]).items()
            for error in node["errors"]
        ] or [f"{said['error']['message']} {said['error']['details']}"]
    except (ValueError, KeyError, TypeError):
        return f"ComfyUI answered {otherwise}"
    return one_line(found[0]) + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


@dataclass
class Run:
    """A queued prompt, as far as it has been heard of."""

    prompt_id: str
    prompt: Json
    stills: Path | None = None  # a folder
    state: str = "queued"  # success | error | interrupted
    reason: str = ""
    ended: bool = False
    num_previews: int = 0
    written: dict[str, list[Json]] = field(default_factory=dict)  # by node: the files that it streams into
    running: dict[str, Json] = field(default_factory=dict)  # by stream: what it is controlled with
    tell: Callable[[object], None] = say  # of its progress

    def hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._show(message)
            return
        event = json.loads(message)
        data = event.get("data") or {}
        if data.get("prompt_id") == self.prompt_id:
            self.note(event["type"], data)

    def note(self, kind: str, data: Json) -> None:
        """One event of this prompt."""
        if kind == "knot_forcing.live":
            self._note_stream(data)
        if kind == "knot_forcing.live" and "chunk" in data:
            files = self.written.setdefault(data["node"], [])
            if data["file"] not in files:
                files.append(data["file"])
            self.tell(chunk_line(data))
        elif kind == "progress" and data["node"] not in self.written:
            self.tell(f"{self._title(data['node'])}: {data['value']} of {data['max']}")
        elif kind in ENDS:
            if self.state != "error":  # some errors are followed by a success
                self.state = kind.removeprefix("execution_")
            if kind == "execution_error":
                self.reason = f"{self._title(data['node_id'])}: {one_line(data['exception_message'])}"
        elif kind == "executing" and data["node"] is None:  # comes last: only now its results are in the history
            self.ended = True

    def _note_stream(self, data: Json) -> None:
        if data.get("ended"):
            self.running.pop(data["stream"], None)
        elif "control" in data:
            self.running[data["stream"]] = data["control"]

    def _show(self, message: bytes) -> None:
        """Count a preview; keep it, if that is wanted."""
        kind, form = struct.unpack_from(">II", message)
        if kind != PREVIEW_IMAGE:
            return
        self.num_previews += 1
        if self.stills is not None:
            name = f"still_{self.num_previews:05}.{'png' if form == PNG else 'jpg'}"
            (self.stills / name).write_bytes(message[8:])

    def _title(self, key: str) -> str:
        node = self.prompt.get(key, {})
        return f"node {key} ({node.get('_meta', {}).get('title') or node.get('class_type')})"


def chunk_line(live: Json) -> str:
    """What the pack tells of a chunk that is written."""
    made, rate = live["frames"], live["rate"]
    whole = "" if live["all_frames"] >= WITHOUT_END else f" of {live['all_frames'] / rate:.1f}"
    return f"chunk {live['chunk'] + 1}: {made / rate:.1f}{whole} s, {live['fps'] / rate:.2f} times real time"


class CtrlC:
    """Counts how often it is pressed, since an exception could cut a message in two. The third time it is one."""

    def __init__(self) -> None:
        self.presses = 0

    def __enter__(self) -> "CtrlC":
        self._before = signal.signal(signal.SIGINT, self._press)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _press(self, _number: int, _frame: FrameType | None) -> None:
        self.presses += 1
        if self.presses > 2:
            raise KeyboardInterrupt


def watch(comfy: Comfy, run: Run) -> None:
    """Until its end; Ctrl-C finishes the stream, a second one stops everything."""
    heeded = 0
    with CtrlC() as ctrl_c:
        say(f"queued as {run.prompt_id}")  # whoever reads this may press Ctrl-C already

        def stopping() -> bool:
            nonlocal heeded
            if ctrl_c.presses > heeded:
                heeded = _heed(comfy, run, ctrl_c.presses)
            return heeded > 1

        follow(comfy, run, stopping)


def follow(comfy: Comfy, run: Run, stopping: Callable[[], bool]) -> None:
    """Until its end. `stopping` is asked again and again: True if it was stopped, and may be missing from the queue."""
    stopped = False
    for message in comfy.messages():
        if message:
            run.hear(message)
        elif not comfy.knows(run.prompt_id):  # nothing is told of a prompt that somebody takes out of the queue
            _is_out_of_the_queue(comfy, run, stopped=stopped)
            return
        if run.ended:
            return
        stopped = stopping()


def _heed(comfy: Comfy, run: Run, presses: int) -> int:
    """How many presses that was worth: where there is no stream to finish, one is as good as two."""
    asked = [comfy.finish(*one) for one in run.running.items()] if presses == 1 else []
    if any(asked):
        say("finishing after this chunk; Ctrl-C again stops at once")
        return 1
    say("stopping; Ctrl-C again leaves at once")
    comfy.stop(run.prompt_id)
    return 2


def _is_out_of_the_queue(comfy: Comfy, run: Run, *, stopped: bool) -> None:
    """What was told of its end may still be under way here, so the history is asked."""
    entry = comfy.ask(f"/history/{run.prompt_id}").get(run.prompt_id)
    for kind, data in ((entry or {}).get("status") or {}).get("messages", []):
        if kind in ENDS:
            run.note(kind, data)
    if entry is None and not stopped:
        raise FailedError("the prompt was taken out of ComfyUI's queue before it ran")
    if entry is None:
        run.state = "interrupted"


def results(comfy: Comfy, run: Run) -> list[Json]:
    """Files that its output nodes made, and those that were being written when it ended early."""
    outputs = comfy.ask(f"/history/{run.prompt_id}").get(run.prompt_id, {}).get("outputs", {})
    made = [
        output for key, output in outputs.items() if run.prompt.get(key, {}).get("class_type") not in SHOWS_ITS_INPUT
    ]
    shown = [item for output in made for items in output.values() for item in items]
    files = [item for item in shown if isinstance(item, dict) and "filename" in item]
    saved = [item for item in files if item["type"] == "output"]
    if run.state == "success":
        return saved or files  # previews only where there is nothing else
    begun = [place for places in run.written.values() for place in places]
    return saved + [place for place in begun if place not in saved]


def read_text(path: Path) -> str:
    """In UTF-8, UTF-16 or UTF-32, with a byte order mark or without, as editors and spreadsheets save it."""
    try:
        data = path.read_bytes()
        return data.decode(json.detect_encoding(data))
    except OSError as problem:
        raise FailedError(f"{path} cannot be read ({problem.strerror or problem})") from problem
    except UnicodeDecodeError as problem:
        raise FailedError(f"{path} is no text in UTF-8 or UTF-16; save it as UTF-8") from problem


def read_workflow(path: Path) -> Json:
    try:
        prompt = json.loads(read_text(path))
    except ValueError as problem:
        raise FailedError(f"{path} is not JSON ({problem})") from problem
    if isinstance(prompt, dict) and "nodes" in prompt:
        raise FailedError(f"{path} is in the editor's form; take one of workflows/api, or the editor's Export (API)")
    nodes = list(prompt.values()) if isinstance(prompt, dict) else []
    if not nodes or not all(isinstance(node, dict) and {"class_type", "inputs"} <= node.keys() for node in nodes):
        raise FailedError(f"{path} is no workflow: wanted nodes by their numbers, each with class_type and inputs")
    return prompt


def put_file(prompt: Json, option: str, name: str) -> None:
    """The uploaded file in place of the samples."""
    loader, slot, places = STAND_INS[option]
    keys = [key for key, node in prompt.items() if node["class_type"] in places]
    if not keys:
        raise FailedError(f"--{option}: the workflow has no node whose place the file could take ({', '.join(places)})")
    for key in keys:
        prompt[key] = {"class_type": loader, "inputs": {slot: name}, "_meta": {"title": f"Your {option}"}}


def put_number(prompt: Json, name: str, value: float) -> None:
    """Into every node that streams and has such an input."""
    nodes = [node for node in prompt.values() if node["class_type"] in STREAMS and name in node["inputs"]]
    if not nodes:
        raise FailedError(f"--{name}: no node of the workflow that streams has this input")
    for node in nodes:
        node["inputs"][name] = value


def put_value(comfy: Comfy, prompt: Json, setting: str) -> None:
    """NODE.INPUT=VALUE, for inputs that ComfyUI knows; the value is JSON, or else text."""
    place, equals, text = setting.partition("=")
    key, _, name = place.partition(".")
    if not equals or key not in prompt:
        raise FailedError(f"--set {setting}: wanted NODE.INPUT=VALUE with a node of {', '.join(prompt)}")
    kind = prompt[key]["class_type"]
    inputs = comfy.ask(f"/object_info/{urllib.parse.quote(kind)}").get(kind, {}).get("input", {})
    names = [*inputs.get("required", {}), *inputs.get("optional", {})]
    if name not in names:
        raise FailedError(f"--set {setting}: {kind} has no input {name!r}, but {', '.join(names)}")
    try:
        prompt[key]["inputs"][name] = json.loads(text)
    except ValueError:
        prompt[key]["inputs"][name] = text


def prepare(comfy: Comfy, prompt: Json, options: argparse.Namespace) -> None:
    """Everything that the options say, into the workflow."""
    for option in STAND_INS:
        if (file := getattr(options, option)) is not None:
            put_file(prompt, option, comfy.upload(file))
    for name in ("seed", "seconds"):
        if (value := getattr(options, name)) is not None:
            put_number(prompt, name, value)
    for setting in options.set:
        put_value(comfy, prompt, setting)


def play(options: argparse.Namespace) -> int:
    """Queue, watch, fetch; the exit code."""
    prompt = read_workflow(options.workflow)
    options.out.mkdir(parents=True, exist_ok=True)
    comfy = Comfy(options.server)
    prepare(comfy, prompt, options)
    run = Run(comfy.queue(prompt), prompt, stills=options.out if options.save_stills else None)
    watch(comfy, run)
    names: set[str] = set()
    for place in results(comfy, run):
        folder = options.out / place["subfolder"] if place["filename"] in names else options.out
        names.add(place["filename"])
        print(comfy.fetch(place, folder), flush=True)
    if run.state == "error":
        raise FailedError(run.reason)
    say(f"{'done' if run.state == 'success' else 'stopped'}, after {run.num_previews} previews")
    return 0 if run.state == "success" else 130


def parse(arguments: list[str] | None) -> argparse.Namespace:
    head, _, tail = str(__doc__).partition("\n\n")
    made = argparse.ArgumentParser(description=head, epilog=tail, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = made.add_argument
    add("--server", default="http://127.0.0.1:8188", metavar="URL", help="where ComfyUI answers (default: %(default)s)")
    add("--workflow", type=Path, default=WORKFLOW, metavar="FILE", help=f"in API form (default: {WORKFLOW.name})")
    add("--reference", type=Path, metavar="FILE", help="your picture, in place of the sample portrait")
    add("--audio", type=Path, metavar="FILE", help="your sound, in place of the sample speech")
    add("--seed", type=int, metavar="N", help="of the stream")
    add("--seconds", type=float, metavar="S", help="length of the stream; 0: as long as what drives it")
    add("--set", action="append", default=[], metavar="NODE.INPUT=VALUE", help="any other input; may be repeated")
    add("--out", type=Path, default=Path("out"), metavar="FOLDER", help="for what comes back (default: %(default)s)")
    add("--save-stills", action="store_true", help="also keep the still of each chunk there")
    return made.parse_args(arguments)


def exit_code(work: Callable[[], int]) -> int:
    """What `work` returns; 1 where it fails, with its sentence said, and 130 on Ctrl-C."""
    try:
        return work()
    except (FailedError, OSError) as problem:
        say(f"error: {problem}")
        return 1
    except KeyboardInterrupt:
        return 130


def main(arguments: list[str] | None = None) -> int:
    return exit_code(lambda: play(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
