"""What chunks of one latent frame cost in quality: streams of 3 and of 1, against the renderer's own frames.

    python benchmarks/chunk_lengths.py --people 4 --seconds 6 --json out/chunk_lengths.json

Of each length: PSNR in the face box, and the mean change from pixel frame to pixel frame where latent frames meet, over
the truth's at the same places. Where every latent frame is a chunk, there are no other places to compare with.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from knot_core import Model, load_model, open_stream
from knot_lab.evaluation import metrics
from knot_lab.evaluation.scenes import Scene, Truth
from knot_lab.synthetic.avatars import box_mask

LENGTHS = (3, 1)


def figures(model: Model, scene: Scene, truth: Truth, num_latents: int, steps: int) -> dict[str, float]:
    """A stream's figures, of chunks of so many latent frames."""
    settings = replace(model.settings, num_chunk_frames=num_latents, steps=steps)
    anchor = model.encode_anchor(scene.reference)
    stream = open_stream(model, anchor, settings, scene.driving("full", model), seed=scene.number)
    pictures = torch.cat([chunk.pixel_frames for chunk in stream])[: scene.num_pixel_frames]
    true = torch.from_numpy(np.asarray(truth.pictures))
    face = box_mask(truth.face, scene.size)
    meet = np.concatenate(metrics.latent_boundaries(len(pictures), num_latents))
    change, true_change = (metrics.frame_difference(video, face)[meet].mean() for video in (pictures, true))
    return {"face_psnr_db": metrics.psnr(metrics.squared_error(pictures, true, face)),
            "change_over_truth": float(change / true_change)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--people", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--steps", type=int, nargs="+", default=[1])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    model, rows = load_model("knot-tiny"), []
    for number in range(options.people):
        scene = Scene(number=number, seconds=options.seconds, size=model.preset.width)
        with tempfile.TemporaryDirectory() as folder:
            truth = Truth.of(scene, Path(folder))
            for steps in options.steps:
                for length in LENGTHS:
                    found = figures(model, scene, truth, length, steps)
                    rows.append({"person": number, "chunk": length, "steps": steps} | found)
                    sys.stderr.write(f"{rows[-1]}\n")
    for steps in options.steps:
        for length in LENGTHS:
            own = [row for row in rows if (row["chunk"], row["steps"]) == (length, steps)]
            psnr, change = (np.mean([row[name] for row in own]) for name in ("face_psnr_db", "change_over_truth"))
            sys.stdout.write(f"chunk {length}, {steps} steps: {psnr:.2f} dB, change {change:.3f} of the truth's\n")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
