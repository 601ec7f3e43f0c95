"""The bench: what it says of a tiny network, and that the loop beside it computes the same thing."""

import json
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._dynamo.utils import counters

from knot_core import cli
from knot_core.cli.bench.compiled_forward import compiled_forward
from knot_core.cli.bench.engine_benchmark import Task, measure
from knot_core.cli.bench.instruments import ChunkClock
from knot_core.cli.bench.plain_loop import PlainLoop
from knot_core.cli.bench.random_models import PUBLISHED, Hum, Published, random_model, random_text
from knot_core.cli.bench.stage_table import table
from knot_core.codec.taehv import CodecConfig
from knot_core.config import AdapterConfig, NetworkConfig, StreamSettings
from knot_core.stream import open_stream

SETTINGS = StreamSettings(steps=2, num_window_frames=4)


@pytest.fixture
def tiny(monkeypatch):
    """A row as those of public networks, small."""
    sizes = partial(NetworkConfig, dim=48, ffn_dim=64, num_heads=2, num_layers=3, text_dim=20, freq_dim=32)
    row = Published(
        sizes=sizes,
        layout="ref33",
        adapter=AdapterConfig(signal_dim=5, hidden_dim=8, blocks=(0, 2)),
        settings=SETTINGS,
        codec=CodecConfig(encoder=(4, 4, 4, 4), decoder=(8, 4, 4, 4)),
        height=32,
        width=48,
    )
    monkeypatch.setitem(PUBLISHED, "tiny", row)
    return row


@pytest.fixture
def bench(tiny, capsys, monkeypatch):  # noqa: ARG001
    """Runs the command; its code, its figures or error, its table."""
    monkeypatch.setattr("knot_core.cli.bench.instruments._SIDES", {"cpu": 32})
    monkeypatch.setattr("knot_core.cli.bench.instruments._ENOUGH", 0.0)

    def run(*arguments):
        capsys.readouterr()
        code = cli.main(["bench", "--device", "cpu", "--dtype", "float32", *map(str, arguments)])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else None, said.err

    return run


def test_the_engine_alone_is_measured_stage_by_stage(bench):
    code, figures, said = bench("--model", "tiny", "--chunks", 3, "--plain", 2)
    assert code == 0
    assert list(figures["ms"]) == ["prepare", "step 1", "step 2", "decode", "commit", "chunk"]
    assert all(0 <= taken["p50"] <= figures["ms"]["chunk"]["p50"] for taken in figures["ms"].values())
    assert (figures["chunks"], figures["pixel_frames_per_chunk"]) == (3, 12)
    assert figures["realtime_factor"] == pytest.approx(figures["fps"] / 16, rel=1e-3)
    assert figures["plain"]["times_as_long"] > 0
    assert figures["plain"]["network_times_as_long"] > 0
    assert figures["plain"]["times_the_operations"] > 1
    assert figures["peak_memory"]["mib"] > 0
    assert "scaled_to_full_depth" not in figures
    for line in ("step 1 ", "a plain loop", "TFLOP a chunk"):
        assert line in said


def test_the_stages_of_a_chunk_come_to_the_chunk():
    clock = ChunkClock(torch.device("cpu"))
    for _ in range(2):
        with clock.chunk():
            for done in range(4):
                clock(done, 3)
    found = clock.milliseconds()
    assert list(found) == ["prepare", "step 1", "step 2", "decode", "commit", "chunk"]
    for *stages, chunk in zip(*found.values(), strict=True):
        assert sum(stages) == pytest.approx(chunk)


