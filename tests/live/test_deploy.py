"""deploy/ against what it names: files, extras, options, addresses and versions. Nothing of it is started."""

import configparser
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from knot_live import commands
from knot_live.access import AccessRules, listed, plain_origins
from knot_live.cluster import local_ray
from knot_live.cluster.cluster_commands import options_of
from knot_live.health import Health
from knot_live.hub import Hub
from knot_live.limits import Limits

yaml = pytest.importorskip("yaml", reason="NOT TESTED, the files for deployment: pip install pyyaml")

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
MANIFESTS = sorted(DEPLOY.rglob("*.yaml"))


def documents(name):
    return list(yaml.safe_load_all((DEPLOY / name).read_text(encoding="utf-8")))


def instructions(kind):
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line.split(maxsplit=1)[1] for line in joined.splitlines() if line.startswith(f"{kind} ")]


def unit(name):
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(DEPLOY / "systemd" / name, encoding="utf-8")
    return parser


def gateway():
    deployment = next(one for one in documents("kubernetes/gateway.yaml") if one["kind"] == "Deployment")
    return deployment["spec"]["template"]["spec"]["containers"][0]


def serve_lines():
    """The arguments of each `python -m knot_live` that deploy/ starts."""
    yield "Dockerfile", json.loads(instructions("CMD")[-1])
    for name, service in documents("compose.yaml")[0]["services"].items():
        if "command" in service:
            yield f"compose: {name}", service["command"]
    for place, text in (
        ("systemd", unit("knot-live.service")["Service"]["ExecStart"]), ("kubernetes", gateway()["args"][0])
    ):  # fmt: skip
        yield place, shlex.split(text.split("-m knot_live ", 1)[1])


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.relative_to(DEPLOY).as_posix())
def test_each_manifest_is_yaml(path):
    found = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    assert found
    assert all(isinstance(one, dict) for one in found)


def test_the_image_copies_and_installs_what_is_there():
    copied = [line.split()[:-1] for line in instructions("COPY") if not line.startswith("--from=build /opt/venv")]
    names = {name for line in copied for name in line}
    assert names >= {"knot_core", "knot_live", "pyproject.toml", "constraints.txt"}
    assert all((ROOT / name).exists() for name in names)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (ROOT / project["readme"]).name in names, "setuptools reads it"
    assert project["license"]["file"] in names
    extras = re.search(r'"\.\[(.+?)\]"', DOCKERFILE)[1].split(",")
    assert set(extras) <= project["optional-dependencies"].keys()
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("torch==") for line in constraints) == 1, "grep gives one"
    python = re.search(r"ARG PYTHON=(\S+)", DOCKERFILE)[1]
    assert f"Programming Language :: Python :: {python}" in project["classifiers"]
    let_through = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert {line[1:] for line in let_through if line.startswith("!")} == names


def test_both_kinds_of_image_are_built_and_another_is_refused():
    (choice,) = (line for line in instructions("RUN") if "case" in line)
    assert re.findall(r"(\S+)\) ", choice) == ["cpu", "cuda", "*"]
    assert "exit 1" in choice
    assert DOCKERFILE.count("ARG DEVICE=cpu") == 1


LINES = dict(serve_lines())


@pytest.mark.parametrize("place", LINES)
def test_each_command_is_one_that_the_program_takes(place):
    parser = commands._parser()
    line = [word for word in LINES[place] if word != "$KNOT_LIVE_OPTIONS"]
    options = parser.parse_args(line)
    assert options.run is commands._serve
    assert options.host == "0.0.0.0", place
    assert options.log_format == "json"


def test_compose_names_files_that_are_there_and_the_token_never_lands_in_git():
    (compose,) = documents("compose.yaml")
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            assert (DEPLOY / volume.split(":")[0]).exists(), volume
        if "build" in service:
            build = service["build"]
            assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
            assert set(build.get("args", {})) <= {"DEVICE"}
        assert set(service.get("secrets", ())) <= compose["secrets"].keys()
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), (
            "a proxy with TLS stands before it"
        )
    ignored = (DEPLOY / ".gitignore").read_text(encoding="utf-8").split()
    assert [Path(one["file"]).name for one in compose["secrets"].values()] == ignored


