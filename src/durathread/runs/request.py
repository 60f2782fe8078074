"""From the body of a request to a run that can be admitted."""

import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Annotated, Any, Literal, cast
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from uuid_utils.compat import uuid7

from durathread.config.settings import Settings
from durathread.db import assistants
from durathread.db.filters import Filter
from durathread.db.pool import Connection
from durathread.errors import BadRequest, Invalid, NotFound
from durathread.graphs.config_keys import CHECKPOINT_ADDRESS
from durathread.graphs.registry import Graphs, system_assistant_id
from durathread.records import (
    ON_INTERRUPT,
    Allowance,
    Assistant,
    JsonObject,
    NewRun,
    OnInterrupt,
    Run,
    RunOptions,
    Strategy,
    call_of,
)
from durathread.runs.policies import Terms
from durathread.workflows.messages import Limits, RunRequest

StreamMode = Literal[
    "values",
    "messages",
    "messages-tuple",
    "tasks",
    "checkpoints",
    "updates",
    "events",
    "debug",
    "custom",
    "tools",
    "lifecycle",
]
UUID_FORM = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")

RESERVED_METADATA = ("thread_id", "assistant_id", "run_id", "cron_id", "counters_since_delta_snapshot")
# Private to LangGraph: how a graph that resumes tells the graphs inside it, which RemoteGraph sends along as config.
RESUMING, RESUME_MAP = "__pregel_resuming", "__pregel_resume_map"
RESERVED_PREFIXES = ("langgraph_auth_user", "langgraph_auth_permissions", "langgraph_request_id", "__")
# What Temporal takes for a key of fairness, in bytes.
MOST_FAIRNESS = 64
# A hundred years, in seconds: what a timestamp can bear.
LONGEST_DELAY = 100 * 365 * 86400


def _uuid_text(value: str) -> str:
    if not UUID_FORM.fullmatch(value):
        raise ValueError("must be a UUID")
    return value


UuidText = Annotated[str, AfterValidator(_uuid_text)]


class Body(BaseModel):
    """A request body. Fields that it does not know are ignored; those that it knows are of their type, not like it."""

    model_config = ConfigDict(extra="ignore", strict=True)


class SendBody(Body):
    """Where a command goes, with an input of its own."""

    node: str
    input: Any = None


class CommandBody(Body):
    """What a run does to a graph besides, or instead of, giving it an input."""

    update: Any = None
    resume: Any = None
    goto: str | SendBody | list[str | SendBody] | None = None


class ConfigBody(BaseModel):
    """LangChain's config."""

    model_config = ConfigDict(extra="allow", strict=True)

    tags: list[str] | None = None
    recursion_limit: int | None = None
    metadata: dict[str, Any] | None = None
    configurable: dict[str, Any] = Field(default_factory=dict[str, Any])


class CheckpointBody(Body):
    """The address of a checkpoint; the latest of its namespace without an id."""

    thread_id: str | None = None
    checkpoint_ns: str | None = None
    checkpoint_id: UuidText | None = None
    checkpoint_map: dict[str, Any] | None = None


class RunCreate(Body):
    """A run, as `POST /threads/{thread_id}/runs` takes it."""

    assistant_id: str = Field(description="The id of an assistant, or the name of a graph.")
    input: Any = None
    command: CommandBody | None = None
    stream_mode: StreamMode | list[StreamMode] = Field(default_factory=lambda: ["values"])
    stream_subgraphs: bool = False
    stream_resumable: bool = False
    metadata: dict[str, Any] = Field(default_factory=dict[str, Any])
    config: ConfigBody = Field(default_factory=ConfigBody)
    context: dict[str, Any] = Field(default_factory=dict[str, Any])
    webhook: str | None = Field(None, description="The URL that is told of the run's end.")
    checkpoint: CheckpointBody | None = None
    checkpoint_id: UuidText | None = None
    checkpoint_during: bool | None = None
    interrupt_before: Literal["*"] | list[str] | None = None
    interrupt_after: Literal["*"] | list[str] | None = None
    multitask_strategy: Strategy | None = None
    if_not_exists: Literal["create", "reject"] = "reject"
    on_completion: Literal["delete", "keep"] | None = None
    on_disconnect: Literal["cancel", "continue"] = "continue"
    after_seconds: float = Field(0, ge=-LONGEST_DELAY, le=LONGEST_DELAY)
    durability: Literal["sync", "async", "exit"] | None = None
    strict_resume: bool = False
    feedback_keys: list[str] | None = None
    langsmith_tracer: dict[str, Any] | None = None
    on_interrupt: OnInterrupt | None = Field(
        None,
        description="Whether to repair what an interrupted run has left. The SDK says it in `config.configurable`.",
    )


