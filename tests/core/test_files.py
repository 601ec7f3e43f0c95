"""The user's files: nothing is written over what is read, and text is taken in every encoding that editors write."""

import os
import shutil
from itertools import permutations
from pathlib import Path

import pytest

from knot_core import files
from knot_core.driving import Driving
from knot_core.driving.expression import read_expression
from knot_core.driving.prompts import parse_prompts
from knot_core.errors import KnotError, SettingsError
from knot_core.files import check_outputs, check_places, lies_within, read_text, same_place
from knot_core.media import AudioFile, open_audio
from knot_core.settings_text import changed_settings

SPEECH = Path(files.__file__).parent / "assets" / "speech" / "hello.wav"
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32")
CONTROLS = '{"fps": 25, "yaw": [0, 0.1, 0.2]}'
EXPRESSION = '{"yaw": [[0, 0], [1, 0.4, "out"]]}'


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_is_the_same_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "text"
    path.write_bytes('{"name": "Zoë 名"}'.encode(encoding))
    assert read_text(path, "the text") == '{"name": "Zoë 名"}'
    for text, read in ((CONTROLS, Driving.from_controls), (EXPRESSION, read_expression)):
        path.write_bytes(text.encode(encoding))
        plain = tmp_path / "plain"
        plain.write_text(text, encoding="utf-8")
        assert read(path) == read(plain)


@pytest.mark.parametrize("encoding", [*ENCODINGS, "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ["\u53f0\u8bcd \u4e2d\r\n\u4e00\u4e8c\n", "\r\n", "{", '{"\U0001f600": "\u4e00"}\r\n'])
def test_no_mark_is_needed_whatever_the_first_character_is(tmp_path: Path, encoding: str, text: str) -> None:
    path = tmp_path / "text"
    path.write_bytes(text.encode(encoding))
    assert read_text(path, "the text") == text


DAMAGED = ("{'é'}".encode("latin-1"), b"\xff\xfeabc", b"\xef\xbb\xbf\xff", b"ab\0cd", b"\xff" * 9)


@pytest.mark.parametrize("data", DAMAGED)
@pytest.mark.parametrize("read", [Driving.from_controls, read_expression])
def test_another_encoding_is_one_sentence_in_our_words(tmp_path: Path, read: object, data: bytes) -> None:
    path = tmp_path / "text.json"
    path.write_bytes(data)
    with pytest.raises(KnotError, match=r"text\.json (is no text in UTF-8|contains NUL)") as found:
        read(path)
    said = str(found.value)
    assert "codec" not in said, "Python's word"
    assert str(path) in said
    assert "\n" not in said


def test_text_that_was_pasted_may_begin_with_a_mark() -> None:
    assert read_expression("\ufeff" + EXPRESSION) == read_expression(EXPRESSION)
    assert parse_prompts("\ufeff0:00 calm") == parse_prompts("0:00 calm")
    assert changed_settings("\ufeffsteps = 2") == {"steps": 2}


def test_one_place_under_many_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a").touch()
    os.link("a", "hard")
    for name, target in (("soft", "a"), ("to_folder", "folder"), ("dangling", "folder/new"), ("chain", "soft")):
        os.symlink(target, name)
    there = [Path("a"), tmp_path / "a", Path("./folder/../a"), Path("hard"), Path("soft"), Path("chain")]
    to_come = [Path("folder/new"), Path("to_folder/new"), Path("dangling"), tmp_path / "to_folder/../folder/new"]
    for group in (there, to_come):
        for one, other in permutations(group, 2):
            assert same_place(one, other), (one, other)
    for one in there:
        for other in [*to_come, Path("A"), Path("b"), Path("folder")]:
            assert not same_place(one, other), (one, other)
    assert lies_within("to_folder/deep/er", "folder")
    assert not lies_within("a", "folder")


def test_case_is_folded_where_the_file_system_folds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not same_place(tmp_path / "New.mp4", tmp_path / "nEW.MP4"), "this one does not"
    monkeypatch.setattr(files, "_ignores_case", lambda _: True)
    assert same_place(tmp_path / "New.mp4", tmp_path / "nEW.MP4")
    assert same_place(tmp_path / "e\u0301", tmp_path / "\u00e9")
    assert not same_place(tmp_path / "New.mp4", tmp_path / "old.mp4")


def test_what_is_read_and_written_is_named_in_one_sentence(tmp_path: Path) -> None:
    sound, video = tmp_path / "talk.mp4", tmp_path / "v.mp4"
    sound.touch()
    with pytest.raises(SettingsError, match=r"--out .*talk\.mp4 would be written over --audio .*talk\.mp4"):
        check_outputs({"--out": sound}, {"--audio": sound})
    with pytest.raises(SettingsError, match=r"--out .*v\.mp4 and --sheet .*v\.mp4"):
        check_outputs({"--out": video, "--sheet": video}, {})
    check_outputs({"--out": video, "--sheet": None}, {"--audio": sound, "--controls": None})
    check_outputs({"--save-state": sound}, {"--resume": sound}, replaces={"--save-state": "--resume"})
    with pytest.raises(SettingsError, match="--audio"):
        check_outputs({"--save-state": sound}, {"--audio": sound}, replaces={"--save-state": "--resume"})
    check_outputs({"--out": Path("/dev/null"), "--stats": Path("/dev/null")}, {})


def test_a_file_takes_no_folders_place_and_lies_below_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    for name in ("folder", "link"):
        with pytest.raises(SettingsError, match=f"^--stats .*{name} is a folder; name a file in it$"):
            check_places({"--stats": tmp_path / name})
        check_places({"--out": tmp_path / name}, folders=["--out"])
    for name in ("file/x.mp4", "file/a/b/x.mp4"):
        with pytest.raises(SettingsError, match="would lie in file, which is no folder"):
            check_places({"--out": tmp_path / name}, folders=["--out"])
    check_places({"--out": tmp_path / "folder/new/x.mp4", "--stats": os.devnull, "--sheet": None})


def test_folders_hold_nothing_that_is_read_or_written_elsewhere(tmp_path: Path) -> None:
    pictures, weights = tmp_path / "pictures", tmp_path / "weights"
    weights.mkdir()
    (weights / "config.json").touch()
    for inputs in ({"--audio": pictures / "sound.wav"}, {"--text-encoder": pictures}):
        with pytest.raises(SettingsError, match="--out"):
            check_outputs({"--out": pictures}, inputs, folders=("--out",))
    with pytest.raises(SettingsError, match="--sheet"):
        check_outputs({"--out": pictures, "--sheet": pictures / "deep" / "s.png"}, {}, folders=("--out",))
    with pytest.raises(SettingsError, match="--stats"):
        check_outputs({"--stats": weights / "config.json"}, {"--text-encoder": weights})
    check_outputs({"--stats": weights / "new.json", "--out": weights / "v.mp4"}, {"--text-encoder": weights})


@pytest.mark.parametrize("name", ["10:30 talk.wav", "file:talk.wav", "pipe:0.wav", "-i.wav", "a%d|b.wav"])
def test_a_name_is_a_file_whatever_it_looks_like(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """FFmpeg takes what stands before a colon for a protocol."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(SPEECH, name)
    assert open_audio(name).num_samples == open_audio(SPEECH).num_samples
    assert AudioFile(name).read(0, 100).shape == (1, 100)
