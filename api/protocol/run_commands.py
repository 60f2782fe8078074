"""Commands of the protocol that start runs."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

from pydantic import ValidationError

from durathread.api.auth.authorization import Caller
from durathread.api.deps import Server
from durathread.api.http.envelopes import Refused
from durathread.api.services.launch import allow, deliver, found, missing_start, named_by
from durathread.db import admission, idempotency, runs, threads
from durathread.db.admission import Admission
from durathread.db.filters import Filter
from durathread.db.pool import Connection, connection, transaction
from durathread.records import STRATEGIES, JsonObject, Run, Thread
from durathread.runs.request import CHECKPOINT_ADDRESS, UUID_FORM, RunCreate, strip_reserved

# What those see who watch such a run over v1. The protocol's own events are worked out besides.
STREAM_MODES = ["values", "updates", "messages-tuple", "custom"]
ROLES = {"user": "human", "system": "system"}

Decide = Callable[[Thread | None, Sequence[Run]], JsonObject]


async def run_start(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Start a run. On a thread whose interrupts wait for an answer, the input is that answer, unless it forks."""
    if not isinstance(params.get("assistant_id"), str):
        raise Refused("invalid_argument", "Invalid assistant_id: must be the id of an assistant or the name of a graph")
    config = _object(params, "config")
    strategy = params.get("multitaskStrategy", params.get("multitask_strategy"))
    shared: JsonObject = {
        "assistant_id": params["assistant_id"],
        "config": config,
        "metadata": _object(params, "metadata"),
        "langsmith_tracer": _object(params, "langsmith_tracer") or None,
        "multitask_strategy": strategy if strategy in STRATEGIES else "enqueue",
    }
    forks = _object(config, "configurable").get("checkpoint_id") is not None

    def decide(thread: Thread | None, _: Sequence[Run]) -> JsonObject:
        given = params.get("input")
        waits = thread is not None and thread.status == "interrupted" and bool(thread.interrupts)
        if given is not None and waits and not forks:
            return {**shared, "command": {"resume": given}}
        return {**shared, "input": given}

    return {"run_id": str((await _start(server, caller, thread_id, decide)).run_id)}


