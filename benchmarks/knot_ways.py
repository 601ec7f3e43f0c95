"""What each way to enter the knot does to a network over minutes, against the renderer's own frames.

    python benchmarks/knot_ways.py --model out/more/models/selfforcing.safetensors \\
        --ways selfforcing knot0 full nofusion knotclean --people 0 2 --json out/knot_ways.json

Ways are the variants of the study, in which people of the evaluation's split are streamed. Spans at the
beginning, in the middle and at the end are decoded and compared: boundary ratio (and the truth's), PSNR in the face box
and of what must not change, in dB. Rows are added to the JSON file, and what it holds is not streamed again.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import knot_core
from knot_core import Model, load_model
from knot_core.config import StreamSettings
from knot_core.driving.audio import FPS
from knot_core.geometry import TEMPORAL, first_pixel_frame, num_pixel_frames
from knot_core.stream.stream_model import DecoderMemory, StreamCodec
from knot_lab.evaluation import metrics
from knot_lab.evaluation.scenes import REGIONS, Scene
from knot_lab.study.variants import VARIANTS
from knot_lab.synthetic import avatars

_CODEC = Path(knot_core.__file__).parent / "assets" / "knot-tiny-codec.safetensors"
_WARM = 4  # chunks before a span that the decoder sees and nobody compares


class Undecoded:
    """A codec that encodes, and decodes to black: a stream's pictures are wanted only here and there."""

    def __init__(self, codec: StreamCodec) -> None:
        self._codec = codec

    def __getattr__(self, name: str) -> object:
        return getattr(self._codec, name)

    def decode(self, latents_BFCHW: Tensor, memory: DecoderMemory | None = None) -> tuple[Tensor, DecoderMemory]:
        batch, frames = latents_BFCHW.shape[:2]
        return torch.zeros(batch, num_pixel_frames(int(memory is not None), frames), 3, 8, 8), ()


@dataclass(frozen=True)
class Span:
    """Chunks of a scene that are compared, and the truth of them. T pixel frames, H W size."""

    name: str
    first: int  # chunk
    end: int  # chunk behind the last
    pictures: Tensor  # uint8 [T, H, W, 3]
    face: Tensor  # bool [T, H, W]
    regions: Tensor  # float [T, H, W, 3] of REGIONS

    @classmethod
    def of(cls, scene: Scene, name: str, chunks: range, num_chunk_frames: int) -> "Span":
        latents = range(chunks.start * num_chunk_frames, chunks.stop * num_chunk_frames)
        part = slice(*(first_pixel_frame(latent) for latent in (latents.start, latents.stop)))
        controls = torch.from_numpy(scene.controls[part])
        pixels, shares = avatars.render(scene.values[None], controls[None], scene.size, regions=True)
        shown = [avatars.REGIONS.index(region) for region in REGIONS]
        box = avatars.face_box(scene.values, controls, scene.size)
        return cls(name, chunks.start, chunks.stop, avatars.to_uint8(pixels[0]), avatars.box_mask(box, scene.size),
                   shares[0][:, shown].movedim(1, -1))  # fmt: skip

    def figures(self, pictures: Tensor, num_chunk_frames: int) -> dict[str, float]:
        """Of this span's pictures, uint8 [T, H, W, 3]."""
        begins, ends = (first_pixel_frame(chunk * num_chunk_frames) for chunk in (self.first, self.end))
        between, within = (at[at > begins] - begins for at in metrics.latent_boundaries(ends, num_chunk_frames))
        changes = [metrics.frame_difference(video, self.face) for video in (pictures, self.pictures)]
        boundary, true_boundary = (float(change[between].mean() / change[within].mean()) for change in changes)
        kept = [metrics.psnr(metrics.squared_error(pictures, self.pictures, self.regions[..., i] + 1e-9))
                for i in range(len(REGIONS)) if self.regions[..., i].mean() > 0.01]  # fmt: skip
        return {"boundary": boundary, "true_boundary": true_boundary, "identity": float(np.mean(kept)),
                "face_psnr": metrics.psnr(metrics.squared_error(pictures, self.pictures, self.face))}  # fmt: skip


def spans(scene: Scene, seconds: float, num_chunk_frames: int) -> list[Span]:
    """So many seconds at the beginning, in the middle, and at the end."""
    frames = TEMPORAL * num_chunk_frames
    whole, each = (scene.num_pixel_frames - 1) // frames, max(2, round(FPS * seconds / frames))
    firsts = {"begin": 0, "middle": (whole - each) // 2, "end": whole - each}
    return [Span.of(scene, name, range(at, at + each), num_chunk_frames) for name, at in firsts.items()]


def streamed(
    model: Model, scene: Scene, way: str, own: StreamSettings, compared: Sequence[Span]
) -> dict[str, dict[str, float]]:
    """Each span's figures of one stream; `own` are the settings that the way changes."""
    variant, kept = VARIANTS[way], {}
    settings = variant.settings(own)
    quick = replace(model, codec=Undecoded(model.codec))
    anchor = quick.encode_anchor(scene.reference)
    for number, chunk in enumerate(variant.opened(quick, anchor, settings, scene.driving("full", model), scene.number)):
        if any(span.first - _WARM <= number < span.end for span in compared):
            kept[number] = chunk.latents
        if number >= compared[-1].end:
            break
    found = {}
    for span in compared:
        first = max(0, span.first - _WARM)
        latents = torch.cat([kept[number] for number in range(first, span.end)])
        pixels, _ = model.codec.decode(latents[None], None)
        count = len(span.pictures)
        found[span.name] = span.figures(avatars.to_uint8(pixels[0]).contiguous()[-count:], settings.num_chunk_frames)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="knot-tiny", help="weights of knot-tiny's structure")
    parser.add_argument("--lora", type=Path)
    parser.add_argument("--ways", nargs="+", choices=VARIANTS, default=["full"])
    parser.add_argument("--people", type=int, nargs="+", default=[0])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--span", type=float, default=10)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--json", type=Path, required=True)
    options = parser.parse_args()
    rows = json.loads(options.json.read_text()) if options.json.exists() else []
    torch.set_num_threads(1)
    model = load_model(options.model, codec=None if options.model == "knot-tiny" else _CODEC, lora=options.lora)
    own = replace(load_model("knot-tiny").settings, steps=options.steps)
    for person in options.people:
        scene = Scene(number=person, seconds=options.seconds, size=model.preset.width)
        compared = spans(scene, options.span, model.settings.num_chunk_frames)
        for way in options.ways:
            key = {"model": Path(options.model).stem, "lora": options.lora and options.lora.stem, "way": way,
                   "person": person, "seconds": options.seconds, "steps": options.steps}  # fmt: skip
            if any(row | key == row for row in rows):
                continue
            since = time.process_time()
            found = streamed(model, scene, way, own, compared)
            rows.append(key | {"cpu_seconds": round(time.process_time() - since), "spans": found})
            sys.stderr.write(f"{rows[-1]}\n")
            options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
