"""The stream of a thread's protocol events: one Valkey stream a thread, whose entries are numbered 1, 2, 3, …

A frame is an event on its way there. Its number, `seq`, is the id of its entry: `{seq}-0`. The counter outlives the
entries, so a number is never used twice while a client may remember it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, cast
from uuid import UUID

import orjson
from redis.asyncio import Redis

from durathread.encode import event_data
from durathread.records import Run
from durathread.streams.events import BOUND, FRAMES, GAP, Event, state_key

# begin: once a run. catch_up: only beside the `begin` that was taken. event: until the run is halted or has ended. once: the
# same, once for each id. close: between the halt and the end. end: if the run has begun. finish: an end of a run that may not
# have begun. history: if the thread has no frames.
Kind = Literal["begin", "catch_up", "event", "once", "close", "end", "finish", "history"]

# Before the id of the run in those of its beginning and its end: JavaScript's client tells by it whose they are.
SYNTHETIC = "synth:"
# Between the parts of an entry's name: neither channels nor namespaces have it.
SEPARATOR = "\x1f"
SINCE_START = 0

# KEYS: the stream, its state. ARGV: the most events, the most bytes, seconds to live while a run works, seconds after its end,
# the writer and its batch; then token, run, kind, event id, name and data of each frame. The state has `seq`, since when it
# counts (`born`: Valkey may lose it), for each run `on`, `halted` or `over` and the token of the attempt that has it, what came
# `once`, the bytes of what is kept, and for each writer its last batch: one whose answer is lost comes again.
WRITE = (
    BOUND
    + """
local stream, state = KEYS[1], KEYS[2]
if tonumber(redis.call('HGET', state, ARGV[5]) or '0') >= tonumber(ARGV[6]) then return end
local fresh = redis.call('EXISTS', stream) == 0
if fresh then redis.call('HDEL', state, 'bytes') end
if redis.call('HEXISTS', state, 'seq') == 0 and not fresh then
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1]
  redis.call('HSET', state, 'seq', string.match(last[1], '^%d+'))
end
if redis.call('HLEN', state) > 100 then
  local all = redis.call('HGETALL', state)
  for i = 1, #all, 2 do
    if all[i + 1] == 'over' then redis.call('HDEL', state, all[i], all[i] .. ':owner') end
  end
end
local begun, ttl, size = {}, nil, 0
for i = 7, #ARGV, 6 do
  local token, run, kind, id = tonumber(ARGV[i]), ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local now = redis.call('HGET', state, run)
  local owner = tonumber(redis.call('HGET', state, run .. ':owner') or '0')
  local add = now ~= 'over' and now ~= 'halted' and (token == 0 or token >= owner)
  if kind == 'begin' then
    add = not now
    if add then
      begun[run] = true
      redis.call('HSET', state, run, 'on')
    end
  elseif kind == 'catch_up' then
    add = begun[run]
  elseif kind == 'once' then
    add = add and redis.call('HSETNX', state, id, 'over') == 1
  elseif kind == 'close' then
    add = now == 'halted'
  elseif kind == 'end' then
    add = now == 'on' or now == 'halted'
  elseif kind == 'finish' then
    add = now ~= 'over'
  elseif kind == 'history' then
    add = fresh
  end
  if add then
    if token > owner then redis.call('HSET', state, run .. ':owner', ARGV[i]) end
    if kind == 'end' or kind == 'finish' then redis.call('HSET', state, run, 'over') end
    ttl = (kind == 'end' or kind == 'finish' or kind == 'history') and ARGV[4] or ARGV[3]
    local seq = redis.call('HINCRBY', state, 'seq', 1)
    redis.call('XADD', stream, seq .. '-0', 'e', ARGV[i + 4], 'd', ARGV[i + 5])
    size = size + #ARGV[i + 5]
  end
end
if ttl then
  local time = redis.call('TIME')
  redis.call('HSETNX', state, 'born', time[1] .. '.' .. time[2])
  bound(stream, state, size, tonumber(ARGV[1]), tonumber(ARGV[2]))
  redis.call('HSET', state, ARGV[5], ARGV[6])
  redis.call('EXPIRE', stream, ttl)
  redis.call('EXPIRE', state, ARGV[3])
