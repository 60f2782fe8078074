"""Which pages may change something, or open a socket. A browser sends a user's cookies along, whichever page asks it to."""

from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from durathread.api.http.custom_app import is_custom
from durathread.api.http.entrance import route_path
from durathread.api.http.error_answers import problem
from durathread.config.http import Cors

# What proxies that have signed somebody in say of them.
SIGNED_IN = (
    "x-forwarded-access-token",
    "x-forwarded-id-token",
    "x-auth-request-access-token",
    "x-auth-request-id-token",
    "x-amzn-oidc-accesstoken",
    "x-amzn-oidc-data",
    "x-goog-iap-jwt-assertion",
    "cf-access-jwt-assertion",
    "x-ms-token-aad-access-token",
    "x-ms-token-aad-id-token",
    "x-ms-token-aad-refresh-token",
)

SAFE = ("GET", "HEAD", "OPTIONS")
# A GET that ends a run when it is broken off.
CANCELS = b"cancel_on_disconnect"
# What a browser adds by itself, besides cookies, once its user has signed in.
AMBIENT_SCHEMES = ("basic", "digest", "negotiate", "ntlm")
# What a proxy adds to whatever the browser of somebody who has signed in sends.
AMBIENT = (
    "cookie",
    *SIGNED_IN,
    "x-forwarded-user",
    "x-forwarded-email",
    "x-auth-request-user",
    "remote-user",
    "x-forwarded-client-cert",
)
# Whoever asks for these, a load balancer, asks an address.
HEALTH = ("/ok", "/ready")
# What only browsers say, and no page can make them say.
OWN = ("same-origin", "none")
PORTS = {"http": ":80", "https": ":443"}


class ForeignPages:
    """Refuses what a page of another site has a browser do, unless its origin is named. Custom routes decide for themselves."""

    def __init__(self, app: ASGIApp, *, cors: Cors) -> None:
        """Wrap an app."""
        self._app = app
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http" and not is_custom(scope) and _changes(scope):
            headers = Headers(scope=scope)
            if not may_act(self._cors, headers):
                whose = headers.get("origin") or "another site"
                refusal = problem(403, f"Pages of {whose} may not do this: name the origin in http.cors to allow it")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Hosts:
    """Refuses requests for names that are not served: a page may have its own name lead to this machine."""

    def __init__(self, app: ASGIApp, *, names: str) -> None:
        """Wrap an app; `names` are separated by commas, and none means any, as `*` does."""
        self._app = app
        self._names = {name.strip().lower() for name in names.split(",") if name.strip()}
        self._any = not self._names or "*" in self._names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        host = Headers(scope=scope).get("host") if scope["type"] != "lifespan" else None
        if self._any or host is None or host_name(host) in self._names or _is_health(scope):
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            refusal = problem(403, f"Host {host} is not served: name it in DURATHREAD_ALLOWED_HOSTS to allow it")
            await refusal(scope, receive, send)


class NoSniffing:
    """Tells browsers to take our answers for what they say that they are."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an app."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start" and not is_custom(scope):
                MutableHeaders(scope=message).setdefault("x-content-type-options", "nosniff")
            await send(message)

        await self._app(scope, receive, told if scope["type"] == "http" else send)


def may_act(cors: Cors, headers: Headers) -> bool:
    """Say whether who sends a request may change something with it: no page, one of ours, or one that is named.

    Where any page may call, it may act too, unless the browser adds what says who its user is.
    """
    origin, site = headers.get("origin"), headers.get("sec-fetch-site")
    if site in OWN or (origin is None and site is None):
        return True
    if origin is None:
        # A page that hides where it is from, as a form in a frame may: at most of the same site.
        return site != "cross-site" or (cors.allows_all and not _is_ambient(headers))
    if _is_same(origin, headers.get("host")):
        return True
    # Behind a proxy that asks for another name, and where a browser does not say more since there is no TLS.
    if site is None and _is_same(origin, headers.get("x-forwarded-host")):
        return True
    return cors.names(origin) or (cors.allows(origin) and not _is_ambient(headers))


def host_name(host: str) -> str:
    """Return a `Host` without its port."""
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


def _changes(scope: Scope) -> bool:
    return scope["method"] not in SAFE or CANCELS in unquote_to_bytes(scope.get("query_string", b""))


def _is_health(scope: Scope) -> bool:
    return scope["type"] == "http" and scope["method"] in SAFE and route_path(scope) in HEALTH


def _is_same(origin: str, host: str | None) -> bool:
    scheme, _, place = origin.lower().partition("://")
    port = PORTS.get(scheme, "")
    return host is not None and place.removesuffix(port) == host.lower().removesuffix(port)


def _is_ambient(headers: Headers) -> bool:
    return any(name in headers for name in AMBIENT) or headers.get("authorization", "").lower().startswith(
        AMBIENT_SCHEMES
    )
