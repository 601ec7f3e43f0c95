"""Who may call: tokens, and addresses that only this machine reaches.

Host and Origin are tested in tests/nodes/test_route_access.py.
"""

import pytest

from knot_live.access import (
    TOKEN,
    AccessError,
    AccessRules,
    check_exposure,
    is_loopback,
    listed,
    operators_token,
    plain_origins,
    same_token,
)

GOOD = "a-token-of-some-length"


@pytest.fixture(autouse=True)
def _no_token_outside(monkeypatch):
    monkeypatch.delenv(TOKEN, raising=False)


@pytest.mark.parametrize(
    ("address", "ours"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("LOCALHOST", True),
     ("0.0.0.0", False), ("::", False), ("192.168.1.5", False), ("box.lan", False), ("", False)],
)  # fmt: skip
def test_only_loopback_needs_no_token(address, ours):
    assert is_loopback(address) == ours
    check_exposure(address, GOOD)
    if ours:
        check_exposure(address, None)
    else:
        with pytest.raises(AccessError, match="needs a token"):
            check_exposure(address, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_token_comes_from_a_file_or_else_from_the_environment(tmp_path, monkeypatch, encoding):
    assert operators_token(None) is None
    monkeypatch.setenv(TOKEN, GOOD)
    assert operators_token(None) == GOOD
    (tmp_path / "token").write_text(f"{GOOD}-of-the-file\r\n", encoding=encoding)
    assert operators_token(tmp_path / "token") == f"{GOOD}-of-the-file"


@pytest.mark.parametrize("token", ["", "short", "x" * 257, "zwölf-und-mehr-zeichen", "two lines\nof a token file"])
def test_a_token_that_keeps_nobody_out_is_refused(tmp_path, token):
    (tmp_path / "token").write_text(token, encoding="utf-8")
    with pytest.raises(AccessError, match=r"secrets\.token_urlsafe") as refusal:
        operators_token(tmp_path / "token")
    assert not token or token not in str(refusal.value), "a message goes into logs"


def test_a_token_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(AccessError, match="cannot be read"):
        operators_token(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff" * 20)
    with pytest.raises(AccessError, match="cannot be read"):
        operators_token(tmp_path / "bytes")


@pytest.mark.parametrize("given", [None, "", GOOD[:-1], GOOD + "x", GOOD.upper(), "\ud800", "é" * 20])
def test_only_the_same_token_is_the_same(given):
    assert not same_token(given, GOOD)
    assert same_token(GOOD, GOOD)


def test_a_server_names_itself_and_takes_its_operator_s_origins():
    doors = AccessRules(
        listens=("127.0.0.1",), origins=plain_origins(listed("https://live.example.com, nonsense")), server="X"
    )
    assert doors.origins == {"https://live.example.com"}
    assert doors.wrong_host("live.example.com") is None
    assert doors.wrong_origin(["https://live.example.com"], "live.example.com") is None
    assert "this X" in doors.wrong_host("evil.example")
    assert "this X" in doors.wrong_origin(["null"], "127.0.0.1")
