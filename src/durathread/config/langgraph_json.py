"""langgraph.json: what it may hold. It is read once; every part of the server takes its own typed block of it."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import orjson
import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from durathread import encryption
from durathread.config.blocks import Block, LenientBlock, block_of, unknown_keys, validated
from durathread.config.http import Http
from durathread.config.lifetimes import Minutes, ThreadTtl
from durathread.errors import ConfigError
from durathread.records import OnInterrupt

log = structlog.get_logger()

Fate = Literal["honoured", "ignored", "refused"]

WHERE = "langgraph.json: "
FATE = "x-fate"
IMAGES = "Ignored: it is about building images."
# Ignored as well, but warned of: somebody who sets these looks for what they do.
WARNED = {
    "checkpointer.path": "checkpoints are kept in the server's own Postgres",
    "ui": "no components of pages are served",
}
# The only one of the backends that is ours.
POSTGRES = "default"


def _ignored(description: str) -> Any:
    return Field(default=None, description=description, json_schema_extra={FATE: "ignored"})


def _refused(description: str) -> Any:
    return Field(default=None, description=description, json_schema_extra={FATE: "refused"})


class GraphSource(LenientBlock):
    """A graph with a description."""

    path: str = Field(description="`./file.py:variable` or `package.module:variable`.")
    description: str | None = Field(default=None, description="What the graph does, for those who choose one.")


class AuthBlock(Block):
    """The `auth` of langgraph.json."""

    path: str = Field(description="`./file.py:variable` of a `langgraph_sdk.Auth`.")
    keys: list[str] | None = Field(default=None, description="Fields of a user that are stored with runs and crons.")
    openapi: dict[str, Any] = Field(default={}, description="`securitySchemes` and `security` for /openapi.json.")
    disable_studio_auth: Any = Field(default=None, description="Changes nothing: everybody is authenticated.")
    allow_langsmith_api_keys: Any = Field(default=None, description="Changes nothing: everybody is authenticated.")
    cache: Any = Field(default=None, description="Changes nothing: everybody is authenticated each time.")

    needs: ClassVar[Mapping[str, str]] = {
        "path": 'must be a string, such as "./auth.py:auth": auth needs a path.',
        "keys": "in langgraph.json must be a list of fields that authenticate returns.",
        "openapi": "in langgraph.json must be an object.",
    }


class IndexBlock(LenientBlock):
    """The `store.index` of langgraph.json."""

    dims: int = Field(ge=1, description="The length of the vectors.")
    embed: str = Field(description="`./file.py:function`, `package.module:function` or `provider:model`.")
    fields: list[str] | None = Field(
        default=None, description='Paths of what is embedded, such as `["text", "tags[*]"]`.'
    )
    distance_type: str | None = Field(default=None, description="As LangGraph's Postgres store takes it.")
    ann_index_config: dict[str, Any] | None = Field(default=None, description="As LangGraph's Postgres store takes it.")

    needs: ClassVar[Mapping[str, str]] = {
        "": 'needs {"dims": 1536, "embed": "./file.py:function"}.',
        "fields": 'must be a list of paths, such as ["text", "tags[*]"].',
    }


class StoreTtl(LenientBlock):
    """The `store.ttl` of langgraph.json."""

    default_ttl: Minutes | None = Field(default=None, description="Minutes that items live if nothing else is said.")
    refresh_on_read: bool = Field(default=True, description="Whether reading an item begins its lifetime anew.")
    sweep_interval_minutes: Minutes | None = Field(default=None, description="How often items are deleted; 5.")

    needs: ClassVar[Mapping[str, str]] = {
        "default_ttl": "must be a number of minutes above 0.",
        "sweep_interval_minutes": "must be a number of minutes above 0.",
    }


class StoreBlock(LenientBlock):
    """The `store` of langgraph.json."""

    index: IndexBlock | None = Field(default=None, description="Items are found by what they mean.")
    ttl: StoreTtl | None = Field(default=None, description="Lifetimes of items.")
    path: Any = _refused("Refused: items would not be where you think.")


Class = Annotated[list[str], Field(min_length=2)]


class Serde(Block):
    """The `checkpointer.serde` of langgraph.json: which classes are revived from checkpoints."""

    allowed_json_modules: Literal[True] | list[Class] | None = None
    allowed_msgpack_modules: Literal[True] | list[Class] | None = None
    pickle_fallback: bool = False

    needs: ClassVar[Mapping[str, str]] = {
        "": "takes allowed_json_modules, allowed_msgpack_modules and pickle_fallback, and nothing else.",
        "allowed_json_modules": 'is true, null or a list of ["module", "Class"].',
        "allowed_msgpack_modules": 'is true, null or a list of ["module", "Class"].',
        "pickle_fallback": "is true or false.",
    }

    def options(self) -> dict[str, Any]:
        """Write what was said as LangGraph's serializer takes it."""
        lists = {name: getattr(self, name) for name in self.model_fields_set - {"pickle_fallback"}}
        return {
            **{
                name: [tuple(each) for each in value] if isinstance(value, list) else value
                for name, value in lists.items()
            },
            "pickle_fallback": self.pickle_fallback,
        }


