"""What a model can render is measured from pictures of its own kind, and said to whoever brings another."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from knot_core.errors import SettingsError
from knot_core.model_loading import ASSETS, load_model
from knot_lab.training.calibrate import drawn_people, portrait, rendered_people, write


def banks(folder, people: int, clips_of_things: int = 1):
    """Clips whose references are drawn people at 256 pixels, and of things."""
    folder.mkdir()
    for number in range(people):
        picture = (portrait(2 * number + 1, "train") * 255).round().byte().numpy()
        reference = np.array(Image.fromarray(picture).resize((256, 256)))
        np.savez(folder / f"train-{number:06d}.npz", reference=reference, reference_units=np.zeros(52))
    for number in range(clips_of_things):
        np.savez(folder / f"natural-{number:06d}.npz", reference=np.zeros((256, 256, 3), np.uint8))
    return folder


def test_people_of_a_bank_make_the_cloud_of_knot_face(tmp_path):
    bank, other = banks(tmp_path / "bank", 14), banks(tmp_path / "eval", 3)
    things, assets = tmp_path / "things", tmp_path / "assets"
    things.mkdir()
    Image.effect_noise((256, 256), 90).convert("RGB").save(things / "noise.png")
    assets.mkdir()
    for file in ASSETS.glob("knot-face*.safetensors"):
        shutil.copy(file, assets)
    write(rendered_people(bank, other), assets, tmp_path / "scores.json", things)
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert set(scores) == {"good enough", "rendered people", "other pictures"}
    assert len(scores["rendered people"]) == 3
    assert max(scores["other pictures"].values()) < min(scores["rendered people"].values())
    model = load_model(assets / "knot-face.safetensors")
    assert "one person's face" in model.good_references.takes
    assert Image.open(tmp_path / "scores.png").size[1] == 240


def test_a_bank_without_people_is_refused(tmp_path):
    empty = banks(tmp_path / "bank", 0)
    with pytest.raises(SettingsError, match="no clips of people"):
        next(iter(rendered_people(empty, empty).seen))


def test_drawn_people_are_named_and_of_two_splits():
    people = drawn_people(2, 3)
    assert [name for name, _ in people.seen] == ["000", "001"]
    assert [name for name, _ in people.unseen] == ["000", "001", "002"]
