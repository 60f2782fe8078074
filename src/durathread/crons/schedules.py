"""The Temporal Schedules of crons: a cron's row says what is wanted, its schedule makes it happen."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleState,
    ScheduleUpdate,
)
from temporalio.common import SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError, RPCStatusCode

from durathread.crons.expression import Calendar, Timetable
from durathread.db import crons
from durathread.db.pool import Pool, connection
from durathread.errors import Unavailable
from durathread.records import Cron
from durathread.temporal.connection import (
    ASSISTANT_ID,
    RPC_TIMEOUT,
    THREAD_ID,
    cron_id_of,
    cron_schedule_id,
    unavailable,
    unhurried,
)
from durathread.workflows.messages import CRON, CronTick

DOWN = "The cron cannot be scheduled"
# How long one may take to tell Temporal, in seconds: longer than two calls may. And between two looks at whose turn it is.
TURN = 3 * RPC_TIMEOUT.total_seconds()
PAUSE = 0.05
# How many times a schedule is told ahead in a time zone. Temporal 1.31 lets a cron of Berlin that is due each minute rest for
# an hour when summer ends, and one that is due at 1:45 come again at 2:45; docs/decisions/0010 has the measurement.
AHEAD = 100
# What a schedule remembers of where it belongs: several servers may share a namespace.
TASK_QUEUE = "task_queue"


async def publish(pool: Pool, client: Client, cron_id: UUID, *, task_queue: str, window: timedelta) -> None:
    """Make the schedule of a cron what its row says; without a row, delete it.

    Raises:
        Unavailable: Temporal did not take it.
    """
    turn = await _turn(pool, cron_id)
    if turn is None:
        await remove(client, cron_id)
        return
    cron, done, times = turn.cron, False, Times([])
    try:
        # What was changed by one whose turn had run out is told again: nobody knows what it has told since.
        if not cron.scheduled or (cron.refill_at and cron.refill_at <= datetime.now(UTC)):
            times = _times(cron)
            await _put(client, cron, times=times, task_queue=task_queue, window=window)
            done = True
    finally:
        async with connection(pool) as conn:
            ours = await crons.end_turn(conn, turn, done=done, refill_at=times.refill_at)
    if done and not ours:
        # Too late: another has had its turn meanwhile, or the cron is gone. What we have told may be old.
        async with connection(pool) as conn:
            await crons.mark_lost(conn, cron_id)
        await publish(pool, client, cron_id, task_queue=task_queue, window=window)


async def _turn(pool: Pool, cron_id: UUID) -> crons.Turn | None:
    """Wait for the turn at publishing a cron, so that the last to change it is the last to be heard; None without the cron.

    It is a note in the row, no lock: while Temporal is asked, no connection is held.

    Raises:
        Unavailable: others do not come to an end.
    """
    end = time.monotonic() + TURN
    while True:
        async with connection(pool) as conn:
            if turn := await crons.take_turn(conn, cron_id, seconds=TURN):
                return turn
            if await crons.get(conn, cron_id) is None:
                return None
        if time.monotonic() > end:
            raise Unavailable(f"{DOWN}: others schedule it, and do not come to an end.")
        await asyncio.sleep(PAUSE)


async def remove(client: Client, cron_id: UUID) -> None:
    """Delete the schedule of a cron, if it has one.

    Raises:
        Unavailable: Temporal did not answer.
    """
    try:
        handle = client.get_schedule_handle(cron_schedule_id(cron_id))
        await unhurried(lambda: handle.delete(rpc_timeout=RPC_TIMEOUT))
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise unavailable(error, DOWN) from error


async def exists(client: Client, cron_id: UUID) -> bool:
    """Say whether a cron has a schedule. What Temporal lists is some time behind; this is not."""
    try:
        await client.get_schedule_handle(cron_schedule_id(cron_id)).describe(rpc_timeout=RPC_TIMEOUT)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True


async def listed(client: Client, *, task_queue: str) -> set[UUID]:
    """Name the crons of this server that Temporal lists schedules of."""
    found = set[UUID]()
    async for schedule in await client.list_schedules():
        cron_id = cron_id_of(schedule.id)
        if cron_id and (await schedule.memo()).get(TASK_QUEUE) == task_queue:
            found.add(cron_id)
    return found


@dataclass(frozen=True)
class Times:
    """When a schedule shall start its action, in Temporal's terms; and when it must be told more times."""

    calendars: Sequence[ScheduleCalendarSpec]
    refill_at: datetime | None = None


