"""Requests to addresses that merchants choose: only to public hosts, pinned, bounded."""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NewType
from urllib.parse import urlsplit

import msgspec

from app.errors import Refused

if TYPE_CHECKING:  # aiohttp imports slowly; only a process that sends needs it.
    from aiohttp import ClientSession

CheckedUrl = NewType("CheckedUrl", str)  # Made by `Egress.check_url` alone.
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[str]]]

PORTS = (443, 8443)
CONNECT_SECONDS = 5.0
BODY_LIMIT = 64 * 1024
_URL_LIMIT = 2048
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"(0x[0-9a-f]*|[0-9]+)")
# Python calls some of these global, or did in the releases that we run on.
_NOT_PUBLIC = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 "
        "192.0.0.0/24 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24 192.88.99.0/24 "
        "192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 "
        "224.0.0.0/4 240.0.0.0/4 168.63.129.16/32 "  # The last: a cloud's inner services.
        "2001::/23 2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20"
    ).split()
]
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")  # Leaves out mapped, NAT64, local and multicast.


class UrlNotAllowed(Refused):
    """We do not send to this address."""

    code = "url_not_allowed"


class UrlNotResolved(UrlNotAllowed):
    """The name of the host is not known, or not just now."""

    code = "url_not_resolved"


class EgressFailed(Exception):
    """No answer came. `code`: blocked, dns, connect, tls, timeout or protocol."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Blocked(EgressFailed):
    """The address is not one that we send to; nothing was sent."""

    def __init__(self, detail: str) -> None:
        super().__init__("blocked", detail)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the other side answered; `body` is raw (never unpacked) and at most 64 kB."""

    status: int
    body: bytes
    truncated: bool
    encoding: str | None


def is_public(address: Address) -> bool:
    """Tell whether an address is one of a host on the public internet."""
    if address.version == 6 and address not in _GLOBAL_V6:
        return False
    if not address.is_global or address.is_multicast or address.is_reserved:
        return False
    return not any(address in network for network in _NOT_PUBLIC)


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _names_loopback(host: str) -> bool:
    address = _literal(host)
    return host == "localhost" if address is None else address.is_loopback


