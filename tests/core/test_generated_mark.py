"""Whatever writes a video says in it, for machines, that it is generated."""

import av
import pytest
import torch
from PIL import Image

from knot_core import cli
from knot_core.media import FORMATS, PICTURES, open_writer
from knot_core.media.formats import has_encoder
from knot_core.media.generated_mark import GENERATED, GENERATED_BOX
from knot_core.model_loading import ASSETS

WRITTEN = [name for name, row in FORMATS.items() if has_encoder(row.encoder) and has_encoder(row.sound.encoder)]


def frames(count):
    return (torch.arange(count, dtype=torch.uint8) * 5).view(-1, 1, 1, 1).expand(-1, 32, 32, 3).contiguous()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_video_of_any_format_has_the_mark_and_plays(name, tmp_path):
    path = tmp_path / f"x{FORMATS[name].suffix}"
    with open_writer(path, width=32, height=32, video_format=name) as writer:
        for _ in range(3):
            writer.write(frames(9))
    with av.open(str(path), options={"export_xmp": "1"} if path.suffix == ".mp4" else {}) as container:
        said = {key.lower(): value for key, value in container.metadata.items()}
        assert sum(1 for _ in container.decode(video=0)) == 27
    assert said["digital_source_type"] == GENERATED
    if path.suffix == ".mp4":
        assert GENERATED in said["xmp"]
        assert path.read_bytes().count(GENERATED_BOX) == 1


def test_a_file_that_was_cut_off_has_it_in_its_header(tmp_path):
    path = tmp_path / "x.mp4"
    writer = open_writer(path, width=32, height=32)
    writer.write(frames(9))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes())
    writer.close()
    with av.open(str(cut)) as container:
        assert container.metadata["digital_source_type"] == GENERATED


def test_metadata_of_the_host_stands_beside_it(tmp_path):
    path = tmp_path / "x.mp4"
    with open_writer(path, width=32, height=32, metadata={"prompt": "{}"}) as writer:
        writer.write(frames(9))
    with av.open(str(path)) as container:
        assert container.metadata["prompt"] == "{}"
        assert container.metadata["digital_source_type"] == GENERATED


def test_every_picture_of_a_folder_has_it(tmp_path):
    with open_writer(tmp_path / "p", width=32, height=32, video_format=PICTURES, metadata={"prompt": "{}"}) as writer:
        writer.write(frames(3))
    paths = sorted((tmp_path / "p").glob("*.png"))
    assert len(paths) == 3
    for number, path in enumerate(paths):
        with Image.open(path) as picture:
            assert GENERATED in picture.text["XML:com.adobe.xmp"]
            assert ("prompt" in picture.text) == (number == 0)


def test_the_command_line_s_video_has_it(tmp_path):
    out = tmp_path / "video.mp4"
    portrait = str(ASSETS / "portraits" / "ada.png")
    options = ["--idle", "--seconds", "0.3", "--steps", "1", "--device", "cpu", "--out", str(out)]
    code = cli.main(["animate", "--model", "knot-tiny", "--reference", portrait, *options])
    assert code == 0
    with av.open(str(out), options={"export_xmp": "1"}) as container:
        assert GENERATED in container.metadata["xmp"]