end
"""
)

# KEYS: the state. ARGV: a run. From now on only those who end it write of it. Answers whether there is something to end.
HALT = """
local now = redis.call('HGET', KEYS[1], ARGV[1])
if now == 'on' then redis.call('HSET', KEYS[1], ARGV[1], 'halted') end
return (now == 'on' or now == 'halted') and 1 or 0
"""


@dataclass(frozen=True, slots=True)
class Named:
    """The ids of a run."""

    thread_id: str
    run_id: str

    @classmethod
    def of(cls, run: Run) -> "Named":
        """Name a run as frames do."""
        return cls(str(run.thread_id), str(run.run_id))


@dataclass(frozen=True, slots=True)
class Frame:
    """An event of the protocol, as it is written: `data` is its JSON without `seq`."""

    thread_id: str
    run_id: str
    kind: Kind
    event_id: str
    name: str
    data: bytes


def frame(
    run: Named,
    kind: Kind,
    event_id: str,
    *,
    method: str,
    data: Any,
    namespace: Sequence[str] = (),
    node: str | None = None,
    channel: str | None = None,
    gap: bool = False,
) -> Frame:
    """Build a frame.

    Args:
        run: whose event it is.
        kind: when it is written.
        event_id: unique for all time; clients that are shown an event twice know it by this.
        method: as in the protocol.
        data: as in the protocol.
        namespace: of the subgraph.
        node: that produced it.
        channel: that it is on, if it is not named like the method.
        gap: whether it stands where events are missing.
    """
    params: dict[str, Any] = {"namespace": list(namespace), "timestamp": int(time.time() * 1000), "data": data}
    if node is not None:
        params["node"] = node
    if gap:
        params["gap"] = True
    encoded = event_data(
        {"type": "event", "event_id": event_id, "method": method, "params": params},
        otherwise=lambda said: {
            "type": "event",
            "event_id": event_id,
            "method": method,
            "params": {**params, "data": {"payload": said} if method == "custom" else said},
        },
    )
    name = SEPARATOR.join((channel or method, *namespace))
    return Frame(run.thread_id, run.run_id, kind, event_id, name, encoded)


def beginning(run: Named) -> str:
    """Name the event that says that a run has begun."""
    return f"{SYNTHETIC}{run.run_id}:running"


def is_beginning(entry: Event) -> bool:
    """Whether an entry is the first of a run."""
    if not entry.name.startswith("lifecycle"):
        return False
    event_id: str = orjson.loads(entry.data)["event_id"]
    return event_id.startswith(SYNTHETIC) and event_id.endswith(":running")


def is_of(event_id: str, run_id: str) -> bool:
    """Whether an event is one of a run."""
    return event_id.removeprefix(SYNTHETIC).startswith(run_id)


def running(run: Named, graph_name: str) -> Frame:
    """Say that a run has begun."""
    data = {"event": "running", "graph_name": graph_name}
    return frame(run, "begin", beginning(run), method="lifecycle", data=data)


def over(
    run: Named, event: str, *, graph_name: str, kind: Kind = "end", error: str | None = None, status: str | None = None
) -> Frame:
    """Say how a run has ended: `completed`, `failed`, or `interrupted` if a question waits; `status` says what cut it."""
    data = {"event": event, "graph_name": graph_name}
    if error is not None:
        data["error"] = error
    if status is not None:
        data["status"] = status
    return frame(run, kind, f"{SYNTHETIC}{run.run_id}:ended", method="lifecycle", data=data)


def requested(run: Named, interrupt: dict[str, Any], *, namespace: Sequence[str] = (), kind: Kind = "once") -> Frame:
    """Ask for the answer to an interrupt. `payload` is what the protocol and JavaScript say, `value` what Python reads."""
    data = {"interrupt_id": interrupt["id"], "payload": interrupt["value"], "value": interrupt["value"]}
    return frame(
        run,
        kind,
        f"{run.run_id}-{interrupt['id']}",
        method="input.requested",
        data=data,
        namespace=namespace,
        channel="input",
    )


def gap(before: Frame) -> Frame:
    """Say that events are missing before one."""
    return replace(before, kind="event", event_id=f"{before.run_id}-gap", name=GAP, data=b"{}")


def speaks_protocol(run: Run) -> bool:
    """Whether a run was started by the protocol."""
    return run.options.protocol


def ending(run: Run, status: str, *, asks: bool = False, error: str | None = None, alone: bool = False) -> list[Frame]:
    """Say how a run has ended.

    Args:
        run: which was in flight.
        status: its final status.
        asks: whether it has left questions.
        error: its text.
        alone: whether no other run of its thread says anything instead of one that never began.
    """
    name = Named.of(run)
    if status in ("error", "timeout"):
        said = over(name, "failed", graph_name=run.graph_id, kind="finish", error=error or status)
        # Also if it never began: who has started it waits for its end.
        return [running(name, run.graph_id), said] if speaks_protocol(run) else [replace(said, kind="end")]
    cut = status if status != "success" else None
    if cut and alone and speaks_protocol(run):
        return [
            running(name, run.graph_id),
            over(name, "completed", graph_name=run.graph_id, kind="finish", status=cut),
        ]
    return [over(name, "interrupted" if asks else "completed", graph_name=run.graph_id, status=cut)]


def frames_subject(thread_id: UUID | str) -> str:
    """Name the frames of a thread where runs are named by their ids."""
    return f"{FRAMES}{thread_id}"


def parts(entry: Event) -> tuple[str, list[str]]:
    """Read the channel and the namespace from an entry's name."""
    channel, *namespace = entry.name.split(SEPARATOR)
    return channel, namespace


def seq_of(entry: Event) -> int:
    """Read an entry's number."""
    return int(entry.event_id.partition("-")[0])


def shown(entry: Event) -> bytes:
    """Render an entry as clients see it."""
    return b'%b,"seq":%d}' % (entry.data[:-1], seq_of(entry))


async def counting(redis: "Redis", thread_id: UUID | str) -> tuple[int, str | None]:
    """Return the number of the newest frame of a thread, and since when they are counted.

    Raises:
        RedisError: Valkey is unavailable.
    """
    seq, born = await cast(Any, redis.hmget(state_key(frames_subject(thread_id)), ["seq", "born"]))
    return int(seq or 0), born and born.decode()


async def last_seq(redis: "Redis", thread_id: UUID | str) -> int:
    """Return the number of the newest frame of a thread; 0 if it never had one.

    Raises:
        RedisError: Valkey is unavailable.
    """
    found = await cast(Any, redis.hget(state_key(frames_subject(thread_id)), "seq"))
    return int(found or 0)
