"""Everything that is sent to a workflow, carried by one, or passed to an activity: ids and small options only."""

from dataclasses import dataclass, field
from typing import Any

# Names on the wire. Workflows call activities by name, so that they import no effects.
THREAD = "Thread"
RUN = "Run"
SWEEP = "Sweep"
WEBHOOK = "Webhook"
CRON = "Cron"
EXPIRE = "Expire"

ADMIT = "admit"
STEP = "step"
SETTLE = "settle"
FORGET = "forget"
AWAIT_RUN = "await_run"
SWEEP_RUNS = "sweep"
HELD = "held"
DELIVER = "deliver"
DISCARD = "discard"
FIRE = "fire"
SWEEP_CRONS = "sweep_crons"
EXPIRE_THREADS = "expire"
ACTIVITIES = (
    ADMIT,
    STEP,
    SETTLE,
    FORGET,
    AWAIT_RUN,
    SWEEP_RUNS,
    DELIVER,
    DISCARD,
    FIRE,
    SWEEP_CRONS,
    EXPIRE_THREADS,
)

# Failure types.
UNAVAILABLE = "Unavailable"
# With the class and the text that the world may read.
FAILED = "Failed"
HANDED_BACK = "HandedBack"
# A detail of one that was handed back because its graph had not come to the end that it told of.
UNENDED = "Unended"
REFUSED = "Refused"
SUPERSEDED = "Superseded"
UNDELIVERED = "Undelivered"
UNDELIVERABLE = "Undeliverable"


@dataclass(frozen=True)
class Limits:
    """Bounds on a run. Times are in seconds."""

    run_timeout: float = 86400
    cancel_grace: float = 2
    heartbeat_timeout: float = 10
    # How many workers a step may take down.
    step_attempts: int = 3


@dataclass(frozen=True)
class RunRequest:
    """A run to execute on a thread.

    The API admits a run before it signals it, and sends its admission number as `seq`. Anybody else leaves `seq` at 0
    and says in `payload` what the run is (the body of `POST /threads/{id}/runs`); the thread then admits it. Where users are
    authenticated, langgraph.json must allow that, and `user` in the payload says whose the run is.
    """

    run_id: str
    thread_id: str = ""
    assistant_id: str = ""
    graph_id: str = ""
    strategy: str = "enqueue"
    seq: int = 0
    # When the run was admitted, and when it may start (0 for at once), as Unix times in seconds.
    created: float = 0
    due: float = 0
    # Runs that this one ended when it was admitted.
    supersedes: list[str] = field(default_factory=list[str])
    temporary: bool = False
    # Run all supersteps in one activity: `durability="exit"` asks for no checkpoint in between.
    whole: bool = False
    # The nodes that the first step will run, as far as known.
    nodes: list[str] = field(default_factory=list[str])
    # Of an earlier life of the run: the number of step calls made, the step to go on with, its limit, and the seconds spent.
    calls: int = 0
    step: int = 0
    limit: int | None = None
    spent: float = 0
    counts: dict[str, Any] = field(default_factory=dict[str, Any])
    at: int | None = None
    limits: Limits = Limits()
    payload: dict[str, Any] | None = None
    # Whether RunStatus is shown only where Temporal's own status does not say it; those that were started before show it always.
    terse: bool = False
    # Whose the run is: those of one wait for each other before they make others wait.
    fairness: str = ""


@dataclass(frozen=True)
class Cancellation:
    """Runs of a thread that have been ended in the database and shall stop."""

    run_ids: list[str]
    reason: str = ""


@dataclass(frozen=True)
class Closing:
    """The deletion of a thread: `upto` is the largest admission number of the runs that it had in flight."""

    upto: int = 0


@dataclass(frozen=True)
class Ended:
    """The outcome of a run, for people who look at a thread."""

    run_id: str
    status: str


