"""A user who has got hold of another's ids learns nothing from any route: what is another's answers as what is not there."""

import itertools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from durathread.api.app import create_app
from durathread.config.langgraph_json import LanggraphJson
from durathread.config.settings import Settings
from durathread.graphs.registry import Graphs
from tests.api.test_auth_routes import ANY_BODY, BODIES
from tests.hostile.conftest import headers_of
from tests.stack import Stack

PARAMETERS = ("thread_id", "run_id", "assistant_id", "cron_id", "checkpoint_id")
COMMANDS = "/threads/{thread_id}/commands"
"""Asked for below: `run.start` makes a thread that is not there, as other ways to run on it do if they are told to."""


def routes() -> Iterator[tuple[str, str]]:
    """List the routes of /openapi.json that name something by its id."""
    app = create_app(Settings(), Graphs({}, LanggraphJson(), Path()))  # pyright: ignore[reportCallIssue]
    for path, methods in app.openapi()["paths"].items():
        if path != COMMANDS and any(f"{{{name}}}" in path for name in PARAMETERS):
            yield from ((method.upper(), path) for method in methods)


NAMING = sorted(routes())
COMMAND_PARAMS: dict[str, dict[str, Any]] = {
    "state.get": {},
    "state.listCheckpoints": {},
    "agent.getTree": {},
    "state.fork": {"checkpoint_id": str(uuid4())},
    "input.respond": {"interrupt_id": "x", "response": 1},
    "input.inject": {"message": {"role": "user", "content": "hello"}},
}

Ids = dict[str, str]


@pytest.fixture(scope="module")
async def owned(readme: Stack) -> AsyncIterator[Ids]:
    """What Alice has."""
    async with httpx.AsyncClient(base_url=readme.url, headers=headers_of("alice")) as http:
        run = {"assistant_id": "agent", "input": {"log": []}}
        thread_id = (await http.post("/threads", json={})).json()["thread_id"]
        done = await http.post(f"/threads/{thread_id}/runs/wait", json=run)
        assert done.status_code == 200, done.text
        state = (await http.get(f"/threads/{thread_id}/state")).json()
        cron = await http.post("/runs/crons", json={**run, "schedule": "0 0 1 1 *"})
        assistant = await http.post("/assistants", json={"graph_id": "agent"})
        yield {
            "thread_id": thread_id,
            "run_id": (await http.get(f"/threads/{thread_id}/runs")).json()[0]["run_id"],
            "assistant_id": assistant.json()["assistant_id"],
            "cron_id": cron.json()["cron_id"],
            "checkpoint_id": state["checkpoint"]["checkpoint_id"],
        }
        await http.delete(f"/runs/crons/{cron.json()['cron_id']}")


