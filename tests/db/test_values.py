"""Values survive: what a node writes to a channel is what the next one reads, however it is stored."""

import base64
import json
import math
import pickle
import secrets
from collections import deque
from datetime import UTC, timedelta
from typing import Any, cast
from uuid import uuid4

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph_sdk.client import LangGraphClient

from durathread.db.pool import Pool, connection
from durathread.db.saver import Saver
from durathread.encode import dumps, exact
from tests.served.keepsakes import Colour, Model, Pair, Point, told
from tests.served.values import SET
from tests.stack import Stack

SIZE = """
SELECT (SELECT coalesce(sum(pg_column_size(c.*)), 0) FROM checkpoints c WHERE c.thread_id = %(thread)s)
     + (SELECT coalesce(sum(pg_column_size(b.*)), 0) FROM checkpoint_blobs b WHERE b.thread_id = %(thread)s)
     + (SELECT coalesce(sum(pg_column_size(w.*)), 0) FROM checkpoint_writes w WHERE w.thread_id = %(thread)s) AS size
"""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=2000)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**300), 2**300),
    st.floats(),
    TEXTS,
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)),
    st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    st.dates(),
    st.times(),
    st.ip_addresses(),
    st.sampled_from(Colour),
    TEXTS.map(lambda text: HumanMessage(text, id="1")),
    TEXTS.map(lambda text: AIMessage(text, id="2")),
)
# What messages and models hold is written as their dumps have it, as LangGraph does.
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | TEXTS,
    lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner),
    max_leaves=5,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(TEXTS, inner),
        # Of one: each process has an order of its own.
        st.sets(st.integers(-(2**70), 2**70), max_size=1),
        st.frozensets(TEXTS, max_size=1),
        st.lists(inner).map(deque),
        st.builds(Point, inner, inner),
        st.builds(Pair, inner, inner),
        st.builds(Model, name=TEXTS, value=PLAIN),
        PLAIN.map(lambda value: AIMessage("", id="3", tool_calls=[{"name": "t", "args": {"it": value}, "id": "c"}])),
    ),
    max_leaves=10,
)


async def save(
    saver: AsyncPostgresSaver, config: RunnableConfig, changed: dict[str, Any], **kept: Any
) -> RunnableConfig:
    """Save a checkpoint of some values, of which some have changed."""
    versions = {**dict.fromkeys(kept, "1"), **dict.fromkeys(changed, "2" if kept else "1")}
    checkpoint = empty_checkpoint()
    checkpoint["channel_values"], checkpoint["channel_versions"] = {**kept, **changed}, cast(Any, versions)
    new = {channel: versions[channel] for channel in changed}
    return await saver.aput(config, checkpoint, {"source": "loop", "step": 1, "parents": {}}, cast(Any, new))


async def values_of(saver: Saver, config: RunnableConfig) -> dict[str, Any]:
    """Read the values of a checkpoint."""
    found = await saver.aget_tuple(config)
    assert found is not None
    return found.checkpoint["channel_values"]


