"""Graphs that are made for each access: what their factories may ask for, and what they are told."""

import inspect
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import langgraph_sdk.runtime
import pytest
from langgraph.store.memory import InMemoryStore
from langgraph_sdk import get_client

from durathread.embedded.engines import Engines
from durathread.errors import ConfigError
from durathread.graphs.factories import Access, Factory
from durathread.graphs.registry import Graphs
from tests.api.serving import serving
from tests.eventually import eventually
from tests.runs.support import is_there, status_becomes
from tests.stack import Stack

SOURCE = """
import functools
from collections.abc import Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph_sdk.runtime import ServerRuntime
from pydantic import BaseModel

if TYPE_CHECKING:
    from langchain_core.runnables import RunnableConfig as Later
    from langgraph_sdk.runtime import ServerRuntime as Hidden


@dataclass
class Context:
    tone: str = "plain"


class Modelled(BaseModel):
    tone: str = "plain"


class Typed(TypedDict, total=False):
    tone: str


def seen(config=None, runtime=None):
    return {
        "name": config and config["configurable"].get("name"),
        "why": runtime and runtime.access_context,
        "context": runtime and runtime.execution_runtime and runtime.execution_runtime.context,
        "user": runtime and runtime.user and runtime.user.identity,
        "store": runtime and runtime.store,
    }


def nothing():
    return seen()


def unnamed(anything):
    return seen(anything)


def configured(config: RunnableConfig):
    return seen(config)


def plain_dict(config: dict):
    return seen(config)


def mapping(config: Mapping[str, Any]):
    return seen(config)


def keyword(*, config: Optional[RunnableConfig] = None):
    return seen(config)


def only(config, /):
    return seen(config)


def optional(config: RunnableConfig, model: str = "small"):
    return {**seen(config), "model": model}


def late(config: "Later"):
    return seen(config)


def runtime(given: ServerRuntime):
    return seen(None, given)


def typed_runtime(given: ServerRuntime[Context]):
    return seen(None, given)


def modelled_runtime(given: ServerRuntime[Modelled]):
    return seen(None, given)


def dict_runtime(given: ServerRuntime[Typed]):
    return seen(None, given)


def optional_runtime(given: Annotated[ServerRuntime[Context] | None, "why"] = None):
    return seen(None, given)


def hidden(given: "ServerRuntime[Context]", other: "Later"):
    return seen(other, given)


def both(config: RunnableConfig, runtime: ServerRuntime[Context]):
    return seen(config, runtime)


def swapped(runtime: ServerRuntime[Context], config: RunnableConfig):
    return seen(config, runtime)


async def later(runtime: ServerRuntime[Context], config: RunnableConfig):
    return seen(config, runtime)


@asynccontextmanager
async def managed(config: RunnableConfig, runtime: ServerRuntime[Context]):
    yield seen(config, runtime)
    closed.append("managed")


async def generated(config: RunnableConfig, runtime: ServerRuntime[Context]):
    yield seen(config, runtime)
    closed.append("generated")


def generated_sync(config: RunnableConfig, runtime: ServerRuntime[Context]):
    yield seen(config, runtime)
    closed.append("generated_sync")


class Maker:
    def __call__(self, config: RunnableConfig, runtime: ServerRuntime[Context]):
        return seen(config, runtime)


def of_model(model: str, config: RunnableConfig, runtime: ServerRuntime[Context]):
    return {**seen(config, runtime), "model": model}


def variadic(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


maker = Maker()
partial = functools.partial(of_model, "large")
closed = []


def too_many(config: RunnableConfig, runtime: ServerRuntime, third):
    return None


def two_configs(config: RunnableConfig, other: RunnableConfig):
    return None


def two_runtimes(runtime: ServerRuntime, other: ServerRuntime):
    return None


def number(count: int):
    return None
"""
CONFIG: Any = {"configurable": {"name": "asked", "langgraph_auth_user": {"identity": "ann", "role": "chief"}}}
STORE = InMemoryStore()


