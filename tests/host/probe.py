"""Run by a ComfyUI's own Python: loads small random models with the host's loaders and streams them with the pack.

    python probe.py COMFYUI_FOLDER PACK_FOLDER SCRATCH_FOLDER      writes SCRATCH_FOLDER/found.json

Figures only; what they must be is said by test_host_models.py.
"""

import asyncio
import functools
import importlib.util
import json
import logging
import resource
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

HOST, PACK, SCRATCH = (Path(argument).resolve() for argument in sys.argv[1:4])
ONLY = sys.argv[4:]
sys.argv = sys.argv[:1]
sys.path[0] = str(HOST)  # where main.py would stand, and not this folder

from comfy.cli_args import args  # noqa: E402 - the host's

args.cpu = True
importlib.import_module("utils.extra_config")  # first, as main.py does: `nodes` puts another `utils` before the host's

import comfy.ldm.wan.vae  # noqa: E402
import comfy.model_management as management  # noqa: E402
import comfy.sd  # noqa: E402
import folder_paths  # noqa: E402
import torch  # noqa: E402
from comfy.audio_encoders.audio_encoders import AudioEncoderModel  # noqa: E402
from server import PromptServer  # noqa: E402

import nodes as host_nodes  # noqa: E402

PromptServer.instance = SimpleNamespace(client_id=None)  # nobody looks on

SIZE = {"width": 32, "height": 32}  # 2 x 2 tokens
TEXT = torch.randn(1, 7, 4096, generator=torch.Generator().manual_seed(1))
PROMPT = [[TEXT, {}]]
PICTURE = torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(2))
SECONDS = 2.0
Json = dict[str, Any]


