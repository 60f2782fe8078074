"""A server of a project that a test writes."""

import json
import textwrap
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.stack import Stack, running

GRAPHS = """
import operator
from typing import Annotated, Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]
    seen: dict[str, Any]


async def node(state: State, config: RunnableConfig) -> State:
    shown = {key: value for key, value in config["configurable"].items() if not key.startswith("__")}
    return {"log": ["worked"], "seen": shown}


builder = StateGraph(State)
builder.add_node("node", node)
builder.add_edge(START, "node")
builder.add_edge("node", END)
"""


@asynccontextmanager
async def serving(
    engine_set: Engines,
    folder: Path,
    *,
    http: Mapping[str, Any] | None = None,
    app: str = "",
    graphs: str = GRAPHS,
    named: Mapping[str, Any] | None = None,
    auth: Mapping[str, Any] | None = None,
    fairness: Mapping[str, Any] | None = None,
    workers: int = 0,
    **variables: str,
) -> AsyncGenerator[Stack]:
    """Serve a project of two modules, its graphs and its app, for as long as the block lasts.

    Args:
        engine_set: the engines.
        folder: where the project is written.
        http: the `http` of langgraph.json.
        app: the source of `custom_app.py`.
        graphs: the source of `project_graphs.py`.
        named: the `graphs` of langgraph.json.
        auth: its `auth`.
        fairness: its `fairness`.
        workers: how many to start.
        variables: more of the environment.
    """
    (folder / "custom_app.py").write_text(textwrap.dedent(app))
    (folder / "project_graphs.py").write_text(textwrap.dedent(graphs))
    config = {"graphs": named or {"graph": "./project_graphs.py:builder"}, "http": http or {}}
    config |= {key: part for key, part in {"auth": auth, "fairness": fairness}.items() if part is not None}
    (folder / "langgraph.json").write_text(json.dumps(config))
    environment = environment_of(engine_set, queue=f"project-{uuid4().hex}", config=folder / "langgraph.json")
    async with running({**environment, **variables}, folder / "logs", workers=workers) as stack:
        yield stack