def fresh() -> RunnableConfig:
    """Address a thread that nobody has used."""
    return {"configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}}


@given(value=VALUES)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_whatever_the_serializer_takes_comes_back_as_it_was(pool: Pool, value: Any) -> None:
    """Also when it has not changed since the checkpoint before."""
    saver = Saver(pool)
    first = await save(saver, fresh(), {"value": value})
    assert told((await values_of(saver, first))["value"]) == told(value)
    second = await save(saver, first, {"other": 1}, value=value)
    assert told((await values_of(saver, second))["value"]) == told(value)


async def test_a_large_text_is_stored_once(pool: Pool) -> None:
    """Two megabytes, and four more checkpoints: once as what the node wrote, once as the channel's value."""
    saver, text = Saver(pool), secrets.token_hex(1_000_000)
    config = await save(saver, fresh(), {"text": text})
    for number in range(4):
        config = await save(saver, config, {"n": number}, text=text)
    thread = cast(Any, config)["configurable"]["thread_id"]
    async with connection(pool) as conn:
        rows = await (await conn.execute(SIZE, {"thread": thread})).fetchall()
    assert rows[0]["size"] < 1.1 * len(text)
    assert (await values_of(saver, config))["text"] == text


async def test_a_text_that_an_older_version_has_stored_in_the_row_is_not_lost(pool: Pool) -> None:
    """It has not changed since, so LangGraph does not say that it is to be stored."""
    text, real = "x" * 5000, 1e22
    config = await save(AsyncPostgresSaver(cast(Any, pool)), fresh(), {"text": text, "real": real})
    saver = Saver(pool)
    for number in range(2):
        config = await save(saver, config, {"n": number}, text=text, real=real)
        values = await values_of(saver, config)
        assert (values["text"], float(values["real"])) == (text, real)


async def test_a_node_finds_what_another_has_set_and_a_client_what_json_can_say_of_it(
    client: LangGraphClient,
) -> None:
    thread = (await client.threads.create())["thread_id"]
    await client.runs.wait(thread, "values", input={"text": "given"})
    state: Any = await client.threads.get_state(thread)
    wanted = {**{key: repr(value) for key, value in SET.items()}, "text": "'given'"}
    assert state["values"]["found"] == wanted
    assert (state["values"]["nan"], state["values"]["infinite"]) == (None, None)
    # Bytes are base64, as in the Agent Server.
    assert (state["values"]["raw"], state["values"]["long"]) == ("/wBhYmM=", SET["long"])
    await client.threads.update_state(thread, {"text": "y" * 5000}, as_node="pause")
    again: Any = await client.runs.wait(thread, "values", input=None)
    assert again["found"] == {**wanted, "text": repr("y" * 5000)}


async def posted(client: httpx.AsyncClient, path: str, **body: Any) -> Any:
    """Send what is JSON already, with numbers of any size, and read it as exactly."""
    answer = await client.post(path, content=json.dumps(body, allow_nan=False), timeout=60)
    assert answer.status_code == 200, answer.text
    return exact(answer.content)


async def passed_on(client: httpx.AsyncClient, value: Any) -> Any:
    """Have a value made, asked about, answered with its JSON, and given back as that; return what nodes say is kept."""
    # Numbers in Postgres have no minus zero.
    shown = without_minus(exact(dumps(value)))
    thread = (await posted(client, "/threads"))["thread_id"]
    runs = f"/threads/{thread}/runs/wait"
    pickled = base64.b64encode(pickle.dumps(value)).decode()
    asks = await posted(client, runs, assistant_id="keepsakes", input={"pickled": pickled, "given": shown})
    assert asks["found"] == {"made": repr(told(value)), "given": repr(told(shown))}
    assert told(without_minus(asks["made"])) == told(shown)
    assert told(without_minus(asks["__interrupt__"][0]["value"])) == told(shown)
    state = exact((await client.get(f"/threads/{thread}/state")).content)
    assert told(without_minus(state["values"]["made"])) == told(shown)
    done = await posted(client, runs, assistant_id="keepsakes", command={"resume": shown})
    assert done["answer"] == repr(told(shown))
    await posted(client, f"/threads/{thread}/state", values={"given": state["values"]["made"]}, as_node="make")
    again = await posted(client, runs, assistant_id="keepsakes", input=None)
    assert again["found"] == {"made": repr(told(value)), "given": repr(told(state["values"]["made"]))}
    return again.get("kept")


def without_minus(value: Any) -> Any:
    """Take the sign of zeros away."""
    if isinstance(value, dict):
        return {key: without_minus(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [without_minus(item) for item in cast("list[Any]", value)]
    return value + 0.0 if isinstance(value, float) else value


@given(values=st.lists(VALUES, min_size=1, max_size=20))
@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
async def test_values_pass_from_nodes_to_nodes_to_clients_and_back(server: Stack, values: list[Any]) -> None:
    """Nodes find what is equal, of the same type; clients get, and give back, what JSON can say of it."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        await passed_on(http, values)


ITEM: dict[str, Any] = {
    "large": [2**80, -(2**64), 10**22, {"deep": 2**200}],
    "floats": [math.nan, math.inf, -math.inf, 1e22, 1e23, 1.5, 1.0, 1e300],
    "raw": b"\xff\x00",
    "text": "\ue000nan",
    "marked": "\ue000bytes:/w==",
}


async def test_items_of_the_store_hold_numbers_of_any_size_what_is_no_number_and_bytes(server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert await passed_on(http, ITEM) == repr(told(ITEM))
        shown = exact((await http.get("/store/items", params={"namespace": "keepsakes", "key": "it"})).content)
        assert told(shown["value"]) == told(exact(dumps(ITEM)))
        await http.put("/store/items", json={"namespace": ["keepsakes"], "key": "text", "value": {"t": "\ue000inf"}})
        shown = (await http.get("/store/items", params={"namespace": "keepsakes", "key": "text"})).json()
        assert shown["value"] == {"t": "\ue000inf"}


async def test_what_is_no_number_is_no_json(server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        for number in ("NaN", "-Infinity", "1" * 5000):
            body = f'{{"metadata": {{"number": {number}}}}}'
            answer = await http.post("/threads", content=body)
            assert (answer.status_code, "detail" in answer.json()) == (422, True)
