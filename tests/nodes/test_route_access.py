"""Which Host and Origin the pack's route takes, for every way that ComfyUI is started in. (Over HTTP: tests/host.)"""

import platform
from types import ModuleType

import pytest

from .pack_parts import adapters

OWN = "127.0.0.1:8188"


@pytest.fixture(scope="module")
def gate() -> ModuleType:
    return adapters("access_alone", "route_access").route_access


LOCAL, EVERYWHERE, ONE = "127.0.0.1", "0.0.0.0,::", "192.168.1.5"
HOSTS = [
    *((LOCAL, host, True) for host in ("localhost", "LOCALHOST:8188", "localhost.", "127.0.0.1:1", "127.9.9.9",
                                       "[::1]:8", "[::ffff:127.0.0.1]")),
    *((LOCAL, host, False) for host in ("evil.example", "localhost.evil.example", "127.0.0.1.evil.example",
                                        "192.168.1.5", "0.0.0.0", "[::]", "2130706433",
                                        "0x7f.1", "a b", "", "[::1", "127.0.0.1:x",
                                        "user@127.0.0.1", "127.0.0.1/evil", None)),
    *((EVERYWHERE, host, True) for host in ("localhost", "192.168.1.5:8188", "10.0.0.7", "[fe80::1]", platform.node())),
    *((EVERYWHERE, host, False) for host in ("evil.example", "0.0.0.0", "rebound.example:8188")),
    *((ONE, host, True) for host in ("192.168.1.5", "localhost")),
    *((ONE, host, False) for host in ("192.168.1.6", "evil.example")),
    ("box.lan", "box.lan:8188", True),
    ("box.lan", "other.lan", False),
]  # fmt: skip


@pytest.mark.parametrize(("listen", "host", "is_ours"), HOSTS, ids=str)
def test_a_host_is_ours_or_is_refused_in_a_sentence(
    gate: ModuleType, listen: str, host: str | None, is_ours: bool
) -> None:
    said = gate.access_rules(listen, None, "").wrong_host(host)
    assert (said is None) == is_ours, said
    assert said is None or ("\n" not in said and said.startswith("got the host"))


@pytest.mark.parametrize(
    ("origins", "is_ours"),
    [
        ([], True), ([f"http://{OWN}"], True), ([f"https://{OWN}"], True), (["HTTP://127.0.0.1:8188"], True),
        (["null"], False), ([""], False), (["http://127.0.0.1"], False), (["http://127.0.0.1:8189"], False),
        (["http://localhost:8188"], False), (["https://evil.example"], False), ([f"http://{OWN}@evil.example"], False),
        ([f"http://{OWN}.evil.example"], False), (["file://"], False), (["chrome-extension://abc"], False),
        ([f"http://{OWN}", "https://evil.example"], False), (["http://[::1"], False), ([f"http://{OWN}/path"], False),
    ],
    ids=str,
)  # fmt: skip
def test_an_origin_is_ours_or_is_refused(gate: ModuleType, origins: list[str], is_ours: bool) -> None:
    said = gate.access_rules(LOCAL, None, "").wrong_origin(origins, OWN)
    assert (said is None) == is_ours
    assert said is None or "\n" not in said


def test_what_the_operator_allows_is_let_in_and_null_never(gate: ModuleType) -> None:
    proxied = gate.access_rules(LOCAL, None, " https://comfy.example.com , https://b.example:8443")
    assert proxied.wrong_host("comfy.example.com") is None
    assert proxied.wrong_origin(["https://comfy.example.com"], OWN) is None
    assert proxied.wrong_origin(["https://b.example:8443"], OWN) is None
    assert proxied.wrong_origin(["https://b.example"], OWN) is not None
    assert proxied.wrong_host("evil.example") is not None
    foreign = gate.access_rules(LOCAL, "https://page.example", "")
    assert foreign.wrong_origin(["https://page.example"], OWN) is None
    assert foreign.wrong_host("page.example") is not None, "its page may ask; it is not this server"
    everyone = gate.access_rules(LOCAL, "*", "")
    assert everyone.wrong_origin(["https://any.example"], OWN) is None
    assert everyone.wrong_origin(["null"], OWN) is not None
