"""Workers of a cluster read prompts themselves, and draw on as many processors as the operator says."""

import inspect
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from knot_live import commands
from knot_live.cluster import cluster_commands
from knot_live.cluster.cluster_commands import options_of
from knot_live.cluster.cluster_options import ClusterOptions
from knot_live.cluster.local_ray import ClusterError
from knot_live.limits import Limits
from knot_live.studio import Studio


def test_a_served_clusters_options_say_where_prompts_are_read_from_any_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = options_of(
        commands._parser().parse_args(
            ["serve", "--cluster", "--model", "wan.safetensors", "--text-encoder", "umt5", "--prompt", "a woman talks"]
        ),
        Limits(),
    )
    assert (found.text_encoder, found.prompt) == (tmp_path / "umt5", "a woman talks")
    without = options_of(commands._parser().parse_args(["serve", "--cluster"]), Limits())
    assert (without.text_encoder, without.prompt) == (None, "")


def test_workers_that_draw_on_several_processors_are_fewer(monkeypatch):
    monkeypatch.setattr(cluster_commands, "num_processors", lambda: 8)
    found = options_of(commands._parser().parse_args(["serve", "--cluster", "--lanes", "4"]), Limits())
    assert (found.lanes, found.least, found.most, found.processors) == (4, 1, 2, 4.0)
    many = options_of(commands._parser().parse_args(["serve", "--cluster", "--lanes", "16"]), Limits())
    assert many.most == 1, "one draws, on what there is"
    with pytest.raises(ClusterError, match="--lanes"):
        options_of(commands._parser().parse_args(["serve", "--cluster", "--lanes", "0"]), Limits())


@pytest.mark.skipif(find_spec("ray") is None, reason="RAY IS NOT INSTALLED: workers are not tested")
@pytest.mark.parametrize("folder", [None, Path("/weights/umt5")])
def test_a_worker_loads_what_reads_prompts_and_its_sessions_begin_with_the_one_asked_for(monkeypatch, folder):
    from knot_live.cluster import worker as workers

    loaded, made = [], []

    def load(place):
        loaded.append(place)
        return SimpleNamespace(encode=lambda text: f"encoded: {text}")

    def studio(*given, **options):
        made.append(inspect.signature(Studio).bind(*given, **options).arguments)
        return SimpleNamespace(warm=lambda steps: None)  # noqa: ARG005

    monkeypatch.setattr(workers, "_loaded", lambda options, shared: ("a model", None))  # noqa: ARG005
    monkeypatch.setattr(workers, "load_text_encoder", load)
    monkeypatch.setattr(workers, "Studio", studio)
    workers.Worker("one", ClusterOptions(text_encoder=folder, prompt="a woman talks"))
    (options,) = made
    assert options["prompt"] == "a woman talks"
    assert loaded == ([] if folder is None else [folder])
    if folder is None:
        assert options["encode_text"] is None
    else:
        assert options["encode_text"]("hello") == "encoded: hello"
