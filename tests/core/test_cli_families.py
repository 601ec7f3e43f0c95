"""The command line on a family that takes wav2vec2 features and a prompt: every cable from file to video."""

import dataclasses
import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from knot_core import SettingsError, cli, load_model, load_text_encoder
from knot_core.codec.taehv import TAEHV, CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig
from knot_core.media import Audio, VideoWriter
from knot_core.wan.checkpoint import save_network
from knot_core.wan.families import PRESETS
from knot_core.wan.network import WanNetwork

transformers = pytest.importorskip("transformers", reason="TRANSFORMERS DOES NOT IMPORT: encoders are not tested")
tokenizers = pytest.importorskip("tokenizers", reason="TOKENIZERS DOES NOT IMPORT: prompts are not tested")

WIDTH = 16  # of both encoders
WORDS = ("<pad>", "</s>", "<unk>", "somebody", "talks")


def save_text_encoder(folder: Path) -> None:
    sizes = {"vocab_size": len(WORDS), "d_model": WIDTH, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 4}
    transformers.UMT5EncoderModel(transformers.UMT5Config(**sizes)).save_pretrained(folder)
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel({word: i for i, word in enumerate(WORDS)}, "<unk>"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)


def save_speech_encoder(folder: Path) -> None:
    sizes = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.Wav2Vec2Config(**sizes, conv_dim=(8,) * 7, num_conv_pos_embedding_groups=4)
    transformers.Wav2Vec2Model(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory, randomised) -> Path:
    folder = tmp_path_factory.mktemp("families")
    torch.manual_seed(0)
    adapter = AdapterConfig(signal_dim=3 * WIDTH, num_packed=4, hidden_dim=8, blocks=(0, 1))
    config = NetworkConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=2, in_channels=33, layout="ref33",
                           text_dim=WIDTH, freq_dim=16, adapter=adapter)  # fmt: skip
    preset = dataclasses.replace(PRESETS["livetalk"], height=32, width=32)
    save_network(folder / "model.safetensors", randomised(WanNetwork(config), 1), preset)
    codec = randomised(TAEHV(CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4))), 2)
    save_file(codec.state_dict(), folder / "taew.safetensors")
    save_text_encoder(folder / "umt5")
    save_speech_encoder(folder / "wav2vec2")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / "face.png")
    sound = Audio(samples=torch.randn(1, 16_000) * 0.1, sample_rate=16_000)
    with VideoWriter(folder / "speech.m4a", width=16, height=16, audio=sound) as writer:
        writer.write(torch.zeros(25, 16, 16, 3, dtype=torch.uint8))
    return folder


@pytest.fixture
def run(files, capsys, monkeypatch):
    """`run(...)` in the files' folder: (exit code, standard output, error stream)."""
    monkeypatch.chdir(files)
    start = "animate --model model.safetensors --codec taew.safetensors --reference face.png --audio speech.m4a"
    options = f"{start} --dtype float32 --device cpu --out video.mp4"

    def call(*more: str) -> tuple[int, str, str]:
        code = cli.main([*options.split(), *more])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


PROMPT = ("--prompt", "somebody talks", "--text-encoder", "umt5")
SPEECH = ("--speech-encoder", "wav2vec2")


def test_words_and_speech_make_a_video_at_the_familys_rate(run, files):
    code, said, error = run(*PROMPT, *SPEECH)
    assert code == 0, error
    assert json.loads(said.splitlines()[-1])["pixel_frames"] == pytest.approx(16, abs=1)
    with av.open(str(files / "video.mp4")) as container:
        assert container.streams.video[0].average_rate == 16


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SPEECH, "no prompt"),
        (PROMPT, "is driven by wav2vec2 features"),
        ((*SPEECH, *PROMPT[:2]), "--prompt and --text-encoder go together"),
        ((*SPEECH, *PROMPT, "--text", "tokens.safetensors"), "--text and --prompt are both given"),
        ((*SPEECH, *PROMPT[:2], "--text-encoder", "wav2vec2"), "no UMT5 text encoder"),
    ],
)
def test_what_is_missing_or_given_twice_is_said(run, given, message):
    code, _, error = run(*given)
    assert code == 1
    assert message in error


def test_a_model_that_reads_a_prompt_refuses_to_begin_without(files):
    model = load_model(files / "model.safetensors", dtype=torch.float32, codec=files / "taew.safetensors")
    with pytest.raises(SettingsError, match=r"no prompt, but LiveTalk .*load_text_encoder"):
        model.encode_anchor(torch.rand(32, 32, 3))
    text = load_text_encoder(files / "umt5", dtype=torch.float32).encode("somebody talks")
    assert model.encode_anchor(torch.rand(32, 32, 3), text=text).conditioning.text_BTD.shape == (1, 512, WIDTH)
