"""Jobs of a table or a folder, and the journal of what became of them."""

import csv
import hashlib
import io
import json
import os
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import queue

Json = dict[str, Any]
PICTURES = {".png", ".jpg", ".jpeg", ".webp"}
SOUNDS = {".wav", ".mp3", ".flac", ".ogg", ".opus", ".m4a"}
COLUMNS = ("name", "reference", "audio", "text", "voice", "seed", "seconds")
WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"  # states of a job


@dataclass(frozen=True, kw_only=True)
class Job:
    """One video that is wanted."""

    name: str
    reference: Path | None = None
    audio: Path | None = None
    text: str = ""
    voice: str = ""
    seed: int | None = None
    seconds: float | None = None
    settings: tuple[str, ...] = ()  # NODE.INPUT=VALUE

    def fingerprint(self) -> str:
        """Another row or another file is another job, whatever its name."""
        parts = [json.dumps({key: str(value) for key, value in asdict(self).items()}, sort_keys=True).encode()]
        parts += [hashlib.sha256(path.read_bytes()).digest() for path in (self.reference, self.audio) if path]
        return hashlib.sha256(b"".join(parts)).hexdigest()[:32]


def read_jobs(place: Path, *, every_pair: bool = False) -> list[Job]:
    """The jobs of a table or a folder; FailedError says what is wrong with it."""
    jobs = _of_folder(place, every_pair=every_pair) if place.is_dir() else _of_table(place)
    if not jobs:
        raise queue.FailedError(f"{place} holds no job")
    if twice := [name for name, count in Counter(job.name for job in jobs).items() if count > 1]:
        raise queue.FailedError(f"{place}: two jobs have the name {twice[0]!r}; name them in a column `name`")
    return jobs


def _of_table(place: Path) -> list[Job]:
    table = csv.DictReader(io.StringIO(queue.read_text(place), newline=""))
    if wrong := [name for name in table.fieldnames or () if name not in COLUMNS and "." not in name]:
        raise queue.FailedError(
            f"{place}: got the column {wrong[0]!r}, wanted {', '.join(COLUMNS)} or NODE.INPUT such as 4.width"
        )
    return [_of_row(place, number, row) for number, row in enumerate(table, 1)]


def _of_row(place: Path, number: int, row: dict[str | None, Any]) -> Job:
    where = f"{place}, job {number}"
    if None in row or None in row.values():
        raise queue.FailedError(f"{where}: it has another number of fields than there are columns")
    cells = {key: text.strip() for key, text in row.items() if text.strip()}
    files = {key: place.parent / cells[key] for key in ("reference", "audio") if key in cells}
    if missing := [path for path in files.values() if not path.is_file()]:
        raise queue.FailedError(f"{where}: there is no file {missing[0]}")
    name = cells.get("name") or "-".join([f"{number:04}", *(path.stem for path in files.values())])
    if name != Path(name).name or name.startswith("."):
        raise queue.FailedError(f"{where}: {name!r} cannot be the name of a folder")
    try:
        seed = int(cells["seed"]) if "seed" in cells else None
        seconds = float(cells["seconds"]) if "seconds" in cells else None
    except ValueError as problem:
        raise queue.FailedError(f"{where}: {problem}") from problem
    settings = tuple(f"{key}={text}" for key, text in cells.items() if "." in key)
    return Job(name=name, **files, text=cells.get("text", ""), voice=cells.get("voice", ""), seed=seed,
               seconds=seconds, settings=settings)  # fmt: skip


def _of_folder(place: Path, *, every_pair: bool) -> list[Job]:
    files = sorted(path for path in place.rglob("*") if path.is_file())
    pictures = [path for path in files if path.suffix.lower() in PICTURES]
    sounds = [path for path in files if path.suffix.lower() in SOUNDS]
    pairs = [(one, other) for one in pictures for other in sounds if every_pair or one.stem == other.stem]
    if alone := {*pictures, *sounds} - {path for pair in pairs for path in pair}:
        queue.say(f"left out, without a partner of the same name: {', '.join(sorted(path.name for path in alone))}")
    return [
        Job(name=f"{one.stem}-{other.stem}" if every_pair else one.stem, reference=one, audio=other)
        for one, other in pairs
    ]


def write_whole(path: Path, data: Json) -> None:
    """As JSON, whole or not at all: a crash leaves the file of before."""
    part = path.with_name(f"{path.name}.part")
    with part.open("w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


class Journal:
    """What became of each job, on disc at every change; any thread may note."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        try:
            self.entries: dict[str, Json] = json.loads(path.read_bytes())["jobs"] if path.is_file() else {}
        except (ValueError, KeyError, TypeError) as problem:
            raise queue.FailedError(
                f"{path} is no journal of this program ({problem}); name another --out"
            ) from problem

    def note(self, name: str, **fields: Any) -> None:
        with self._lock:
            self.entries[name] = self.entries.get(name, {}) | fields
            write_whole(self._path, {"jobs": self.entries})

    def begin(self, job: Job) -> Json:
        """Its entry, anew if the job is another than that of this name before."""
        entry, mark = self.entries.get(job.name, {}), job.fingerprint()
        if entry.get("fingerprint") != mark:
            entry = self.entries[job.name] = {"fingerprint": mark, "state": WAITING}
        return entry
