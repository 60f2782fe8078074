"""What every shape is promised: each of these is a test of each shape."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import ConflictError, NotFoundError

from tests.eventually import eventually
from tests.providers.conversation import Asked
from tests.providers.endpoint import Gate
from tests.shapes.serving import Served
from tests.shapes.shape import answer, place_in, question

OSLO = [question("Oslo"), answer("Oslo")]
ROME = [question("Rome"), answer("Rome")]


def about(server: Served, place: str) -> Callable[[Asked], bool]:
    """Find the request that is to be held, if it is about a place."""

    def holds(asked: Asked) -> bool:
        return place_in(asked.question) == place and server.shape.held(asked)

    return holds


async def create(server: Served, client: LangGraphClient, thread_id: str, *, place: str, **kwargs: Any) -> str:
    """Create a run that is asked about a place."""
    given = server.shape.given(place)
    run = await client.runs.create(thread_id, server.shape.graph, input=given, if_not_exists="create", **kwargs)
    return run["run_id"]


async def told(server: Served, client: LangGraphClient, thread_id: str) -> list[str]:
    """Read what has been asked and answered on a thread."""
    return server.shape.told((await client.threads.get_state(thread_id))["values"])


class Promises:
    """What is promised."""

    async def test_the_first_message_is_answered(self, server: Served, thread_id: str) -> None:
        async with server.client() as client:
            values = await client.runs.wait(
                thread_id, server.shape.graph, input=server.shape.given("Oslo"), if_not_exists="create"
            )
            assert server.shape.told(values) == OSLO
            assert await told(server, client, thread_id) == OSLO
            thread = await client.threads.get(thread_id)
            assert (thread["status"], server.shape.told(thread["values"])) == ("idle", OSLO)

    async def test_the_stream_of_a_run_has_each_message_once(self, server: Served, thread_id: str) -> None:
        chunks: dict[str, str] = {}
        events: dict[str, list[Any]] = {"metadata": [], "values": [], "updates": []}
        async with server.client() as client:
            async for part in client.runs.stream(
                thread_id,
                server.shape.graph,
                input=server.shape.given("Oslo"),
                if_not_exists="create",
                stream_mode=["values", "updates", "messages-tuple"],
                stream_subgraphs=True,
            ):
                if part.event.partition("|")[0] == "messages":
                    message: Any = part.data[0]
                    chunks[message["id"]] = chunks.get(message["id"], "") + text(message)
                else:
                    events.setdefault(part.event, []).append(part.data)
            state: Any = await client.threads.get_state(thread_id)
        assert [data["attempt"] for data in events["metadata"]] == [1]
        # What is never checkpointed is streamed all the same.
        assert state["values"].items() <= events["values"][-1].items()
        assert server.shape.told(events["values"][-1]) == OSLO
        assert events["updates"]
        assert list(chunks.values()).count(OSLO[-1]) == (1 if server.shape.is_chat else 3)
        if server.shape.is_chat:
            assert chunks[state["values"]["messages"][-1]["id"]] == OSLO[-1]

    async def test_the_stream_of_a_thread_has_them_too(self, server: Served, thread_id: str) -> None:
        async with server.client() as client, asyncio.timeout(60):
            stream: Any = client.threads.stream(thread_id, assistant_id=server.shape.graph)
            async with stream as streamed:
                await streamed.run.start(input=server.shape.given("Oslo"))
                children = [child async for child in streamed.subgraphs]
                texts = [str(await m.text) for each in (streamed, *children) for m in [m async for m in each.messages]]
                output = await streamed.output
            assert server.shape.told(output) == OSLO
            assert texts.count(OSLO[-1]) == (1 if server.shape.is_chat else 3)

    async def test_reject_refuses_a_second_message(self, server: Served, thread_id: str) -> None:
        async with server.client() as client:
            with server.endpoint.holding(about(server, "Oslo")) as gate:
                first = await held(server, client, thread_id, gate)
                with pytest.raises(ConflictError):
                    await create(server, client, thread_id, place="Rome", multitask_strategy="reject")
                gate.open()
                await client.runs.join(thread_id, first)
            assert await told(server, client, thread_id) == OSLO

    async def test_enqueue_answers_it_afterwards(self, server: Served, thread_id: str) -> None:
        async with server.client() as client:
            with server.endpoint.holding(about(server, "Oslo")) as gate:
                await held(server, client, thread_id, gate)
                second = await create(server, client, thread_id, place="Rome")
                assert (await client.runs.get(thread_id, second))["status"] == "pending"
                gate.open()
                await client.runs.join(thread_id, second)
            assert await told(server, client, thread_id) == OSLO + ROME

    async def test_interrupt_answers_it_instead(self, server: Served, thread_id: str) -> None:
        async with server.client() as client:
            with server.endpoint.holding(about(server, "Oslo")) as gate:
                first = await held(server, client, thread_id, gate)
                second = await create(server, client, thread_id, place="Rome", multitask_strategy="interrupt")
                await client.runs.join(thread_id, second)
            assert (await client.runs.get(thread_id, first))["status"] == "interrupted"
            assert await told(server, client, thread_id) == (OSLO[:1] if server.shape.keeps_question else []) + ROME

    async def test_rollback_leaves_nothing_of_the_first(self, server: Served, thread_id: str) -> None:
        async with server.client() as client:
            with server.endpoint.holding(about(server, "Oslo")) as gate:
                first = await held(server, client, thread_id, gate)
                second = await create(server, client, thread_id, place="Rome", multitask_strategy="rollback")
                await client.runs.join(thread_id, second)
            with pytest.raises(NotFoundError):
                await client.runs.get(thread_id, first)
            assert await told(server, client, thread_id) == ROME

    async def test_a_worker_that_crashes_costs_one_repeated_call(self, server: Served, thread_id: str) -> None:
        del server.endpoint.asked[:]
        attempts: list[int] = []
        async with server.client() as client:
            with server.endpoint.holding(about(server, "Oslo")) as gate:
                streaming = asyncio.create_task(watch(server, client, thread_id, attempts))
                await gate.entered()
                await rest_is_kept(client, thread_id)
                await server.crash()
                await gate.entered(2)
                gate.open()
                chunks = await asyncio.wait_for(streaming, 60)
            state: Any = await client.threads.get_state(thread_id)
            assert server.shape.told(state["values"]) == OSLO
            assert attempts == [1, 2]
            if server.shape.is_chat:
                assert chunks[state["values"]["messages"][-1]["id"]] == OSLO[-1]
                assert len([m for m in state["values"]["messages"] if m["type"] == "human"]) == 1
        asked = Counter((each.tools, each.schema, each.question, each.results) for each in server.endpoint.asked)
        repeated = {request: times for request, times in asked.items() if times > 1}
        assert list(repeated.values()) == [2], repeated

    async def test_the_log_says_where_a_tool_has_failed(self, server: Served, thread_id: str) -> None:
        server.shape.before(server)
        failure = server.shape.failure
        async with server.client() as client:
            run = await create(server, client, thread_id, place="Atlantis")
            values: Any = await client.runs.join(thread_id, run)
            assert values["__error__"]["error"] == failure.kind
            assert (await client.threads.get(thread_id))["status"] == "error"
        [entry] = [part for part in server.log().split("A run has failed")[1:] if run in part.split("\n")[0]]
        line = entry.split("\n")[0]
        assert thread_id in line
        assert server.shape.graph in line
        assert failure.node in line
        assert failure.kind in entry
        assert str(server.folder) in entry
        assert failure.file in entry
        assert failure.line in entry

    async def test_it_does_what_makes_it_this_shape(self, server: Served) -> None:
        await server.shape.own(server)


async def held(server: Served, client: LangGraphClient, thread_id: str, gate: Gate) -> str:
    """Ask about Oslo, and return when the model has begun to answer."""
    run = await create(server, client, thread_id, place="Oslo")
    await gate.entered()
    return run


async def rest_is_kept(client: LangGraphClient, thread_id: str) -> None:
    """Wait until what is done beside the model that is held has been written."""

    async def is_kept() -> bool:
        tasks: Any = (await client.threads.get_state(thread_id))["tasks"]
        return sum(task["result"] is None for task in tasks) == 1

    await eventually(is_kept, what="one task is left")


async def watch(server: Served, client: LangGraphClient, thread_id: str, attempts: list[int]) -> dict[str, str]:
    """Ask about Oslo, and put together what is streamed, message by message."""
    chunks: dict[str, str] = {}
    async for part in client.runs.stream(
        thread_id,
        server.shape.graph,
        input=server.shape.given("Oslo"),
        if_not_exists="create",
        stream_mode=["messages-tuple", "values"],
        stream_subgraphs=True,
    ):
        if part.event == "metadata":
            attempts.append(part.data["attempt"])
        elif part.event.partition("|")[0] == "messages":
            message: Any = part.data[0]
            chunks[message["id"]] = chunks.get(message["id"], "") + text(message)
    return chunks


def text(message: Any) -> str:
    """Read the text of a chunk."""
    content: Any = message["content"]
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)
