"""What langgraph.json says of webhooks: where they may go, and what is sent."""

import base64
import binascii
import hashlib
import hmac
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import httpx

from durathread.config.langgraph_json import LanggraphJson
from durathread.errors import ConfigError, Invalid
from durathread.records import JsonObject
from durathread.webhooks.addresses import Address, Kind, is_own, kind_of, kind_of_host, literal

MAX_URL_LENGTH = 2048
ENV_PREFIX = "LG_WEBHOOK_"
DEFAULT_PORTS = {"http": 80, "https": 443}
# Also: percent signs, which are a zone or an attempt to hide a dot.
HOST = re.compile(r"[A-Za-z0-9._:-]+")
TEMPLATE = re.compile(r"\$\{\{\s*env\.([A-Za-z_][A-Za-z0-9_]*)\s*\}\}")
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
OURS = ("host", "content-type", "content-length", "transfer-encoding", "connection")
SECRET_PREFIX = "whsec_"
# Who names it means any domain.
ANY_DOMAIN = "*"


@dataclass(frozen=True)
class Rules:
    """Where webhooks may be sent."""

    disabled: bool = False
    require_https: bool = False
    allowed_domains: tuple[str, ...] = ()
    allowed_ports: tuple[int, ...] = ()
    max_url_length: int = MAX_URL_LENGTH
    disable_loopback: bool = True
    disable_private_ips: bool = True

    def check(self, url: str) -> None:
        """Refuse a webhook that could never be delivered.

        Raises:
            Invalid: says why.
        """
        if self.disabled:
            raise Invalid("webhook: webhooks are disabled on this server.")
        if is_relative(url):
            self._require(not self.disable_loopback, "relative URLs are refused: they lead back to the server")
            self._require(len(url) <= self.max_url_length, f"longer than {self.max_url_length} characters")
        else:
            self.target(url)

    def target(self, url: str) -> httpx.URL:
        """Parse an absolute URL as it will be requested.

        Raises:
            Invalid: it may not be; says why.
        """
        self._require(len(url) <= self.max_url_length, f"longer than {self.max_url_length} characters")
        self._require("\\" not in url and not any(char.isspace() for char in url), "not a URL")
        try:
            parsed = httpx.URL(url)
            host = host_of(parsed)
            kind = kind_of_host(host)
        except (httpx.InvalidURL, ValueError) as error:
            raise Invalid(f"webhook: {error}") from None
        self._require(parsed.scheme in DEFAULT_PORTS, "must be an http or https URL")
        self._require(HOST.fullmatch(host) is not None, "has no valid host")
        self._require(not parsed.userinfo, "must not hold credentials: they would be shown with the run")
        self._require(parsed.scheme == "https" or not self.require_https, "must be an https URL")
        port = parsed.port if parsed.port is not None else DEFAULT_PORTS[parsed.scheme]
        self._require(
            0 < port < 65536 and (not self.allowed_ports or port in self.allowed_ports), f"port {port} is refused"
        )
        self._require(self._allows(host), f"host {host} is not among the allowed domains")
        self._require(self._permits(kind), f"host {host} is refused: {kind} address")
        address = literal(host)
        self._require(address is None or self.permits(address), f"host {host} is refused: this machine's address")
        return parsed

    def permits(self, address: Address) -> bool:
        """Say whether a connection may be made to an address."""
        return self._permits(kind_of(address)) and not (self.disable_loopback and is_own(address))

    def _permits(self, kind: Kind) -> bool:
        refused = {"forbidden": True, "loopback": self.disable_loopback, "private": self.disable_private_ips}
        return not refused.get(kind, False)

    def _allows(self, host: str) -> bool:
        name = host.rstrip(".").lower()
        allowed = self.allowed_domains
        return not allowed or ANY_DOMAIN in allowed or any(_is_of(name, domain) for domain in allowed)

    @staticmethod
    def _require(condition: bool, problem: str) -> None:
        if not condition:
            raise Invalid(f"webhook: {problem}")


@dataclass(frozen=True)
class Dress:
    """What goes with every webhook: headers and signatures; and which fields of the body."""

    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    secrets: tuple[bytes, ...] = field(default=(), repr=False)
    allowed_fields: frozenset[str] | None = None

    def signature(self, message_id: str, timestamp: int, body: bytes, *, secret: str = "") -> dict[str, str]:
        """Build the headers of the Standard Webhooks specification; unsigned if there is no secret.

        A `secret` of the run's own takes the place of the server's.
        """
        secrets = (_key(secret),) if secret else self.secrets
        headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
        signed = b".".join([message_id.encode(), str(timestamp).encode(), body])
        macs = [hmac.new(secret, signed, hashlib.sha256).digest() for secret in secrets]
        if macs:
            headers["webhook-signature"] = " ".join(f"v1,{base64.b64encode(mac).decode()}" for mac in macs)
        return headers

    def fields(self, body: JsonObject) -> JsonObject:
        """Keep the fields that may be sent."""
        allowed = self.allowed_fields
        return body if allowed is None else {key: value for key, value in body.items() if key in allowed}