def _times(cron: Cron) -> Times:
    """Say when a cron is due: by its calendars in UTC; in any other zone, where Temporal errs, time by time."""
    timetable = Timetable.parse(cron.schedule, cron.timezone)
    if timetable.zone.key == "UTC":
        return Times([_calendar(each, comment=timetable.expression) for each in timetable.calendars])
    found = timetable.upcoming(datetime.now(UTC), AHEAD)
    within = [time for time in found if cron.end_time is None or time <= cron.end_time]
    # Half of them are a reserve for when nobody works.
    refill_at = found[AHEAD // 2 - 1] if len(within) == AHEAD else None
    return Times([_instant(time, comment=f"{timetable.expression} {cron.timezone}") for time in within], refill_at)


async def _put(client: Client, cron: Cron, *, times: Times, task_queue: str, window: timedelta) -> None:
    schedule = _schedule(cron, times=times, task_queue=task_queue, window=window)
    memo = {
        "assistant": str(cron.assistant_id),
        "thread": cron.thread_id and str(cron.thread_id),
        TASK_QUEUE: task_queue,
    }
    name = cron_schedule_id(cron.cron_id)
    try:
        try:
            await unhurried(lambda: client.create_schedule(name, schedule, memo=memo, rpc_timeout=RPC_TIMEOUT))
        except ScheduleAlreadyRunningError:
            handle = client.get_schedule_handle(name)
            await unhurried(lambda: handle.update(lambda _: ScheduleUpdate(schedule), rpc_timeout=RPC_TIMEOUT))
    except RPCError as error:
        raise unavailable(error, DOWN) from error


def _schedule(cron: Cron, *, times: Times, task_queue: str, window: timedelta) -> Schedule:
    attributes = [SearchAttributePair(ASSISTANT_ID, str(cron.assistant_id))]
    if cron.thread_id:
        attributes.append(SearchAttributePair(THREAD_ID, str(cron.thread_id)))
    when = f"{cron.schedule} {cron.timezone or 'UTC'}"
    where = f"thread {cron.thread_id}" if cron.thread_id else "a new thread each time"
    return Schedule(
        action=ScheduleActionStartWorkflow(
            CRON,
            CronTick(str(cron.cron_id), terse=True),
            id=cron_schedule_id(cron.cron_id),
            task_queue=task_queue,
            execution_timeout=window,
            typed_search_attributes=TypedSearchAttributes(attributes),
            static_summary=f"{when} · {where}",
        ),
        spec=ScheduleSpec(calendars=times.calendars, end_at=cron.end_time),
        # An open firing is one that no worker has taken: what comes due meanwhile is not fired again and again later.
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=window),
        state=ScheduleState(note=f"{when}, on {where}, assistant {cron.assistant_id}", paused=not cron.enabled),
    )


def _calendar(calendar: Calendar, *, comment: str) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        second=_ranges(calendar.seconds),
        minute=_ranges(calendar.minutes),
        hour=_ranges(calendar.hours),
        day_of_month=_ranges(calendar.days),
        month=_ranges(calendar.months),
        day_of_week=_ranges(calendar.weekdays),
        comment=comment,
    )


def _instant(time: datetime, *, comment: str) -> ScheduleCalendarSpec:
    return ScheduleCalendarSpec(
        second=[ScheduleRange(time.second)],
        minute=[ScheduleRange(time.minute)],
        hour=[ScheduleRange(time.hour)],
        day_of_month=[ScheduleRange(time.day)],
        month=[ScheduleRange(time.month)],
        year=[ScheduleRange(time.year)],
        comment=comment,
    )


def _ranges(values: Iterable[int]) -> Sequence[ScheduleRange]:
    found = list[ScheduleRange]()
    for value in sorted(values):
        if found and found[-1].end == value - 1:
            found[-1] = ScheduleRange(found[-1].start, value)
        else:
            found.append(ScheduleRange(value, value))
    return found
