"""Posts a webhook, to no other address than one that was checked."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from ipaddress import ip_address
from ssl import SSLContext

import httpx

from durathread.errors import Invalid
from durathread.webhooks.addresses import Address, literal
from durathread.webhooks.policy import DEFAULT_PORTS, Rules, host_of

MAX_REDIRECTS = 5
# Those that repeat the request elsewhere. After 303 the receiver has it.
REDIRECTS = (301, 302, 307, 308)
# In seconds; the whole of a delivery has a limit of its own.
TIMEOUTS = {"connect": 5.0, "read": None, "write": None, "pool": None}

Resolve = Callable[[str, int], Awaitable[Sequence[Address]]]


@dataclass(frozen=True)
class Answer:
    """What a receiver said; `retry_after` in seconds, if it asked for time."""

    status: int
    retry_after: float | None = None


async def resolve(host: str, port: int) -> Sequence[Address]:
    """Look a host up; every address that it has."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:
        raise Invalid(f"webhook: host {host} is not a name: {error}") from None
    return list(dict.fromkeys(ip_address(address[4][0]) for address in found))


async def post(
    url: str,
    body: bytes,
    *,
    rules: Rules,
    headers: Mapping[str, str],
    private_headers: Mapping[str, str],
    timeout: float,  # noqa: ASYNC109
    trusted: str = "",
    resolve: Resolve = resolve,
) -> Answer:
    """Post a body, following redirects.

    Args:
        url: absolute.
        body: the bytes.
        rules: where it may go. Each redirect is checked as if it were the webhook, and every address of a host before
            the connection is made to one of them, so that no name can mean another machine a moment later.
        headers: of every request.
        private_headers: of requests to the webhook's own origin; a receiver cannot have them sent elsewhere.
        timeout: seconds for all of it.
        trusted: a URL that needs no check.
        resolve: what looks hosts up.

    Raises:
        Invalid: the rules refuse where it leads.
        OSError, httpx.TransportError: the receiver cannot be reached, or says nothing in time.
    """
    async with asyncio.timeout(timeout), _transport() as transport:
        checked = url != trusted
        target = first = rules.target(url) if checked else httpx.URL(url)
        for _ in range(MAX_REDIRECTS + 1):
            addresses = await _addresses(target, resolve)
            if checked and not all(rules.permits(address) for address in addresses):
                raise Invalid(f"webhook: host {target.host} is refused: it has an address that is not allowed")
            own = _origin(target) == _origin(first)
            response = await _send(transport, target, addresses, {**(private_headers if own else {}), **headers}, body)
            location = response.headers.get("location")
            if response.status_code not in REDIRECTS or not location:
                return Answer(response.status_code, _retry_after(response))
            target, checked = rules.target(_joined(target, location)), True
    raise Invalid(f"webhook: more than {MAX_REDIRECTS} redirects")


def _transport() -> httpx.AsyncHTTPTransport:
    # No client: that would look at redirects, cookies and proxies. And no connection is used twice: known by its address
    # alone it would serve every host that shares the address.
    return httpx.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=httpx.Limits(max_keepalive_connections=0))


@cache
def _tls() -> SSLContext:
    return httpx.create_ssl_context()


async def _addresses(target: httpx.URL, resolve: Resolve) -> Sequence[Address]:
    address = literal(host_of(target))
    return [address] if address is not None else await resolve(host_of(target), _origin(target)[2])


async def _send(
    transport: httpx.AsyncHTTPTransport,
    target: httpx.URL,
    addresses: Sequence[Address],
    headers: Mapping[str, str],
    body: bytes,
) -> httpx.Response:
    """Send a request to the first address that takes a connection. Its response's body is not read."""
    failure: Exception = OSError(f"{target.host} has no address")
    for address in addresses:
        request = httpx.Request(
            "POST",
            target.copy_with(host=str(address)),
            headers={**headers, "host": target.netloc.decode()},
            content=body,
            extensions={"sni_hostname": host_of(target).rstrip("."), "timeout": TIMEOUTS},
        )
        try:
            response = await transport.handle_async_request(request)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            failure = error
            continue
        await response.aclose()
        return response
    raise failure


def _origin(target: httpx.URL) -> tuple[str, str, int]:
    return target.scheme, host_of(target), target.port or DEFAULT_PORTS[target.scheme]


def _joined(target: httpx.URL, location: str) -> str:
    try:
        return str(target.join(location))
    except (httpx.InvalidURL, ValueError) as error:
        raise Invalid(f"webhook: redirected to what is not a URL: {error}") from None


def _retry_after(response: httpx.Response) -> float | None:
    """Read the header: seconds, or a date."""
    text = response.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
