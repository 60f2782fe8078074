"""What langgraph.json says of the store."""

import importlib.util
from typing import Any, cast

from langchain_core.embeddings import Embeddings
from langgraph.store.base import TTLConfig
from langgraph.store.base.embed import ensure_embeddings

from durathread.config.langgraph_json import IndexBlock, StoreTtl
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
    block = graphs.config.store
    return StoreConfig(index=_index(graphs, block.index), ttl=_ttl(block.ttl or StoreTtl()))


def _index(graphs: Graphs, block: IndexBlock | None) -> Index | None:
    if block is None:
        return None
    options: JsonObject = {
        "ann_index_config": block.ann_index_config or EXACT,
        **{name: value for name in ("distance_type", "fields") if (value := getattr(block, name))},
    }
    return Index(block.dims, _embeddings(graphs, block.embed), options)


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


def _ttl(block: StoreTtl) -> TTLConfig:
    return {
        "omit_expired": True,
        "refresh_on_read": block.refresh_on_read,
        "default_ttl": block.default_ttl,
        "sweep_interval_minutes": block.sweep_interval_minutes or 5,  # pyright: ignore[reportReturnType]
    }
