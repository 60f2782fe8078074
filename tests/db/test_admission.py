"""Admission and what else decides about the runs of a thread: one transaction each."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from durathread.db import admission, runs, threads
from durathread.db.pool import Connection, Pool, connection, transaction
from durathread.db.saver import Saver
from durathread.errors import NotFound, ThreadBusy
from durathread.records import Run, RunStatus, Strategy
from tests.db.support import (
    address,
    admit,
    assistant,
    cancel,
    claim,
    claimed,
    finish,
    new_run,
    put,
    run_of,
    saver_of,
    settle,
    thread_of,
)


async def outcome(pool: Pool, thread: UUID, strategy: Strategy) -> str:
    try:
        return (await admit(pool, new_run(thread, strategy))).run.status
    except ThreadBusy:
        return "refused"


async def listed(pool: Pool, thread: UUID) -> list[Run]:
    """List the runs of a thread, oldest first."""
    async with connection(pool) as conn:
        return list(reversed(await runs.listed(conn, thread, status=None, limit=100, offset=0)))


async def statuses(pool: Pool, thread: UUID) -> list[RunStatus]:
    return [run.status for run in await listed(pool, thread)]


async def test_what_is_large_is_read_only_where_it_is_asked_for(pool: Pool, thread: UUID) -> None:
    given = {"text": "x" * 2_000_000}
    admitted = (await admit(pool, new_run(thread, kwargs={"input": given, "command": None}))).run
    assert admitted.options.input == given
    run = await claim(pool, admitted.run_id)
    await finish(pool, run, values=given)
    async with connection(pool) as conn:
        whole, part = await runs.get(conn, run.run_id), await runs.find(conn, run.run_id)
        assert whole
        assert part
        assert whole.options.input == given
        assert part.options == replace(whole.options, input=None)
        assert [each.options for each in await runs.heads(conn, thread)] == [part.options]
        page = await runs.listed(conn, thread, status=None, limit=1, offset=0, with_input=False)
        assert [each.options for each in page] == [part.options]
        shown, found = await threads.get(conn, thread), await threads.find(conn, thread)
        assert shown
        assert found
        assert (shown.values, found.values) == (given, None)
        assert replace(shown, values=None) == found
    async with transaction(pool) as conn:
        assert await threads.lock(conn, thread) == found


async def test_of_five_simultaneous_rejects_one_is_admitted(pool: Pool, thread: UUID) -> None:
    found = await asyncio.gather(*(outcome(pool, thread, "reject") for _ in range(5)))
    assert Counter(found) == {"pending": 1, "refused": 4}
    assert await statuses(pool, thread) == ["pending"]


async def test_of_five_simultaneous_interrupts_the_last_admitted_is_left(pool: Pool, thread: UUID) -> None:
    await asyncio.gather(*(outcome(pool, thread, "interrupt") for _ in range(5)))
    found = sorted(await listed(pool, thread), key=lambda run: run.seq)
    assert [run.status for run in found] == ["interrupted"] * 4 + ["pending"]


async def test_runs_are_numbered_in_the_order_of_their_admission(pool: Pool, thread: UUID) -> None:
    admitted = [(await admit(pool, new_run(thread))).run for _ in range(4)]
    seqs = [run.seq for run in admitted]
    assert seqs == sorted(seqs)
    assert len(set(seqs)) == 4
    async with connection(pool) as conn:
        assert await runs.in_flight(conn, thread) == [run.run_id for run in admitted]


async def test_runs_are_created_in_the_order_of_their_admission_whenever_it_began(pool: Pool, thread: UUID) -> None:
    async with transaction(pool) as slow:
        # The transaction has its time now, and gets its turn later.
        await slow.execute("SELECT now()")
        first = (await admit(pool, new_run(thread))).run
        second = (await admission.admit(slow, new_run(thread, "interrupt"))).run
    assert first.seq < second.seq
    assert first.created_at < second.created_at
    [interrupted, _] = await listed(pool, thread)
    assert (interrupted.run_id, interrupted.status) == (first.run_id, "interrupted")
    assert interrupted.created_at < interrupted.updated_at
    assert [run.created_at == run.updated_at for run in (first, second)] == [True, True]


@pytest.mark.parametrize("strategy", ["interrupt", "rollback"])
async def test_an_admission_that_fails_has_changed_nothing(pool: Pool, thread: UUID, strategy: Strategy) -> None:
    working = await claimed(pool, thread)
    written = await put(saver_of(pool, working), thread, run_id=working.run_id, log=["r1"])
    queued = (await admit(pool, new_run(thread))).run
    before = await thread_of(pool, thread)

    async def fail() -> None:
        async with transaction(pool) as conn:
            admitted = await admission.admit(conn, new_run(thread, strategy))
            assert [run.run_id for run in admitted.superseded] == [working.run_id, queued.run_id]
            raise ConnectionError("the API died here")

    with pytest.raises(ConnectionError):
        await fail()
    assert await statuses(pool, thread) == ["running", "pending"]
    assert await thread_of(pool, thread) == before
    found = await Saver(pool).aget_tuple(address(thread))
    assert found is not None
    assert found.checkpoint["id"] == written
    # The attempt still owns its run.
    await put(saver_of(pool, working), thread, run_id=working.run_id, log=["r1", "a"])


async def test_an_interrupt_ends_all_runs_in_flight_and_keeps_their_checkpoints(pool: Pool, thread: UUID) -> None:
    working = await claimed(pool, thread)
    written = await put(saver_of(pool, working), thread, run_id=working.run_id)
    await admit(pool, new_run(thread))
    await admit(pool, new_run(thread, after_seconds=60))
    new = (await admit(pool, new_run(thread, "interrupt"))).run
    assert Counter(await statuses(pool, thread)) == {"interrupted": 3, "pending": 1}
    found = await thread_of(pool, thread)
    message = f"superseded by run {new.run_id} (multitask_strategy=interrupt)"
    assert (found.status, found.error) == ("busy", {"error": "UserInterrupt", "message": message})
    latest = await Saver(pool).aget_tuple(address(thread))
    assert latest is not None
    assert latest.checkpoint["id"] == written


async def test_a_rollback_deletes_all_runs_in_flight_with_their_checkpoints(pool: Pool, thread: UUID) -> None:
    done = await claimed(pool, thread)
    kept = await put(saver_of(pool, done), thread, run_id=done.run_id, log=["r0"])
    await finish(pool, done, values={"log": ["r0"]})
    working = await claimed(pool, thread)
    await put(saver_of(pool, working), thread, run_id=working.run_id, parent=kept, log=["r0", "r1"])
    queued = (await admit(pool, new_run(thread))).run
    await admit(pool, new_run(thread, "rollback"))
    assert await statuses(pool, thread) == ["success", "pending"]
    for gone in (working, queued):
        assert await run_of(pool, gone.run_id) is None
    latest = await Saver(pool).aget_tuple(address(thread))
    assert latest is not None
    assert latest.checkpoint["id"] == kept
    assert latest.checkpoint["channel_values"]["log"] == ["r0"]
    found = await thread_of(pool, thread)
    assert (found.status, found.resting, found.values) == ("busy", "idle", {"log": ["r0"]})
    assert (found.error or {})["error"] == "UserRollback"


async def test_a_refused_run_leaves_no_row_and_no_mark_on_the_thread(pool: Pool, thread: UUID) -> None:
    await admit(pool, new_run(thread))
    before = await thread_of(pool, thread)
    refused = new_run(thread, "reject")
    with pytest.raises(ThreadBusy):
        await admit(pool, refused)
    assert await run_of(pool, refused.run_id) is None
    assert await thread_of(pool, thread) == before


async def test_a_missing_thread_is_created_only_if_asked(pool: Pool, thread: UUID) -> None:
    with pytest.raises(NotFound):
        await admit(pool, new_run(thread, create_thread=False))
    await admit(pool, new_run(thread, thread_metadata={"team": "a"}))
    assert (await thread_of(pool, thread)).metadata["team"] == "a"


async def test_a_cancelled_pending_run_lets_its_thread_rest_at_once(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run
    assert (await thread_of(pool, thread)).status == "busy"
    assert [found.status for found in await cancel(pool, run)] == ["pending"]
    found = await thread_of(pool, thread)
    assert (found.status, found.error) == ("idle", None)
    assert await statuses(pool, thread) == ["interrupted"]


async def test_a_cancelled_working_run_keeps_its_thread_busy_until_it_is_settled(pool: Pool, thread: UUID) -> None:
    run = await claimed(pool, thread)
    assert [found.status for found in await cancel(pool, run)] == ["running"]
    found = await thread_of(pool, thread)
    assert (found.status, found.error) == ("busy", {"error": "UserInterrupt", "message": "test"})
    async with transaction(pool) as conn:
        await runs.settle_thread(conn, run.run_id, resting="interrupted", values={"log": ["r1"]}, interrupts={})
    found = await thread_of(pool, thread)
    assert (found.status, found.values, found.ended_run_id) == ("interrupted", {"log": ["r1"]}, run.run_id)


async def test_a_working_run_that_is_rolled_back_lets_its_thread_rest_at_once(pool: Pool, thread: UUID) -> None:
    await finish(pool, await claimed(pool, thread), values={"log": ["r0"]}, interrupts={"task": [{"id": "1"}]})
    run = await claimed(pool, thread)
    await cancel(pool, run, "rollback")
    found = await thread_of(pool, thread)
    assert (found.status, found.values, found.interrupts) == (
        "interrupted",
        {"log": ["r0"]},
        {"task": [{"id": "1"}]},
    )


async def test_a_cancelled_pending_run_leaves_the_thread_busy_while_another_works(pool: Pool, thread: UUID) -> None:
    await claimed(pool, thread)
    queued = (await admit(pool, new_run(thread))).run
    await cancel(pool, queued)
    assert (await thread_of(pool, thread)).status == "busy"
    assert await statuses(pool, thread) == ["running", "interrupted"]


async def test_a_cancelled_pending_run_leaves_the_thread_busy_while_another_is_not_settled(
    pool: Pool, thread: UUID
) -> None:
    run = await claimed(pool, thread)
    await cancel(pool, run)
    queued = (await admit(pool, new_run(thread))).run
    await cancel(pool, queued)
    assert (await thread_of(pool, thread)).status == "busy"
    await settle(pool, queued)
    assert (await thread_of(pool, thread)).status == "busy"
    await settle(pool, run, resting="interrupted", values={"log": ["r1"]})
    found = await thread_of(pool, thread)
    assert (found.status, found.values) == ("interrupted", {"log": ["r1"]})


@pytest.mark.parametrize("first", ["superseded", "successor"])
async def test_what_a_superseded_run_left_is_shown_though_its_successor_never_worked(
    pool: Pool, thread: UUID, first: str
) -> None:
    run = await claimed(pool, thread)
    successor = (await admit(pool, new_run(thread, strategy="interrupt"))).run
    await cancel(pool, successor)
    if first == "successor":
        await settle(pool, successor)
    await settle(pool, run, resting="interrupted", values={"log": ["r1"]})
    if first == "superseded":
        await settle(pool, successor)
    found = await thread_of(pool, thread)
    assert (found.status, found.values) == ("interrupted", {"log": ["r1"]})


async def test_a_deleted_run_leaves_the_thread_busy_while_another_is_not_settled(pool: Pool, thread: UUID) -> None:
    old = await claimed(pool, thread)
    await finish(pool, old)
    run = await claimed(pool, thread)
    await cancel(pool, run)
    async with transaction(pool) as conn:
        assert await admission.delete(conn, thread, old.run_id)
    assert (await thread_of(pool, thread)).status == "busy"
    await settle(pool, run, resting="interrupted", values={"log": ["r1"]})
    assert (await thread_of(pool, thread)).status == "interrupted"


async def test_a_run_that_has_ended_cannot_be_cancelled(pool: Pool, thread: UUID) -> None:
    run = await claimed(pool, thread)
    await finish(pool, run)
    assert await cancel(pool, run) == []
    assert await cancel(pool, run, "rollback") == []
    assert await statuses(pool, thread) == ["success"]


async def test_an_admission_that_temporal_never_heard_of_is_taken_back(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run
    async with transaction(pool) as conn:
        assert await admission.withdraw(conn, run)
    assert await run_of(pool, run.run_id) is None
    assert (await thread_of(pool, thread)).status == "idle"


async def test_an_admission_that_has_been_claimed_is_not_taken_back(pool: Pool, thread: UUID) -> None:
    run = await claimed(pool, thread)
    async with transaction(pool) as conn:
        assert not await admission.withdraw(conn, run)
    assert await statuses(pool, thread) == ["running"]
    assert (await thread_of(pool, thread)).status == "busy"


async def test_metadata_is_merged_from_assistant_to_request(pool: Pool, thread: UUID) -> None:
    keys = ("all", "thread", "config", "request")
    who = assistant(metadata=dict.fromkeys(keys, "assistant") | {"created_by": "system", "assistant_id": "forged"})
    over: dict[str, Any] = dict.fromkeys(keys[1:], "thread")
    await admit(pool, new_run(thread, thread_metadata=over))
    new = new_run(
        thread,
        assistant=who,
        metadata={"request": "request", "assistant_id": "forged"},
        kwargs={"config": {"metadata": dict.fromkeys(keys[2:], "config")}},
    )
    run = (await admit(pool, new)).run
    expected = {
        "all": "assistant",
        "thread": "thread",
        "config": "config",
        "request": "request",
        "created_by": "system",
        "assistant_id": str(who.assistant_id),
    }
    assert {key: run.metadata.get(key) for key in expected} == expected


async def test_configurable_is_merged_from_assistant_to_server(pool: Pool, thread: UUID) -> None:
    sticky = assistant(config={"configurable": {"thread": "thread", "request": "thread", "run_id": "forged"}})
    await admit(pool, new_run(thread, assistant=sticky))
    who = assistant(
        config={
            "tags": ["assistant"],
            "recursion_limit": 7,
            "configurable": dict.fromkeys(("all", "thread", "request"), "assistant"),
        }
    )
    asked: dict[str, Any] = {"configurable": {"request": "request", "thread_id": "forged"}, "recursion_limit": 9}
    run = (await admit(pool, new_run(thread, assistant=who, kwargs={"config": asked}))).run
    config = run.options.config
    assert (config["tags"], config["recursion_limit"]) == (["assistant"], 9)
    assert config["configurable"] == {
        "all": "assistant",
        "thread": "thread",
        "request": "request",
        "run_id": str(run.run_id),
        "thread_id": str(thread),
        "graph_id": "agent",
        "assistant_id": str(who.assistant_id),
    }


async def test_a_thread_keeps_options_of_runs_but_configurables_of_assistants_only(pool: Pool, thread: UUID) -> None:
    who = assistant(config={"configurable": {"model": "assistant"}})
    asked: dict[str, Any] = {"tags": ["t"], "recursion_limit": 9, "configurable": {"secret": 1}, "metadata": {"m": 1}}
    await admit(pool, new_run(thread, assistant=who, kwargs={"config": asked}))
    assert (await thread_of(pool, thread)).config == {
        "tags": ["t"],
        "recursion_limit": 9,
        "configurable": {"model": "assistant"},
    }


async def test_a_thread_stays_busy_while_another_run_is_in_flight(pool: Pool, thread: UUID) -> None:
    first = await claimed(pool, thread)
    second = (await admit(pool, new_run(thread))).run
    assert await finish(pool, first, values={"log": ["r1"]})
    found = await thread_of(pool, thread)
    assert (found.status, found.resting, found.values) == ("busy", "idle", {"log": ["r1"]})
    assert await finish(pool, await claim(pool, second.run_id))
    found = await thread_of(pool, thread)
    assert (found.status, found.ended_run_id) == ("idle", second.run_id)


async def test_an_end_by_an_attempt_that_lost_its_run_changes_nothing(pool: Pool, thread: UUID) -> None:
    first = await claimed(pool, thread)
    await claim(pool, first.run_id, token=first.attempt + 1)
    before = await thread_of(pool, thread)
    assert not await finish(pool, first, values={"log": ["late"]})
    assert await thread_of(pool, thread) == before
    assert await statuses(pool, thread) == ["running"]


async def test_a_late_settlement_does_not_overwrite_a_later_run(pool: Pool, thread: UUID) -> None:
    old = await claimed(pool, thread)
    new = (await admit(pool, new_run(thread, "interrupt"))).run
    await finish(pool, await claim(pool, new.run_id), values={"log": ["new"]})
    async with transaction(pool) as conn:
        await runs.settle_thread(conn, old.run_id, resting="interrupted", values={"log": ["old"]}, interrupts={})
    found = await thread_of(pool, thread)
    assert (found.status, found.values, found.ended_run_id) == ("idle", {"log": ["new"]}, new.run_id)


async def test_an_attempt_that_comes_late_gets_nothing(pool: Pool, thread: UUID) -> None:
    run = await claimed(pool, thread, token=2001)
    async with connection(pool) as conn:
        assert await runs.claim(conn, run.run_id, token=1001, step=0) is None
        assert await runs.claim(conn, run.run_id, token=2001, step=0) is None
    assert (await run_of(pool, run.run_id) or run).attempt == 2001


async def test_of_attempts_at_once_the_highest_token_owns_the_run(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run

    async def try_it(token: int) -> None:
        async with connection(pool) as conn:
            await runs.claim(conn, run.run_id, token=token, step=0)

    await asyncio.gather(*(try_it(token) for token in (1004, 1002, 1005, 1001, 1003)))
    assert (await run_of(pool, run.run_id) or run).attempt == 1005


async def test_a_claim_knows_whether_it_repeats_a_step(pool: Pool, thread: UUID) -> None:
    run = (await admit(pool, new_run(thread))).run
    attempts = [(1001, 0), (1002, 0), (2001, 1), (3001, 2), (3002, 2), (3003, 2), (4001, 3)]
    seen = [await claim(pool, run.run_id, token=token, step=step) for token, step in attempts]
    assert [found.repeated for found in seen] == [False, True, False, False, True, True, False]
    assert [found.retries for found in seen] == [0, 1, 1, 1, 2, 3, 3]
    assert len({found.started_at for found in seen}) == 1


async def delete_run(conn: Connection, run: Run) -> None:
    await admission.delete(conn, run.thread_id, run.run_id)


async def delete_thread(conn: Connection, run: Run) -> None:
    await threads.delete(conn, run.thread_id)


@pytest.mark.parametrize("delete", [delete_run, delete_thread])
async def test_what_is_deleted_takes_its_checkpoints_with_it(
    pool: Pool, thread: UUID, delete: Callable[[Connection, Run], Awaitable[None]]
) -> None:
    run = await claimed(pool, thread)
    await put(saver_of(pool, run), thread, run_id=run.run_id, log=["r1"])
    await finish(pool, run)
    async with transaction(pool) as conn:
        await delete(conn, run)
    assert await run_of(pool, run.run_id) is None
    assert await Saver(pool).aget_tuple(address(thread)) is None
    async with connection(pool) as conn:
        blobs = await conn.execute("SELECT 1 FROM checkpoint_blobs WHERE thread_id = %s", (str(thread),))
        assert await blobs.fetchall() == []


async def test_a_run_in_flight_is_not_deleted(pool: Pool, thread: UUID) -> None:
    run = await claimed(pool, thread)
    async with transaction(pool) as conn:
        found = await admission.delete(conn, thread, run.run_id)
    assert found is not None
    assert found.in_flight
    assert await statuses(pool, thread) == ["running"]


async def test_runs_that_nobody_works_on_are_found_by_their_age(pool: Pool, thread: UUID) -> None:
    fresh = (await admit(pool, new_run(thread))).run
    delayed = (await admit(pool, new_run(thread, after_seconds=3600))).run
    old = (await admit(pool, new_run(thread))).run
    async with connection(pool) as conn:
        query = "UPDATE run SET created_at = %(then)s, updated_at = %(then)s WHERE run_id = %(run)s"
        await conn.execute(query, {"then": old.created_at - timedelta(hours=1), "run": old.run_id})
        found = {run.run_id for run in await runs.stranded(conn, age=600, limit=100_000)}
    assert old.run_id in found
    assert not found & {fresh.run_id, delayed.run_id}