def assistant_id_of(graphs: Graphs, name: str) -> UUID:
    """Return the id of an assistant that is named by its id, or by its graph.

    Raises:
        Invalid: neither a UUID nor the name of a graph.
    """
    if name in graphs:
        return system_assistant_id(name)
    if UUID_FORM.fullmatch(name):
        return UUID(name)
    raise Invalid(f"Invalid assistant '{name}': neither a UUID nor the name of a graph. Graphs: {', '.join(graphs)}")


async def find_assistant(conn: Connection, graphs: Graphs, name: str, *, visible_to: Filter | None = None) -> Assistant:
    """Find an assistant that the filter lets through by its id, or by the name of its graph.

    Raises:
        Invalid: neither a UUID nor the name of a graph.
        NotFound: no assistant has that id.
    """
    found = await assistants.get(conn, assistant_id_of(graphs, name), visible_to=visible_to)
    if found is None:
        raise NotFound("Thread or assistant not found.")
    if found.graph_id not in graphs:
        raise NotFound(f"Graph '{found.graph_id}' of assistant '{name}' not found. Graphs: {', '.join(graphs)}")
    return found


def prepare(
    body: RunCreate,
    assistant: Assistant,
    *,
    terms: Terms,
    thread_id: UUID | None,
    run_id: UUID | None = None,
    server: Mapping[str, Any] | None = None,
) -> NewRun:
    """Turn a validated body into a run; without a thread id, into a stateless one.

    Args:
        body: what the client sent.
        assistant: whom `body.assistant_id` names.
        terms: what runs are granted.
        thread_id: the thread, or None for a thread of the run's own.
        run_id: the run's id, if it is not to be minted.
        server: what the server itself puts into `configurable`.

    Raises:
        BadRequest: the body contradicts itself.
        Invalid: a key cannot be stored, the checkpoint's id is none, or the webhook is refused.
    """
    if body.webhook is not None:
        terms.webhooks.check(body.webhook)
    stateless = thread_id is None
    if stateless and body.command and body.command.resume is not None:
        raise BadRequest("You must provide a thread_id when resuming.")
    temporary = stateless and body.on_completion != "keep"
    metadata = {key: value for key, value in body.metadata.items() if key not in RESERVED_METADATA}
    config, context = _settings_of(body, assistant)
    config["configurable"] = {**config.get("configurable", {}), **_address(body), **(server or {})}
    _check_address(config["configurable"])
    fairness = config["configurable"].get(terms.fairness) if terms.fairness else None
    options = RunOptions(
        input=body.input,
        command=said(body.command.model_dump(exclude_none=True)) if body.command else None,
        config=config,
        context=context,
        stream_mode=[body.stream_mode] if isinstance(body.stream_mode, str) else list[str](body.stream_mode),
        interrupt_before=body.interrupt_before,
        interrupt_after=body.interrupt_after,
        webhook=body.webhook,
        feedback_keys=body.feedback_keys,
        temporary=temporary,
        subgraphs=body.stream_subgraphs,
        resumable=body.stream_resumable,
        checkpoint_during=body.checkpoint_during,
        durability=body.durability or ("exit" if body.checkpoint_during is False else "async"),
        strict_resume=body.strict_resume,
        fairness_key=str(fairness) if fairness else None,
        relayed_answers=_relayed_answers(body),
        langsmith_tracer=body.langsmith_tracer,
        on_interrupt=_on_interrupt(config["configurable"], assistant, terms),
    )
    user = config["configurable"].get("langgraph_auth_user_id") if terms.authenticates else None
    holder = str(options.fairness_key or user or "").replace("\x00", "")
    return NewRun(
        run_id=run_id or uuid7(),
        minted=run_id is None,
        thread_id=thread_id or uuid7(),
        assistant=assistant,
        strategy=body.multitask_strategy or "enqueue",
        metadata=metadata,
        options=options,
        after_seconds=body.after_seconds,
        create_thread=stateless or body.if_not_exists == "create",
        temporary=temporary,
        lifetime=None if temporary else terms.expiry.default,
        thread_metadata={
            **(config.get("metadata") or {}),
            **metadata,
            "graph_id": assistant.graph_id,
            "assistant_id": str(assistant.assistant_id),
        },
        allowance=Allowance(holder, terms.most_runs),
        room=Allowance(holder, terms.most_bytes),
    )


def limits_of(settings: Settings) -> Limits:
    """Return the bounds that runs are started with."""
    return Limits(
        run_timeout=settings.run_timeout,
        cancel_grace=settings.cancel_grace,
        heartbeat_timeout=settings.heartbeat_timeout,
        step_attempts=settings.step_attempts,
    )


