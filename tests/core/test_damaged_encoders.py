"""Encoders of speech and text from folders that are cut off, poisoned, or carry code: one sentence; nothing runs."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from knot_core import load_speech_encoder, load_text_encoder
from knot_core.errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="TRANSFORMERS DOES NOT IMPORT: encoders are not tested")
tokenizers = pytest.importorskip("tokenizers", reason="TOKENIZERS DOES NOT IMPORT: prompts are not tested")

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class Evil:
    """What a pickle can do: call anything."""

    def __reduce__(self) -> tuple:
        return print, ("code ran",)


def text_folder(folder: Path) -> Path:
    sizes = {"vocab_size": 4, "d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    transformers.UMT5EncoderModel(transformers.UMT5Config(**sizes)).save_pretrained(folder)
    words = {word: number for number, word in enumerate(("<pad>", "</s>", "<unk>", "talks"))}
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, "<unk>"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)
    return folder


def speech_folder(folder: Path) -> Path:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embedding_groups=4)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    return folder


def use_text(folder: Path) -> None:
    load_text_encoder(folder).encode("talks")


def use_speech(folder: Path) -> None:
    load_speech_encoder(folder).states(torch.ones(4_000).sin(), 4)


def cut(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def poison(folder: Path) -> None:
    tensors = {name: tensor * torch.nan for name, tensor in load_file(folder / WEIGHTS).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def hide_code(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS) | {"more": Evil()}, folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()


def be_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(), protocol=2))


def be_empty(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").touch()


def be_a_list(folder: Path) -> None:
    (folder / CONFIG).write_text("[]", encoding="utf-8")


def be_wider(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    (folder / CONFIG).write_text(json.dumps(config | {"d_model": 32, "hidden_size": 32}), encoding="utf-8")


@pytest.mark.parametrize(
    ("make", "use"), [(text_folder, use_text), (speech_folder, use_speech)], ids=["text", "speech"]
)
@pytest.mark.parametrize(("damage", "says"), [
    (cut, "that loads"),
    (poison, "not finite"),
    (hide_code, "carries code beside its weights"),
    (be_a_pickle, "carries code beside its weights"),
    (be_empty, "that loads"),
    (be_a_list, "that loads"),
    (be_wider, "that loads"),
])  # fmt: skip
def test_a_damaged_folder_gets_one_sentence_and_its_code_does_not_run(tmp_path, capfd, make, use, damage, says):
    folder = make(tmp_path / "encoder")
    use(folder)
    damage(folder)
    with pytest.raises(CheckpointError, match=says) as problem:
        use(folder)
    assert "\n" not in str(problem.value)
    assert "code ran" not in capfd.readouterr().out


@pytest.mark.parametrize("tensor", ["encoder.layer_norm.weight", "feature_extractor.conv_layers.3.conv.weight"])
@pytest.mark.parametrize("shape", [(), (17,)])
def test_a_speech_encoder_of_strange_shapes_is_refused(tmp_path, tensor, shape):
    tensors = load_file(speech_folder(tmp_path / "encoder") / WEIGHTS) | {tensor: torch.ones(shape)}
    save_file(tensors, tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="is no wav2vec2"):
        load_speech_encoder(tmp_path / "w.safetensors")
