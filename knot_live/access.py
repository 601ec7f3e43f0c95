"""Access to a server: it answers its own pages, and programs that name it as their host.

Another site's page can make a browser send requests here, also under a name of its own that it points at this machine
(DNS rebinding). So a request must name this server as its Host, and if it has an Origin, that must be this server too,
or one that the operator allows. None of it replaces the token.
"""

import hmac
import ipaddress
import json
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

ALLOWED_ORIGINS = "KNOT_FORCING_ORIGINS"  # of the environment: a comma-separated list
TOKEN = "KNOT_LIVE_TOKEN"  # likewise: what opens a session of the live server

_HOST = re.compile(r"(?:\[(?P<ip6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 256  # characters


class AccessError(ValueError):
    """The operator's options do not keep strangers out, or a file of theirs cannot be read."""


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """The addresses that a server listens on, and the origins that its operator allows beside its own."""

    listens: tuple[str, ...]  # addresses or names
    origins: frozenset[str] = frozenset()  # such as https://comfy.example.com; their hosts are this server's, too
    foreign_origins: frozenset[str] = frozenset()  # pages of other servers: ComfyUI's --enable-cors-header
    every_origin: bool = False
    server: str = "ComfyUI"  # as messages name it

    def wrong_host(self, host: str | None) -> str | None:
        """One sentence if the Host header names another server."""
        found = None if host is None else _HOST.match(host.lower())
        if found is None:
            return f"got the host {host!r:.80}, wanted the name or address of this {self.server}"
        name = (found["ip6"] or found["name"]).rstrip(".")
        if name in self._names or self._is_address_of_ours(name):
            return None
        return (f"got the host {name!r:.80}, by which this {self.server} is not known: if it is, start {self.server} "
                f"with {ALLOWED_ORIGINS}=https://{name:.80} in its environment")  # fmt: skip

    def wrong_origin(self, origins: list[str], host: str) -> str | None:
        """One sentence if the request comes from another site's page; programs send no Origin at all."""
        if not origins:
            return None
        if len(origins) == 1 and (origin := plain_origin(origins[0])) is not None:
            own = {plain_origin(f"{scheme}://{host}") for scheme in _DEFAULT_PORTS}
            if self.every_origin or origin in own | self.origins | self.foreign_origins:
                return None
        return (f"got the origin {', '.join(origins)!r:.120}, wanted a page of this {self.server}, or one whose origin "
                f"is listed in {ALLOWED_ORIGINS} of its environment")  # fmt: skip

    @cached_property
    def _names(self) -> frozenset[str]:
        own = {"localhost", *(name.lower() for name in self.listens if _address(name) is None)}
        if self._listens_everywhere:
            machine = platform.node().lower()
            own |= {machine, f"{machine.partition('.')[0]}.local"}
        return frozenset(own | {str(urlsplit(origin).hostname) for origin in self.origins})

    @cached_property
    def _listens_everywhere(self) -> bool:
        return any(address.is_unspecified for address in map(_address, self.listens) if address is not None)

    def _is_address_of_ours(self, name: str) -> bool:
        """An address cannot be rebound, so where the server listens on all of the machine's, any of them will do."""
        address = _address(name)
        if address is None or address.is_unspecified:
            return False
        return address.is_loopback or self._listens_everywhere or address in set(map(_address, self.listens))


def plain_origin(text: str) -> str | None:
    """Scheme, host and port, the usual port left out; None for what is no origin of a page, `null` among it."""
    try:
        parts = urlsplit(text.strip().lower())
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        return None
    if parts.path.strip("/") or parts.query or parts.username:
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + ("" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}")


def plain_origins(texts: Iterable[str]) -> frozenset[str]:
    """The entries that are valid origins."""
    return frozenset(filter(None, map(plain_origin, texts)))


def listed(text: str) -> tuple[str, ...]:
    """The parts of a comma-separated list."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def is_loopback(listen: str) -> bool:
    """Whether nobody but this machine reaches what listens there."""
    address = _address(listen)
    return listen.lower() == "localhost" if address is None else address.is_loopback


def same_token(given: str | None, wanted: str) -> bool:
    """Compared in a time that tells nothing of where they differ."""
    return given is not None and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def operators_token(file: Path | None) -> str | None:
    """The token that opens sessions, from a file, else from the environment; None: no token is needed.

    Raises:
        AccessError: the file cannot be read, or what it or the environment holds is too short, or not one word.
    """
    if file is None and not os.environ.get(TOKEN):
        return None
    try:
        token = (os.environ[TOKEN] if file is None else _text(file.read_bytes())).strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise AccessError(f"the token file {file} cannot be read ({problem}); is the path right?") from problem
    where = f"{TOKEN} of the environment" if file is None else f"the token file {file}"
    if not _SHORTEST_TOKEN <= len(token) <= _LONGEST_TOKEN or not token.isascii() or not token.isprintable():
        raise AccessError(f"{where} holds no token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} plain characters; make one "
                          'with: python -c "import secrets; print(secrets.token_urlsafe())"')  # fmt: skip
    return token


def _text(data: bytes) -> str:
    """In UTF-8, or in UTF-16 as Windows' shells write it; with a byte order mark or without."""
    return data.decode(json.detect_encoding(data))


def check_exposure(listen: str, token: str | None) -> None:
    """Refuse to be reached from other machines without a token.

    Raises:
        AccessError: there is none, and the address is not this machine's own.
    """
    if token is None and not is_loopback(listen):
        raise AccessError(f"on {listen} other machines reach this server, so it needs a token: give --token-file FILE, "
                          f"or set {TOKEN} in the environment")  # fmt: skip


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
