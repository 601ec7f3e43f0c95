"""Models: from files, and from MODELs that ComfyUI loaded."""

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management as host
import comfy.sd
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_execution.graph_utils import ExecutionBlocker

from ...knot_core import KnotError, Model, load_model
from ...knot_core.model_loading import BUILT_IN, built_in_file, built_in_models
from ...knot_core.wan.checkpoint import Checkpoint, open_checkpoint, read_stored_network
from ...knot_core.wan.families import ROWS
from ...knot_core.wan.lora import open_lora
from ...knot_core.wan.module_contract import require_parts
from ...knot_core.wan.reading import SETS
from ...knot_core.wan.recognise import Recognised
from .audio_modules import audio_tensors, managed_audio_modules, network_tensors
from .codecs import AUTO, VAE, choose_codec, codec_path
from .host_model import ROOM, HostModel
from .host_tree import HostTree
from .lora_patches import MergedByEngine
from .versions import source_file
from .warnings import say

logger = logging.getLogger(__name__)

MODEL_FOLDER, LORA_FOLDER = "diffusion_models", "loras"  # of ComfyUI
DTYPES: dict[str, torch.dtype | None] = {"auto": None, "float32": torch.float32, "bfloat16": torch.bfloat16}
WEIGHTS = [AUTO, *SETS]
FAMILIES = [AUTO, *(row.family for row in ROWS if not row.has_own_codec)]
NONE = "none"
AUDIO_MODULES = "knot_forcing_audio_modules"  # name of what a MODEL of ours carries along
PLAIN_NETWORKS = ("WanModel", "CausalWanModel")  # ComfyUI's classes; its others compute in their own ways
BYPASSED = ("patches", "patches_replace", "wrappers", "optimized_attention_override")  # of transformer_options