def signal_of(run: Run, superseded: tuple[Run, ...], *, limits: Limits, nodes: list[str]) -> RunRequest:
    """Build the signal that tells a thread's workflow of an admitted run."""
    created = run.created_at.timestamp()
    delayed = run.created_at > run.updated_at
    resumes = run.options.command or run.options.input is None
    return RunRequest(
        run_id=str(run.run_id),
        thread_id=str(run.thread_id),
        assistant_id=str(run.assistant_id),
        graph_id=run.graph_id,
        strategy=run.strategy,
        seq=run.seq,
        created=created,
        due=created if delayed else 0,
        supersedes=[str(other.run_id) for other in superseded],
        temporary=run.options.temporary,
        whole=run.options.durability == "exit",
        nodes=[] if resumes else nodes,
        calls=call_of(run.attempt),
        limits=limits,
        fairness=_fairness(run),
    )


def _fairness(run: Run) -> str:
    """Name whose a run is, in the 64 bytes that Temporal allows."""
    configurable: JsonObject = run.options.configurable
    user = configurable.get("langgraph_auth_user_id")
    key = str(run.options.fairness_key or user or run.thread_id)
    return key if key.isascii() and len(key) <= MOST_FAIRNESS else sha256(key.encode("utf-8", "replace")).hexdigest()


def said(command: JsonObject) -> JsonObject:
    """Return what a command says: an empty `goto` or `update` is nothing, but LangGraph fails over it; any answer is one."""
    return {key: value for key, value in command.items() if value or key == "resume"}


def strip_reserved(values: Mapping[str, Any]) -> JsonObject:
    """Drop the keys that only the server may set.

    Raises:
        Invalid: a key has a NUL character.
    """
    for key in values:
        if "\x00" in key:
            raise Invalid("Keys must not contain NUL characters.")
    return {key: value for key, value in values.items() if not key.startswith(RESERVED_PREFIXES)}


def _relayed_answers(body: RunCreate) -> JsonObject | None:
    """Read the answers, by interrupt, of a graph that resumes and has this run's graph as a node; None if it does not."""
    configurable = body.config.configurable
    if configurable.get(RESUMING) is not True or body.command is not None:
        return None
    answers = configurable.get(RESUME_MAP)
    return cast(JsonObject, answers) if isinstance(answers, dict) else {}


def _settings_of(body: RunCreate, assistant: Assistant) -> tuple[JsonObject, JsonObject]:
    """Return config and context: each mirrors the other, and lies over the assistant's."""
    config: JsonObject = body.config.model_dump(exclude_none=True)
    configurable = strip_reserved(body.config.configurable)
    context = strip_reserved(body.context)
    asked: JsonObject = {"on_interrupt": body.on_interrupt} if body.on_interrupt else {}
    asked, configurable = {**of_server(configurable), **asked}, without_server(configurable)
    if configurable and context:
        raise BadRequest("Cannot specify both configurable and context. Prefer setting context alone.")
    if context:
        configurable = dict(context)
    elif configurable:
        context = {key: value for key, value in configurable.items() if key not in CHECKPOINT_ADDRESS}
    config["configurable"] = {**configurable, **asked}
    return config, {**assistant.context, **context}


def of_server(configurable: Mapping[str, Any]) -> JsonObject:
    """Return what `configurable` says to the server and not to a graph: it may come beside a context.

    A key of the same name with another value is the graph's own.
    """
    return {key: value for key, value in configurable.items() if key == "on_interrupt" and value in ON_INTERRUPT}


def without_server(configurable: Mapping[str, Any]) -> JsonObject:
    """Return what `configurable` says to a graph."""
    return {key: value for key, value in configurable.items() if key not in of_server(configurable)}


def _on_interrupt(configurable: JsonObject, assistant: Assistant, terms: Terms) -> OnInterrupt:
    """Decide whether a run repairs: it says so, or its assistant, or langgraph.json."""
    for said in (configurable, assistant.config.get("configurable") or {}):
        if found := of_server(said):
            return found["on_interrupt"]
    return terms.on_interrupt


def _address(body: RunCreate) -> JsonObject:
    """Return the checkpoint to start from, as `configurable` says it."""
    if body.checkpoint is not None:
        given = body.checkpoint.model_dump(include=set(CHECKPOINT_ADDRESS), exclude_none=True)
        if given.get("checkpoint_id") or given.get("checkpoint_ns"):
            return given
    return {"checkpoint_id": body.checkpoint_id} if body.checkpoint_id else {}


def _check_address(configurable: JsonObject) -> None:
    checkpoint_id = configurable.get("checkpoint_id") or ""
    # Empty, it is the latest.
    if not isinstance(checkpoint_id, str) or (checkpoint_id and not UUID_FORM.fullmatch(checkpoint_id)):
        raise Invalid("config.configurable.checkpoint_id: must be a UUID")