@pytest.fixture(params=["", "from __future__ import annotations\n"])
def module(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """A module of factories, with annotations that are types, and with such that are text."""
    name = f"factories_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(request.param + SOURCE)
    sys.path.insert(0, str(tmp_path))
    yield __import__(name)
    sys.path.remove(str(tmp_path))
    del sys.modules[name]


async def made(module: Any, name: str, why: Any = "threads.create_run", context: Any = None) -> Any:
    """Let a factory make what it has seen."""
    access = Access(why, CONFIG, {"tone": "warm", "unknown": 1} if context is None else context, STORE)
    async with AsyncExitStack() as stack:
        return await Factory(getattr(module, name), name)(access, stack)


@pytest.mark.parametrize(
    "name", ["unnamed", "configured", "plain_dict", "mapping", "keyword", "only", "optional", "late"]
)
async def test_a_factory_may_take_a_config(module: Any, name: str) -> None:
    found = await made(module, name)
    assert (found["name"], found["why"]) == ("asked", None)
    assert found.get("model") in (None, "small")


@pytest.mark.parametrize(
    "name",
    ["both", "swapped", "hidden", "later", "managed", "generated", "generated_sync", "maker", "partial"],
)
async def test_a_factory_may_take_both_in_either_order_and_in_any_form(module: Any, name: str) -> None:
    assert await made(module, name) == {
        "name": "asked",
        "why": "threads.create_run",
        "context": module.Context("warm"),
        "user": "ann",
        "store": STORE,
        **({"model": "large"} if name == "partial" else {}),
    }
    assert module.closed == ([name] if name in ("managed", "generated", "generated_sync") else [])


@pytest.mark.parametrize("name", ["runtime", "typed_runtime", "modelled_runtime", "dict_runtime", "optional_runtime"])
async def test_the_context_is_of_the_type_that_the_runtime_names(module: Any, name: str) -> None:
    expected = {
        "runtime": {"tone": "warm", "unknown": 1},
        "typed_runtime": module.Context("warm"),
        "modelled_runtime": module.Modelled(tone="warm"),
        "dict_runtime": {"tone": "warm", "unknown": 1},
        "optional_runtime": module.Context("warm"),
    }
    assert (await made(module, name))["context"] == expected[name]
    # Nothing was sent: a class is built from its defaults.
    nothing = await made(module, name, context={})
    assert nothing["context"] == (None if isinstance(expected[name], dict) else type(expected[name])())


@pytest.mark.parametrize("why", ["threads.read", "threads.update", "assistants.read"])
async def test_there_is_no_context_where_nothing_is_executed(module: Any, why: str) -> None:
    found = await made(module, "both", why)
    assert (found["why"], found["context"], found["user"]) == (why, None, "ann")


async def test_a_factory_that_asks_for_nothing_gets_nothing(module: Any) -> None:
    assert (await made(module, "nothing"))["name"] is None
    assert await made(module, "variadic") == {"args": (), "kwargs": {}}


@pytest.mark.parametrize(
    ("name", "parameter"),
    [("too_many", "third"), ("two_configs", "other"), ("two_runtimes", "other"), ("number", "count")],
)
def test_a_factory_that_asks_for_more_is_refused(module: Any, name: str, parameter: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name}.*'{parameter}'"):
        Factory(getattr(module, name), name)


def test_the_sdk_has_the_classes_that_we_construct() -> None:
    source = inspect.getsource(langgraph_sdk.runtime)
    assert "_ExecutionRuntime[ContextT] | _ReadRuntime[ContextT]" in source
    names = {"access_context", "user", "store"}
    execution, read = (
        set(inspect.signature(getattr(langgraph_sdk.runtime, name)).parameters)
        for name in ("_ExecutionRuntime", "_ReadRuntime")
    )
    assert (execution, read) == (names | {"context"}, names)


DEMANDING = """
def of_user(runtime: ServerRuntime):
    return builder if runtime.ensure_user() else None


def never():
    raise ZeroDivisionError("always")
"""


async def test_a_factory_may_refuse_to_work_without_a_user_at_start(tmp_path: Path) -> None:
    name = f"demanding_{uuid4().hex}"
    imports = "from langgraph_sdk.runtime import ServerRuntime\nfrom langgraph.graph import StateGraph\n"
    (tmp_path / f"{name}.py").write_text(f"{imports}builder = StateGraph(dict)\n{DEMANDING}")
    path = tmp_path / "langgraph.json"
    path.write_text(json.dumps({"graphs": {"mine": f"./{name}.py:of_user"}}))
    graphs = Graphs.load(path)
    await graphs.check()
    assert (await graphs.name("mine"), await graphs.first_nodes("mine")) == ("mine", [])
    path.write_text(json.dumps({"graphs": {"bad": f"./{name}.py:never"}}))
    with pytest.raises(ConfigError, match=r"bad.*ZeroDivisionError: always"):
        await Graphs.load(path).check()


SERVED = """
from __future__ import annotations

import asyncio
import contextlib
import json
import operator
import os
from dataclasses import dataclass
from typing import Annotated, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from langgraph_sdk import Auth
from langgraph_sdk.runtime import ServerRuntime

auth = Auth()


@auth.authenticate
async def authenticate(authorization: str | None):
    if not authorization:
        raise Auth.exceptions.HTTPException(401, "who are you?")
    return {"identity": authorization, "role": "chief"}


@dataclass
class Context:
    tone: str = "plain"


class State(TypedDict, total=False):
    log: Annotated[list[str], operator.add]


def work(name):
    async def act(state: State):
        if name == "asks":
            return {"log": [interrupt("more?")]}
        if name == "breaks":
            open(os.environ["BROKEN"], "w").close()
            await asyncio.sleep(600)
        if name == "fails":
            raise ZeroDivisionError("of the graph")
        return {"log": [name]}

    return act


@contextlib.asynccontextmanager
async def factory(runtime: ServerRuntime[Context], config: RunnableConfig):
    execution = runtime.execution_runtime
    user = runtime.user
    await runtime.store.aput(("opened",), "last", {"why": runtime.access_context})
    seen = {
        "why": runtime.access_context,
        "user": user and [user.identity, user["role"]],
        "tone": execution.context.tone if execution and execution.context else None,
        "name": config["configurable"].get("name"),
        "stored": (await runtime.store.aget(("opened",), "last")).value["why"],
    }
    if os.environ.get("TRACE") and user:
        with open(os.environ["TRACE"], "a") as trace:
            trace.write(json.dumps(seen) + chr(10))
    if runtime.access_context == "threads.read" and os.path.exists(os.environ["BROKEN"]):
        raise RuntimeError("not what it was")
    name = config["configurable"].get("name", "node")
    graph = StateGraph(State, context_schema=Context)
    graph.add_node(name, work(name))
    graph.add_edge(START, name)
    graph.add_edge(name, END)
    outcome = "well"
    try:
        yield graph.compile()
    except BaseException as error:
        outcome = repr(error)
        if config["configurable"].get("keeps"):
            return
        raise
    finally:
        if config["configurable"].get("left") and runtime.access_context == "threads.create_run":
            with open(config["configurable"]["left"], "a") as left:
                left.write(outcome + chr(10))
"""


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server whose graph is made for each access, and which knows its users."""
    assert database
    folder = tmp_path_factory.mktemp("factories")
    async with serving(
        engine_set,
        folder,
        graphs=SERVED,
        named={"graph": "./project_graphs.py:factory"},
        auth={"path": "./project_graphs.py:auth"},
        workers=1,
        TRACE=str(folder / "trace"),
        BROKEN=str(folder / "broken"),
    ) as found:
        yield found


async def test_a_factory_is_called_for_every_access_and_told_why_and_for_whom(stack: Stack) -> None:
    trace = Path(stack.environment["TRACE"])

    def calls() -> list[dict[str, Any]]:
        seen = [json.loads(line) for line in trace.read_text().splitlines()] if trace.exists() else []
        trace.unlink(missing_ok=True)
        return seen

    async with get_client(url=stack.url, headers={"authorization": "ann"}) as client:
        thread = (await client.threads.create(graph_id="graph"))["thread_id"]
        assistant = (await client.assistants.search(graph_id="graph"))[0]["assistant_id"]
        reading = {"user": ["ann", "chief"], "tone": None, "name": None}
        accesses = [
            ("threads.update", client.threads.update_state(thread, {"log": ["in"]}, as_node="node")),
            ("threads.read", client.threads.get_state(thread)),
            ("threads.read", client.threads.get_history(thread)),
            ("assistants.read", client.assistants.get_graph(assistant)),
            ("assistants.read", client.assistants.get_schemas(assistant)),
            ("assistants.read", client.assistants.get_subgraphs(assistant)),
        ]
        calls()
        for why, access in accesses:
            await access
            assert calls() == [{**reading, "why": why, "stored": why}]
        await client.runs.wait(thread, "graph", input={}, context={"tone": "warm"})
        executing = {"why": "threads.create_run", "stored": "threads.create_run", "tone": "warm", "name": None}
        found = calls()
        assert found
        assert all(call == {**executing, "user": ["ann", "chief"]} for call in found)


async def test_what_a_run_left_is_read_with_the_graph_that_it_ran(stack: Stack) -> None:
    """Else a node that waits for an answer would not be known."""
    config: Any = {"configurable": {"name": "asks"}}
    async with get_client(url=stack.url, headers={"authorization": "ann"}) as client:
        thread = (await client.threads.create())["thread_id"]
        first = await client.runs.create(thread, "graph", input={"log": ["in"]}, config=config)
        second: Any = await client.runs.wait(thread, "graph", input={"log": ["on"]}, config=config)
        assert [item["value"] for item in second["__interrupt__"]] == ["more?"]
        # The thread has gone on since: this is read from the first run's own checkpoint.
        left: Any = await client.runs.join(thread, first["run_id"])
        assert left["log"] == ["in"]
        assert [item["value"] for item in left["__interrupt__"]] == ["more?"]


@pytest.mark.parametrize(
    ("name", "keeps", "outcome"),
    [
        ("node", False, "well"),
        ("fails", False, "ZeroDivisionError('of the graph')"),
        # The factory cannot undo that.
        ("fails", True, "ZeroDivisionError('of the graph')"),
    ],
)
async def test_a_factory_sees_how_its_graph_ended(
    stack: Stack, tmp_path: Path, name: str, keeps: bool, outcome: str
) -> None:
    left = tmp_path / "left"
    config: Any = {"configurable": {"name": name, "left": str(left), "keeps": keeps}}
    async with get_client(url=stack.url, headers={"authorization": "ann"}) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "graph", input={}, config=config, raise_error=False)
        [run] = await client.runs.list(thread)
        assert run["status"] == ("error" if name == "fails" else "success")
    # For its own end: the steps before that ended well.
    assert left.read_text().splitlines()[-1] == outcome
    assert "failed to clean up" not in stack.log("worker")


async def test_a_thread_does_not_stay_busy_because_what_a_run_left_cannot_be_read(stack: Stack) -> None:
    broken = Path(stack.environment["BROKEN"])
    config: Any = {"configurable": {"name": "breaks"}}
    async with get_client(url=stack.url, headers={"authorization": "ann"}) as client:
        thread = (await client.threads.create())["thread_id"]
        run = await client.runs.create(thread, "graph", input={"log": ["in"]}, config=config)

        async def is_broken() -> bool:
            return is_there(broken)

        await eventually(is_broken)
        try:
            await client.runs.cancel(thread, run["run_id"], wait=True)
            await status_becomes(client, thread, "idle")
        finally:
            os.unlink(broken)
        assert "What a run has left cannot be read" in stack.log("worker")
        after: Any = await client.runs.wait(thread, "graph", input={"log": ["on"]})
        assert after["log"] == ["in", "on", "node"]