@dataclass
class ThreadState:
    """All that a thread carries from one workflow run to the next."""

    # Signalled by somebody other than the API, and still to be admitted.
    arrivals: list[RunRequest] = field(default_factory=list[RunRequest])
    queue: list[RunRequest] = field(default_factory=list[RunRequest])
    # The last runs that ended, so that a signal that comes twice changes nothing.
    ended: list[Ended] = field(default_factory=list[Ended])
    active: RunRequest | None = None
    closed: bool = False


@dataclass(frozen=True)
class StepInput:
    """A step to make: a superstep, and those after it that are short. `call` grows with each call that the run's workflow makes."""

    run_id: str
    step: int
    call: int
    cancel_grace: float = 2
    heartbeat_timeout: float = 10
    whole: bool = False
    # How often the graph may still look for tasks before the recursion limit is reached; None in the first step.
    limit: int | None = None
    # How many workers it may take down.
    attempts: int = 3
    # What the graph counts beside its checkpoints, by channel.
    counts: dict[str, Any] = field(default_factory=dict[str, Any])
    # Whether it was handed back before as not ended: it fails its run if it is so again. None of a version that does not say.
    again: bool | None = None
    # LangGraph's number of the checkpoint that it goes on from; None in the first step, or of a version that does not say.
    at: int | None = None


@dataclass(frozen=True)
class Ran:
    """A superstep that a step has run: its nodes, and how long they took, in seconds."""

    nodes: str
    seconds: float


@dataclass(frozen=True)
class StepOutcome:
    """How a step ended: `continue`, the final status of the run, or `superseded` if the run is not ours any more."""

    status: str
    # The nodes of the next step, and the limit for it.
    nodes: list[str] = field(default_factory=list[str])
    limit: int | None = None
    # What failed, for those who look at the workflow: the class, what may be read of the text, and the node.
    error: str = ""
    node: str = ""
    # What the graph counts beside its checkpoints, for the next step.
    counts: dict[str, Any] = field(default_factory=dict[str, Any])
    # For those who look at the workflow: what has run.
    ran: list[Ran] = field(default_factory=list[Ran])
    # LangGraph's number of the checkpoint that the next step goes on from.
    at: int | None = None


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended."""

    run_id: str
    status: str


@dataclass(frozen=True)
class Settlement:
    """A run that ended without its step writing so: cancelled, timed out, or failed."""

    run_id: str
    status: str
    error: str = ""
    message: str = ""
    thread_id: str = ""
    # Whether the step that failed has logged it.
    logged: bool = False


@dataclass(frozen=True)
class Sweep:
    """Runs in flight that nothing has touched for `age` seconds shall be signalled again."""

    age: float = 15
    limit: int = 200
    limits: Limits = Limits()
    # Whether crons are compared with their schedules, too.
    crons: bool = True


@dataclass(frozen=True)
class Patience:
    """How long, and how often, a webhook is tried. Times are in seconds."""

    timeout: float = 30
    first_wait: float = 1
    longest_wait: float = 300
    give_up: float = 86400


@dataclass(frozen=True)
class Delivery:
    """A run whose end its webhook shall be told of."""

    run_id: str
    patience: Patience = Patience()


@dataclass(frozen=True)
class Delivered:
    """What the receiver of a webhook answered: its HTTP status; 0 if nothing was owed any more."""

    run_id: str
    status: int


@dataclass(frozen=True)
class CronTick:
    """A cron that is due."""

    cron_id: str
    # Whether the workflow has attributes of its outcome only if no run came of it; schedules of earlier versions set them always.
    terse: bool = False


@dataclass(frozen=True)
class CronFiring:
    """A time at which a cron was due, as a Unix time in seconds."""

    cron_id: str
    due: float


@dataclass(frozen=True)
class Fired:
    """What came of a firing: `admitted`, `refused`, or `skipped` because the cron has ended or gone."""

    status: str
    run_id: str = ""
    thread_id: str = ""
    graph_id: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Expiration:
    """Threads that have outlived their lifetime shall go, at most `limit` at a time."""

    limit: int = 1000