async def input_respond(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Answer interrupts, and go on."""
    answers = _answers(params)

    def decide(thread: Thread | None, latest: Sequence[Run]) -> JsonObject:
        if thread is None or not latest:
            raise Refused("no_such_run", f"Thread {thread_id} has no run that waits for an answer")
        _require_waiting(thread, latest, answers)
        command = {"resume": answers, "update": params.get("update"), "goto": params.get("goto")}
        return {**_as_before(latest[0], params), "command": command, "strict_resume": True}

    await _start(server, caller, thread_id, decide, visible_to=await caller.may_read(thread_id))
    return {}


async def input_inject(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Add a message to the conversation: a run takes it when those before it are through."""
    message = _object(params, "message")
    if params.get("namespace"):
        raise Refused("no_such_namespace", "Messages can be injected at the root only")
    if message.get("role") not in ROLES or not isinstance(message.get("content"), str):
        raise Refused("invalid_argument", "Invalid message: must have a role, user or system, and content, a string")

    def decide(thread: Thread | None, latest: Sequence[Run]) -> JsonObject:
        if thread is None or not latest:
            raise Refused("no_such_run", f"Thread {thread_id} has no run to inject a message into")
        injected = {**message, "role": ROLES[message["role"]]}
        return {**_as_before(latest[0], params), "input": {"messages": [injected]}}

    await _start(server, caller, thread_id, decide, visible_to=await caller.may_read(thread_id))
    return {}


async def state_fork(server: Server, caller: Caller, thread_id: UUID, params: JsonObject) -> JsonObject:
    """Start a run from an earlier checkpoint of the thread."""
    checkpoint_id = params.get("checkpoint_id")
    if not isinstance(checkpoint_id, str):
        raise Refused("invalid_argument", "Invalid checkpoint_id: must be the id of a checkpoint")
    if not UUID_FORM.fullmatch(checkpoint_id):
        raise Refused("no_such_checkpoint", f"Thread {thread_id} has no checkpoint {checkpoint_id}")
    config = _object(params, "config")
    config["configurable"] = {**_object(config, "configurable"), "checkpoint_id": checkpoint_id}

    def decide(thread: Thread | None, latest: Sequence[Run]) -> JsonObject:
        if thread is None or not latest:
            raise Refused("no_such_checkpoint", f"Thread {thread_id} has no checkpoint {checkpoint_id}")
        return {**_as_before(latest[0], {**params, "config": config}), "input": params.get("input")}

    visible_to = await caller.may_read(thread_id)
    async with connection(server.pool) as conn:
        known = await threads.find(conn, thread_id, visible_to=visible_to)
        if known is None or not await threads.has_checkpoint(conn, thread_id, checkpoint_id):
            raise Refused("no_such_checkpoint", f"Thread {thread_id} has no checkpoint {checkpoint_id}")
    run = await _start(server, caller, thread_id, decide, visible_to=visible_to)
    return {"run_id": str(run.run_id), "thread_id": str(thread_id)}


async def _start(
    server: Server, caller: Caller, thread_id: UUID, decide: Decide, *, visible_to: Filter | None = None
) -> Run:
    """Admit the run that `decide` asks for, knowing the thread and its latest runs, and send it.

    One that the same request has made before is found instead: nothing may be left to decide by now.
    """
    await server.require_temporal()
    admitted = await _made(server, caller)
    while admitted is None:
        try:
            admitted = await _admitted(server, caller, thread_id, decide, visible_to=visible_to)
        except Refused:
            # A repetition may have been faster.
            admitted = await _made(server, caller)
            if admitted is None:
                raise
    await deliver(server, admitted, key=caller.key)
    return admitted.run


async def _admitted(
    server: Server, caller: Caller, thread_id: UUID, decide: Decide, *, visible_to: Filter | None
) -> Admission | None:
    """Admit a run; None if the thread has changed meanwhile, so that something else is to be decided."""
    async with connection(server.pool) as conn:
        thread = await threads.find(conn, thread_id, visible_to=visible_to)
        asked = decide(thread, await _latest(conn, thread))
    allowed = named_by(caller, await allow(server, caller, _body(asked), thread_id=thread_id))
    new = replace(allowed.new, options=replace(allowed.new.options, protocol=True))
    async with transaction(server.pool) as conn:
        # Locked now: what was decided must still be so when the run is admitted.
        thread = await threads.lock(conn, thread_id, visible_to=visible_to)
        if decide(thread, await _latest(conn, thread)) != asked:
            return None
        if await idempotency.begin(conn, caller.key):
            return await found(conn, new)
        admitted = await admission.admit(conn, new, visible_to=allowed.visible_to)
        if missing := await missing_start(conn, new):
            raise Refused("no_such_checkpoint", f"Thread {thread_id} has no checkpoint {missing}")
        return admitted


async def _made(server: Server, caller: Caller) -> Admission | None:
    """Find the run that the same request has made before."""
    if caller.key is None:
        return None
    async with connection(server.pool) as conn:
        if not await idempotency.is_made(conn, caller.key):
            return None
        run = await runs.get(conn, caller.key.named("run 0"))
    if run is None:
        raise Refused("no_such_run", "The run that this Idempotency-Key has made is gone.")
    return Admission(run, (), known=True)


async def _latest(conn: Connection, thread: Thread | None) -> list[Run]:
    return await runs.heads(conn, thread.thread_id) if thread else []


def _body(asked: JsonObject) -> RunCreate:
    fixed = {
        "if_not_exists": "create",
        "on_completion": "keep",
        "stream_mode": STREAM_MODES,
        "stream_subgraphs": True,
        "stream_resumable": True,
    }
    try:
        return RunCreate.model_validate({**asked, **fixed})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Refused("invalid_argument", f"{where}: {first['msg']}") from error


def _answers(params: JsonObject) -> JsonObject:
    """Read the answers of a response, by interrupt."""
    entries = params.get("responses", [params])
    if not isinstance(entries, list) or not entries:
        raise Refused("invalid_argument", "Invalid responses: must be a list of at least one response")
    answers: JsonObject = {}
    for entry in cast(list[Any], entries):
        interrupt_id = cast(JsonObject, entry).get("interrupt_id") if isinstance(entry, dict) else None
        if not isinstance(interrupt_id, str):
            raise Refused("invalid_argument", "Invalid interrupt_id: must be the id of an interrupt")
        if interrupt_id in answers:
            raise Refused("invalid_argument", f"Interrupt {interrupt_id} is answered twice")
        answers[interrupt_id] = cast(JsonObject, entry).get("response")
    return answers


def _require_waiting(thread: Thread, latest: Sequence[Run], answers: JsonObject) -> None:
    waiting = {interrupt["id"] for found in (thread.interrupts or {}).values() for interrupt in found}
    for run in latest:
        resume = (run.options.command or {}).get("resume") if run.in_flight else None
        if resume is not None:
            # Another answer is on its way; one that names no interrupt answers all.
            waiting -= set(cast(JsonObject, resume)) if isinstance(resume, dict) else waiting
    if missing := [interrupt_id for interrupt_id in answers if interrupt_id not in waiting]:
        raise Refused("no_such_interrupt", f"No interrupt {', '.join(missing)} waits for an answer")


def _as_before(run: Run, params: JsonObject) -> JsonObject:
    """Describe a run like the one before, with what the parameters say over its config."""
    before: JsonObject = dict(run.options.config)
    # Of an assistant's config, which runs do not look at.
    if not isinstance(before.get("metadata"), dict):
        before.pop("metadata", None)
    over = _object(params, "config")
    configurable = {
        key: value
        for key, value in strip_reserved(before.get("configurable") or {}).items()
        if key not in CHECKPOINT_ADDRESS
    }
    merged = {**before, **over, "configurable": {**configurable, **_object(over, "configurable")}}
    return {"assistant_id": str(run.assistant_id), "config": merged, "metadata": _object(params, "metadata")}


def _object(params: JsonObject, name: str) -> JsonObject:
    value = params.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refused("invalid_argument", f"Invalid {name}: must be an object")
    return dict(cast(JsonObject, value))