def load_pack() -> ModuleType:
    """As the host does."""
    name = str(PACK).replace(".", "_x_")
    spec = importlib.util.spec_from_file_location(name, PACK / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def load_files() -> ModuleType:
    spec = importlib.util.spec_from_file_location("probe_files", Path(__file__).with_name("probe_files.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


FILES = load_files()
pack = load_pack()
core = importlib.import_module(f"{pack.__name__}.knot_core")
PARTS = (
    "config", "codec.taehv", "driving", "wan.network", "wan.network_building", "wan.families", "wan.preset",
    "wan.checkpoint", "stream", "stream.sampler",
)  # fmt: skip
for part in PARTS:
    importlib.import_module(f"{core.__name__}.{part}")
pack_nodes = sys.modules[f"{pack.__name__}.nodes"]
knot = {node.define_schema().node_id: pack_nodes.adapters.with_warnings(node) for node in pack_nodes.NODES}


def run(node: str, **inputs: Any) -> tuple[Any, ...]:
    with torch.inference_mode():  # as the host's executor does
        return knot[node].PREPARE_CLASS_CLONE(None).execute(**inputs).result  # with what is hidden, which is nothing


def warned(node: str, **inputs: Any) -> list[str]:
    """What is shown on the node."""
    with torch.inference_mode():
        ui = knot[node].PREPARE_CLASS_CLONE(None).execute(**inputs).ui
    return [] if ui is None else ui["knot_forcing_warnings"]


def load_unet(name: str, dtype: str = "default") -> Any:
    return host_nodes.UNETLoader().load_unet(name, dtype)[0]


def from_model(
    model: Any, family: str = "auto", audio_modules: str = "none", codec: str = "auto", vae: Any = None
) -> Any:
    return run("KnotForcingFromModel", model=model, family=family, codec=codec, audio_modules=audio_modules, vae=vae)[0]


def load_model(name: str, **more: Any) -> tuple[Any, Any]:
    inputs = {
        "codec": "the model's own",
        "dtype": "float32",
        "family": "auto",
        "lora_name": "none",
        "lora_strength": 1.0,
    } | more
    return run("KnotForcingLoadModel", model_name=name, **inputs)


def encode(model: Any, **more: Any) -> Any:
    inputs = {"fit": "crop", "image": PICTURE, "conditioning": PROMPT, **SIZE} | more
    (anchor,) = run("KnotForcingEncodeAnchor", model=model, **inputs)[0]  # of one picture
    return anchor


def stream(
    model: Any, anchor: Any, settings: Any = None, driving: Any = None, seconds: float = SECONDS
) -> torch.Tensor:
    """Latents as the network made them, [F, C, h, w]."""
    _, latents, *_ = run(
        "KnotForcingStream", model=model, anchor=anchor, driving=driving, seed=5, seconds=seconds, settings=settings
    )
    whole = torch.cat([latent["samples"] for latent in latents], dim=2)
    return comfy.latent_formats.Wan21().process_in(whole)[0].movedim(0, 1)


def alone(
    name: str,
    family: str | None = None,
    settings: Any = None,
    driving: Any = None,
    image: Any = None,
    overlay: str | None = None,
) -> torch.Tensor:
    """The same by the engine itself, from the same file."""
    folder = SCRATCH / "models" / "diffusion_models"
    over = None if overlay is None else folder / overlay
    checkpoint = core.wan.checkpoint.open_checkpoint(folder / name, family=family, overlay=over)
    network = core.wan.network_building.build_network(checkpoint)
    codec = core.codec.load_codec(SCRATCH / "models/vae_approx/taew2_1.safetensors")
    model = core.Model(
        network=network,
        codec=codec,
        config=network.config,
        preset=checkpoint.preset,
        device=torch.device("cpu"),
        dtype=torch.float32,
    )
    text = torch.nn.functional.pad(TEXT, (0, 0, 0, 512 - TEXT.shape[1]))
    anchor = model.encode_anchor(PICTURE[0], text=text, image_tokens=image, size=(32, 32))
    driving = (driving(model) if driving else core.Driving.none()).lasting(round(SECONDS * model.fps))
    chunks = core.open_stream(model, anchor, settings or model.settings, driving, 5)
    return torch.cat([chunk.latents for chunk in chunks])


def apart(a: torch.Tensor, b: torch.Tensor) -> Json:
    assert a.shape == b.shape, (a.shape, b.shape)
    return {"apart": (a - b).abs().max().item(), "scale": a.abs().max().item(), "finite": bool(a.isfinite().all())}


def t2v() -> Json:
    model = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    return apart(stream(model, encode(model)), alone("self_forcing.safetensors", "self-forcing"))


def prefixed() -> Json:
    model = from_model(load_unet("prefixed.safetensors"), "self-forcing")
    return apart(stream(model, encode(model)), alone("self_forcing.safetensors", "self-forcing"))


def wrapped() -> Json:
    """A .pt of several sets, with names of its training."""
    model, host_model = load_model("self_forcing_wrapped.pt")
    again = from_model(host_model, "self-forcing")
    wanted = alone("self_forcing.safetensors", "self-forcing")
    got, same = stream(model, encode(model)), stream(again, encode(again))
    return apart(got, wanted) | {
        "again": apart(same, wanted)["apart"],
        "family": model.preset.family,
        "patcher": type(host_model).__name__,
    }


def i2v() -> Json:
    tokens = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(4))
    output = SimpleNamespace(penultimate_hidden_states=tokens)
    model = from_model(load_unet("wan_i2v.safetensors"))
    settings = core.StreamSettings(steps=3)
    got = stream(model, encode(model, clip_vision_output=output), settings)
    without = stream(model, encode(model), settings)
    return apart(got, alone("wan_i2v.safetensors", settings=settings, image=tokens)) | {
        "family": model.preset.family,
        "moved_by_clip_vision": apart(got, without)["apart"],
    }


def livetalk() -> Json:
    """Sound through the host's audio encoder; against the engine with the same encoder through transformers."""
    encoder, sound = FILES.speech_encoder(AudioEncoderModel, SCRATCH / "wav2vec2.safetensors"), speech()
    by_itself = core.driving.load_speech_encoder(SCRATCH / "wav2vec2.safetensors")
    wanted = alone(
        "livetalk.safetensors",
        driving=lambda model: core.Driving.from_audio(
            core.Audio(samples=sound["waveform"][0], sample_rate=sound["sample_rate"]), model, encoder=by_itself
        ),
    )
    hears = functools.partial(heard, encoder, sound)
    ours, carried = load_model("livetalk.safetensors")
    stock = from_model(load_unet("livetalk.safetensors"), "livetalk", "livetalk.safetensors")
    behind = from_model(carried, "livetalk")
    got = {
        name: apart(stream(model, encode(model), driving=hears(model)), wanted)["apart"]
        for name, model in (("ours", ours), ("stock", stock), ("behind", behind))
    }
    deaf = from_model(load_unet("livetalk.safetensors"), "livetalk")
    silent = stream(deaf, encode(deaf))
    with torch.inference_mode():
        encoded = encoder.encode_audio(sound["waveform"], sound["sample_rate"])
    stretched = run("KnotForcingDrivingFromEncodedAudio", model=ours, audio_encoder_output=encoded)[0]
    return got | {
        "finite": bool(wanted.isfinite().all()),
        "heard": apart(silent, wanted)["apart"],
        "stretched": apart(stream(ours, encode(ours), driving=stretched), wanted),
        "undriven": refusal(lambda: stream(ours, encode(ours))),
        "refused": refusal(lambda: hears(deaf)),
        "unheard": refusal(lambda: heard(None, sound, ours)),
    }


def infinitetalk() -> Json:
    """Audio modules of a file of their own beside an I2V network that the stock loader loaded."""
    encoder, sound = FILES.speech_encoder(AudioEncoderModel, SCRATCH / "wav2vec2.safetensors"), speech()
    by_itself = core.driving.load_speech_encoder(SCRATCH / "wav2vec2.safetensors")
    tokens = torch.randn(1, 257, 1280, generator=torch.Generator().manual_seed(4))
    seen = {"clip_vision_output": SimpleNamespace(penultimate_hidden_states=tokens)}
    settings = core.StreamSettings(steps=2)
    wanted = alone(
        "i2v_480p.safetensors",
        settings=settings,
        image=tokens,
        overlay="infinitetalk.safetensors",
        driving=lambda model: core.Driving.from_audio(
            core.Audio(samples=sound["waveform"][0], sample_rate=sound["sample_rate"]), model, encoder=by_itself
        ),
    )
    model = from_model(load_unet("i2v_480p.safetensors"), audio_modules="infinitetalk.safetensors")
    got = stream(model, encode(model, **seen), settings, heard(encoder, sound, model))
    deaf = from_model(load_unet("i2v_480p.safetensors"))
    silent = stream(deaf, encode(deaf, **seen), settings)
    return apart(got, wanted) | {
        "family": model.preset.family,
        "heard": (got[: len(silent)] - silent[: len(got)]).abs().max().item(),
        "refused": refusal(lambda: heard(encoder, sound, deaf)),
        "no_modules": refusal(lambda: from_model(load_unet("i2v_480p.safetensors"), audio_modules="fp8.safetensors")),
        "other_width": refusal(lambda: from_model(load_unet("i2v_480p.safetensors"), audio_modules="wide.safetensors")),
        "poisoned": refusal(lambda: from_model(load_unet("i2v_480p.safetensors"), audio_modules="nan.safetensors")),
    }


def speech() -> Json:
    rng = torch.Generator().manual_seed(6)
    return {"waveform": torch.randn(1, 1, 16_000 * 3, generator=rng) / 8, "sample_rate": 16_000}


def heard(encoder: Any, sound: Json, model: Any) -> Any:
    return run("KnotForcingDrivingFromAudio", model=model, audio=sound, pose="model", seed=0, audio_encoder=encoder)[0]


def lora() -> Json:
    base = load_unet("self_forcing.safetensors")
    changed = host_nodes.LoraLoaderModelOnly().load_lora_model_only(base, "host.safetensors", 0.75)[0]
    with_lora, without = from_model(changed, "self-forcing"), from_model(base, "self-forcing")
    wanted = alone("merged_self_forcing.safetensors", "self-forcing")
    got, plain = stream(with_lora, encode(with_lora)), stream(without, encode(without))
    again = stream(with_lora, encode(with_lora))  # its patches must come back
    peft, _ = load_model("self_forcing.safetensors", lora_name="peft.pt", lora_strength=0.75)
    dora, _ = load_model("self_forcing.safetensors", lora_name="dora.safetensors", lora_strength=0.75)
    with_dora, dora_wanted = stream(dora, encode(dora)), alone("dora_self_forcing.safetensors", "self-forcing")
    return apart(got, wanted) | {
        "moved": apart(got, plain)["apart"],
        "again": apart(again, got)["apart"],
        "peft": apart(stream(peft, encode(peft)), wanted)["apart"],
        "dora": apart(with_dora, dora_wanted)["apart"],
        "dora_moved": apart(with_dora, wanted)["apart"],
    }


def fp8() -> Json:
    model = from_model(load_unet("fp8.safetensors"), "self-forcing")
    cast = from_model(load_unet("self_forcing.safetensors", "fp8_e4m3fn"), "self-forcing")
    got = stream(model, encode(model))
    return apart(got, alone("fp8.safetensors", "self-forcing")) | {
        "dtype": str(cast.patchers[0].model.diffusion_model.blocks[0].ffn[0].weight.dtype),
        "cast": apart(stream(cast, encode(cast)), got),
    }


def bf16() -> Json:
    model = from_model(load_unet("bf16.safetensors"), "self-forcing")
    return apart(stream(model, encode(model)), alone("bf16.safetensors", "self-forcing")) | {"dtype": str(model.dtype)}


def bf16_in_bf16() -> Json:
    """Weights and arithmetic in bfloat16, nothing cast by the host: norms and time still in float32."""
    path = str(SCRATCH / "models/diffusion_models/bf16.safetensors")
    patcher = comfy.sd.load_diffusion_model(path, model_options={"dtype": torch.bfloat16})
    for module in patcher.model.diffusion_model.modules():
        if hasattr(module, "comfy_cast_weights"):
            module.comfy_cast_weights = False
    patcher.model.manual_cast_dtype = torch.bfloat16
    model = from_model(patcher, "self-forcing")
    return apart(stream(model, encode(model)), alone("bf16.safetensors", "self-forcing")) | {"dtype": str(model.dtype)}


def partly_loaded() -> Json:
    """The host is made to believe in little room: layers stay where they are and are cast at use, LoRA and all."""
    wanted = alone("merged_self_forcing.safetensors", "self-forcing")
    budget, load = 6_000_000, management.LoadedModel.model_load

    def load_little(self: Any, _: float = 0, **more: Any) -> Any:
        return load(self, max(0.1, budget - self.model_loaded_memory()), **more)

    management.LoadedModel.model_load = load_little
    try:
        changed = host_nodes.LoraLoaderModelOnly().load_lora_model_only(
            load_unet("self_forcing.safetensors"), "host.safetensors", 0.75
        )[0]
        model = from_model(changed, "self-forcing")
        got = stream(model, encode(model))
    finally:
        management.LoadedModel.model_load = load
    inner = model.patchers[0].model
    return apart(got, wanted) | {
        "partly": bool(inner.model_lowvram),
        "loaded": inner.model_loaded_weight_memory,
        "weights": model.patchers[0].model_size(),
    }


def vae() -> Json:
    """Encode with the VAE, decode in chunks with it; and through a stream's nodes."""
    found = host_nodes.VAELoader().load_vae("wan_2.1_small.safetensors")[0]
    model = from_model(load_unet("self_forcing.safetensors"), "self-forcing", codec="vae", vae=found)
    codec = model.codec
    latents = torch.randn(1, 9, 16, 4, 6, generator=torch.Generator().manual_seed(8))
    with torch.inference_mode():
        whole, _ = codec.decode(latents, None)
        pieces, memory = [], None
        for piece in latents.split([3, 3, 1, 2], dim=1):
            pixels, memory = codec.decode(piece, memory)
            pieces.append(pixels)
        theirs = found.decode(comfy.latent_formats.Wan21().process_out(latents.movedim(1, 2)))
        encoded = codec.encode(PICTURE[None].movedim(-1, 2)[:, :, :, :32, :32])
        their_encoded = comfy.latent_formats.Wan21().process_in(found.encode(PICTURE[:, :32, :32]))
    anchor = encode(model, vae=found)
    images, *_ = run("KnotForcingStream", model=model, anchor=anchor, driving=None, seed=5, seconds=1.0)
    return {
        "chunks_equal": bool(torch.equal(torch.cat(pieces, dim=1), whole)),
        "theirs": apart(whole[0], theirs[0].movedim(-1, 1))["apart"],
        "encoded": apart(encoded.movedim(1, 2), their_encoded)["apart"],
        "shapes": [list(image.shape) for image in images],
    }


def text_only() -> Json:
    """No picture: the prompt decides, and the anchor is out of use."""
    model = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    got = stream(model, encode(model, image=None))
    plain = core.wan.preset.plain(model.settings)
    other = stream(model, encode(model, image=None, conditioning=[[-TEXT, {}]]))
    knot = core.StreamSettings(**{**vars(model.settings), "use_anchor": False})
    return {
        "moved_by_prompt": apart(got, other)["apart"],
        "finite": bool(got.isfinite().all()),
        "as_without_anchor": apart(got, alone("self_forcing.safetensors", "self-forcing", knot))["apart"],
        "plain": bool(stream(model, encode(model, image=None), plain).isfinite().all()),
    }


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except core.KnotError as problem:
        return str(problem)
    return ""


def refusals() -> Json:
    model = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    tiny, blocked = load_model("knot-tiny", dtype="auto")
    anchor = encode(model)
    other = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    linear = SimpleNamespace(diffusion_model=torch.nn.Linear(2, 2))
    wide = core.StreamSettings(num_window_frames=120_000_000)
    return {
        "no_prompt": refusal(lambda: encode(model, conditioning=None)),
        "speech": refusal(lambda: heard(None, speech(), model)),
        "controls": refusal(lambda: stream(model, anchor, driving=core.Driving.idle(0))),
        "prompt_for_tiny": refusal(lambda: encode(tiny)),
        "size": refusal(lambda: encode(model, width=40, height=32)),
        "room": refusal(lambda: stream(model, anchor, wide)),
        "no_codec": refusal(lambda: from_model(load_unet("self_forcing.safetensors"), codec="vae")),
        "other_anchor": refusal(lambda: stream(other, anchor)),
        "no_model": refusal(lambda: from_model(SimpleNamespace(clone=lambda: SimpleNamespace(model=linear)))),
        "tiny_is_no_model": blocked.message,
    }


def unsure() -> Json:
    """A file whose name says no family, by both nodes, with the family left to them and named."""
    ours = {
        "model_name": "prefixed.safetensors",
        "codec": "the model's own",
        "dtype": "float32",
        "lora_name": "none",
        "lora_strength": 1.0,
    }
    stock = {"model": load_unet("prefixed.safetensors"), "codec": "auto", "audio_modules": "none"}
    return {
        f"{name}_{family}": warned(node, family=family, **inputs)
        for name, node, inputs in (("ours", "KnotForcingLoadModel", ours), ("stock", "KnotForcingFromModel", stock))
        for family in ("auto", "causvid")
    }


def flat_memory() -> Json:
    """Peak memory after 40 and after 200 chunks."""
    model = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    settings = core.StreamSettings(num_window_frames=6, steps=1)
    adapters = sys.modules[f"{pack.__name__}.nodes.adapters"]
    peaks = []
    with torch.inference_mode():
        for _ in adapters.stream_chunks(model, encode(model), None, settings, 5, (200 * 12 - 3) / 16):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    return {"chunks": len(peaks), "after_40": peaks[39], "after_200": peaks[-1]}


def causal_sampler() -> Json:
    """The host's own causal sampler on the same file, noise and schedule; a long clip of both for time and memory."""
    if not hasattr(comfy, "ldm") or importlib.util.find_spec("comfy.ldm.wan.ar_model") is None:
        return {"skipped": "this ComfyUI has no causal sampler"}
    theirs = load_their_model()
    ours = from_model(load_unet("self_forcing.safetensors"), "self-forcing")
    return {"clips": [compare(theirs, ours, num_chunks) for num_chunks in (7, 28)]}


def load_their_model() -> Any:
    path = str(SCRATCH / "models/diffusion_models/self_forcing.safetensors")
    metadata = {"config": json.dumps({"transformer": {"causal_ar": True}})}
    return comfy.sd.load_diffusion_model_state_dict(comfy.utils.load_torch_file(path), metadata=metadata)


def compare(theirs: Any, ours: Any, num_chunks: int) -> Json:
    from comfy_extras import nodes_ar_video, nodes_custom_sampler

    seed, side, num_frames = 77, 16, 3 * num_chunks
    sigmas = torch.tensor([1, 0.9375, 2.5 / 3, 0.625, 0])
    text = torch.nn.functional.pad(TEXT, (0, 0, 0, 512 - TEXT.shape[1]))
    latent = {"samples": torch.zeros(1, 16, num_frames, side, side)}
    with torch.inference_mode():
        guider = nodes_custom_sampler.BasicGuider.execute(theirs, [[text, {}]]).result[0]
        sampler = nodes_ar_video.SamplerARVideo.execute(3).result[0]
        noise = nodes_custom_sampler.Noise_RandomNoise(seed)
        first = noise.generate_noise(latent)
        began = time.perf_counter()
        made = nodes_custom_sampler.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).result[0]
        their_seconds = (time.perf_counter() - began) / num_chunks
    wanted = comfy.latent_formats.Wan21().process_in(made["samples"])[0].movedim(0, 1)
    got, our_seconds, our_bytes = stream_with_noise(ours, first, num_chunks, seed, side)
    network = theirs.model.diffusion_model
    caches = network.init_kv_caches(1, num_frames * (side // 2) ** 2, torch.device("cpu"), torch.float32)
    their_bytes = sum(cache[name].nbytes for cache in caches for name in ("k", "v"))
    # the window is 18 frames: up to 21 it holds everything, as theirs does
    return apart(got[:21], wanted[:21]) | {
        "chunks": num_chunks,
        "our_seconds": our_seconds,
        "our_bytes": our_bytes,
        "their_seconds": their_seconds,
        "their_bytes": their_bytes,
    }


def stream_with_noise(
    model: Any, first: torch.Tensor, num_chunks: int, seed: int, side: int
) -> tuple[torch.Tensor, float, int]:
    """The stream's seconds per chunk by its own clock, decoding left out: the host's sampler does not decode."""
    sampler = core.stream.sampler.Stream
    drawn = sampler._draw_noise

    def their_noise(self: Any, begun: Any) -> Any:
        _, state = drawn(self, begun)
        plan = begun.plan
        noise = [first[:, :, plan.start : plan.start + plan.num_frames]]
        for step in range(3):
            torch.manual_seed(seed + plan.chunk * 1000 + step)
            noise.append(torch.randn_like(noise[0]))
        return torch.stack(noise).movedim(3, 2), state

    settings = core.wan.preset.plain(model.settings)
    anchor = encode(model, image=None, width=8 * side, height=8 * side)
    sampler._draw_noise = their_noise
    try:
        with torch.inference_mode():
            model.bring_in()
            driving = core.Driving.none().lasting(9 + 12 * (num_chunks - 1))
            run_of_it = core.open_stream(model, anchor, settings, driving, seed)
            chunks = list(run_of_it)
    finally:
        sampler._draw_noise = drawn
    seconds = sum(chunk.seconds[stage] for chunk in chunks for stage in ("denoise", "commit"))
    return torch.cat([chunk.latents for chunk in chunks]), seconds / num_chunks, run_of_it.num_cache_bytes


CHECKS = (
    t2v,
    prefixed,
    wrapped,
    i2v,
    livetalk,
    infinitetalk,
    lora,
    fp8,
    bf16,
    bf16_in_bf16,
    partly_loaded,
    vae,
    text_only,
    refusals,
    unsure,
    causal_sampler,
    flat_memory,
)


def main() -> None:
    models = SCRATCH / "models"
    if not models.exists():
        FILES.write_files(core, models)
        FILES.write_vae(comfy.ldm.wan.vae.WanVAE, models / "vae" / "wan_2.1_small.safetensors")
    for folder in models.iterdir():
        folder_paths.add_model_folder_path(folder.name, str(folder))
    found: Json = {}
    for check in CHECKS:
        if ONLY and check.__name__ not in ONLY:
            continue
        began = time.perf_counter()
        try:
            found[check.__name__] = check()
        except Exception:
            found[check.__name__] = {"error": traceback.format_exc()}
        found[check.__name__]["took"] = time.perf_counter() - began
    (SCRATCH / "found.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.set_event_loop(asyncio.new_event_loop())
    main()
