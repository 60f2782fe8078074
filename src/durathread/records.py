"""The rows that the server keeps, as every layer passes them around."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

Json = Any
JsonObject = dict[str, Any]

RunStatus = Literal["pending", "running", "success", "error", "timeout", "interrupted"]
ThreadStatus = Literal["idle", "busy", "interrupted", "error"]
Strategy = Literal["reject", "enqueue", "interrupt", "rollback"]

OnRunCompleted = Literal["delete", "keep"]
LifetimeStrategy = Literal["delete", "keep_latest"]

IN_FLIGHT: tuple[RunStatus, ...] = ("pending", "running")
STRATEGIES: tuple[Strategy, ...] = ("reject", "enqueue", "interrupt", "rollback")

OnInterrupt = Literal["keep", "repair"]
ON_INTERRUPT: tuple[OnInterrupt, ...] = ("keep", "repair")
# Where the metadata of a checkpoint says what the server made it for, and for which run.
REPAIR = "durathread"

# How far the tokens of two calls of a step are apart: Temporal numbers the attempts at a call from 1, without a limit.
ATTEMPTS = 1_000_000


def token_of(call: int, attempt: int) -> int:
    """Return the token of an attempt at a call of a step. Tokens grow with both."""
    return call * ATTEMPTS + min(attempt, ATTEMPTS - 1)


def call_of(token: int) -> int:
    """Return the call of a step that a token was made for."""
    return token // ATTEMPTS


@dataclass(frozen=True)
class Assistant:
    """A graph with a configuration."""

    assistant_id: UUID
    graph_id: str
    name: str
    description: str | None
    config: JsonObject
    context: JsonObject
    metadata: JsonObject
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True)
class Thread:
    """A conversation: what is known of it while no run works."""

    thread_id: UUID
    status: ThreadStatus
    resting: ThreadStatus
    metadata: JsonObject
    config: JsonObject
    values: Json
    interrupts: JsonObject | None
    error: JsonObject | None
    ended_started_at: datetime | None
    ended_run_id: UUID | None
    temporary: bool
    hidden: bool
    created_at: datetime
    updated_at: datetime
    state_updated_at: datetime


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked to do, and how. The column `kwargs` holds it as JSON, which clients know by that name."""

    input: Json = None
    command: JsonObject | None = None
    config: JsonObject = field(default_factory=dict[str, Any])
    context: JsonObject | None = None
    stream_mode: list[str] = field(default_factory=lambda: ["values"])
    interrupt_before: Literal["*"] | list[str] | None = None
    interrupt_after: Literal["*"] | list[str] | None = None
    webhook: str | None = None
    feedback_keys: list[str] | None = None
    temporary: bool = False
    subgraphs: bool = False
    resumable: bool = False
    checkpoint_during: bool | None = None
    durability: Literal["sync", "async", "exit"] = "async"

    # What follows is stored only where it is set.
    strict_resume: bool = False
    protocol: bool = False
    fairness_key: str | None = None
    relayed_answers: JsonObject | None = None
    langsmith_tracer: JsonObject | None = None
    on_interrupt: OnInterrupt = "keep"
    # What its webhooks are signed with.
    webhook_secret: str | None = None
    # The runs that wait for it, the one that began first: they may be another user's.
    callers: list[str] | None = None
    # Keys that handlers of users have added.
    more: JsonObject = field(default_factory=dict[str, Any])

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> "RunOptions":
        """Decode what is stored. A reader that needs no input may leave it out."""
        known = {name: stored[name] for name in OPTIONS if stored.get(name) is not None}
        return cls(**known, more={name: value for name, value in stored.items() if name not in OPTIONS})

    def json(self) -> JsonObject:
        """Encode the options as they are stored and shown."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {
            **{name: value for name, value in values.items() if name not in RARE or value != DEFAULTS[name]},
            **self.more,
        }

    @property
    def configurable(self) -> JsonObject:
        """What the run's graph finds as `configurable`."""
        return self.config.get("configurable") or {}


RARE = (
    "strict_resume",
    "protocol",
    "fairness_key",
    "relayed_answers",
    "langsmith_tracer",
    "webhook_secret",
    "callers",
    "on_interrupt",
)
DEFAULTS = {option.name: option.default for option in fields(RunOptions)}
OPTIONS = tuple(option.name for option in fields(RunOptions) if option.name != "more")


@dataclass(frozen=True)
class Run:
    """One execution of an assistant on a thread."""

    run_id: UUID
    thread_id: UUID
    assistant_id: UUID
    graph_id: str
    seq: int
    status: RunStatus
    strategy: Strategy
    metadata: JsonObject
    options: RunOptions
    error: JsonObject | None
    checkpoint_id: str | None
    attempt: int
    step: int
    repeated: bool
    retries: int
    opening: JsonObject | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    # How many workers have died while they were at this step.
    deaths: int = 0

    @property
    def in_flight(self) -> bool:
        """Whether the run is pending or running."""
        return self.status in IN_FLIGHT


@dataclass(frozen=True)
class Lifetime:
    """What becomes of a thread that nobody has touched for so many minutes."""

    minutes: float
    strategy: LifetimeStrategy = "delete"


@dataclass(frozen=True)
class Allowance:
    """Who is asked to account for something, and how many of them they may have; None for any number."""

    holder: str = ""
    most: int | None = None


@dataclass(frozen=True)
class NewRun:
    """A run that asks to be admitted."""

    run_id: UUID
    thread_id: UUID
    assistant: Assistant
    strategy: Strategy
    metadata: JsonObject
    options: RunOptions
    after_seconds: float = 0
    create_thread: bool = False
    temporary: bool = False
    # What its thread gets if that is made for it.
    lifetime: Lifetime | None = None
    thread_metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    allowance: Allowance = Allowance()
    # How many bytes whoever has the thread may have stored.
    room: Allowance = Allowance()
    # Whether its id was made up just now: nobody has asked for it before.
    minted: bool = False


@dataclass(frozen=True)
class Cron:
    """A run that is started again and again: on its thread, or on a new one each time."""

    cron_id: UUID
    assistant_id: UUID
    thread_id: UUID | None
    user_id: str | None
    # What the server puts into the `configurable` and the metadata of each run: whose it is.
    configurable: JsonObject
    stamp: JsonObject
    schedule: str
    timezone: str | None
    end_time: datetime | None
    enabled: bool
    on_run_completed: OnRunCompleted | None
    payload: JsonObject
    metadata: JsonObject
    next_run_date: datetime | None
    # Whether its schedule in Temporal says the same.
    scheduled: bool
    # When that schedule must be told of further times; None if it goes on by itself.
    refill_at: datetime | None
    created_at: datetime
    updated_at: datetime