def _is_of(name: str, domain: str) -> bool:
    return name.endswith(domain[1:]) if domain.startswith("*.") else name == domain


def host_of(url: httpx.URL) -> str:
    """Return a URL's host as it is looked up: in ASCII."""
    return url.raw_host.decode("ascii")


def is_relative(url: str) -> bool:
    """Say whether a URL names a path of this server."""
    return url.startswith("/") and not url.startswith(("//", "/\\"))


def rules_of(config: LanggraphJson) -> Rules:
    """Take where webhooks may be sent from langgraph.json."""
    disabled, url = config.http.disable_webhooks, config.webhooks.url
    if url is None:
        return Rules(disabled=disabled)
    return Rules(
        disabled=disabled,
        require_https=url.require_https,
        allowed_domains=tuple(domain.lower().rstrip(".") for domain in url.allowed_domains or ()),
        allowed_ports=tuple(url.allowed_ports or ()),
        max_url_length=url.max_url_length,
        disable_loopback=url.disable_loopback,
        disable_private_ips=url.disable_private_ips,
    )


def dress_of(config: LanggraphJson, *, secrets: str = "") -> Dress:
    """Take what goes with every webhook from langgraph.json; `secrets`, separated by spaces, win over those in it.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    block = config.webhooks
    prefix = block.env_prefix or ENV_PREFIX
    headers = {
        _header_name(name): _expanded(value, prefix, f"webhooks.headers.{name}")
        for name, value in (block.headers or {}).items()
    }
    listed = [block.secret] if isinstance(block.secret, str) else block.secret or []
    keys = secrets.split() or [_expanded(secret, prefix, "webhooks.secret") for secret in listed if secret]
    return Dress(
        headers=headers,
        secrets=tuple(_key(secret) for secret in keys),
        allowed_fields=None if block.allowed_fields is None else frozenset(block.allowed_fields),
    )


def _header_name(name: str) -> str:
    if not HEADER_NAME.fullmatch(name) or name.lower() in OURS or name.lower().startswith("webhook-"):
        raise ConfigError(f"langgraph.json: webhooks.headers cannot set '{name}'.")
    return name


def _expanded(value: str, prefix: str, where: str) -> str:
    """Put in what `${{ env.NAME }}` stands for."""

    def found(match: re.Match[str]) -> str:
        name = match[1]
        if not name.startswith(prefix):
            raise ConfigError(f"langgraph.json: {where}: the variable {name} does not begin with {prefix}.")
        if name not in os.environ:
            raise ConfigError(f"langgraph.json: {where}: the variable {name} is not set.")
        return os.environ[name]

    text = TEMPLATE.sub(found, value)
    if not text.isascii() or not text.isprintable():
        raise ConfigError(f"langgraph.json: {where} holds characters that a header cannot carry.")
    return text


def require_domains(config: LanggraphJson, *, secrets: str = "") -> None:
    """Refuse secrets that would be sent wherever somebody who may create a run likes.

    Raises:
        ConfigError: no domains are named; `*` names any.
    """
    block, rules = config.webhooks, rules_of(config)
    holds_secrets = bool(secrets.split() or block.secret or block.headers)
    if holds_secrets and not rules.disabled and not rules.allowed_domains:
        raise ConfigError(
            "langgraph.json: webhooks with a secret, or with headers, need webhooks.url.allowed_domains: otherwise anybody who may "
            'create a run can have them sent anywhere. ["*"] allows any domain.'
        )


def require_secret(secret: object) -> str:
    """Return the secret that a handler gives the webhooks of a run.

    Raises:
        ConfigError: it cannot be one.
    """
    if not isinstance(secret, str) or not secret:
        raise ConfigError("The webhook_secret that a handler gives must be a string.")
    _key(secret)
    return secret


def _key(secret: str) -> bytes:
    """Return the key that a secret stands for: base64 after `whsec_`, or the text itself."""
    if not secret.startswith(SECRET_PREFIX):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except binascii.Error:
        raise ConfigError(f"A webhook secret that begins with {SECRET_PREFIX} must go on in base64.") from None
