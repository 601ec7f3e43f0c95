"""Who may call the pack's route: requests that a page of this very server, or a program, sent to this very server.

Another site's page can make a browser send requests here, also under a name of its own that it points at this machine
(DNS rebinding). So a request must name this server as its Host, and if it has an Origin, that must be this server too,
or one that the operator allows. None of it replaces the token.
"""

import ipaddress
import platform
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlsplit

ALLOWED_ORIGINS = "KNOT_FORCING_ORIGINS"  # of the environment: a comma-separated list

_HOST = re.compile(r"(?:\[(?P<ip6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::\d{1,5})?\Z")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, kw_only=True)
class Doors:
    """What this server listens on, and the origins that its operator allows beside its own."""

    listens: tuple[str, ...]  # addresses or names
    origins: frozenset[str] = frozenset()  # such as https://comfy.example.com; their hosts are this server's, too
    foreign_origins: frozenset[str] = frozenset()  # pages of other servers: ComfyUI's --enable-cors-header
    every_origin: bool = False

    def wrong_host(self, host: str | None) -> str | None:
        """One sentence if the Host header names another server."""
        found = None if host is None else _HOST.match(host.lower())
        if found is None:
            return f"got the host {host!r:.80}, wanted the name or address of this ComfyUI"
        name = (found["ip6"] or found["name"]).rstrip(".")
        if name in self._names or self._is_address_of_ours(name):
            return None
        return (f"got the host {name!r:.80}, by which this ComfyUI is not known: if it is, start ComfyUI with "
                f"{ALLOWED_ORIGINS}=https://{name:.80} in its environment")  # fmt: skip

    def wrong_origin(self, origins: list[str], host: str) -> str | None:
        """One sentence if the request comes from another site's page; programs send no Origin at all."""
        if not origins:
            return None
        if len(origins) == 1 and (origin := plain_origin(origins[0])) is not None:
            own = {plain_origin(f"{scheme}://{host}") for scheme in _DEFAULT_PORTS}
            if self.every_origin or origin in own | self.origins | self.foreign_origins:
                return None
        return (f"got the origin {', '.join(origins)!r:.120}, wanted a page of this ComfyUI, or one whose origin is "
                f"listed in {ALLOWED_ORIGINS} of its environment")  # fmt: skip

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


def doors(listen: str, cors: str | None, allowed: str) -> Doors:
    """Addresses and origins from ComfyUI's `--listen` and `--enable-cors-header` and the environment's list."""
    return Doors(
        listens=_listed(listen),
        origins=_origins(_listed(allowed)),
        foreign_origins=_origins(_listed(cors or "")),
        every_origin=(cors or "").strip() == "*",
    )


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


def _origins(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(filter(None, map(plain_origin, texts)))


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
