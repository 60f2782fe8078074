"""langgraph.json: every kind of graph that it may name, and what is said of one that cannot be used."""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import structlog.testing

from durathread.errors import ConfigError, NotFound
from durathread.graphs.registry import Graphs

SOURCE = """
import os
from contextlib import asynccontextmanager, contextmanager
from typing import TypedDict

from langgraph.graph import END, START, StateGraph


class State(TypedDict, total=False):
    who: str


def named(name):
    graph = StateGraph(State)
    graph.add_node("node", lambda state: {"who": name})
    graph.add_edge(START, "node")
    graph.add_edge("node", END)
    return graph


compiled = named("compiled").compile()
builder = named("builder")
opened = []


def factory():
    return named("factory")


def configured(config):
    return named(config["configurable"]["name"]).compile()


async def later(config):
    return named("later")


@contextmanager
def managed(config):
    opened.append("in")
    yield named("managed").compile()
    opened.append("out")


@asynccontextmanager
async def managed_later():
    yield named("managed later").compile()


def wrong():
    return "no graph"


number = 1
setting = os.environ.get("DURATHREAD_TEST_SETTING")
"""


@pytest.fixture
def module(tmp_path: Path) -> Iterator[str]:
    """A module of graphs that no other test has imported; what it adds to the process goes again."""
    name = f"graphs_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    path = list(sys.path)
    yield name
    sys.path[:] = path
    sys.modules.pop(name, None)
    os.environ.pop("DURATHREAD_TEST_SETTING", None)


def load(folder: Path, **config: Any) -> Graphs:
    """Write a langgraph.json and load it."""
    path = folder / "langgraph.json"
    path.write_text(json.dumps(config))
    return Graphs.load(path)


async def answer(graphs: Graphs, graph_id: str, **configurable: Any) -> Any:
    """Run a graph."""
    async with graphs.open(graph_id, config={"configurable": configurable}) as graph:
        return (await graph.ainvoke({}))["who"]


async def test_every_kind_of_graph_is_served(tmp_path: Path, module: str) -> None:
    kinds = ("compiled", "builder", "factory", "later", "managed", "managed_later")
    graphs = load(
        tmp_path,
        graphs={
            **{kind: f"./{module}.py:{kind}" for kind in kinds},
            "configured": {"path": f"./{module}.py:configured", "description": "By name."},
            "dotted": f"{module}:compiled",
        },
        dependencies=["."],
    )
    assert [await answer(graphs, kind) for kind in kinds] == [kind.replace("_", " ") for kind in kinds]
    assert await answer(graphs, "configured", name="asked for") == "asked for"
    assert await answer(graphs, "dotted") == "compiled"
    assert graphs.description("configured") == "By name."
    # A context manager lasts as long as the graph is lent.
    assert sys.modules[module].opened == ["in", "out"]
    with pytest.raises(NotFound, match="compiled"):
        await answer(graphs, "nobody")


