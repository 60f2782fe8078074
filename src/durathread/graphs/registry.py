"""Loads the graphs that a langgraph.json names."""

import contextlib
import os
import traceback
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid5

import orjson
import structlog
from dotenv import dotenv_values
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import StateGraph
from langgraph.pregel import Pregel
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph_sdk.runtime import AccessContext

from durathread.config import langgraph_json
from durathread.config.langgraph_json import GraphSource, LanggraphJson
from durathread.errors import ConfigError, NotFound
from durathread.graphs.config_keys import completed, for_factory
from durathread.graphs.factories import Access, Factory
from durathread.graphs.importing import RAISED, import_source, make_importable
from durathread.inprocess import clients
from durathread.process.sources import is_users, users_part

log = structlog.get_logger()

Graph = Pregel[Any, Any, Any, Any]

# The namespace that SDK clients know the ids of system assistants by; not one of the RFC's.
SYSTEM_NAMESPACE = UUID("6ba7b821-9dad-11d1-80b4-00c04fd430c8")
DEFAULT_NAME = "LangGraph"
# The config of each graph's own assistant, as a JSON object. Not a setting like others: `env` of langgraph.json may hold it.
CONFIGS = "LANGGRAPH_CONFIG"
JAVASCRIPT = (".ts", ".tsx", ".mts", ".cts", ".js", ".jsx", ".mjs", ".cjs")


def system_assistant_id(graph_id: str) -> UUID:
    """Return the id of the assistant that each graph has by itself."""
    return uuid5(SYSTEM_NAMESPACE, graph_id)


@dataclass(frozen=True)
class Source:
    """Where a graph comes from: `target` is what its variable holds, or the factory that that is."""

    graph_id: str
    path: str
    description: str | None
    target: Any


class Graphs:
    """The graphs of a langgraph.json, by id."""

    def __init__(self, sources: dict[str, Source], config: LanggraphJson, folder: Path, *, api_url: str = "") -> None:
        """Hold what `load` has read."""
        self._api_url = api_url
        self._configs = dict[str, dict[str, Any]]()
        self._warned = set[str]()
        self._sources = sources
        self.config = config
        self.folder = folder

    @classmethod
    def load(cls, path: Path, *, api_url: str = "") -> "Graphs":
        """Read a langgraph.json, and import what it names; graphs are told that the API is at `api_url`.

        Raises:
            ConfigError: the file cannot be used, or a graph cannot be loaded; says which, and why.
        """
        clients.install()
        config = langgraph_json.read(path)
        folder = path.resolve().parent
        _apply_env(config.env, folder)
        make_importable(config.dependencies, folder)
        sources = {graph_id: _load_source(graph_id, named, folder) for graph_id, named in config.graphs.items()}
        found = cls(sources, config, folder, api_url=api_url)
        found._configs = _assistant_configs(os.environ.get(CONFIGS, ""))
        return found

    @classmethod
    def of(cls, graphs: Mapping[str, object]) -> "Graphs":
        """Take graphs, or factories of them, by their ids, without a langgraph.json.

        Raises:
            ConfigError: there is none, or one is neither.
        """
        if not graphs:
            raise ConfigError("There are no graphs to serve.")
        clients.install()
        sources = {
            graph_id: _source(graph_id, target, path="given", description=None) for graph_id, target in graphs.items()
        }
        return cls(sources, LanggraphJson(), Path.cwd())

    def __iter__(self) -> Iterator[str]:
        """Iterate over the ids of the graphs."""
        return iter(self._sources)

    def __contains__(self, graph_id: object) -> bool:
        """Say whether there is a graph of that id."""
        return graph_id in self._sources

    def variable(self, path: str, *, what: str) -> Any:
        """Import what `./file.py:variable` or `module:variable` names.

        Raises:
            ConfigError: it cannot be imported; says which, and why.
        """
        return _variable(path, self.folder, what=what)

    def assistant_config(self, graph_id: str) -> dict[str, Any]:
        """Return the config of the assistant that a graph has by itself."""
        return self._configs.get(graph_id, {})

    def description(self, graph_id: str) -> str | None:
        """Return the description that langgraph.json gives."""
        return self._sources[graph_id].description

    @asynccontextmanager
    async def open(
        self,
        graph_id: str,
        *,
        config: RunnableConfig | None = None,
        checkpointer: BaseCheckpointSaver[Any] | None = None,
        store: BaseStore | None = None,
        why: AccessContext = "assistants.read",
        context: Mapping[str, Any] | None = None,
    ) -> AsyncGenerator[Graph]:
        """Lend a graph, built anew if it comes from a factory, with our checkpointer and store in it.

        Args:
            graph_id: which.
            config: what a factory finds in its config.
            checkpointer: put into the graph.
            store: put into the graph.
            why: what a factory is told that the graph is opened for.
            context: what a factory finds as the run's context.

        Raises:
            NotFound: there is no such graph.
            ConfigError: the factory gave something else than a graph.
        """
        source = self._sources.get(graph_id)
        if source is None:
            raise NotFound(
                f"Graph '{graph_id}' not found: it is not in langgraph.json. Graphs: {', '.join(self._sources)}"
            )
        async with AsyncExitStack() as stack:
            config = for_factory(self.config_of(config, executes=why == "threads.create_run"))
            graph = await _build(source, Access(why, config, context, store), stack)
            self._warn_of_checkpointer(source, graph)
            yield graph.copy({"checkpointer": checkpointer, "store": store})

    def _warn_of_checkpointer(self, source: Source, graph: Graph) -> None:
        if isinstance(graph.checkpointer, BaseCheckpointSaver) and source.graph_id not in self._warned:
            self._warned.add(source.graph_id)
            log.warning(
                "A graph's own checkpointer is not used: the server's is", graph=source.graph_id, path=source.path
            )

    def config_of(self, config: RunnableConfig | None, *, executes: bool) -> RunnableConfig:
        """Add to a config what every graph finds in it."""
        return completed(config, executes=executes, api_url=self._api_url)

    async def name(self, graph_id: str, *, store: BaseStore | None = None) -> str:
        """Return what a graph calls itself, or its id if it has no name, or none without a request."""
        name = DEFAULT_NAME
        with contextlib.suppress(*RAISED):
            async with self.open(graph_id, store=store) as graph:
                name = graph.get_name()
        return graph_id if name == DEFAULT_NAME else name

    async def first_nodes(self, graph_id: str, *, store: BaseStore | None = None) -> list[str]:
        """Name the nodes that a graph begins with; none where that depends on its input, or on the request."""
        with contextlib.suppress(*RAISED):
            async with self.open(graph_id, store=store) as graph:
                edges = graph.get_graph().edges
                return [edge.target for edge in edges if edge.source == "__start__" and not edge.conditional]
        return []

    async def check(self, *, store: BaseStore | None = None) -> None:
        """Build every graph once. A factory may refuse: there is no request, and perhaps no user, as it may need.

        Args:
            store: what factories find as the store; an empty one in memory by default.

        Raises:
            ConfigError: names the graph, the file and the reason.
        """
        for source in self._sources.values():
            try:
                async with self.open(source.graph_id, store=store or InMemoryStore()):
                    pass
            except ConfigError:
                raise
            except RAISED as error:
                if self._may_refuse(source.graph_id):
                    log.warning("A factory made no graph without a request", graph=source.graph_id, error=repr(error))
                    continue
                raise ConfigError(
                    f"Graph '{source.graph_id}' ({source.path}) failed: {type(error).__name__}: {error}"
                ) from error

    def _may_refuse(self, graph_id: str) -> bool:
        target = self._sources[graph_id].target
        return isinstance(target, Factory) and target.asks