class CheckpointerBlock(LenientBlock):
    """The `checkpointer` of langgraph.json."""

    ttl: ThreadTtl | None = Field(default=None, description="The lifetime of new threads.")
    serde: Serde | None = Field(default=None, description="Which classes are revived from checkpoints.")
    backend: Any = _refused("Refused, but for `default`: checkpoints would not be where you think.")
    path: Any = _ignored("Ignored: checkpoints are kept in the server's own Postgres.")

    @property
    def serde_options(self) -> dict[str, Any]:
        """What LangGraph's serializer is made with."""
        return self.serde.options() if self.serde else {}


class WebhookUrls(LenientBlock):
    """The `webhooks.url` of langgraph.json: where webhooks may go."""

    require_https: bool = True
    allowed_domains: list[str] | None = Field(default=None, description="`hooks.example`, `*.example`, or `*` for any.")
    allowed_ports: list[int] | None = None
    max_url_length: int = Field(default=2048, ge=1)
    disable_loopback: bool = True
    disable_private_ips: bool = True

    needs: ClassVar[Mapping[str, str]] = {"max_url_length": "must be a number above 0."}


class WebhooksBlock(LenientBlock):
    """The `webhooks` of langgraph.json."""

    url: WebhookUrls | None = Field(default=None, description="Where webhooks may go.")
    headers: dict[str, str] | None = Field(default=None, description="Sent with each webhook.")
    env_prefix: str | None = Field(default=None, description="How variables are named that headers and secrets take.")
    secret: str | list[str] | None = Field(default=None, description="What webhooks are signed with.")
    allowed_fields: list[str] | None = Field(default=None, description="The fields of the body that are sent.")

    needs: ClassVar[Mapping[str, str]] = {"secret": "must be a string, or a list of strings."}


class Fairness(LenientBlock):
    """The `fairness` of langgraph.json."""

    key: str = Field(min_length=1, description="The key of `configurable` that says whose a run is.")

    needs: ClassVar[Mapping[str, str]] = {"": 'needs {"key": "the key of configurable that says whose a run is"}.'}


class TemporalBlock(Block):
    """The `temporal` of langgraph.json."""

    signals: bool | None = Field(default=None, description="Whether other workflows may start runs by a signal.")

    needs: ClassVar[Mapping[str, str]] = {"": 'needs {"signals": true or false}: whether runs may come by a signal.'}


class Quotas(Block):
    """The `quotas` of langgraph.json."""

    runs: int | None = Field(default=None, ge=0, description="How many runs in flight a user may have.")
    crons: int | None = Field(default=None, ge=0, description="How many crons a user may have.")
    bytes: int | None = Field(default=None, ge=0, description="How many stored bytes a user may have.")

    needs: ClassVar[Mapping[str, str]] = {
        "": 'takes {"runs": 10, "crons": 5, "bytes": 100000000}: how many runs in flight, crons and stored bytes a user may '
        "have."
    }


