"""Values survive: what a node writes to a channel is what the next one reads, however it is stored."""

import secrets
from datetime import UTC, timedelta
from typing import Any, cast
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph_sdk.client import LangGraphClient

from durathread.store.pool import Pool, connection
from durathread.store.saver import Saver
from tests.graphs.values import SET

SIZE = """
SELECT (SELECT coalesce(sum(pg_column_size(c.*)), 0) FROM checkpoints c WHERE c.thread_id = %(thread)s)
     + (SELECT coalesce(sum(pg_column_size(b.*)), 0) FROM checkpoint_blobs b WHERE b.thread_id = %(thread)s)
     + (SELECT coalesce(sum(pg_column_size(w.*)), 0) FROM checkpoint_writes w WHERE w.thread_id = %(thread)s) AS size
"""
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=2000)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(),
    TEXTS,
    st.binary(),
    st.uuids(),
    st.decimals(allow_nan=False),
    st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(fold=0)),
    st.timedeltas(timedelta(days=-1000), timedelta(days=1000)),
    TEXTS.map(lambda text: HumanMessage(text, id="1")),
    TEXTS.map(lambda text: AIMessage(text, id="2")),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(TEXTS, inner), st.sets(st.integers(0, 9))
    ),
    max_leaves=10,
)


def told(value: Any) -> Any:
    """Write a value so that what is equal looks equal, and only that: NaN, minus zero and the types included."""
    if isinstance(value, dict):
        return {key: told(item) for key, item in cast("dict[Any, Any]", value).items()}
    if isinstance(value, list | tuple | set):
        # LangGraph's serializer makes lists of tuples.
        return "set" if isinstance(value, set) else "list", [told(item) for item in cast("list[Any]", value)]
    return type(value).__name__, repr(value)


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
