"""Run with a ComfyUI's own interpreter: its Wan VAE on random weights, decoded whole and in chunks; JSON on the output.

Arguments: the ComfyUI folder, and the pack's folder.
"""

import importlib.util
import json
import sys
from pathlib import Path

HOST, PACK = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = ["main.py", "--cpu"]  # ComfyUI reads the command line when it is imported
sys.path.insert(0, str(HOST))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import torch  # noqa: E402
from comfy.latent_formats import Wan21  # noqa: E402
from comfy.ldm.wan.vae import WanVAE  # noqa: E402


def load_core() -> None:
    """The engine alone: with the pack's folder on the path, its `nodes` would hide ComfyUI's."""
    spec = importlib.util.spec_from_file_location(
        "knot_core", PACK / "knot_core/__init__.py", submodule_search_locations=[str(PACK / "knot_core")]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["knot_core"] = module
    spec.loader.exec_module(module)


@torch.no_grad()
def main() -> None:
    load_core()
    from knot_core.codec.latents import denormalise, normalise
    from knot_core.codec.wan_vae import WanVideoCodec

    torch.manual_seed(0)
    tree = WanVAE(dim=4, z_dim=16, temperal_downsample=[False, True, True]).eval().requires_grad_(False)
    for parameter in tree.parameters():  # the host leaves its layers' weights as they lay in memory
        scale = parameter[0].numel() ** -0.5 if parameter.dim() > 1 else 0.1
        parameter.copy_(scale * torch.randn(parameter.shape) + (parameter.dim() > 3 and parameter[0].numel() == 1))
    codec, latents = WanVideoCodec(tree), torch.randn(1, 9, 16, 2, 3)
    scale = Wan21()
    channels_first = latents.movedim(1, 2)
    by_host = ((tree.decode(scale.process_out(channels_first)).clamp(-1, 1) + 1) / 2).movedim(2, 1)

    def chunks(lengths: list[int]) -> torch.Tensor:
        parts, memory = [], None
        for part in latents.split(lengths, dim=1):
            pixels, memory = codec.decode(part, memory)
            parts.append(pixels)
        return torch.cat(parts, dim=1)

    whole, pixels = chunks([9]), torch.rand(1, 5, 3, 16, 24)
    encoded = scale.process_in(tree.encode(2 * pixels.movedim(2, 1) - 1)).movedim(2, 1)
    found = {
        "shape": list(whole.shape),
        "chunks_equal_whole": all(torch.equal(chunks(lengths), whole) for lengths in ([3, 3, 3], [1] * 9, [4, 5])),
        "difference_from_host": (whole - by_host).abs().max().item(),
        "pictures_vary_by": by_host.std().item(),
        "scales_agree": torch.equal(denormalise(latents), scale.process_out(channels_first).movedim(2, 1))
        and torch.allclose(normalise(latents), scale.process_in(channels_first).movedim(2, 1)),
        "encoding_differs_by": (codec.encode(pixels) - encoded).abs().max().item(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


main()
