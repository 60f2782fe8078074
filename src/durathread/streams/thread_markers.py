"""The stream of a thread: marks that say, in order, which runs began and what else happened.

The events of a run are in the run's own stream, once. An event id on a thread's stream is `{mark}-{event}`: the place of
the mark among the thread's marks, and that of the event among the run's, each as one number. So ids are unique and
grow, and each says where to go on.
"""

import contextlib
import re
from uuid import UUID

from redis.exceptions import RedisError

from durathread.encode import dumps
from durathread.errors import Invalid
from durathread.records import Json, Run
from durathread.streams.closing_frames import closing, halted
from durathread.streams.events import Said, thread_subject
from durathread.streams.frames import Named, ending
from durathread.streams.publisher import Publisher

RUN = "run"
DONE = "done"
STATE = "state"

SEQUENCES = 10**6
# Behind every event of a run.
LAST = 10**19 - 1
FORM = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}|\*))?")
# Numbers with fewer digits are milliseconds: ids as the streams of runs have them.
DIGITS = 16


def number(entry_id: str) -> int:
    """Turn the id of an entry, `{milliseconds}-{sequence}`, into one number of the same order."""
    milliseconds, _, sequence = entry_id.partition("-")
    return int(milliseconds) * SEQUENCES + int(sequence or 0)


def entry_id(number: int) -> str:
    """Turn a number back into the id of an entry."""
    return f"{number // SEQUENCES}-{number % SEQUENCES}"


def event_id(mark: str, event: int) -> str:
    """Build an id on a thread's stream."""
    return f"{number(mark)}-{event}"


def parse(value: str) -> tuple[int, int]:
    """Read the `Last-Event-ID` of a thread's stream: the numbers of the mark and of the event.

    Raises:
        Invalid: no event has such an id.
    """
    if value == "-":
        return 0, 0
    found = FORM.fullmatch(value)
    if found is None:
        raise Invalid("Invalid Last-Event-ID: must be the id of an event, or - for all")
    first, second = int(found[1]), found[2]
    if len(found[1]) < DIGITS:
        moment = first * SEQUENCES + (SEQUENCES - 1 if second == "*" else min(int(second or 0), SEQUENCES - 1))
        return moment, moment
    return first, LAST if second == "*" else int(second or 0)


def begun_mark(run: Run) -> Said:
    """Say on a thread's stream that an attempt at a run begins."""
    said = {"run_id": str(run.run_id), "attempt": run.retries + 1, "resumable": run.options.resumable}
    return Said(thread_subject(run.thread_id), RUN, dumps(said))


def mark_state(publisher: Publisher, thread_id: UUID, checkpoint_id: str) -> None:
    """Say on a thread's stream that its state was updated."""
    publisher.publish(thread_subject(thread_id), STATE, dumps({"checkpoint_id": checkpoint_id}))


async def conclude(
    publisher: Publisher,
    run: Run,
    status: str,
    *,
    before: Json = None,
    error: str | None = None,
    alone: bool = False,
) -> None:
    """End the streams of a run that others than its own step have ended: the step may not be there to do it.

    Args:
        publisher: writes it.
        run: as it was in flight.
        status: how it has ended.
        before: the state of its thread, if the run was rolled back.
        error: its text.
        alone: whether it was this run's turn, and no other takes its place.
    """
    frames = ending(run, status, error=error, alone=alone)
    with contextlib.suppress(RedisError, OSError):
        if not publisher.away and (left := await halted(publisher.redis, Named.of(run))):
            frames = [*closing(Named.of(run), left, status, before=before, error=error), *frames]
    publisher.publish_frames(frames)
    publisher.publish(thread_subject(run.thread_id), DONE, dumps({"run_id": str(run.run_id)}))
    await publisher.end(run.run_id, status, thread_id=run.thread_id)
