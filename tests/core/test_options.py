"""Settings written as lines of text."""

import pytest

from knot_core.config import StreamSettings
from knot_core.errors import SettingsError
from knot_core.settings_text import changed_settings
from knot_core.wan.families import PRESETS
from knot_core.wan.preset import with_settings


@pytest.mark.parametrize("family", PRESETS)
def test_every_setting_is_read_as_it_is_written(family):
    settings = PRESETS[family].settings
    lines = [
        f"{name} = {', '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in vars(settings).items()
    ]
    assert StreamSettings(**changed_settings("\n".join(lines))) == settings


def test_only_what_is_written_changes():
    settings = PRESETS["livetalk"].settings
    text = "\n  num_window_frames=6  # more\n\n use_anchor = off\nfirst_timesteps = 1000,500\n"
    changed = with_settings(settings, **changed_settings(text))
    different = {name for name, value in vars(changed).items() if value != getattr(settings, name)}
    assert different == {"num_window_frames", "use_anchor", "first_timesteps"}
    assert (changed.num_window_frames, changed.use_anchor, changed.first_timesteps) == (6, False, (1000.0, 500.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("num_window_frames", "wanted a setting and its value"),
        ("steps = two", "give a whole number"),
        ("steps = 2.5", "give a whole number"),
        ("shift = much", "give a number"),
        ("use_anchor = perhaps", "give true or false"),
        ("timesteps = 1000; 500", "give numbers with commas"),
        ("windows = 3", "there is no setting windows"),
        ("steps = 0", "steps is 0"),
        ("rope_positions = sideways", "rope_positions"),
    ],
)
def test_a_wrong_line_gets_one_sentence(text, said):
    with pytest.raises(SettingsError, match=said):
        with_settings(StreamSettings(), **changed_settings(text))
