"""What langgraph.json says of the HTTP API: its `http`."""

import re
from typing import Literal

from pydantic import AliasChoices, Field
from structlog import get_logger

from durathread.config.blocks import Block, validated
from durathread.config.settings import Settings
from durathread.errors import ConfigError

log = get_logger()

PREFIX = re.compile(r"(/[\w.~%-]+)+", re.ASCII)
# An origin that nobody means: who allows it allows all.
ANY_ORIGIN = "https://any.invalid"


class HeaderRule(Block):
    """Which headers: those that match one of `includes` and none of `excludes`; `*` stands for anything."""

    includes: list[str] = Field(default_factory=list, validation_alias=AliasChoices("includes", "include"))
    excludes: list[str] = Field(default_factory=list, validation_alias=AliasChoices("excludes", "exclude"))

    def covers(self, name: str) -> bool:
        """Say whether a header, named in lower case, is meant."""
        return _matches(name, self.includes) and not _matches(name, self.excludes)


class Cors(Block):
    """What browsers may do from pages of other origins."""

    allow_origins: list[str] | None = None
    allow_methods: list[str] = Field(default=["*"])
    allow_headers: list[str] = Field(default=["*"])
    allow_credentials: bool = False
    allow_origin_regex: str | None = None
    expose_headers: list[str] = Field(default=[])
    max_age: int = Field(default=600, ge=0)

    @property
    def allows_all(self) -> bool:
        """Whether pages of any origin may call."""
        pattern = self.allow_origin_regex
        return "*" in (self.allow_origins or ()) or bool(pattern and re.fullmatch(pattern, ANY_ORIGIN))

    def allows(self, origin: str) -> bool:
        """Whether pages of an origin may call."""
        return self.allows_all or self.names(origin)

    def names(self, origin: str) -> bool:
        """Whether pages of an origin may call because it is named, and not because any may."""
        pattern = None if self.allows_all else self.allow_origin_regex
        return origin in (self.allow_origins or ()) or bool(pattern and re.fullmatch(pattern, origin))


class Http(Block):
    """The `http` of langgraph.json."""

    app: str | None = None
    middleware_order: Literal["auth_first", "middleware_first"] = "middleware_first"
    enable_custom_route_auth: bool = False
    mount_prefix: str = ""
    cors: Cors = Cors()
    configurable_headers: HeaderRule = HeaderRule()
    logging_headers: HeaderRule = HeaderRule()
    disable_assistants: bool = False
    disable_threads: bool = False
    disable_runs: bool = False
    disable_store: bool = False
    disable_meta: bool = False
    disable_webhooks: bool = False
    disable_ui: bool = False
    disable_mcp: bool = False
    disable_a2a: bool = False
    disable_event_streaming: bool = False


def http_config(http: Http, settings: Settings) -> Http:
    """Complete the `http` of a langgraph.json. What the environment says wins.

    Raises:
        ConfigError: it cannot be used; says which key, and why.
    """
    return http.model_copy(
        update={
            "mount_prefix": _prefix(settings.mount_prefix or http.mount_prefix),
            "cors": _cors(http.cors, settings),
            "disable_event_streaming": http.disable_event_streaming or not settings.event_streaming,
        }
    )


def _cors(cors: Cors, settings: Settings) -> Cors:
    if settings.cors_config:
        cors = validated(Cors, settings.cors_config, where="CORS_CONFIG")
    _compile(cors.allow_origin_regex)
    if cors.allow_origins is None and cors.allow_origin_regex is None:
        origins = [origin.strip() for origin in settings.cors_origins.split(",")]
        cors = cors.model_copy(update={"allow_origins": origins})
    if cors.allow_credentials and cors.allows_all:
        log.warning("CORS: credentials are not allowed, because any origin is. Name the origins that may send them.")
        cors = cors.model_copy(update={"allow_credentials": False})
    return cors


def _compile(pattern: str | None) -> None:
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise ConfigError(f"http.cors.allow_origin_regex is not a regular expression: {error}") from None


def _prefix(given: str) -> str:
    prefix = f"/{given.strip('/')}" if given.strip("/") else ""
    if prefix and not PREFIX.fullmatch(prefix):
        raise ConfigError(f"http.mount_prefix '{given}' is not a path such as /agents/v1.")
    return prefix


def _matches(name: str, patterns: list[str]) -> bool:
    return any(re.fullmatch(re.escape(pattern.lower()).replace(r"\*", ".*"), name) for pattern in patterns)
