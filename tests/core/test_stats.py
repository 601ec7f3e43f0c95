"""Figures of a run: what is told is what was measured, and an hour of it stays small."""

import io
import itertools
import json

import av
import numpy as np
import pytest
import torch

from knot_core.config import StreamSettings
from knot_core.media import LivePreview, VideoWriter, open_writer
from knot_core.run import StreamLog
from knot_core.run.stats_plot import STAGES
from knot_core.stream import Chunk, open_stream


def chunk(index: int, seconds: float = 0.01, count: int = 12) -> Chunk:
    return Chunk(
        index=index,
        start_frame=3 * index,
        latents=torch.zeros(3, 16, 2, 2),
        pixel_frames=torch.zeros(count, 16, 16, 3, dtype=torch.uint8),
        seconds={"denoise": seconds, "decode": seconds / 2, "commit": seconds / 4},
    )


def test_figures_of_a_stream(model, anchor, waves):
    log = StreamLog(fps=25, device=model.device)
    chunks = list(itertools.islice(open_stream(model, anchor, StreamSettings(steps=1), waves()), 3))
    for made in chunks:
        log.add(made, write=0.001)
    told = json.loads(log.freeze().to_json())
    assert [row["chunk"] for row in told["chunks"]] == [0, 1, 2]
    assert [row["first_pixel_frame"] for row in told["chunks"]] == [0, 9, 21]
    assert [row["pixel_frames"] for row in told["chunks"]] == [9, 12, 12]
    assert told["chunks"][1]["denoise"] == pytest.approx(chunks[1].seconds["denoise"], abs=1e-4)
    assert told["summary"]["pixel_frames"] == 33
    assert all(row["memory_mib"] > 10 for row in told["chunks"])


def test_stages_and_the_rest_are_the_whole():
    log = StreamLog(fps=25, device=torch.device("cpu"))
    for index in range(3):
        log.add(chunk(index, seconds=0.0))
    rows = json.loads(log.freeze().to_json())["chunks"]
    assert len(rows) == 3
    for row in rows:
        assert sum(row[stage] for stage in STAGES) == pytest.approx(row["seconds"], abs=1e-3)


def test_a_frozen_log_stays():
    log = StreamLog(fps=25, device=torch.device("cpu"))
    log.add(chunk(0))
    frozen = log.freeze()
    log.add(chunk(1))
    assert (len(frozen), len(log.freeze())) == (1, 2)


@pytest.mark.parametrize("count", [0, 1, 5, 5000])
def test_the_plot_shows_any_number_of_chunks(count):
    log = StreamLog(fps=25, device=torch.device("cpu"))
    for index in range(count):
        log.add(chunk(index))
    stats = log.freeze()
    picture = np.array(stats.plot())
    assert picture.shape[2] == 3
    assert (picture != 255).any()
    assert sum(column.itemsize * len(column) for column in stats.columns.values()) <= 100 * count


def test_pieces_of_the_growing_file_are_what_a_player_gets(tmp_path):
    frames = torch.randint(0, 255, (12, 32, 32, 3), dtype=torch.uint8)
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32) as writer:
        preview, got = LivePreview(writer, lambda: tmp_path / "twin.mp4", fps=25), b""
        for _ in range(3):
            writer.write(frames)
            piece = preview.after(frames)
            assert piece.start == len(got)
            got += (tmp_path / "v.mp4").read_bytes()[piece.start : piece.stop]
        preview.close()
    assert (tmp_path / "v.mp4").read_bytes().startswith(got)
    assert not (tmp_path / "twin.mp4").exists()


def test_a_player_that_comes_late_needs_the_header_and_what_follows_a_key_frame(tmp_path):
    frames = torch.randint(0, 255, (12, 32, 32, 3), dtype=torch.uint8)
    with VideoWriter(tmp_path / "v.mp4", width=32, height=32) as writer:
        preview, pieces = LivePreview(writer, lambda: tmp_path / "twin.mp4", fps=25), []
        for _ in range(8):
            writer.write(frames)
            pieces.append(preview.after(frames))
        file = (tmp_path / "v.mp4").read_bytes()
        preview.close()
    assert all(piece.header == pieces[0].header and piece.header <= piece.key < piece.stop for piece in pieces)
    last = pieces[-1]
    assert last.key > pieces[2].stop, "no more than about a second has to be fetched"
    with av.open(io.BytesIO(file[: last.header] + file[last.key : last.stop])) as container:
        shown = list(container.decode(video=0))
    assert shown[0].key_frame
    assert len(shown) % 12 == 0
    assert 0 < len(shown) <= 36


def test_other_formats_have_a_twin_that_plays(tmp_path):
    frames = torch.randint(0, 255, (12, 32, 32, 3), dtype=torch.uint8)
    with open_writer(tmp_path / "shots", width=32, height=32, video_format="png-folder") as writer:
        preview = LivePreview(writer, lambda: tmp_path / "twin.mp4", fps=25)
        for _ in range(2):
            writer.write(frames)
            piece = preview.after(frames)
        preview.close()
    assert piece.path == preview.path == tmp_path / "twin.mp4"
    assert 0 < piece.start < piece.stop


def test_a_preview_that_fails_leaves_the_video_alone(tmp_path, caplog):
    frames = torch.randint(0, 255, (12, 32, 32, 3), dtype=torch.uint8)
    (tmp_path / "file").touch()
    with open_writer(tmp_path / "v.webm", width=32, height=32, video_format="vp9-webm") as writer:
        preview = LivePreview(writer, lambda: tmp_path / "file" / "twin.mp4", fps=25)
        for _ in range(3):
            writer.write(frames)
            assert preview.after(frames) is None
        preview.close()
    assert caplog.text.count("no live preview") == 1
    assert writer.num_pixel_frames == 36
