"""clients/farm.py against machines that draw nothing: what is asked for is made once, whatever they do."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

websocket = pytest.importorskip("websocket", reason="NOT TESTED, the farm: pip install websocket-client")

from .fake_comfyui import FakeComfy  # noqa: E402 - behind the question whether it can be used
from .serving import served  # noqa: E402
from .test_client import SECRET, Quiet, tone  # noqa: E402

SCRIPT = Path(__file__).resolve().parents[2] / "clients" / "farm.py"


def load():
    spec = spec_from_file_location("knot_forcing_farm", SCRIPT)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


farm = load()
QUICK = ("--backoff", "0.05", "--give-up", "0.4")


@pytest.fixture
def folder(tmp_path):
    """Five portraits that say something each."""
    place = tmp_path / "jobs"
    for number in range(5):
        for kind in ("png", "wav"):
            path = place / kind / f"job{number}.{kind}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"{kind} {number}".encode())
    return place


def run(*options, out):
    code = farm.main([*QUICK, *map(str, options), "--out", str(out)])
    return code, json.loads((out / "report.json").read_text(encoding="utf-8"))


def files(out):
    return sorted(path.relative_to(out).as_posix() for path in out.glob("*/*"))


def test_a_folder_on_two_machines_gives_a_video_a_job(folder, tmp_path, capsys):
    out = tmp_path / "out"
    with FakeComfy() as one, FakeComfy() as two:
        code, found = run(folder, "--comfy", one.url, "--comfy", two.url, out=out)
        assert one.prompts
        assert two.prompts
        assert len(one.prompts) + len(two.prompts) == 5
        assert sorted(one.uploads + two.uploads) == sorted(path.read_bytes() for path in folder.glob("*/*"))
    assert code == 0
    assert (found["done"], found["failed"], found["left"]) == (5, 0, 0)
    assert {path.split("/")[0] for path in files(out)} == {f"job{number}" for number in range(5)}
    assert [(out / name).is_file() for job in found["jobs"] for name in job["files"]] == [True] * 5
    printed = capsys.readouterr().out
    assert "5 done, 0 failed, 0 left" in printed
    assert all(f"job{number} " in printed for number in range(5))


def test_the_jobs_of_a_machine_that_dies_go_to_the_other_one(folder, tmp_path):
    with FakeComfy(outcome=lambda _, number: "die" if number == 1 else "success") as one, FakeComfy(seconds=0.1) as two:
        code, found = run(folder, "--comfy", one.url, "--comfy", two.url, out=tmp_path / "out")
        assert not one.alive
    assert code == 0
    assert found["done"] == 5
    assert found["machines"][one.url]["done"] == found["machines"][one.url]["silent"] == 1
    assert [job["machine"] for job in found["jobs"] if job["tries"] == 2] == [two.url]


def test_a_machine_that_comes_back_works_again(folder, tmp_path):
    with FakeComfy() as gone:
        port = int(gone.url.rpartition(":")[2])
    later = FakeComfy(port=port)
    starts = threading.Timer(0.6, later.__enter__)
    starts.start()
    code, found = run(folder, "--comfy", gone.url, "--give-up", "20", "--tries", "9", out=tmp_path / "out")
    later.__exit__()
    assert (code, found["done"]) == (0, 5)
    assert found["machines"][gone.url]["silent"] >= 1


def test_what_fails_is_tried_again_elsewhere_and_given_up_in_the_end(folder, tmp_path):
    out = tmp_path / "out"
    with FakeComfy(outcome=lambda *_: "error") as bad, FakeComfy(seconds=0.1) as good:
        code, found = run(folder, "--comfy", bad.url, "--comfy", good.url, out=out)
        assert (code, found["done"]) == (0, 5)
        assert found["machines"][bad.url]["failed"] >= 1
        assert all(job["machine"] == good.url for job in found["jobs"])
    with FakeComfy(outcome=lambda *_: "error") as bad:
        code, found = run(folder, "--comfy", bad.url, out=tmp_path / "other")
    assert (code, found["failed"]) == (1, 5)
    assert {job["tries"] for job in found["jobs"]} == {3}
    assert all("out of memory" in job["reason"] for job in found["jobs"])


def test_a_job_that_kills_its_machine_is_tried_so_often_and_no_more(folder, tmp_path):
    """The others are done, if one machine is left."""
    with FakeComfy(seconds=0.2) as last:

        def outcome(prompt, _):
            return "die" if "job0" in json.dumps(prompt) else "success"

        with FakeComfy(outcome=outcome) as one, FakeComfy(outcome=outcome) as two:
            machines = [part for url in (one.url, two.url, last.url) for part in ("--comfy", url)]
            code, found = run(folder, *machines, "--tries", "2", out=tmp_path / "out")
    states = {job["name"]: job["state"] for job in found["jobs"]}
    assert sum(state == "done" for state in states.values()) >= 4
    assert code == int(states["job0"] != "done")
    assert next(job for job in found["jobs"] if job["name"] == "job0")["tries"] <= 2


def test_what_every_machine_refuses_is_given_up_at_once_and_what_one_takes_is_done(folder, tmp_path):
    def refuses(prompt):
        return "no such node" if "job1" in json.dumps(prompt) else None

    with FakeComfy(refuses=refuses) as one, FakeComfy(refuses=refuses) as two:
        code, found = run(folder, "--comfy", one.url, "--comfy", two.url, out=tmp_path / "out")
    assert (code, found["done"], found["failed"]) == (1, 4, 1)
    lost = next(job for job in found["jobs"] if job["state"] == "failed")
    assert (lost["name"], lost["tries"]) == ("job1", 0)
    assert "no such node" in lost["reason"]
    with FakeComfy(refuses=refuses) as one, FakeComfy() as two:
        code, found = run(folder, "--comfy", one.url, "--comfy", two.url, out=tmp_path / "other")
    assert (code, found["done"]) == (0, 5)


def test_without_a_living_machine_the_jobs_are_left_and_a_second_call_does_them(folder, tmp_path):
    out = tmp_path / "out"
    code, found = run(folder, "--comfy", "http://127.0.0.1:9", "--tries", "99", out=out)
    assert (code, found["left"]) == (1, 5)
    assert found["machines"]["http://127.0.0.1:9"]["written_off"] is True
    with FakeComfy() as comfy:
        code, found = run(folder, "--comfy", comfy.url, out=out)
        assert (code, found["done"]) == (0, 5)
        before = {job["name"]: job for job in found["jobs"]}
        code, found = run(folder, "--comfy", comfy.url, out=out)
        assert len(comfy.prompts) == 5, "what is done stays done"
        assert {job["name"]: job for job in found["jobs"]} == before
        (folder / "wav" / "job3.wav").write_bytes(b"another")
        (out / before["job2"]["files"][0]).unlink()
        code, found = run(folder, "--comfy", comfy.url, out=out)
        assert (code, len(comfy.prompts)) == (0, 7), "another sound, and a file that was lost"


@contextmanager
def started(*options, out):
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    line = [sys.executable, str(SCRIPT), *QUICK, *map(str, options), "--out", str(out)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment) as one:
        try:
            yield one
        finally:
            one.kill()


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def journal(out):
    return (out / "farm.json").read_text(encoding="utf-8") if (out / "farm.json").is_file() else ""


def test_after_a_crash_nothing_is_made_twice(folder, tmp_path):
    """SIGKILL while the second job runs on the machine, which finishes it by itself."""
    out = tmp_path / "out"
    with FakeComfy(seconds=1.0) as comfy:
        with started(folder, "--comfy", comfy.url, out=out) as process:
            until(lambda: len(comfy.prompts) == 2)
            until(lambda: "prompt-1" in journal(out))
            process.kill()
        code, found = run(folder, "--comfy", comfy.url, out=out)
        assert (code, found["done"]) == (0, 5)
        assert len(comfy.prompts) == 5
    assert len(files(out)) == 5


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signal that reaches one process as Ctrl-C does")
def test_ctrl_c_finishes_what_runs_and_a_second_one_stops_it(folder, tmp_path):
    for presses, done in ((1, 1), (2, 0)):
        out = tmp_path / str(presses)
        with FakeComfy(seconds=3.0) as comfy, started(folder, "--comfy", comfy.url, out=out) as process:
            until(lambda comfy=comfy, out=out: comfy.running is not None and "prompt-0" in journal(out))
            for _ in range(presses):
                process.send_signal(signal.SIGINT)
                time.sleep(0.5)
            printed, _ = process.communicate(timeout=30)
            assert process.returncode == 130, printed
            assert len(comfy.prompts) == 1
        found = json.loads((out / "report.json").read_text(encoding="utf-8"))
        assert (found["done"], found["left"]) == (done, 5 - done)


class FakeLive:
    """A live server whose sessions say three chunks, on a thread of its own."""

    def __init__(self, **options) -> None:
        self._options = options

    def __enter__(self):
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    async def _serve(self):
        async with served(make=Quiet, **self._options) as self.served:
            self.url, self._end = self.served.url, asyncio.Event()
            self._ready.set()
            await self._end.wait()

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


def test_live_servers_say_sounds_and_sentences_in_sessions_of_their_own(tmp_path):
    tone(tmp_path / "tone.wav", 0.5)
    (tmp_path / "me.png").write_bytes(b"a picture")
    (tmp_path / "token").write_text(SECRET, encoding="utf-8")
    (tmp_path / "jobs.csv").write_text(
        "name,reference,audio,text,seed\none,me.png,tone.wav,,3\ntwo,,,Good morning.,\nthree,me.png,tone.wav,Hello.,\n",
        encoding="utf-8",
    )
    out = tmp_path / "out"
    with FakeLive(token=SECRET, max_sessions=1) as live:
        options = ("--live", live.url, "--at-once", "2", "--token-file", tmp_path / "token")
        code, found = run(tmp_path / "jobs.csv", *options, out=out)
        assert len(live.served.sessions) == 3
    assert (code, found["done"]) == (0, 3), found
    assert files(out) == ["one/one.mp4", "three/three.mp4", "two/two.mp4"]
    assert all((out / name).stat().st_size > 1000 for name in files(out))
    assert {job["tries"] for job in found["jobs"]} == {1}, "a full server costs no try"


def test_a_sentence_goes_to_the_live_server_and_a_nodes_input_to_comfyui(tmp_path):
    (tmp_path / "jobs.csv").write_text("name,text,4.width\ntwo,Good morning.,\nwide,,192\n", encoding="utf-8")
    out = tmp_path / "out"
    with FakeLive() as live, FakeComfy() as comfy:
        code, found = run(tmp_path / "jobs.csv", "--live", live.url, "--comfy", comfy.url, out=out)
        (prompt,) = comfy.prompts.values()
    assert code == 0
    assert prompt["prompt"]["4"]["inputs"]["width"] == 192
    assert {job["name"]: job["machine"] for job in found["jobs"]} == {"two": live.url, "wide": comfy.url}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_table_is_read_in_every_encoding_that_spreadsheets_write(tmp_path, encoding):
    path = tmp_path / "jobs.csv"
    path.write_bytes('name,text\r\neins,"Guten Morgen, Zo\u00eb.\nNoch etwas."\r\n'.encode(encoding))
    (job,) = farm.jobs.read_jobs(path)
    assert (job.name, job.text) == ("eins", "Guten Morgen, Zo\u00eb.\nNoch etwas.")


@pytest.mark.parametrize(
    ("text", "said"),
    [("name,wdth\na,1\n", "the column 'wdth'"), ("name,reference\na,none.png\n", "no file"),
     ("name,seed\na,one\n", "invalid literal"), ("name\na\na\n", "two jobs have the name 'a'"),
     ("name\n../a\n", "cannot be the name"), ("name,seed\na\n", "another number of fields"),
     ("name\n", "holds no job"), ("name\nZo\udcff\n", "is no text in UTF-8 or UTF-16; save it as UTF-8")],
    ids=["column", "file", "seed", "twice", "name", "fields", "empty", "encoding"],
)  # fmt: skip
def test_a_wrong_table_is_one_sentence(tmp_path, capsys, text, said):
    path = tmp_path / "jobs.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    assert farm.main([str(path), "--comfy", "http://127.0.0.1:9", "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1


def test_pairs_are_made_of_the_same_name_or_of_all(folder, capsys):
    (folder / "png" / "alone.png").write_bytes(b"nobody's")
    assert [job.name for job in farm.jobs.read_jobs(folder)] == [f"job{number}" for number in range(5)]
    assert "alone.png" in capsys.readouterr().err
    pairs = farm.jobs.read_jobs(folder, every_pair=True)
    assert len({job.name for job in pairs}) == 30


def test_a_second_try_comes_later_and_later_but_never_more_than_a_minute():
    waits = [farm.sharing.backoff(2.0, times) for times in range(1, 40)]
    assert 1.6 <= waits[0] <= 2.4
    assert 3.2 <= waits[1] <= 4.8
    assert all(48 <= wait <= 72 for wait in waits[6:])


def test_a_journal_is_whole_at_every_moment(tmp_path, monkeypatch):
    journal = farm.jobs.Journal(tmp_path / "farm.json")
    journal.note("one", state="done")

    def fails(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(farm.jobs.json, "dump", fails)
    with pytest.raises(OSError, match="no space"):
        journal.note("two", state="done")
    monkeypatch.undo()
    assert list(farm.jobs.Journal(tmp_path / "farm.json").entries) == ["one"]
    (tmp_path / "farm.json").write_text("[]", encoding="utf-8")
    with pytest.raises(farm.queue.FailedError, match="is no journal"):
        farm.jobs.Journal(tmp_path / "farm.json")


def test_a_full_disk_ends_it_with_a_sentence(folder, tmp_path, monkeypatch, capsys):
    def fails(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(farm.jobs.json, "dump", fails)
    with FakeComfy() as one, FakeComfy() as two:
        line = [str(folder), "--comfy", one.url, "--comfy", two.url, "--out", str(tmp_path / "out")]
        assert farm.main(line) == 1
    assert "error: no space left" in capsys.readouterr().err