def parse_url(url: str, *, allow_loopback: bool) -> tuple[str, int]:
    """Return host and port of an address that may be sent to, by its text alone.

    Raises UrlNotAllowed.
    """
    if len(url) > _URL_LIMIT or not re.fullmatch(r"[!-~]+", url) or re.search(r'[\\"<>^`{|}]', url):
        raise _refused(
            f"Write at most {_URL_LIMIT} plain ASCII characters without blanks "
            "(an international name as xn--…)."
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _refused("This is not an address.") from None
    if parts.scheme not in {"https", "http"} or not host:
        raise _refused("The address must start with https://.")
    if "@" in parts.netloc or "#" in url or "%" in parts.netloc:
        raise _refused("An address holds no user name, password, fragment or zone.")
    if parts.netloc.endswith(":") or port == 0:
        raise _refused("The port is not valid.")
    port = port or (443 if parts.scheme == "https" else 80)
    if allow_loopback and _names_loopback(host):
        return host, port
    if parts.scheme != "https":
        raise _refused("The address must start with https://.")
    if port not in PORTS:
        raise _refused(f"The port must be one of {', '.join(map(str, PORTS))}.")
    _check_host(host)
    return host, port


def _check_host(host: str) -> None:
    address = _literal(host)
    if address is not None:
        if not is_public(address):
            raise _refused("The host is not on the public internet.")
        return
    labels = host.split(".")
    # "127.1", "0x7f.1" and "2130706433" are addresses to some resolvers and names to others.
    if len(labels) < 2 or len(host) > 253 or _NUMBER.fullmatch(labels[-1]):
        raise _refused("The host must be a full public name.")
    if not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("The host is not a valid name.")


def _refused(detail: str) -> UrlNotAllowed:
    return UrlNotAllowed(detail, param="url")


async def system_resolve(host: str, port: int) -> list[str]:
    """Return every address of a host as the system's resolver tells it. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Egress:
    """Sends to merchants' addresses. One for a process; made before its event loop runs.

    A name is resolved by us, every address it has must be public, and the connection goes to
    exactly such an address: a name that changes between check and use leads nowhere. Each socket
    is checked once more when it is made, whatever led to it.
    """

    def __init__(
        self,
        *,
        allow_loopback: bool = False,
        resolve: Resolve = system_resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._allow_loopback = allow_loopback
        self._resolve = resolve
        self._tls = tls
        self._session: ClientSession | None = None

    async def check_url(self, url: str) -> CheckedUrl:
        """Check an address that somebody wants to save; call it outside of a transaction.

        Raises UrlNotAllowed, UrlNotResolved, with param `url`.
        """
        host, port = parse_url(url, allow_loopback=self._allow_loopback)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self.addresses(host, port)
        except Blocked:
            raise _refused("The host is not on the public internet.") from None
        except (OSError, UnicodeError):  # TimeoutError is an OSError.
            raise UrlNotResolved("The host's name is not known.", param="url") from None
        return CheckedUrl(url)

    async def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a host to addresses that may be connected to. Raises Blocked, OSError."""
        literal = _literal(host)
        found = [host] if literal is not None else await self._resolve(host, port)
        loopback = self._allow_loopback and _names_loopback(host)
        for text in found:
            address = _literal(text)
            if address is None or not (address.is_loopback if loopback else is_public(address)):
                raise Blocked("the host has an address that is not on the public internet")
        if not found:
            raise OSError("the host has no address")
        return found

    def _check(self, url: str) -> None:
        parse_url(url, allow_loopback=self._allow_loopback)

    def _make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _name, peer = info
        address = _literal(str(peer[0]))
        allowed = address is not None and (
            is_public(address) or (self._allow_loopback and address.is_loopback)
        )
        if not allowed:
            raise Blocked("the connection would leave the public internet")
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made

    def _opened(self) -> "ClientSession":
        if self._session is None:
            from aiohttp import ClientSession, DummyCookieJar, TCPConnector

            self._session = ClientSession(
                connector=TCPConnector(
                    resolver=_pinning(self.addresses),
                    use_dns_cache=False,
                    socket_factory=self._make_socket,
                    ssl=self._tls or True,
                    limit=0,  # The job runner bounds how many run at once.
                    keepalive_timeout=2,  # Shorter than common servers', which close at 5 s.
                ),
                cookie_jar=DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
            )
        return self._session

    async def post(
        self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Answer:
        """Send and return the answer, whatever its status; redirects are not followed.

        `seconds` bounds the whole exchange. Raises EgressFailed; the request may have arrived.
        """
        import aiohttp

        try:
            self._check(url)
            timeout = aiohttp.ClientTimeout(
                total=seconds, connect=CONNECT_SECONDS, ceil_threshold=3600
            )
            async with self._opened().post(
                url,
                data=body,
                headers=dict(headers) | {"Accept-Encoding": "identity"},
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                content = await _read(response.content)
                if len(content) > BODY_LIMIT:
                    response.close()
                return Answer(
                    status=response.status,
                    body=content[:BODY_LIMIT],
                    truncated=len(content) > BODY_LIMIT,
                    encoding=response.headers.get("Content-Encoding"),
                )
        except UrlNotAllowed as error:
            raise Blocked(error.detail) from None
        except TimeoutError:
            raise EgressFailed("timeout", f"no full answer within {seconds:g} s") from None
        except (aiohttp.ClientSSLError, ssl.SSLError) as error:
            raise EgressFailed("tls", f"TLS failed: {error}"[:250]) from None
        except aiohttp.ClientConnectorDNSError:
            raise EgressFailed("dns", "the host's name is not known") from None
        except aiohttp.ClientConnectorError as error:
            raise EgressFailed("connect", f"no connection: {error.os_error.strerror}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            name = type(error).__name__
            raise EgressFailed("protocol", f"the answer was not HTTP ({name})") from None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class OperatorEgress(Egress):
    """Sends to addresses that the settings name: any host, also one of the operator's own network.

    Everything else is as strict: one exchange, no redirects, no cookies, no proxies, 64 kB.
    """

    async def addresses(self, host: str, port: int) -> list[str]:
        """Resolve a host. Raises OSError."""
        found = [host] if _literal(host) is not None else await self._resolve(host, port)
        if not found:
            raise OSError("the host has no address")
        return found

    def _check(self, url: str) -> None:
        """Whoever may set this address may do more than send to it."""

    def _make_socket(self, info: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _name, _peer = info
        made = socket.socket(family, kind, protocol)
        made.setblocking(False)
        return made


def _pinning(addresses: Resolve) -> Any:
    from aiohttp.abc import AbstractResolver, ResolveResult

    class Pinning(AbstractResolver):
        """Gives the connector checked addresses in place of a name."""

        async def resolve(
            self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
        ) -> list[ResolveResult]:
            return [
                ResolveResult(
                    hostname=host,
                    host=text,
                    port=port,
                    family=socket.AF_INET6 if ":" in text else socket.AF_INET,
                    proto=0,
                    flags=socket.AI_NUMERICHOST,
                )
                for text in await addresses(host, port)
            ]

        async def close(self) -> None:
            """Nothing to close."""

    return Pinning()


async def _read(content: Any) -> bytes:
    parts, size = [], 0
    while size <= BODY_LIMIT:
        part = await content.read(BODY_LIMIT + 1 - size)
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)