def _assistant_configs(text: str) -> dict[str, dict[str, Any]]:
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{CONFIGS} is not JSON: {error}") from error
    if not isinstance(found, dict) or not all(isinstance(each, dict) for each in cast(dict[str, Any], found).values()):
        raise ConfigError(f'{CONFIGS} must be an object of configs by graph: {{"graph": {{"configurable": {{}}}}}}.')
    return cast(dict[str, dict[str, Any]], found)


def _apply_env(env: str | Mapping[str, Any] | None, folder: Path) -> None:
    """Add variables from a file or an object; what is set already stays."""
    if isinstance(env, str):
        file = folder / env
        if not file.is_file():
            if not file.with_name(f"{file.name}.example").is_file():
                raise ConfigError(f"The env file {file} does not exist.")
            log.warning("The env file does not exist: copy its example, and fill it in", file=str(file))
            return
        found: dict[str, Any] = dict(dotenv_values(folder / env))
    else:
        found = dict(env or {})
    for name, value in found.items():
        os.environ.setdefault(name, str(value))


def _load_source(graph_id: str, named: str | GraphSource, folder: Path) -> Source:
    path, description = (named, None) if isinstance(named, str) else (named.path, named.description)
    log.info("Importing a graph", graph=graph_id, path=path)
    return _source(graph_id, _variable(path, folder, what=f"Graph '{graph_id}'"), path=path, description=description)


def _source(graph_id: str, target: object, *, path: str, description: str | None) -> Source:
    if not isinstance(target, Pregel | StateGraph) and not callable(target):
        raise ConfigError(f"Graph '{graph_id}' ({path}) is a {type(target).__name__}, not a graph or a factory of one.")
    if not isinstance(target, Pregel | StateGraph):
        target = Factory(target, f"Graph '{graph_id}' ({path})")
    return Source(graph_id, path, description, target)


def _variable(path: str, folder: Path, *, what: str) -> Any:
    where, _, variable = path.rpartition(":")
    if not where or not variable:
        raise ConfigError(f"{what}: '{path}' is not of the form './file.py:variable' or 'module:variable'.")
    if where.endswith(JAVASCRIPT):
        raise ConfigError(f"{what} ({path}): JavaScript graphs are not served, only those in Python.")
    try:
        module = import_source(where, folder)
    except RAISED as error:
        raise ConfigError(
            f"{what} ({path}) failed to import: {type(error).__name__}: {error}{_lines_of(error)}"
        ) from error
    if not hasattr(module, variable):
        raise ConfigError(f"{what}: {where} has no variable '{variable}'.")
    return getattr(module, variable)


def _lines_of(error: BaseException) -> str:
    """Show where in users' code an import has failed; nothing if it was not in a module of theirs."""
    places = [place for place in users_part(error.__traceback__) if is_users(place.filename)]
    return "\n" + "".join(traceback.format_list(places)).rstrip() if places else ""


async def _build(source: Source, access: Access, stack: AsyncExitStack) -> Graph:
    target = source.target
    if isinstance(target, Factory):
        target = await target(access, stack)
    if isinstance(target, StateGraph):
        target = cast("StateGraph[Any]", target).compile()
    if not isinstance(target, Pregel):
        raise ConfigError(f"Graph '{source.graph_id}' ({source.path}): the factory gave a {type(target).__name__}.")
    return cast(Graph, target)
