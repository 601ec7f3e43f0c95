"""Prompts: UMT5 features with the padding zeroed, from a folder on this machine; on a tiny random encoder."""

import shutil

import pytest
import torch

from knot_core.errors import CheckpointError
from knot_core.text import NUM_TEXT_TOKENS, TextEncoder, cleaned, load_text_encoder

transformers = pytest.importorskip("transformers", reason="TRANSFORMERS DOES NOT IMPORT: prompts are not tested")
tokenizers = pytest.importorskip("tokenizers", reason="TOKENIZERS DOES NOT IMPORT: prompts are not tested")

WORDS = ["<pad>", "</s>", "<unk>", "a", "portrait", "of", "somebody", "who", "talks"]


def tokenizer():
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    model.post_processor = tokenizers.processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    config = transformers.UMT5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=4, d_ff=24, num_layers=2, num_heads=4, dropout_rate=0.0
    )
    path = tmp_path_factory.mktemp("umt5")
    transformers.UMT5EncoderModel(config).save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def encoder(folder) -> TextEncoder:
    return load_text_encoder(folder, dtype=torch.float32)


@torch.no_grad()
def test_features_are_the_padded_encoders_with_the_padding_zeroed(encoder):
    tokens = encoder.tokenizer(
        "a portrait of somebody", padding="max_length", max_length=NUM_TEXT_TOKENS, return_tensors="pt"
    )
    padded = encoder.network(tokens.input_ids, tokens.attention_mask).last_hidden_state
    expected = padded * tokens.attention_mask[..., None]
    got = encoder.encode("a portrait   of\nsomebody ")
    assert got.shape == (1, NUM_TEXT_TOKENS, 16)
    assert got.dtype == torch.float32
    assert not got[:, 5:].any()
    assert got[:, :5].abs().amax(dim=-1).min() > 0, "four words and the end token"
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_an_empty_prompt_is_its_end_token(encoder):
    got = encoder.encode("")
    assert got[:, 0].any()
    assert not got[:, 1:].any()


def test_a_prompt_that_is_too_long_is_cut_and_said(encoder, caplog):
    got = encoder.encode("a " * 600)
    assert got.shape == (1, NUM_TEXT_TOKENS, 16)
    assert got[:, -1].any()
    assert "601 tokens" in caplog.text


def test_prompts_are_cleaned_as_wan_cleans_them():
    assert cleaned(" who\n\t talks &amp;amp; &quot;smiles&quot; ") == 'who talks & "smiles"'


def test_a_pipelines_folder_loads_and_any_other_is_refused(folder, encoder, tmp_path):
    shutil.copytree(folder, tmp_path / "text_encoder")
    with pytest.raises(CheckpointError, match=r"neither config\.json nor text_encoder and tokenizer"):
        load_text_encoder(tmp_path)
    tokenizer().save_pretrained(tmp_path / "tokenizer")
    again = load_text_encoder(tmp_path, dtype=torch.float32)
    assert torch.equal(again.encode("who talks"), encoder.encode("who talks"))
    (tmp_path / "text_encoder/model.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="no UMT5 text encoder that loads"):
        load_text_encoder(tmp_path)