def test_prometheus_may_call_the_server_by_the_name_that_it_has_in_compose():
    (compose,), (scraped,) = documents("compose.yaml"), documents("prometheus/prometheus.yaml")
    (job,) = scraped["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    origins = plain_origins(listed(compose["services"]["live"]["environment"]["KNOT_FORCING_ORIGINS"]))
    assert target.split(":")[0] in compose["services"]
    assert AccessRules(listens=("0.0.0.0",), origins=origins).wrong_host(target) is None
    assert AccessRules(listens=("0.0.0.0",)).wrong_host(target) is not None
    (secret,) = compose["services"]["prometheus"]["secrets"]
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{secret}"


def test_grafana_finds_the_board_and_its_data():
    (source,) = documents("grafana/provisioning/datasources/prometheus.yaml")
    (boards,) = documents("grafana/provisioning/dashboards/knot-live.yaml")
    (compose,) = documents("compose.yaml")
    host, port = source["datasources"][0]["url"].removeprefix("http://").split(":")
    assert host in compose["services"]
    assert port == "9090"
    mounts = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    assert any(mount.startswith(boards["providers"][0]["options"]["path"]) for mount in mounts)


def test_kubernetes_probes_ports_and_selectors_fit():
    deployment, service, policy = documents("kubernetes/gateway.yaml")
    (cluster,), (monitor,) = documents("kubernetes/raycluster.yaml"), documents("kubernetes/podmonitor.yaml")
    assert cluster["kind"] == "RayCluster"
    container, labels = gateway(), deployment["spec"]["template"]["metadata"]["labels"]
    routes = {route.path for route in Health().routes(Hub(lambda _: None, Limits()))}
    probes = [container[f"{kind}Probe"]["httpGet"] for kind in ("liveness", "readiness", "startup")]
    assert {probe["path"] for probe in probes} <= routes
    assert monitor["spec"]["podMetricsEndpoints"][0]["path"] in routes
    (port,) = container["ports"]
    assert port["containerPort"] == commands._parser().parse_args(["serve"]).port
    assert {probe["port"] for probe in probes} == {port["name"], service["spec"]["ports"][0]["targetPort"]}
    selectors = [deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"],
                 monitor["spec"]["selector"]["matchLabels"], policy["spec"]["podSelector"]["matchLabels"]]  # fmt: skip
    for selector in selectors:
        assert selector.items() <= labels.items()
    pods = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    (peers,) = policy["spec"]["ingress"][0]["from"]
    for pod in pods:
        assert peers["podSelector"]["matchLabels"].items() <= pod["template"]["metadata"]["labels"].items()
    head = next(one["value"] for one in container["env"] if one["name"] == "RAY_HEAD")
    assert head == f"{cluster['metadata']['name']}-head-svc:6379"
    (secret,) = (volume["secret"]["secretName"] for volume in deployment["spec"]["template"]["spec"]["volumes"])
    assert monitor["spec"]["podMetricsEndpoints"][0]["authorization"]["credentials"]["name"] == secret


def test_there_are_pods_for_the_workers_that_the_gateway_may_begin():
    options = commands._parser().parse_args(LINES["kubernetes"])
    (group,) = documents("kubernetes/raycluster.yaml")[0]["spec"]["workerGroupSpecs"]
    wanted = options_of(options, Limits())
    assert group["minReplicas"] == wanted.least
    assert group["maxReplicas"] == wanted.most + wanted.standbys + 1
    assert group["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == str(
        int(wanted.devices)
    )


def test_rays_version_is_the_locked_one_and_it_reports_to_nobody():
    (cluster,) = documents("kubernetes/raycluster.yaml")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\nray=={cluster['spec']['rayVersion']} " in constraints
    texts = [path.read_text(encoding="utf-8") for path in DEPLOY.rglob("*") if path.is_file() and path.suffix != ".md"]
    starts = [line for text in texts for line in re.findall(r"ray start .+(?:\n    --.+)*", text)]
    assert len(starts) >= 4
    assert all("--disable-usage-stats" in line for line in starts)
    heads = [line for line in starts if "--head" in line]
    assert all("--include-dashboard false" in line for line in heads)
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    assert all(group["rayStartParams"]["disable-usage-stats"] == "true" for group in groups)
    assert groups[0]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_ray_takes_the_cluster_file():
    util = pytest.importorskip("ray.autoscaler._private.util", reason="NOT TESTED, the Ray cluster file: install ray")
    (cluster,) = documents("ray/cluster.yaml")
    assert cluster["max_workers"] == len(cluster["provider"]["worker_ips"])
    util.validate_config(util.prepare_config(cluster))


@pytest.mark.parametrize("name", ["knot-live.service", "knot-live-ray.service"])
def test_units_begin_again_whatever_ends_them(name):
    found = unit(name)
    assert found["Service"]["Restart"] == "always"
    assert found["Service"]["DynamicUser"] == "yes"
    assert found["Install"]["WantedBy"] == "multi-user.target"
    assert "RAY_USAGE_STATS_ENABLED=0" in found["Service"]["Environment"].split()


KILLS = "kill_worker_timeout_milliseconds"


def test_wherever_ray_is_begun_a_worker_that_hangs_is_soon_killed():
    wanted = f"RAY_{KILLS}={local_ray._QUICKLY[KILLS]}"
    assert any(wanted in line for line in instructions("ENV"))
    assert wanted in unit("knot-live-ray.service")["Service"]["Environment"].split()
    (cluster,) = documents("ray/cluster.yaml")
    for which in ("head", "worker"):
        assert any(f" {wanted} " in line for line in cluster[f"{which}_start_ray_commands"])
