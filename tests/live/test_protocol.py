"""The protocol's messages: what is sound is read as it was meant, and nothing else gets through."""

import base64
import importlib
import json
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knot_live import controls
from knot_live.messages import (
    CAMERA,
    HEADER_SIZE,
    SPEECH,
    Acknowledge,
    CameraPicture,
    Create,
    Header,
    Ping,
    RecentreCamera,
    Resume,
    SpeechFormat,
    View,
    Vocabulary,
    said,
    unpack,
)
from knot_live.protocol import OPENING, ProtocolError, parse, parse_binary, parse_opening

WORDS = Vocabulary(
    controls={"yaw": (-1.0, 1.0), "blink": (0.0, 1.0)},
    gestures=("nod", "shake"),
    speech=SpeechFormat(16_000, "mirror"),
)
PCM = np.arange(-4, 4, dtype="<i2")
JPEG = b"\xff\xd8\xff\xe0 and so on"

SOUND = [
    ("session.update", {"liveliness": 0.5}, [controls.SetLiveliness(0.5)]),
    ("session.update", {"settings": {"steps": 2}}, [controls.Settings({"steps": 2})]),
    ("session.update", {"settings": {"timesteps": [1000, 500.5]}}, [controls.Settings({"timesteps": (1000.0, 500.5)})]),
    ("session.interaction", {"controls": {"yaw": 1, "blink": None}},
     [controls.SetControls({"yaw": 1.0, "blink": None})]),
    ("session.interaction", {"pose": {"yaw": -0.5}}, [controls.SetPose({"yaw": -0.5})]),
    ("session.interaction", {"gesture": {"name": "nod"}, "look": {"x": 0, "y": -1}},
     [controls.Gesture("nod", 1.0), controls.Look(0.0, -1.0)]),
    ("session.interaction", {"gesture": {"name": "nod", "strength": 2}}, [controls.Gesture("nod", 2.0)]),
    ("camera.recentre", {}, [RecentreCamera()]),
    ("session.interaction", {"prompt": "she smiles"}, [controls.Prompt("she smiles")]),
    ("session.interaction", {"prompt": {"text": "she smiles", "recache": True}},
     [controls.Prompt("she smiles", recache=True)]),
    ("session.reference", {"reference": "builtin:ben", "cut": True}, [controls.Reference("builtin:ben", cut=True)]),
    ("session.reference", {"reference": "builtin:ben"}, [controls.Reference("builtin:ben", cut=False)]),
    ("session.say", {"text": "Good morning."}, [controls.Say("Good morning.", "")]),
    ("input_audio_buffer.commit", {}, [controls.CommitSpeech()]),
    ("input_audio_buffer.clear", {}, [controls.ClearSpeech()]),
    ("response.cancel", {}, [controls.CancelReply()]),
    ("output_audio_buffer.clear", {"played_frame": 41}, [controls.Cancel(41)]),
    ("playback.ack", {"epoch": 2, "frame": 99}, [Acknowledge(2, 99)]),
    ("playback.ack", {"epoch": 2, "frame": 99, "transport": 0.05}, [Acknowledge(2, 99, 0.05)]),
    ("session.pause", {}, [controls.Pause()]),
    ("session.go_on", {}, [controls.GoOn()]),
    ("session.finish", {}, [controls.Finish()]),
    ("recording.start", {}, [controls.StartRecording()]),
    ("recording.stop", {}, [controls.StopRecording()]),
    ("ping", {}, [Ping()]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "fields", "wanted"), SOUND, ids=lambda value: value if isinstance(value, str) else "")
def test_a_sound_message_becomes_its_controls_in_order(kind, fields, wanted):
    received = (
        parse(said(kind, event_id="e1"), WORDS) if not fields else parse(_json(kind, event_id="e1", **fields), WORDS)
    )
    assert received.event_id == "e1"
    assert list(received.requests) == wanted


def test_every_type_has_a_sound_example():
    protocol = importlib.import_module("knot_live.protocol")
    assert set(protocol._MESSAGES) == {kind for kind, _, _ in SOUND} | {"input_audio_buffer.append"}


def test_speech_comes_as_base64_or_binary_at_the_rate_that_was_announced():
    as_text = parse(_json("input_audio_buffer.append", audio=base64.b64encode(PCM.tobytes()).decode()), WORDS)
    as_bytes = parse_binary(Header(SPEECH).pack() + PCM.tobytes(), WORDS)
    for received in (as_text, as_bytes):
        (speech,) = received.requests
        assert (speech.rate, speech.mode) == (16_000, "mirror")
        np.testing.assert_array_equal(speech.samples, PCM)