def model_names() -> list[str]:
    """The built-in models that are here, ComfyUI's list, and GGUF files, which ComfyUI does not list by itself."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths(MODEL_FOLDER)]
    packed = {str(file.relative_to(folder)) for folder in folders for file in folder.rglob("*.gguf")}
    return [*built_in_models(), *dict.fromkeys([*folder_paths.get_filename_list(MODEL_FOLDER), *sorted(packed)])]


def audio_module_names() -> list[str]:
    return [NONE, *folder_paths.get_filename_list(MODEL_FOLDER)]


def lora_names() -> list[str]:
    return [NONE, *folder_paths.get_filename_list(LORA_FOLDER)]


def _model_path(name: str) -> str:
    return str(built_in_file(name)) if name in BUILT_IN else folder_paths.get_full_path_or_raise(MODEL_FOLDER, name)


def _path(folder: str, name: str) -> str | None:
    return None if name == NONE else folder_paths.get_full_path_or_raise(folder, name)


def model_fingerprint(model_name: str, codec: str, lora_name: str = NONE) -> str:
    """Changes when a file does, so that ComfyUI's cache does not serve an older one."""
    found = (_model_path(model_name), codec_path(codec), _path(LORA_FOLDER, lora_name))
    files = [Path(path) for path in found if path]
    return str([(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()])


def open_model(  # noqa: PLR0913, PLR0917 - one for every cable and widget
    name: str,
    codec: str,
    dtype: str,
    family: str,
    lora_name: str,
    lora_strength: float,
    vae: Any,
    weights: str,
    threads: int,
) -> tuple[Model, Any]:
    """The model, and the MODEL that it streams with; one with a codec of its own is none of ComfyUI's."""
    path = _model_path(name)
    chosen, chosen_set = None if name in BUILT_IN else _chosen(family), _chosen(weights)
    header = open_checkpoint(path, header_only=True, family=chosen, weights=chosen_set)
    if header.preset.has_own_codec:
        _refuse_for_own(name, {"family": family != AUTO, "lora_name": lora_name != NONE,
                               "vae": vae is not None or codec == VAE})  # fmt: skip
        own = replace(_open_own(path, codec, dtype), threads=threads or None)
        return own, ExecutionBlocker(f"{name} is no MODEL of ComfyUI's")
    if threads:
        say(f"threads is {threads}, but {name} computes as ComfyUI has set it: threads is for models of our own")
    patcher = _load_by_host(Path(path), DTYPES[dtype], chosen, chosen_set)
    if lora := _path(LORA_FOLDER, lora_name):
        patcher = _with_lora(patcher, lora, lora_strength)
    return _from_patcher(patcher, header, codec, vae), patcher


def model_from_host(model: ModelPatcher, family: str, codec: str, audio_modules: str, vae: Any) -> Model:
    """Over a MODEL that ComfyUI loaded, as it is: quantised, patched, offloaded."""
    patcher = model.clone()
    if path := _path(MODEL_FOLDER, audio_modules):
        _carry_audio_modules(patcher, open_checkpoint(path, family=None), family)
    return _from_patcher(
        patcher, Checkpoint(path=_source(model), tensors={}, chosen_family=_chosen(family)), codec, vae
    )


def _refuse_for_own(name: str, given: dict[str, bool]) -> None:
    names = ", ".join(what for what, is_given in given.items() if is_given)
    if names:
        raise KnotError(f"got {names} for {name}, which has its own: leave it out")


def _open_own(path: str, codec: str, dtype: str) -> Model:
    """On ComfyUI's device; an accelerator is asked for room first, since ComfyUI does not know what a stream needs."""
    device = host.get_torch_device()
    if device.type != "cpu":
        host.free_memory(ROOM, device)
    return load_model(path, device=device, dtype=DTYPES[dtype], codec=codec_path(codec))


def _load_by_host(path: Path, dtype: torch.dtype | None, family: str | None, weights: str | None) -> ModelPatcher:
    """A MODEL of a file that ComfyUI may not be able to unwrap; its audio modules travel along."""
    stored = read_stored_network(path, header_only=False, family=family, weights=weights)
    options = {} if dtype is None else {"dtype": dtype}
    unpacked = {name: unpack().to(dtype or torch.bfloat16) for name, unpack in stored.packed.items()}
    patcher = comfy.sd.load_diffusion_model_state_dict(
        network_tensors(dict(stored.tensors) | unpacked), model_options=options
    )
    if patcher is None:
        raise KnotError(f"got {path}, which ComfyUI does not know, wanted a Wan2.1 diffusion model: choose another")
    if audio_tensors(stored.tensors):
        _carry_audio_modules(patcher, open_checkpoint(path, family=family, weights=weights), family or AUTO)
    return patcher


def _carry_audio_modules(patcher: ModelPatcher, checkpoint: Checkpoint, family: str) -> None:
    tensors = audio_tensors(checkpoint.tensors)
    if not tensors:
        raise KnotError(f"got {checkpoint.path.name} for audio modules, which holds none: choose LiveTalk's, "
                        "OmniAvatar's or InfiniteTalk's file")  # fmt: skip
    whole = replace(checkpoint, tensors=_outline(patcher) | tensors, metadata={}, chosen_family=_chosen(family))
    patcher.set_attachments(AUDIO_MODULES, managed_audio_modules(whole))


def _with_lora(patcher: ModelPatcher, path: str, strength: float) -> ModelPatcher:
    """As ComfyUI's own LoRA loader does, of every kind of change that the engine reads, and computed by it."""
    lora = open_lora(path, strength, _outline(patcher))
    patched = patcher.clone()
    patched.add_patches(
        {f"diffusion_model.{name}": MergedByEngine(lora, name) for name in lora.changes}, strength
    )  # fmt: skip
    return patched


def _outline(patcher: ModelPatcher) -> dict[str, torch.Tensor]:
    """The network's tensors by name, without data."""
    parameters = patcher.model.diffusion_model.named_parameters()
    return {name: torch.empty(parameter.shape, device="meta") for name, parameter in parameters}


def _source(model: ModelPatcher) -> Path:
    """The file that a MODEL came from, where ComfyUI remembers it; its name may tell the family."""
    return Path(source_file(model) or "MODEL")


def _chosen(family: str) -> str | None:
    return None if family == AUTO else family


def _from_patcher(patcher: ModelPatcher, source: Checkpoint, codec: str, vae: Any) -> HostModel:
    """`source`: what is known of the file; its tensors are those that the host holds."""
    network = getattr(patcher.model, "diffusion_model", None)
    if type(network).__name__ not in PLAIN_NETWORKS:
        raise KnotError(f"got a {type(network).__name__}, wanted a plain Wan2.1 network (text or image to video): "
                        "load another model")  # fmt: skip
    audio = patcher.get_attachment(AUDIO_MODULES)
    tensors = _outline(patcher) | ({} if audio is None else dict(audio.model.state_dict()))
    checkpoint = replace(source, tensors=tensors)
    config, recognised = checkpoint.config, checkpoint.recognised
    require_parts(network, replace(config, adapter=None))
    _say_bypassed(patcher)
    say(f"Streams as {recognised.preset.title}: {recognised.why}")
    _warn_if_unsure(checkpoint.path.name, recognised)
    patchers = (patcher,) if audio is None else (patcher, audio)
    device, dtype = patcher.load_device, _compute_dtype(patcher)
    return HostModel(
        network=HostTree(network, None if audio is None else audio.model),
        codec=choose_codec(codec, vae, device, dtype, patchers),
        config=config,
        preset=recognised.preset,
        device=device,
        dtype=dtype,
        patchers=patchers,
        latent_format=patcher.model.latent_format,
    )


def _warn_if_unsure(name: str, recognised: Recognised) -> None:
    """On the node: what the file was taken for, the families that it may be as well, and how to say which it is."""
    if not recognised.sure:
        logger.warning(
            "%s: %s (in this node's widget family; Knot Forcing Model Settings changes single settings)",
            name,
            recognised.why,
        )


def _compute_dtype(patcher: ModelPatcher) -> torch.dtype:
    """The dtype that ComfyUI would compute in."""
    dtype = patcher.model.manual_cast_dtype or patcher.model.get_dtype()
    return dtype if dtype.itemsize > 1 else torch.bfloat16  # fp8 weights, multiplied as such


def _say_bypassed(patcher: ModelPatcher) -> None:
    options = patcher.model_options.get("transformer_options", {})
    found = [name for name in BYPASSED if options.get(name)]
    if found:
        logger.warning("This MODEL carries %s, which a stream does not use: LoRAs are", ", ".join(found))
