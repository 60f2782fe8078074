"""Events of a run, as they stand in its Valkey stream."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson

# One channel for all runs: a message names the runs that have news, and the status of those that have ended.
NEWS = "durathread:news"
# Before all events.
START = "0-0"
END = "end"
# Stands where events are missing: a worker could not hand them over, or Valkey does not have them any more.
GAP = "gap"
THREAD = "thread:"
# Subjects that are no runs: the marks of a thread, and its protocol events.
FRAMES = "frames:"


# Part of both scripts that write: keeps a stream within its bounds. The oldest entries go, the newest stays.
BOUND = """
local function bound(stream, state, added, most, most_bytes)
  local bytes, length = redis.call('HINCRBY', state, 'bytes', added), redis.call('XLEN', stream)
  local before = bytes
  while length > 1 and (length > most or bytes > most_bytes) do
    local oldest = redis.call('XRANGE', stream, '-', '+', 'COUNT', 1)[1]
    redis.call('XDEL', stream, oldest[1])
    bytes, length = bytes - #oldest[2][4], length - 1
  end
  if bytes ~= before then redis.call('HSET', state, 'bytes', math.max(bytes, 0)) end
end
"""

# KEYS: the stream, its state. ARGV: the most events, the most bytes, seconds to live, the writer and its batch; then token, name
# and data of each event. The state has the token of the attempt that has the run, which is beyond all of them when the run has
# ended: an attempt that was superseded, and wakes up, says nothing more. For each writer it has its last batch: one whose answer
# is lost comes again. And the bytes of what is kept.
WRITE = (
    BOUND
    + """
local stream, state = KEYS[1], KEYS[2]
if tonumber(redis.call('HGET', state, ARGV[4]) or '0') >= tonumber(ARGV[5]) then return end
local owner, added, size = tonumber(redis.call('HGET', state, 'owner') or '0'), false, 0
if redis.call('EXISTS', stream) == 0 then redis.call('HDEL', state, 'bytes') end
for i = 6, #ARGV, 3 do
  local token, ends = tonumber(ARGV[i]), ARGV[i + 1] == 'end'
  if (token == 0 or token >= owner) and not (ends and owner == 2^53) then
    owner = ends and 2^53 or math.max(owner, token)
    redis.call('XADD', stream, '*', 'e', ARGV[i + 1], 'd', ARGV[i + 2])
    added, size = true, size + #ARGV[i + 2]
  end
end
if added then
  bound(stream, state, size, tonumber(ARGV[1]), tonumber(ARGV[2]))
  redis.call('HSET', state, 'owner', string.format('%.0f', owner), ARGV[4], ARGV[5])
  redis.call('EXPIRE', stream, ARGV[3])
  redis.call('EXPIRE', state, ARGV[3])
end
"""
)


@dataclass(frozen=True, slots=True)
class Said:
    """An event on its way to a stream. An attempt at a run says whose it is by its token; others, by 0, are always heard."""

    subject: str
    name: str
    data: bytes
    token: int = 0


@dataclass(frozen=True, slots=True)
class Event:
    """One event: `name` as in `event:`, `data` as the JSON of `data:`, `event_id` as in `id:`."""

    event_id: str
    name: str
    data: bytes

    @property
    def mode(self) -> str:
        """The name without the namespace of a subgraph."""
        return self.name.partition("|")[0]


@dataclass(frozen=True, slots=True)
class News:
    """What a message on the news channel says: runs with new events, and runs that have ended."""

    runs: tuple[str, ...]
    ended: dict[str, str]

    def encode(self) -> bytes:
        """Encode for the wire."""
        return orjson.dumps([self.runs, self.ended])

    @classmethod
    def decode(cls, data: bytes) -> "News":
        """Decode from the wire."""
        runs, ended = orjson.loads(data)
        return cls(tuple(runs), ended)


def stream_key(subject: UUID | str) -> str:
    """Name the Valkey stream of a run, or of a thread's subject."""
    return f"durathread:{subject}" if str(subject).startswith((THREAD, FRAMES)) else f"durathread:run:{subject}"


def state_key(subject: UUID | str) -> str:
    """Name what is remembered beside a stream."""
    return f"{stream_key(subject)}:state"


def thread_subject(thread_id: UUID | str) -> str:
    """Name a thread where runs are named by their ids."""
    return f"{THREAD}{thread_id}"


def settled(run_id: UUID | str) -> str:
    """Name, on the news channel, that a thread shows what an ended run has left."""
    return f"settled:{run_id}"


def end_data(run_id: UUID | str, status: str) -> dict[str, Any]:
    """Build the data of the event that ends a stream."""
    return {"run_id": str(run_id), "status": status}
