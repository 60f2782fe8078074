"""What the headers of a request put into `configurable`, and the id of each request."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from langgraph_sdk import get_client
from starlette.datastructures import Headers
from temporalio.client import Client

from durathread.api.services.request_headers import CREDENTIAL_HEADERS, SIGNED_IN, configurable
from durathread.config.http import HeaderRule
from durathread.embedded.engines import Engines
from tests.api.serving import GRAPHS, serving
from tests.runs.crons import YEARLY, firings, trigger
from tests.stack import Stack

RULE = {"includes": ["x-*", "tenant", "Accept-Lang*", "langgraph_auth_user", "thread_id"], "excludes": ["x-private*"]}
# A factory that shows what it is given, as the name of a node.
FACTORY = """


def factory(config: RunnableConfig) -> StateGraph:
    colour = config["configurable"].get("x-colour", "colourless")
    graph = StateGraph(State)
    graph.add_node(colour, node)
    graph.add_edge(START, colour)
    graph.add_edge(colour, END)
    return graph
"""
SENT = {
    "X-Colour": "green",
    "tenant": "acme",
    "accept-language": "en",
    "x-private-thing": "no",
    "x-api-key-hint": "yes",
    "authorization": "Bearer secret",
    "x-tenant-id": "no",
    "x-service-key": "no",
    "langgraph_auth_user": "forged",
    "thread_id": "forged",
    "other": "no",
}


@pytest.fixture(scope="module")
async def stack(engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that forwards some headers."""
    assert database
    folder = tmp_path_factory.mktemp("headers")
    named = {"graph": "./project_graphs.py:builder", "factory": "./project_graphs.py:factory"}
    http = {"configurable_headers": RULE}
    async with serving(engine_set, folder, http=http, graphs=GRAPHS + FACTORY, named=named, workers=1) as found:
        yield found


def shown(run: Any) -> dict[str, Any]:
    """Read what of a run's `configurable` came from headers."""
    given = run["kwargs"]["config"]["configurable"]
    return {name: value for name, value in given.items() if (name.islower() and "-" in name) or name == "tenant"}


async def test_headers_that_the_rule_covers_reach_the_graph_and_no_secret_does(stack: Stack) -> None:
    expected = {"x-colour": "green", "tenant": "acme", "accept-language": "en", "x-api-key-hint": "yes"}
    async with get_client(url=stack.url, api_key="secret", headers=SENT) as client:
        values: Any = await client.runs.wait(None, "graph", input={}, config={"configurable": {"x-colour": "red"}})
        seen: dict[str, Any] = values["seen"]
        assert expected.items() <= seen.items()
        assert "secret" not in str(seen)
        assert seen["thread_id"] != "forged"
        assert not {
            "x-private-thing",
            "x-tenant-id",
            "x-service-key",
            "x-api-key",
            "other",
        } & set(seen)
        assert seen["langgraph_auth_user"] is None
        asked: Any = [{"assistant_id": "graph", "input": {}}]
        batch = await client.runs.create_batch(asked)
        thread = await client.threads.create()
        run = await client.runs.create(thread["thread_id"], "graph", input={})
        for made in (batch[0], run):
            assert expected.items() <= shown(made).items()


async def test_the_headers_of_who_makes_a_cron_reach_its_runs(stack: Stack, temporal: Client) -> None:
    async with get_client(url=stack.url, headers={**SENT, "x-request-id": "of the cron"}) as client:
        thread = (await client.threads.create())["thread_id"]
        cron: Any = await client.crons.create_for_thread(thread, "graph", schedule=YEARLY, input={})
        await trigger(temporal, cron["cron_id"])
        [fired] = await firings(temporal, cron["cron_id"])
        run: Any = await client.runs.get(thread, fired.run_id)
        await client.crons.delete(cron["cron_id"])
    assert shown(run)["x-colour"] == "green"
    assert not {"x-request-id", "langgraph_request_id"} & set(run["kwargs"]["config"]["configurable"])


async def test_factories_see_the_headers_of_whoever_looks(stack: Stack) -> None:
    async with get_client(url=stack.url, headers={"x-colour": "green"}) as client:
        thread = await client.threads.create(graph_id="factory")
        await client.threads.update_state(thread["thread_id"], {"log": ["in"]}, as_node="green")
        assistant = (await client.assistants.search(graph_id="factory"))[0]["assistant_id"]
        drawn = await client.assistants.get_graph(assistant)
        assert "green" in [node["id"] for node in drawn["nodes"]]
        await client.runs.wait(thread["thread_id"], "factory", input={})
        history = await client.threads.get_history(thread["thread_id"])
        assert ["green"] in [state["next"] for state in history]
    async with get_client(url=stack.url) as client:
        drawn = await client.assistants.get_graph(assistant)
        assert "colourless" in [node["id"] for node in drawn["nodes"]]


