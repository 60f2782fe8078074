"""What langgraph.json says of the store."""

import importlib.util
from typing import Any, cast

from langchain_core.embeddings import Embeddings
from langgraph.store.base import TTLConfig
from langgraph.store.base.embed import ensure_embeddings

from durathread.db.memory_store import Index, StoreConfig
from durathread.errors import ConfigError
from durathread.graphs.registry import Graphs
from durathread.records import JsonObject

# LangGraph does not search by an approximate index, but would pay for keeping one; and 2,000 dimensions is its most.
EXACT = {"kind": "flat"}


def store_config(graphs: Graphs) -> StoreConfig:
    """Read the `store` of langgraph.json.

    Raises:
        ConfigError: it cannot be used; says why.
    """
    given = graphs.config.get("store") or {}
    if not isinstance(given, dict):
        raise ConfigError("langgraph.json: store must be an object.")
    block = cast(dict[str, Any], given)
    return StoreConfig(index=_index(graphs, block.get("index")), ttl=_ttl(block.get("ttl")))


def _index(graphs: Graphs, given: Any) -> Index | None:
    if given is None:
        return None
    dims = given.get("dims") if isinstance(given, dict) else None
    fields = given.get("fields") if isinstance(given, dict) else None
    if not isinstance(dims, int) or isinstance(dims, bool) or dims < 1 or not isinstance(given.get("embed"), str):
        raise ConfigError('langgraph.json: store.index needs {"dims": 1536, "embed": "./file.py:function"}.')
    if fields is not None and not (isinstance(fields, list) and all(isinstance(path, str) for path in fields)):
        raise ConfigError('langgraph.json: store.index.fields must be a list of paths, such as ["text", "tags[*]"].')
    options: JsonObject = {
        "ann_index_config": EXACT,
        **{key: given[key] for key in ("ann_index_config", "distance_type", "fields") if given.get(key)},
    }
    return Index(dims, _embeddings(graphs, given["embed"]), options)


def _embeddings(graphs: Graphs, path: str) -> Embeddings:
    """Load `file.py:function` or `module:function`; anything else is LangChain's `provider:model`."""
    where, _, variable = path.rpartition(":")
    is_file = where.endswith(".py") or "/" in where
    if is_file or (variable.isidentifier() and ("." in where or importlib.util.find_spec(where))):
        found: Any = graphs.variable(path, what="store.index.embed")
        if not isinstance(found, Embeddings) and not callable(found):
            raise ConfigError(f"store.index.embed ({path}) is a {type(found).__name__}, not a function.")
    else:
        found = path
    try:
        return ensure_embeddings(cast(Any, found))
    except (ImportError, ValueError) as error:
        raise ConfigError(f"store.index.embed ({path}) cannot be loaded: {error}") from error


def _ttl(given: Any) -> TTLConfig:
    ttl = dict(cast(dict[str, Any], given)) if isinstance(given, dict) else {}
    wrong = [key for key in ("default_ttl", "sweep_interval_minutes") if not _positive(ttl.get(key))]
    if wrong:
        raise ConfigError(f"langgraph.json: store.ttl.{wrong[0]} must be a number of minutes above 0.")
    return {
        "omit_expired": True,
        "refresh_on_read": bool(ttl.get("refresh_on_read", True)),
        "default_ttl": ttl.get("default_ttl"),
        "sweep_interval_minutes": ttl.get("sweep_interval_minutes") or 5,
    }


def _positive(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)
