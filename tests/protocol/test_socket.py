"""The streaming protocol over a WebSocket: commands, several subscriptions, and how a connection ends."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

import orjson
import pytest
from langgraph_sdk.client import LangGraphClient
from redis.exceptions import RedisError
from starlette.websockets import WebSocketState
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from durathread.api.protocol.event_socket import Conversation
from tests.protocol.support import ALL, PATIENCE, Event, is_end, kinds, run_start, watching
from tests.stack import Stack


class Talk:
    """An open connection, and the events that it has brought."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[Event] = []
        self._count = 0

    async def next(self) -> Any:
        """Wait for the next frame; keep it if it is an event."""
        frame = orjson.loads(await asyncio.wait_for(self.socket.recv(), PATIENCE))
        if frame["type"] == "event":
            self.events.append(frame)
        return frame

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a command and wait for its answer."""
        self._count += 1
        await self.socket.send(orjson.dumps({"id": self._count, "method": method, "params": params}).decode())
        while (answer := await self.next())["type"] == "event":
            pass
        assert answer["id"] == self._count
        return answer

    async def ended(self) -> list[Event]:
        """Read to the end of a run."""
        while not is_end(await self.next()):
            pass
        return self.events


@asynccontextmanager
async def talking(server: Stack, thread_id: str, **kwargs: Any) -> AsyncGenerator[Talk]:
    url = server.url.replace("http", "ws", 1)
    async with connect(f"{url}/threads/{thread_id}/stream/events", **kwargs) as socket:
        yield Talk(socket)


async def test_commands_and_events_share_a_connection(server: Stack, thread_id: str) -> None:
    async with talking(server, thread_id) as talk:
        subscribed = await talk.ask("subscription.subscribe", channels=ALL)
        assert subscribed["result"]["replayed_events"] == 0
        started = await talk.ask("run.start", assistant_id="agent", input={"log": ["in"]})
        assert started["result"]["run_id"]
        events = await talk.ended()
    async with watching(server.url, thread_id) as watch:
        assert await watch.ended() == events


async def test_subscriptions_made_together_begin_with_what_was_in_order_and_each_event_once(
    server: Stack, thread_id: str
) -> None:
    async with watching(server.url, thread_id) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        expected = [event for event in await watch.ended() if event["method"] in ("lifecycle", "values")]
    async with talking(server, thread_id) as talk:
        # As JavaScript does when it comes back: what would end the others is asked for first.
        for number, channels in enumerate((["lifecycle", "input"], ["values", "lifecycle"]), 1):
            command = {"id": number, "method": "subscription.subscribe", "params": {"channels": channels}}
            await talk.socket.send(orjson.dumps(command).decode())
        answers = [await talk.next(), await talk.next()]
        assert [(each["id"], each["result"]["replayed_events"]) for each in answers] == [(1, 2), (2, 6)]
        assert await talk.ended() == expected


async def test_a_subscription_begins_with_what_was(server: Stack, thread_id: str) -> None:
    async with watching(server.url, thread_id, ["lifecycle"]) as watch:
        await run_start(server.url, thread_id, "agent", input={"log": ["in"]})
        last = (await watch.ended())[-1]["seq"]
    async with talking(server, thread_id) as talk:
        answer = await talk.ask("subscription.subscribe", channels=["values", "lifecycle"])
        assert answer["result"]["replayed_events"] == 6
        assert kinds(await talk.ended()) == ["lifecycle running", *["values"] * 4, "lifecycle completed"]
        # Another sees all of it again; one that says how far it is sees the rest.
        answer = await talk.ask("subscription.subscribe", channels=["updates"])
        assert answer["result"]["replayed_events"] == 3
        answer = await talk.ask("subscription.subscribe", channels=ALL, since=last - 1)
        assert answer["result"]["replayed_events"] == 1


async def test_only_what_is_subscribed_to_is_sent(server: Stack, thread_id: str) -> None:
    async with talking(server, thread_id) as talk:
        first = await talk.ask("subscription.subscribe", channels=["updates"])
        await talk.ask("subscription.subscribe", channels=["lifecycle"])
        await talk.ask("run.start", assistant_id="agent", input={"log": ["in"]})
        assert kinds(await talk.ended()) == ["lifecycle running", *["updates"] * 3, "lifecycle completed"]
        given = {"subscription_id": first["result"]["subscription_id"]}
        assert (await talk.ask("subscription.unsubscribe", **given))["result"] == {}
        assert (await talk.ask("subscription.unsubscribe", **given))["error"] == "no_such_subscription"
        talk.events.clear()
        await talk.ask("run.start", assistant_id="agent", input={"log": ["in"]})
        assert kinds(await talk.ended()) == ["lifecycle running", "lifecycle completed"]


async def test_a_client_that_comes_back_is_told_what_it_missed(server: Stack, thread_id: str) -> None:
    async with talking(server, thread_id) as talk:
        await talk.ask("subscription.subscribe", channels=ALL)
        run_id = (await talk.ask("run.start", assistant_id="agent", input={"log": ["in"]}))["result"]["run_id"]
        events = await talk.ended()
    async with talking(server, thread_id) as talk:
        answer = await talk.ask(
            "subscription.reconnect", run_id=run_id, last_event_id=events[4]["event_id"], subscriptions=["gone"]
        )
    assert answer["result"] == {
        "restored": False,
        "missed_events": len(events) - 5,
        "current_namespaces": [{"namespace": [], "status": "completed"}],
    }


async def test_what_is_no_command_is_answered(server: Stack, thread_id: str) -> None:
    async with talking(server, thread_id) as talk:
        for raw in ("{", "[]", '{"channels": ["values"]}'):
            await talk.socket.send(raw)
            answer = await talk.next()
            assert (answer["type"], answer["id"], answer["error"]) == ("error", None, "invalid_argument")
        assert (await talk.ask("subscription.subscribe", channels=["debug"]))["error"] == "invalid_argument"
        assert (await talk.ask("state.get", namespace=[]))["result"] == {"values": {}}


async def test_ids_of_subscriptions_that_are_none_are_refused(server: Stack, thread_id: str) -> None:
    async with talking(server, thread_id) as talk:
        kept = (await talk.ask("subscription.subscribe", channels=ALL))["result"]["subscription_id"]
        broken = await talk.ask("subscription.reconnect", subscriptions=[{}])
        assert broken["error"] == "invalid_argument"
        missing = await talk.ask("subscription.unsubscribe", subscription_id=[kept])
        assert missing["error"] == "no_such_subscription"
        assert (await talk.ask("subscription.unsubscribe", subscription_id=kept))["result"] == {}


async def test_the_stream_of_a_deleted_thread_ends(server: Stack, thread_id: str, client: LangGraphClient) -> None:
    await client.threads.create(thread_id=thread_id)
    async with talking(server, thread_id) as talk:
        await talk.ask("subscription.subscribe", channels=ALL)
        await client.threads.delete(thread_id)
        last = await talk.next()
        assert (last["type"], last["id"], last["message"]) == ("error", None, "thread stream ended")
        with pytest.raises(ConnectionClosedError) as closed:
            await talk.next()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1011, "thread stream ended")


async def test_a_thread_id_must_be_one(server: Stack) -> None:
    with pytest.raises(ConnectionClosedError) as closed:
        async with talking(server, "nonsense") as talk:
            await talk.next()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 4422


class Silent:
    """A client that says nothing and takes what it is sent."""

    client_state = WebSocketState.CONNECTED

    def __init__(self) -> None:
        self.sent: list[Any] = []

    async def receive(self) -> Any:
        """Wait for ever."""
        await asyncio.Event().wait()

    async def send_text(self, text: str) -> None:
        """Take a frame."""
        self.sent.append(orjson.loads(text))

    async def close(self, code: int, reason: str) -> None:
        """Take the end."""
        self.sent.append(reason)


@pytest.mark.parametrize(("error", "logged"), [(ValueError("wrong"), True), (RedisError("away"), False)])
async def test_a_failure_that_nobody_foresaw_is_logged(
    monkeypatch: pytest.MonkeyPatch, thread_id: str, error: Exception, logged: bool
) -> None:
    async def nothing(*_: Any) -> int:
        return 0

    async def fails(*_: Any, **__: Any) -> AsyncGenerator[Any]:
        raise error
        yield

    @asynccontextmanager
    async def watching(thread_id: str) -> AsyncGenerator[None]:
        yield

    monkeypatch.setattr("durathread.api.protocol.event_socket.newest", nothing)
    monkeypatch.setattr("durathread.api.protocol.event_socket.follow", fails)
    server: Any = SimpleNamespace(watchers=SimpleNamespace(watching=watching))
    client: Any = Silent()
    with capture_logs() as logs:
        await Conversation(client, server, cast(Any, None), UUID(thread_id)).hold()
    assert client.sent[-1] == "the event stream is unavailable"
    assert [each["exc_info"] for each in logs] == ([error] if logged else [])
