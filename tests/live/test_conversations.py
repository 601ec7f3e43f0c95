"""Recorded conversations, said again: a client of this protocol version is understood as it was.

A line is what the client says, or some fields of what the server says next; chunks, states and receipts in between are
passed over.
"""

import asyncio
import json
from pathlib import Path

import pytest

from knot_live import controls

from .serving import served, wire

CONVERSATIONS = sorted((Path(__file__).resolve().parents[1] / "fixtures" / "live").glob("*.jsonl"))
IN_BETWEEN = {"video.chunk_metadata", "session.state", "control.applied", "control.received"}


def says(wanted, found):
    """Whether a message has those fields, and in those that are objects these."""
    return all(
        says(value, found.get(name)) if isinstance(value, dict) else found.get(name) == value
        for name, value in wanted.items()
    )


async def hear(client, wanted):
    while (found := await client.next()) is not None:
        if isinstance(found, dict) and says(wanted, found):
            return
        assert not isinstance(found, dict) or found["type"] in IN_BETWEEN, f"got {found}, wanted {wanted}"
    raise AssertionError(f"the connection ended before {wanted}")


async def said_again(path):
    """The wishes that reached the session."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    async with served() as at, wire(at.url) as client:
        for line in lines:
            if "client" in line:
                await client.socket.send_str(json.dumps(line["client"]))
            else:
                await hear(client, line["server"])
        return at.sessions[0].wishes


@pytest.mark.parametrize("path", CONVERSATIONS, ids=lambda path: path.stem)
def test_a_recorded_conversation_goes_as_it_went(path):
    assert asyncio.run(asyncio.wait_for(said_again(path), 60))


def test_what_was_said_is_what_the_session_is_told():
    wishes = asyncio.run(asyncio.wait_for(said_again(CONVERSATIONS[0]), 60))
    speech = wishes.pop(3)
    assert (speech.samples.tolist(), speech.rate, speech.mode) == ([0, 1, 2, 3], 24_000, "reply")
    assert wishes == [
        controls.SetControls({"yaw": 0.4, "blink": None}),
        controls.Gesture("nod", 0.5),
        controls.Look(0.5, -0.25),
        controls.CommitSpeech(),
        controls.Say("Good morning.", "en-us"),
        controls.SetLiveliness(0.25),
        controls.Cancel(84),
        controls.StartRecording(),
        controls.Finish(),
    ]
