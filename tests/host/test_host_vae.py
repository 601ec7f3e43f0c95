"""The VAE of a real ComfyUI as a stream: chunks equal one shot bit for bit, and the host's own decoding closely."""

import json
import subprocess
from pathlib import Path

import pytest

from .comfyui import PACK, find_hosts, host_python, host_version

pytestmark = pytest.mark.host
HOSTS = find_hosts()
PROBE = Path(__file__).with_name("wan_vae_probe.py")
NO_HOST = "NO COMFYUI FOUND: its Wan VAE was not streamed; see tests/host/conftest.py"


@pytest.mark.parametrize(
    "host",
    HOSTS or [pytest.param(None, marks=pytest.mark.skip(reason=NO_HOST))],
    ids=[f"comfyui-{host_version(host)}" for host in HOSTS] or ["no-comfyui"],
)
def test_the_hosts_vae_decodes_in_chunks_as_in_one_shot(host, tmp_path):
    command = [host_python(host), str(PROBE), str(host), str(PACK)]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.splitlines()[-1])
    assert found["shape"] == [1, 33, 3, 16, 24]
    assert found["chunks_equal_whole"]
    assert found["scales_agree"]
    assert found["pictures_vary_by"] > 0.01
    # the host convolves all latents at once before the decoder, and newer ones decode two at a time: other last bits
    assert found["difference_from_host"] < 1e-4
    assert found["encoding_differs_by"] < 1e-4
