"""ComfyUI custom node pack: Knot Forcing, streaming portrait animation."""

from importlib.util import find_spec

# Only ComfyUI has comfy_api. pytest and packaging tools import this folder too and must get an empty module.
if find_spec("comfy_api"):
    from .nodes import comfy_entrypoint  # noqa: F401

WEB_DIRECTORY = "./web"