@pytest.fixture(scope="module")
async def stranger(readme: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """Bob, without the SDK."""
    async with httpx.AsyncClient(base_url=readme.url, headers=headers_of("bob"), timeout=10) as http:
        yield http


@pytest.fixture(scope="module")
async def own(stranger: httpx.AsyncClient) -> str:
    """A thread of Bob's own."""
    return (await stranger.post("/threads", json={})).json()["thread_id"]


def bare(answer: httpx.Response, ids: Ids) -> tuple[int, str, set[tuple[str, str]]]:
    """Return an answer without the ids that were asked for, and without what no two answers share."""
    text = answer.text
    for name, value in ids.items():
        text = text.replace(value, f"<{name}>")
    passing = ("date", "x-request-id", "content-length")
    return answer.status_code, text, {item for item in answer.headers.items() if item[0] not in passing}


def mixtures(path: str, owned: Ids, own: str) -> Iterator[tuple[Ids, Ids]]:
    """Fill in a path with ids of another's, and beside that the same with ids of nobody's in their place."""
    names = [name for name in PARAMETERS if f"{{{name}}}" in path]
    for choice in itertools.product(("unknown", "foreign"), repeat=len(names)):
        nobody = {name: str(uuid4()) for name in names}
        foreign = {
            name: owned[name] if how == "foreign" else nobody[name] for name, how in zip(names, choice, strict=True)
        }
        if foreign != nobody:
            yield foreign, nobody
    if len(names) > 1 and names[0] == "thread_id":
        rest = {name: str(uuid4()) for name in names[1:]}
        yield {"thread_id": own, **{name: owned[name] for name in names[1:]}}, {"thread_id": own, **rest}


async def ask(http: httpx.AsyncClient, method: str, path: str, ids: Ids, **more: Any) -> tuple[int, str, Any]:
    """Send a request that names ids."""
    body = None if method == "GET" else more.get("json", BODIES.get(path, ANY_BODY))
    return bare(await http.request(method, path.replace("{namespace}", "sub").format(**ids), json=body), ids)


def test_there_are_routes() -> None:
    assert len(NAMING) > 35


@pytest.mark.parametrize(("method", "path"), NAMING)
async def test_what_is_anothers_answers_as_what_is_not_there(
    stranger: httpx.AsyncClient, owned: Ids, own: str, method: str, path: str
) -> None:
    for foreign, nobody in mixtures(path, owned, own):
        answer = await ask(stranger, method, path, foreign)
        assert answer == await ask(stranger, method, path, nobody)
        assert answer[0] < 500


@pytest.mark.parametrize("command", COMMAND_PARAMS)
async def test_a_command_about_anothers_thread_answers_as_about_none(
    stranger: httpx.AsyncClient, owned: Ids, command: str
) -> None:
    body = {"id": 1, "method": command, "params": COMMAND_PARAMS[command]}
    both = [{"thread_id": thread_id} for thread_id in (owned["thread_id"], str(uuid4()))]
    foreign, nobody = [await ask(stranger, "POST", COMMANDS, ids, json=body) for ids in both]
    assert foreign == nobody


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/threads/prune", {"thread_ids": ["{thread_id}"]}),
        ("/threads/prune", {"thread_ids": ["{thread_id}"], "strategy": "keep_latest"}),
        ("/threads/search", {"ids": ["{thread_id}"]}),
        ("/threads/count", {"ids": ["{thread_id}"]}),
        ("/runs/cancel", {"thread_id": "{thread_id}", "run_ids": ["{run_id}"]}),
        ("/runs/wait", {"assistant_id": "{assistant_id}", "input": {}}),
        ("/runs", {"assistant_id": "{assistant_id}", "input": {}}),
        ("/runs/stream", {"assistant_id": "{assistant_id}", "input": {}}),
        ("/runs/batch", [{"assistant_id": "{assistant_id}", "input": {}}]),
        ("/runs/crons", {"assistant_id": "{assistant_id}", "schedule": "* * * * *"}),
        ("/runs/crons/search", {"assistant_id": "{assistant_id}"}),
        ("/runs/crons/search", {"thread_id": "{thread_id}"}),
        ("/runs/crons/count", {"thread_id": "{thread_id}"}),
    ],
)
async def test_ids_in_bodies_answer_as_those_of_nobody(
    stranger: httpx.AsyncClient, owned: Ids, path: str, body: Any
) -> None:
    answers: list[Any] = []
    for ids in (owned, {name: str(uuid4()) for name in owned}):
        text = json.dumps(body)
        for name, value in ids.items():
            text = text.replace(f"{{{name}}}", value)
        answers.append(bare(await stranger.post(path, content=text), ids))
    assert answers[0] == answers[1]


async def test_a_socket_on_anothers_thread_closes_as_on_none(readme: Stack, owned: Ids) -> None:
    closings: list[Any] = []
    for thread_id in (owned["thread_id"], str(uuid4())):
        url = f"ws://127.0.0.1:{readme.port}/threads/{thread_id}/stream/events"
        async with connect(url, additional_headers=headers_of("bob")) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
        close = closed.value.rcvd
        assert close
        closings.append((close.code, close.reason.replace(thread_id, "")))
    assert closings[0] == closings[1]


async def test_nothing_of_it_has_changed_anything(alice: LangGraphClient, owned: Ids) -> None:
    thread = cast(Any, await alice.threads.get(owned["thread_id"]))
    assert thread["metadata"]["owner"] == "readme-alice"
    assert thread["values"] == {"log": ["a", "b", "c"]}
    assert [run["run_id"] for run in await alice.runs.list(owned["thread_id"])] == [owned["run_id"]]
    assert (await alice.assistants.get(owned["assistant_id"]))["version"] == 1
    assert await alice.crons.count(metadata={"owner": "readme-alice"}) >= 1