@pytest.mark.parametrize("as_file", [True, False])
async def test_env_adds_variables_but_overrides_none(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch, as_file: bool
) -> None:
    monkeypatch.setenv("DURATHREAD_TEST_KEPT", "mine")
    given: Any = {"DURATHREAD_TEST_SETTING": "theirs", "DURATHREAD_TEST_KEPT": "theirs"}
    if as_file:
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in given.items()))
        given = ".env"
    load(tmp_path, graphs={"graph": f"./{module}.py:compiled"}, env=given)
    assert sys.modules[module].setting == "theirs"
    assert os.environ["DURATHREAD_TEST_KEPT"] == "mine"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("MODULE", ["bad", "MODULE"]),
        ("./MODULE.py:absent", ["bad", "absent"]),
        ("./MODULE.py:number", ["bad", "int"]),
        ("./nowhere.py:graph", ["bad", "nowhere.py", "does not exist"]),
        ("no_such_module_at_all:graph", ["bad", "no_such_module_at_all"]),
    ],
)
def test_a_graph_that_cannot_be_loaded_is_named_with_the_reason(
    tmp_path: Path, module: str, path: str, words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refusal:
        load(tmp_path, graphs={"bad": path.replace("MODULE", module)})
    for word in words:
        assert word.replace("MODULE", module) in str(refusal.value)


async def test_a_factory_that_gives_no_graph_is_named(tmp_path: Path, module: str) -> None:
    graphs = load(tmp_path, graphs={"bad": f"./{module}.py:wrong"})
    with pytest.raises(ConfigError, match=r"bad.*str"):
        await graphs.check()


@pytest.mark.parametrize("graphs", [None, {}, []])
def test_a_file_without_graphs_says_what_it_needs(tmp_path: Path, graphs: Any) -> None:
    with pytest.raises(ConfigError, match="names no graphs"):
        load(tmp_path, graphs=graphs)


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("encryption", {"encryption": {"path": "./e.py:e"}}),
        ("store.path", {"store": {"path": "./s.py:s"}}),
        ("checkpointer.backend", {"checkpointer": {"backend": "mongo"}}),
    ],
)
def test_what_would_be_stored_otherwise_than_asked_is_refused(tmp_path: Path, key: str, config: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        load(tmp_path, graphs={"graph": "./nowhere.py:graph"}, **config)


def test_a_key_that_nothing_can_be_encrypted_with_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", "0" * 31)
    with pytest.raises(ConfigError, match="16, 24 or 32"):
        load(tmp_path, graphs={"graph": "./nowhere.py:graph"})


def test_a_key_that_nobody_knows_is_warned_of(tmp_path: Path, module: str) -> None:
    with structlog.testing.capture_logs() as logs:
        graphs = load(
            tmp_path,
            graphs={"graph": f"./{module}.py:compiled"},
            **{"stroe": {"ttl": {}}, "$schema": "x", "python_version": "3.12", "checkpointer": {"backend": "default"}},
        )
    assert list(graphs) == ["graph"]
    assert [entry["key"] for entry in logs if "key" in entry] == ["stroe"]


def test_what_is_asked_for_and_not_done_is_warned_of_once_and_the_graph_served(tmp_path: Path, module: str) -> None:
    with structlog.testing.capture_logs() as logs:
        load(
            tmp_path,
            graphs={"graph": f"./{module}.py:compiled"},
            checkpointer={"path": "./c.py:c"},
            ui={"agent": "./ui.tsx"},
        )
    assert [entry["key"] for entry in logs if "key" in entry] == ["checkpointer.path", "ui"]


OWN = """
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph

builder = StateGraph(dict)
builder.add_node("node", lambda state: state)
builder.add_edge(START, "node")
graph = builder.compile(checkpointer=InMemorySaver())
"""


async def test_a_checkpointer_of_the_graphs_own_is_warned_of_once(tmp_path: Path, module: str) -> None:
    (tmp_path / f"own_{module}.py").write_text(OWN)
    with structlog.testing.capture_logs() as logs:
        graphs = load(tmp_path, graphs={"graph": f"./own_{module}.py:graph"})
        for _ in range(2):
            async with graphs.open("graph") as graph:
                assert graph.checkpointer is None
    assert [entry["graph"] for entry in logs if "checkpointer" in entry["event"]] == ["graph"]


def test_an_env_file_of_which_only_the_example_is_there_is_warned_of(tmp_path: Path, module: str) -> None:
    """As every template is when it has just been cloned."""
    (tmp_path / ".env.example").write_text("KEY=\n")
    with structlog.testing.capture_logs() as logs:
        load(tmp_path, graphs={"graph": f"./{module}.py:compiled"}, env=".env")
    assert any("env file" in entry["event"] for entry in logs)
    with pytest.raises(ConfigError, match="does not exist"):
        load(tmp_path, graphs={"graph": f"./{module}.py:compiled"}, env=".secrets")


@pytest.fixture
def project(tmp_path: Path, module: str) -> Path:
    """A package of a project's own, as it is kept by those that are installed."""
    package = tmp_path / "src" / f"p_{module}"
    package.mkdir(parents=True)
    (package / "who.py").write_text("WHO = 'installed'\n")
    head, _, tail = SOURCE.partition("import")
    relative = f"{head}from .who import WHO\nfrom p_{module}.who import WHO as ABSOLUTE\n\nimport{tail}"
    (package / "graph.py").write_text(f"{relative}\nassert WHO is ABSOLUTE\n")
    (package / "__init__.py").write_text("from .graph import compiled\n")
    return package


async def test_a_project_that_is_to_be_installed_is_served_without(tmp_path: Path, project: Path) -> None:
    """Its packages are in `src`: imports of them work, absolute and relative, and give the same modules."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    graphs = load(tmp_path, graphs={"graph": f"./src/{project.name}/graph.py:compiled"}, dependencies=["."])
    assert await answer(graphs, "graph") == "compiled"
    assert sys.modules[f"{project.name}.graph"].compiled is sys.modules[project.name].compiled
    # Classes in checkpoints of an earlier version are found by the name that it gave the file.
    [old] = [name for name in sys.modules if name.startswith("durathread_graph_") and project.name in name]
    assert sys.modules[old] is sys.modules[f"{project.name}.graph"]


def test_a_folder_that_is_not_to_be_installed_keeps_its_names(tmp_path: Path, project: Path) -> None:
    with pytest.raises(ConfigError, match=f"No module named '{project.name}'"):
        load(tmp_path, graphs={"graph": f"./src/{project.name}/graph.py:compiled"}, dependencies=["."])


async def test_a_file_beside_a_package_that_cannot_be_imported_is_served(tmp_path: Path, module: str) -> None:
    folder = tmp_path / f"broken_{module}"
    folder.mkdir()
    (folder / "__init__.py").write_text("import no_such_module_at_all\n")
    (folder / "graph.py").write_text(SOURCE)
    graphs = load(tmp_path, graphs={"graph": f"./{folder.name}/graph.py:compiled"})
    assert await answer(graphs, "graph") == "compiled"


async def test_a_folder_that_is_called_like_a_package_elsewhere_is_not_taken_for_it(tmp_path: Path) -> None:
    """Users call theirs `agents`, as a library is called, or `email`."""
    (tmp_path / "email").mkdir()
    (tmp_path / "email" / "graph.py").write_text(SOURCE)
    graphs = load(tmp_path, graphs={"graph": "./email/graph.py:compiled"})
    assert await answer(graphs, "graph") == "compiled"


def test_an_import_that_fails_inside_shows_the_users_lines(tmp_path: Path, module: str) -> None:
    (tmp_path / f"helper_{module}.py").write_text("def prepare():\n    return {}['key']\n\n\nprepare()\n")
    (tmp_path / f"agent_{module}.py").write_text(f"import helper_{module}\n")
    with pytest.raises(ConfigError, match="KeyError: 'key'") as refusal:
        load(tmp_path, graphs={"bad": f"./agent_{module}.py:graph"})
    text = str(refusal.value)
    assert f'agent_{module}.py", line 1' in text
    assert f'helper_{module}.py", line 2, in prepare' in text
    assert "importlib" not in text


def test_a_javascript_graph_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "agent.ts").write_text("export const graph = 1\n")
    with pytest.raises(ConfigError, match="JavaScript graphs are not served"):
        load(tmp_path, graphs={"agent": "./agent.ts:graph"})


@pytest.mark.parametrize("last", ["import sys; sys.exit()", "import sys; sys.exit(3)", "raise SystemExit('usage: me')"])
def test_a_module_that_exits_when_it_is_imported_is_named(tmp_path: Path, last: str) -> None:
    name = f"exits_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(f"{SOURCE}\n{last}\n")
    (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": f"./{name}.py:builder"}}))
    with pytest.raises(ConfigError, match=rf"'agent' \(./{name}.py:builder\) failed to import: SystemExit"):
        Graphs.load(tmp_path / "langgraph.json")


async def test_a_factory_that_exits_when_it_is_checked_is_named(tmp_path: Path) -> None:
    name = f"exits_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        f"import sys\n{SOURCE}\ndef leaves():\n    sys.exit(3)\n\ndef asks(config):\n    sys.exit(3)\n"
    )

    def graphs(variable: str) -> Graphs:
        (tmp_path / "langgraph.json").write_text(json.dumps({"graphs": {"agent": f"./{name}.py:{variable}"}}))
        return Graphs.load(tmp_path / "langgraph.json")

    with pytest.raises(ConfigError, match=rf"'agent' \(./{name}.py:leaves\) failed: SystemExit: 3"):
        await graphs("leaves").check()
    # One that takes a config may refuse while there is no request.
    refuses = graphs("asks")
    await refuses.check()
    assert await refuses.name("agent") == "agent"
    assert await refuses.first_nodes("agent") == []