def test_a_shallow_network_says_so_and_what_the_whole_would_take_stands_apart(bench):
    code, figures, said = bench("--model", "tiny", "--layers", 1, "--chunks", 2, "--plain", 0, "--size", "32x16")
    assert code == 0
    assert (figures["layers"], figures["width"], figures["height"]) == (1, 32, 16)
    scaled = figures["scaled_to_full_depth"]
    assert scaled["layers"] == 3
    assert "not measured" in scaled["note"]
    assert scaled["chunk_ms"] > figures["ms"]["chunk"]["p50"]
    assert scaled["tflop_per_chunk"] > figures["tflop_per_chunk"]["network"]
    assert "plain" not in figures
    assert "computed and not measured" in said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--model", "knot-tiny", "--layers", 1), "layers is 1, but knot-tiny has a fixed depth"),
        (("--model", "tiny", "--layers", 4), "layers is 4; this network has 1 to 3"),
        (("--model", "tiny", "--chunks", 0), "chunks is 0"),
        (("--model", "tiny", "--plain", -1), "plain is -1"),
        (("--model", "tiny", "--streams", "2,0"), "streams is '2,0'"),
        (("--model", "tiny", "--size", "30x30"), "30x30 does not divide into tokens"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_a_sentence(bench, arguments, sentence):
    code, _, said = bench(*arguments)
    assert code == 1
    assert sentence in said


def test_several_streams_are_measured_way_by_way(bench, monkeypatch):
    monkeypatch.setattr("knot_core.cli.bench.streams_benchmark.num_processors", lambda: 2)
    code, figures, said = bench("--model", "tiny", "--streams", "1,2", "--pairs", 1)
    assert code == 0
    assert [row["streams"] for row in figures["streams"]] == [1, 2]
    for row in figures["streams"]:
        assert row["together_times_apart"] == pytest.approx(
            row["together_chunks_per_s"] / row["apart_chunks_per_s"], rel=0.01)  # fmt: skip
        assert row["workers_chunks_per_s"] > 0
        assert row["cache_mib"] > 0
    assert figures["workers"] == 2
    assert figures["chosen"] in said


def test_random_weights_keep_numbers_of_order_one(tiny):
    model = random_model("tiny", torch.device("cpu"), torch.float32)
    task = Task(model=model, settings=tiny.settings, size=(32, 48), driving=Hum(model.config), text=random_text(model))
    chunk = next(task.stream(task.anchor()))
    assert torch.isfinite(chunk.latents).all()
    assert 0.1 < chunk.latents.std() < 10


def test_the_figures_are_plain_values_and_the_table_can_be_made_of_them(tiny, monkeypatch):
    monkeypatch.setattr("knot_core.cli.bench.instruments._SIDES", {"cpu": 32})
    model = random_model("tiny", torch.device("cpu"), torch.float32, 2)
    task = Task(
        model=model,
        settings=replace(tiny.settings, num_window_frames=0, num_knot_frames=0),
        size=(16, 16),
        driving=Hum(model.config),
        text=random_text(model),
        num_chunks=2,
        num_pairs=1,
        full_depth=3,
    )
    figures = measure(task)
    assert table(json.loads(json.dumps(figures))) == table(figures)


def test_with_nothing_behind_it_the_plain_loop_draws_what_the_stream_draws(make_model, waves):
    """Without window, anchor and knot both are one chunk from noise, and from the same noise."""
    model = make_model()
    settings = StreamSettings(num_window_frames=0, num_knot_frames=0, use_anchor=False)
    chunk = next(open_stream(model, model.anchor(), settings, waves(), seed=5))
    latents = PlainLoop(model, model.anchor(), settings, waves(), seed=5).denoise()
    torch.testing.assert_close(latents[0], chunk.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.slow  # tracing
def test_the_compiled_forward_gives_the_same_and_compiles_nothing_once_warm(make_model, waves):
    model = make_model()
    anchor = model.anchor(text=torch.randn(1, 5, model.config.text_dim))
    eager = open_stream(model, anchor, SETTINGS, waves())
    wanted = [next(eager).latents for _ in range(6)]
    torch._dynamo.reset()
    with compiled_forward("eager"):
        stream = open_stream(model, anchor, SETTINGS, waves())
        got = [next(stream).latents for _ in range(3)]
        warm = counters["frames"]["ok"]
        got += [next(stream).latents for _ in range(3)]
    assert warm > 0
    assert counters["frames"]["ok"] == warm
    torch.testing.assert_close(torch.stack(got), torch.stack(wanted), atol=1e-5, rtol=1e-5)