def test_a_camera_s_picture_is_a_jpeg():
    (picture,) = parse_binary(Header(CAMERA).pack() + JPEG, WORDS).requests
    assert isinstance(picture, CameraPicture)
    assert picture.jpeg == JPEG
    with pytest.raises(ProtocolError, match="no JPEG"):
        parse_binary(Header(CAMERA).pack() + b"GIF89a", WORDS)


def test_openings_are_read_with_their_defaults():
    assert parse_opening(_json("session.create")) == Create()
    wish = parse_opening(_json("session.create", settings={"timesteps": [1000, 500]}, speech={"rate": 8000}))
    assert wish.settings == {"timesteps": (1000, 500)}
    assert wish.speech == SpeechFormat(8000, "reply")
    assert parse_opening(_json("session.view", view_token="v", video="fmp4")) == View(view_token="v", video="fmp4")
    resumed = parse_opening(_json("session.resume", session_id="s", resume_token="r", last_frame=7))
    assert resumed == Resume(session_id="s", resume_token="r", last_frame=7)


REFUSED = [
    ("", "bad_json"), ("{", "bad_json"), ("[]", "bad_json"), ("1", "bad_json"), ('{"type": 3}', "bad_json"),
    ("[" * 100_000, "bad_json"), ('{"type": "ping", "event_id": 4}', "bad_value"),
    ('{"type": "ping", "more": 1}', "unknown_field"), ('{"type": "dance"}', "unknown_type"),
    ('{"type": "session.create"}', "already_created"), ('{"type": "session.update"}', "missing_field"),
    ('{"type": "session.update", "liveliness": NaN}', "bad_json"),
    ('{"type": "session.update", "liveliness": 1e999}', "bad_value"),
    ('{"type": "session.update", "liveliness": true}', "bad_value"),
    ('{"type": "session.update", "liveliness": ' + "9" * 5000 + "}", "bad_json"),
    ('{"type": "session.update", "settings": {"stps": 2}}', "bad_value"),
    ('{"type": "session.update", "settings": {"steps": {"a": 1}}}', "bad_value"),
    ('{"type": "session.update", "settings": {"steps": 1000}}', "bad_value"),
    ('{"type": "session.update", "settings": {"num_window_frames": 9}}', "bad_value"),
    ('{"type": "session.update", "settings": {"timesteps": [9, 8, 7, "6"]}}', "bad_value"),
    ('{"type": "session.update", "settings": {"timesteps": ' + str([1] * 17) + "}}", "bad_value"),
    ('{"type": "session.interaction", "controls": {"yaw": 1.01}}', "bad_value"),
    ('{"type": "session.interaction", "controls": {"jaw": 0}}', "bad_value"),
    ('{"type": "session.interaction", "controls": {}}', "bad_value"),
    ('{"type": "session.interaction", "pose": {"yaw": null}}', "bad_value"),
    ('{"type": "session.interaction", "gesture": {"name": "bow"}}', "bad_value"),
    ('{"type": "session.interaction", "gesture": {}}', "bad_value"),
    ('{"type": "session.interaction", "look": {"x": 0}}', "bad_value"),
    ('{"type": "session.interaction", "prompt": 3}', "bad_value"),
    ('{"type": "session.interaction", "prompt": {"recache": true}}', "bad_value"),
    ('{"type": "session.interaction", "prompt": {"text": "rain", "recache": 1}}', "bad_value"),
    ('{"type": "session.say", "text": ""}', "bad_value"),
    ('{"type": "session.say", "text": "' + "a" * 501 + '"}', "bad_value"),
    ('{"type": "session.say", "text": "\\ud800"}', "bad_value"),
    ('{"type": "session.say"}', "missing_field"),
    ('{"type": "playback.ack", "epoch": 0, "frame": 1.5}', "bad_value"),
    ('{"type": "playback.ack", "epoch": -1, "frame": 1}', "bad_value"),
    ('{"type": "playback.ack", "epoch": 0, "frame": 1, "transport": NaN}', "bad_json"),
    ('{"type": "playback.ack", "epoch": 0, "frame": 1, "transport": -1}', "bad_value"),
    ('{"type": "playback.ack", "epoch": 0, "frame": 9007199254740992}', "bad_value"),
    ('{"type": "input_audio_buffer.append", "audio": "AAA"}', "bad_value"),
    ('{"type": "input_audio_buffer.append", "audio": "AAAA"}', "bad_value"),  # three bytes
    ('{"type": "ping"' + " " * 70_000 + "}", "too_large"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "code"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_not_sound_is_refused_in_one_sentence(text, code):
    with pytest.raises(ProtocolError) as refusal:
        parse(text, WORDS)
    assert refusal.value.code == code
    sentence = str(refusal.value)
    assert 0 < len(sentence) < 1000
    assert "\n" not in sentence


def test_a_refusal_says_which_event_it_was():
    with pytest.raises(ProtocolError) as refusal:
        parse(_json("session.say", event_id="mine", text=3), WORDS)
    assert refusal.value.event_id == "mine"


@pytest.mark.parametrize("opening", OPENING)
def test_an_opening_takes_no_field_that_it_does_not_know(opening):
    with pytest.raises(ProtocolError, match="has no field 'path'"):
        parse_opening(_json(opening, path="/etc/passwd"))


def test_a_header_comes_back_as_it_was():
    header = Header(1, 3, 65_535, 2**32 - 1, 2**64 - 1)
    assert HEADER_SIZE == len(header.pack()) == 16
    assert header.pack() == struct.pack("<BBHIQ", *header)
    assert unpack(header.pack() + b"rest") == (header, b"rest")
    assert unpack(Header(1, epoch=65_536 + 5).pack())[0].epoch == 5
    with pytest.raises(ProtocolError, match="header"):
        unpack(bytes(15))


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
NAMES = {
    *("controls", "pose", "gesture", "look", "prompt", "settings", "liveliness", "text", "voice", "audio", "cut"),
    *("reference", "epoch", "frame", "played_frame", "token", "seed", "video", "sound", "speech", "view_token"),
    *("event_id", "session_id", "resume_token", "last_frame", "session"),
}
KINDS = sorted({kind for kind, _, _ in SOUND} | set(OPENING) | {"input_audio_buffer.append", ""})
MESSAGES = st.builds(
    lambda kind, fields: json.dumps({"type": kind} | fields),
    st.sampled_from(KINDS),
    st.dictionaries(st.sampled_from(sorted(NAMES)), PLAIN, max_size=3),
)


@settings(max_examples=600, deadline=None)
@given(st.one_of(MESSAGES, st.text(), PLAIN.map(json.dumps)))
def test_any_text_is_read_or_refused(text):
    for read in (parse_opening, lambda text: parse(text, WORDS)):
        try:
            read(text)
        except ProtocolError as refusal:
            problem = refusal
        else:
            continue
        assert "\n" not in str(problem)
        assert said("error", code=problem.code, message=str(problem), event_id=problem.event_id)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(data):
    try:
        code = "" if parse_binary(data, WORDS).requests else "nothing"
    except ProtocolError as refusal:
        code = refusal.code
    assert code in ("", "bad_binary")


def test_ten_thousand_damaged_messages_of_every_kind_are_read_or_refused():
    rng, outcomes = random.Random(0), {"read": 0, "refused": 0}
    wholes = [_json(kind, **fields) for kind, fields, _ in SOUND] + [_json(kind) for kind in OPENING]
    for number in range(10_000):
        text = damaged(wholes[number % len(wholes)], rng)
        for read in (parse_opening, lambda text: parse(text, WORDS)):
            try:
                read(text)
                outcomes["read"] += 1
            except ProtocolError:
                outcomes["refused"] += 1
    assert outcomes["read"] > 100
    assert outcomes["refused"] > 10_000


DAMAGE = ['"', "{", "}", "null", "-", "9", "", "\0", "[", "e9", "é"]


def damaged(text, rng):
    """With a few characters changed, doubled or left out."""
    letters = list(text)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(letters))
        letters[place : place + rng.randint(0, 2)] = rng.choice(
            ['"', "{", "}", "null", "-", "9", "", "\0", "[", "e9", "é"]
        )
    return "".join(letters) or "{"


def test_the_document_names_every_message_and_code_of_the_protocol():
    text = (Path(__file__).resolve().parents[2] / "docs" / "live.md").read_text(encoding="utf-8")
    for kind in KINDS:
        *_, last = kind.rpartition("session")
        assert f"`{kind}`" in text or f"`{last}`" in text or f"`.{kind.rpartition('.')[2]}`" in text, kind


def _json(kind, **fields):
    return json.dumps({"type": kind} | fields)