class LanggraphJson(LenientBlock):
    """A langgraph.json."""

    model_config = ConfigDict(title="langgraph.json, as durathread reads it")

    graphs: dict[str, str | GraphSource] = Field(default={}, description='Name → `"./file.py:variable"`.')
    dependencies: list[str] = Field(default=["."], description="Local folders become importable.")
    env: str | dict[str, Any] | None = Field(default=None, description="The path of an env file, or an object.")
    auth: AuthBlock | None = Field(default=None, description="Who users are, and what they may do.")
    http: Http = Field(default=Http(), description="The HTTP API.")
    store: StoreBlock = Field(default=StoreBlock(), description="LangGraph's store.")
    checkpointer: CheckpointerBlock = Field(default=CheckpointerBlock(), description="Threads and their checkpoints.")
    webhooks: WebhooksBlock = Field(default=WebhooksBlock(), description="Where webhooks go, and what goes with them.")
    fairness: Fairness | None = Field(default=None, description="Who waits for whom.")
    temporal: TemporalBlock = Field(default=TemporalBlock(), description="What other workflows may do.")
    quotas: Quotas = Field(default=Quotas(), description="How much a user may have.")
    on_interrupt: OnInterrupt = Field(
        default="keep", description="Whether runs repair what an interrupted run has left."
    )
    encryption: Any = _refused("Refused: use LANGGRAPH_AES_KEY.")
    ui: Any = _ignored("Ignored: no components of pages are served.")
    ui_config: Any = _ignored("Ignored: no components of pages are served.")
    priority: Any = _ignored("Ignored.")
    disable_persistence: Any = _ignored("Ignored: everything is kept.")
    api_version: Any = _ignored(IMAGES)
    base_image: Any = _ignored(IMAGES)
    dockerfile_lines: Any = _ignored(IMAGES)
    image_distro: Any = _ignored(IMAGES)
    keep_pkg_tools: Any = _ignored(IMAGES)
    node_version: Any = _ignored(IMAGES)
    pip_config_file: Any = _ignored(IMAGES)
    pip_installer: Any = _ignored(IMAGES)
    python_version: Any = _ignored(IMAGES)
    source: Any = _ignored(IMAGES)

    needs: ClassVar[Mapping[str, str]] = {
        "graphs": 'must be {"name": "./file.py:variable"}, or {"name": {"path": "./file.py:variable"}}.',
        "env": "must be the path of a file, or an object.",
        "on_interrupt": 'must be "keep" or "repair".',
    }

    @model_validator(mode="before")
    @classmethod
    def _without_null(cls, content: Any) -> Any:
        """Null asks for nothing."""
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in cast(dict[str, Any], content).items() if value is not None}


def read(path: Path) -> LanggraphJson:
    """Read the langgraph.json at a path, and log what is not done of what it asks for.

    Raises:
        ConfigError: it cannot be used, or asks for what can neither be done nor left undone.
    """
    try:
        content = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ConfigError(f"There is no {path}. Name your langgraph.json with --config.") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a JSON object.")
    named = cast(dict[str, Any], content).get("graphs")
    config = parse({**content, "graphs": named or {}})
    if not config.graphs:
        raise ConfigError(f'{path} names no graphs: it needs {{"graphs": {{"name": "./file.py:variable"}}}}.')
    return config


def parse(content: Mapping[str, Any]) -> LanggraphJson:
    """Read the content of a langgraph.json, and log what is not done of what it asks for.

    Raises:
        ConfigError: it cannot be used, or asks for what can neither be done nor left undone.
    """
    # A key that cannot be used shows here: otherwise what is stored would be taken for encrypted.
    encryption.keys()
    config = validated(LanggraphJson, content, where=WHERE)
    for key, fate, value in _set_keys(config):
        if fate == "refused" and value != POSTGRES:
            raise ConfigError(f"{WHERE}{key} is not supported, and cannot be ignored: what is stored would be wrong.")
        if key in WARNED:
            log.warning("langgraph.json asks for what is not done", key=key, instead=WARNED[key])
    for key, near in unknown_keys(config):
        log.warning("langgraph.json has a key that is not known", key=key, did_you_mean=near)
    return config


def keys() -> dict[str, Fate]:
    """List the keys of langgraph.json with what becomes of them; those within an object only if they differ from it."""
    return {key: fate for key, fate in _fates(LanggraphJson) if fate != "honoured" or "." not in key}


def schema() -> dict[str, Any]:
    """Describe langgraph.json as JSON Schema, for editors."""
    described = LanggraphJson.model_json_schema()
    described["properties"]["$schema"] = {"type": "string"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **described}


def _fates(model: type[BaseModel], path: str = "") -> Iterator[tuple[str, Fate]]:
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        yield f"{path}{name}", cast(Fate, extra.get(FATE, "honoured")) if isinstance(extra, dict) else "honoured"
        if inner := block_of(field.annotation):
            yield from _fates(inner, f"{path}{name}.")


def _set_keys(config: LanggraphJson) -> Iterator[tuple[str, Fate, Any]]:
    """List the keys that are ignored or refused, and that ask for something."""
    for key, fate in _fates(LanggraphJson):
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part, None)
        if fate != "honoured" and value not in (None, "", {}):
            yield key, fate, value
