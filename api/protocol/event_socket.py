"""The streaming protocol over a WebSocket: commands in, answers and events out."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import structlog
from fastapi import WebSocket, WebSocketDisconnect
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.types import Message
from starlette.websockets import WebSocketState

from durathread.api.auth.authorization import Caller, CallerDep
from durathread.api.deps import Server, ServerDep, parse_uuid
from durathread.api.http.bodies import Routes
from durathread.api.http.envelopes import Command, Malformed, Refused, failed, succeeded
from durathread.api.http.origins import may_act
from durathread.api.protocol.commands import carry_out, refusal_of
from durathread.api.protocol.state_commands import current_namespaces, strings
from durathread.api.protocol.subscriptions import Subscription, number
from durathread.api.protocol.thread_frames import between, follow, kept, newest, prepare
from durathread.encode import dumps
from durathread.errors import Error, Forbidden, Unavailable
from durathread.records import JsonObject
from durathread.streams.events import Event
from durathread.streams.frames import seq_of, shown
from durathread.streams.hub import order

log = structlog.get_logger()

router = Routes(prefix="/threads/{thread_id}", tags=["Threads"])

# Behind these, the status of an HTTP answer: browsers cannot read that of an upgrade that is refused.
CODES = 4000
GONE = 1011
ENDED = "thread stream ended"
STREAM_FAILED = "the event stream is unavailable"
# Seconds in which subscriptions count as made together.
TOGETHER = 0.02
LONGEST_REASON = 120
UNAVAILABLE = (RedisError, OSError, Unavailable)
EXPECTED = (*UNAVAILABLE, WebSocketDisconnect)
CONNECTED = WebSocketState.CONNECTED


@router.websocket("/stream/events")
async def talk(socket: WebSocket, thread_id: str, server: ServerDep, caller: CallerDep) -> None:
    """Carry out commands, and send the events of a thread that are subscribed to."""
    await socket.accept()
    try:
        found = parse_uuid(thread_id, "thread")
        if not may_act(socket.app.state.cors, socket.headers):
            raise Forbidden(f"Origin {socket.headers.get('origin')} may not call this server")
        await prepare(server, found, since=0, visible_to=await caller.may_read(found))
    except Error as error:
        await socket.close(CODES + error.status, str(error)[:LONGEST_REASON])
    except HTTPException as error:
        await socket.close(CODES + error.status_code, str(error.detail)[:LONGEST_REASON])
    else:
        await Conversation(socket, server, caller, found).hold()


@dataclass(frozen=True)
class Joining:
    """A subscription that has yet to be shown what was before it."""

    command_id: int
    subscription: Subscription
    since: int

    def takes(self, entry: Event) -> bool:
        """Whether an entry is wanted, and new to the client."""
        return order(entry.event_id) > (self.since, 0) and self.subscription.takes(entry)


class Conversation:
    """One client, as long as its connection lasts."""

    def __init__(self, socket: WebSocket, server: Server, caller: Caller, thread_id: UUID) -> None:
        """Take an open socket."""
        self._socket = socket
        self._server = server
        self._caller = caller
        self._thread_id = thread_id
        self._subscriptions: dict[str, Subscription] = {}
        self._joining: list[Joining] = []
        # The events up to this number have been sent to those who subscribe to them.
        self._position = 0
        # Held by who sends events: those that a new subscription missed come between two of the others.
        self._turn = asyncio.Lock()

    async def hold(self) -> None:
        """Carry out commands until the client leaves or the events end."""
        tasks = list[asyncio.Task[None]]()
        try:
            async with self._server.watchers.watching(str(self._thread_id)):
                # Before the first command: what it subscribes to is divided here into what was and what comes.
                self._position = await newest(self._server, self._thread_id)
                pump = asyncio.create_task(self._send_events(), name="socket events")
                listening = asyncio.create_task(self._listen(), name="socket commands")
                tasks += [pump, listening]
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                self._report(tasks)
                if not listening.done():
                    await self._close(ENDED if pump.exception() is None else STREAM_FAILED)
                elif listening.exception() is not None:
                    await self._close(STREAM_FAILED)
        except UNAVAILABLE:
            await self._close(STREAM_FAILED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _report(self, tasks: Iterable["asyncio.Task[None]"]) -> None:
        """Log what should not have happened: the client is told no more than that it did."""
        for task in tasks:
            error = task.exception() if task.done() else None
            if error is not None and not isinstance(error, EXPECTED) and self._socket.client_state is CONNECTED:
                log.error("A protocol socket has failed", thread_id=str(self._thread_id), exc_info=error)

    async def _listen(self) -> None:
        receiving: asyncio.Task[Message] | None = None
        try:
            while True:
                receiving = receiving or asyncio.create_task(self._socket.receive())
                await asyncio.wait([receiving], timeout=TOGETHER if self._joining else None)
                if not receiving.done():
                    await self._join()
                    continue
                message, receiving = receiving.result(), None
                if message["type"] == "websocket.disconnect":
                    return
                await self._answer(message.get("text") or message.get("bytes") or b"")
        except WebSocketDisconnect:
            pass
        finally:
            if receiving:
                receiving.cancel()

    async def _answer(self, raw: str | bytes) -> None:
        try:
            asked = await Command.read(raw.encode("utf-8", "replace") if isinstance(raw, str) else raw)
        except Malformed as error:
            await self._send(failed(error.command_id, error))
            return
        own = {
            "subscription.subscribe": self._subscribe,
            "subscription.unsubscribe": self._unsubscribe,
            "subscription.reconnect": self._reconnect,
        }
        if asked.method != "subscription.subscribe":
            await self._join()
        if asked.method not in own:
            await self._send(await carry_out(self._server, self._caller, self._thread_id, asked))
            return
        try:
            await own[asked.method](asked)
        except (Refused, Error, HTTPException) as error:
            await self._send(failed(asked.command_id, refusal_of(error)))

    async def _subscribe(self, asked: Command) -> None:
        since = number(asked.params, "since") or 0
        self._joining.append(Joining(asked.command_id, Subscription.of(asked.params), since))

    async def _join(self) -> None:
        """Begin the subscriptions that were asked for, with what was before them: in order, each event once.

        A client whose connection broke asks anew for all that it had, and stops listening to all of them when one says
        that the run is over. So none may be shown the end before the others were shown what comes before it.
        """
        joining, self._joining = self._joining, []
        if not joining:
            return
        async with self._turn:
            # A client that has seen a larger number than the stream has knew an earlier stream, which Valkey has lost.
            joining = [each if each.since <= self._position else replace(each, since=0) for each in joining]
            begun = {str(uuid4()): each for each in joining}
            missed = Counter[str]()
            async for entry in self._missed(joining):
                missed.update(key for key, each in begun.items() if each.takes(entry))
            for key, each in begun.items():
                result = {"subscription_id": key, "replayed_events": missed[key]}
                await self._send(succeeded(each.command_id, result, seq=self._position))
            async for entry in self._missed(joining):
                await self._socket.send_text(shown(entry).decode())
            self._subscriptions |= {key: each.subscription for key, each in begun.items()}

    async def _missed(self, joining: list[Joining]) -> AsyncIterator[Event]:
        after = min(each.since for each in joining)
        async for entry in between(self._server, self._thread_id, after=after, upto=self._position):
            if any(each.takes(entry) for each in joining):
                yield entry

    async def _unsubscribe(self, asked: Command) -> None:
        subscription_id = asked.params.get("subscription_id")
        if not isinstance(subscription_id, str) or self._subscriptions.pop(subscription_id, None) is None:
            raise Refused("no_such_subscription", f"There is no subscription {subscription_id}")
        await self._send(succeeded(asked.command_id, {}, seq=self._position))

    async def _reconnect(self, asked: Command) -> None:
        """Say what a client has missed. Subscriptions live as long as their connection: of another, none is restored."""
        wanted = strings(asked.params, "subscriptions")
        current = await current_namespaces(self._server, self._caller, self._thread_id, asked.params)
        result: JsonObject = {
            "restored": bool(wanted) and all(item in self._subscriptions for item in wanted),
            "current_namespaces": current,
        }
        if (missed := await self._behind(asked.params.get("last_event_id"))) is not None:
            result["missed_events"] = missed
        await self._send(succeeded(asked.command_id, result, seq=self._position))

    async def _behind(self, event_id: Any) -> int | None:
        """Count the events after one; None if it is not kept."""
        found = None
        mark = dumps(event_id)
        async for entry in kept(self._server, self._thread_id, upto=self._position):
            if found is not None:
                found += 1
            elif entry.data.startswith(b'{"type":"event","event_id":%b,' % mark):
                found = 0
        return found

    async def _send_events(self) -> None:
        async for entry in follow(self._server, self._thread_id, after=self._position):
            async with self._turn:
                self._position = seq_of(entry)
                if any(subscription.takes(entry) for subscription in self._subscriptions.values()):
                    # Waits while the client does not read: what follows stays in Valkey.
                    await self._socket.send_text(shown(entry).decode())

    async def _send(self, answer: JsonObject) -> None:
        await self._socket.send_text(dumps(answer).decode())

    async def _close(self, reason: str) -> None:
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await self._send(failed(None, Refused("unknown_error", reason)))
            await self._socket.close(GONE, reason)
