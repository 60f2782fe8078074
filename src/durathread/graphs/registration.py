"""The assistants that graphs have by themselves."""

from collections.abc import Mapping

from langgraph.store.base import BaseStore

from durathread.db import assistants
from durathread.db.pool import Pool, transaction
from durathread.graphs.registry import Graphs, system_assistant_id


async def names_of(graphs: Graphs, store: BaseStore) -> dict[str, str]:
    """Return what each graph calls itself. Builds the graphs, so call it where users' code may run."""
    return {graph_id: await graphs.name(graph_id, store=store) for graph_id in graphs}


async def first_nodes_of(graphs: Graphs, store: BaseStore) -> dict[str, list[str]]:
    """Name the nodes that each graph begins with. Builds the graphs, so call it where users' code may run."""
    return {graph_id: await graphs.first_nodes(graph_id, store=store) for graph_id in graphs}


async def register(pool: Pool, graphs: Graphs, names: Mapping[str, str]) -> None:
    """Give every graph its assistant, or bring that up to date."""
    for graph_id, name in names.items():
        async with transaction(pool) as conn:
            await assistants.upsert_system(
                conn,
                system_assistant_id(graph_id),
                graph_id=graph_id,
                name=name,
                description=graphs.description(graph_id),
                config=graphs.assistant_config(graph_id),
            )