async def test_every_request_that_may_run_a_graph_has_an_id(stack: Stack) -> None:
    async with httpx.AsyncClient(base_url=stack.url) as http:
        given = await http.post("/runs", json={"assistant_id": "graph", "input": {}}, headers={"x-request-id": "mine"})
        minted = await http.post("/runs", json={"assistant_id": "graph", "input": {}})
        refused = await http.post("/threads/none/runs", json={})
        elsewhere = await http.get("/ok")
    assert given.headers["x-request-id"] == "mine"
    assert given.json()["kwargs"]["config"]["configurable"]["langgraph_request_id"] == "mine"
    request_id = minted.headers["x-request-id"]
    assert (
        minted.json()["kwargs"]["config"]["configurable"]["langgraph_request_id"] == request_id == str(UUID(request_id))
    )
    # `x-*` covers this one as well.
    assert shown(minted.json())["x-request-id"] == request_id
    assert (refused.status_code, "x-request-id" in refused.headers) == (422, True)
    assert "x-request-id" not in elsewhere.headers


async def test_a_client_cannot_set_the_id_of_its_request_otherwise(stack: Stack) -> None:
    config: Any = {"configurable": {"langgraph_request_id": "forged"}}
    async with get_client(url=stack.url) as client:
        run = await client.runs.create(None, "graph", input={}, config=config)
    given: Any = run
    assert UUID(given["kwargs"]["config"]["configurable"]["langgraph_request_id"])


def test_without_a_rule_only_what_traces_is_forwarded() -> None:
    headers = Headers(
        {
            "x-colour": "green",
            "langsmith-trace": "20260101T000000000000Z1234",
            "baggage": "langsmith-metadata=%7B%22a%22%3A%201%7D,langsmith-tags=one%2Ctwo,other=no, langsmith-project=p%20q",
        }
    )
    assert configurable(headers, HeaderRule()) == {
        "langsmith-trace": "20260101T000000000000Z1234",
        "langsmith-metadata": {"a": 1},
        "langsmith-tags": ["one", "two"],
        "langsmith-project": "p q",
    }


@pytest.mark.parametrize(
    "baggage", ["", "langsmith-metadata", "langsmith-metadata=%7B", "langsmith-metadata=[1]", "=,,="]
)
def test_baggage_that_cannot_be_read_is_left_behind(baggage: str) -> None:
    assert configurable(Headers({"baggage": baggage}), HeaderRule()) == {}


@pytest.mark.parametrize(
    ("includes", "excludes", "covered"),
    [
        (["*"], [], True),
        (["x-*"], [], True),
        (["X-COLOUR"], [], True),
        (["*colour"], ["*-col*"], False),
        (["x-*r"], [], True),
        (["x.colour"], [], False),
        (["x-"], [], False),
        (["x-colour"], ["*"], False),
        ([], [], False),
    ],
)
def test_a_star_stands_for_anything(includes: list[str], excludes: list[str], covered: bool) -> None:
    assert HeaderRule(includes=includes, excludes=excludes).covers("x-colour") is covered


def test_a_header_that_is_sent_twice_is_joined() -> None:
    headers = Headers(raw=[(b"x-colour", b"red"), (b"x-colour", b"green")])
    assert configurable(headers, HeaderRule(includes=["x-*"])) == {"x-colour": "red, green"}


def test_a_header_names_no_key_of_the_servers() -> None:
    headers = Headers(
        {"langgraph_auth_user": "me", "__pregel": "x", "run_id": "x", "checkpoint_id": "x", "fine": "yes"}
    )
    assert configurable(headers, HeaderRule(includes=["*"])) == {"fine": "yes"}


def test_no_credential_is_forwarded_whatever_the_rule_says() -> None:
    every = HeaderRule(includes=["*"])
    names = [*CREDENTIAL_HEADERS, *SIGNED_IN, "Cookie", "X-Forwarded-Access-Token"]
    assert configurable(Headers({name: "x" for name in names}), every) == {}
    assert configurable(Headers({"x-own": "x"}), every) == {"x-own": "x"}
