"""Nodes are found by the words that people have for them."""

import pytest

from .node_sources import Sources

SOURCES = Sources()
ALIASES = SOURCES.aliases()


@pytest.mark.parametrize("node_id", sorted(ALIASES))
def test_a_node_has_other_names_that_its_own_name_does_not_say(node_id):
    display_name = SOURCES.schemas[node_id]["display_name"].value.lower()
    aliases = ALIASES[node_id]
    assert len(aliases) == len({alias.lower() for alias in aliases}) >= 3
    assert not [alias for alias in aliases if alias.lower() in display_name], "found by its name already"
    assert all(alias == alias.strip() != "" for alias in aliases)


def test_what_people_look_for_is_found():
    said = {alias.lower() for aliases in ALIASES.values() for alias in aliases}
    assert said >= {
        "talking head", "lip sync", "avatar", "portrait animation", "face crop", "keyframes", "prompt schedule",
        "motion transfer", "save video", "resume", "real time", "image to video", "fps",
    }  # fmt: skip


def test_only_inputs_that_a_beginner_can_leave_alone_are_folded_away():
    """They are widgets: a cable that is hidden could not be connected."""
    cables = {"model", "image", "audio", "anchor", "driving", "settings", "state", "video", "clip", "vae", "stats"}
    assert SOURCES.advanced()
    for names in SOURCES.advanced().values():
        assert not names & cables
    assert "seconds" not in SOURCES.advanced()["KnotForcingStreamToVideo"]
    assert SOURCES.advanced()["KnotForcingLoadModel"] >= {"dtype", "family", "codec"}
