"""A sentence that somebody typed, as sound: through the real espeak-ng where it is installed."""

import shutil
import sys

import numpy as np
import pytest

from knot_live import speaking
from knot_live.speaking import SpeakingError, Voice, synthesize, voices

installed = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="ESPEAK-NG IS NOT INSTALLED: it is not tried")


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(speaking, "_ON_WINDOWS", tmp_path / "espeak-ng.exe")


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """`stand_in(code)`: a program of that name, which runs this Python; `voices` are asked of it, too."""

    def install(code: str) -> None:
        program = tmp_path / "espeak-ng"
        program.write_text(f"#!{sys.executable} -I\nimport sys, time\n{code}\n", encoding="utf-8")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(speaking, "_voices_of", lambda _program: (Voice("en-us", "English", "en-us"),))

    return install


@installed
def test_a_sentence_is_a_second_or_more_of_sound_at_the_rate_that_its_header_names():
    sound, rate = synthesize("Good morning, how are you today?", "en-us")
    assert sound.dtype == np.float32
    assert rate == 22_050
    assert 1 < len(sound) / rate < 4
    assert 0.1 < np.abs(sound).max() <= 1


@installed
def test_voices_have_a_name_and_a_language_and_differ():
    found = {voice.name: voice for voice in voices()}
    assert found["en-us"] == Voice("en-us", "English (America)", "en-us")
    assert found["de+f3"].language == "de"
    assert len(found) == len(voices()) > 50
    man, woman = (synthesize("Good morning.", name)[0] for name in ("en-us", "en-us+f3"))
    assert not np.array_equal(man, woman)


@installed
def test_no_text_is_an_option_or_read_as_a_command(tmp_path):
    there = tmp_path / "there"
    plain, _ = synthesize("hello")
    for text in ("-v de hello", "--version", f"$(touch {there})", f"`touch {there}`; touch {there}", "-w /tmp/x.wav"):
        sound, _ = synthesize(text)
        assert len(sound) > len(plain) / 2
    assert not there.exists()


@installed
@pytest.mark.parametrize(
    "text", ["Grüße aus Köln", "今日は", "emoji 🎉", "line\none\x00two", "<voice>not markup</voice> &"]
)
def test_any_writing_is_spoken(text):
    sound, rate = synthesize(text, "de")
    assert len(sound) > rate / 10


@installed
@pytest.mark.parametrize(
    ("text", "voice", "says"),
    [
        ("", "en-us", "no text to speak"),
        (" \n\x00 ", "en-us", "no text to speak"),
        ("a" * 501, "en-us", "at most 500 characters"),
        (None, "en-us", "at most 500 characters"),
        ("hello", "nobody", "no voice 'nobody'"),
        ("hello", "-w/tmp/x", "no voice"),
        ("hello", "../../etc/passwd", "no voice"),
    ],
)
def test_what_cannot_be_spoken_is_refused_in_one_sentence(text, voice, says):
    with pytest.raises(SpeakingError, match=says):
        synthesize(text, voice)


@pytest.mark.usefixtures("nothing_installed")
def test_where_it_is_missing_a_sentence_says_how_to_get_it():
    assert voices() == ()
    for system in ("apt install espeak-ng", "brew install espeak-ng", "winget install"):
        assert system in speaking.missing()
    with pytest.raises(SpeakingError, match="which is not installed"):
        synthesize("hello")


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("sys.exit(3)", "espeak-ng failed"),
        ("print('no sound')", "gave no sound"),
        ("time.sleep(60)", "did not end within"),
        (
            "sys.stdout.buffer.write(b'RIFF....WAVEfmt ....\\1\\0\\1\\0\\x22\\x56\\0\\0........data....')",
            "that is no text",
        ),
    ],
)
def test_a_program_that_fails_is_said(stand_in, monkeypatch, code, says):
    monkeypatch.setattr(speaking, "_TIMEOUT", 0.5)
    stand_in(code)
    with pytest.raises(SpeakingError, match=says):
        synthesize("hello")


@pytest.mark.skipif(sys.platform == "win32", reason="a script is no program there")
def test_one_that_is_broken_has_no_voices_and_is_said(stand_in, monkeypatch):
    asked = speaking._voices_of
    stand_in("sys.exit(3)")
    monkeypatch.setattr(speaking, "_voices_of", asked)
    assert voices() == ()
    assert "espeak-ng failed" in speaking.missing()
