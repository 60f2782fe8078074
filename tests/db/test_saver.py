"""The checkpointer: it conforms, works from any thread and loop, and takes a run's writes back."""

import asyncio
from collections.abc import AsyncGenerator
from typing import cast
from uuid import UUID

from langgraph.checkpoint.base import BaseCheckpointSaver, Checkpoint, CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.conformance import checkpointer_test, validate
from langgraph.checkpoint.conformance.capabilities import ALL_CAPABILITIES

from durathread.db import admission
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool, transaction
from durathread.db.saver import Saver
from durathread.embedded.engines import Engines
from durathread.records import Run
from tests.conftest import own_database
from tests.db.support import address, admit, cancel, claimed, finish, new_run, pending, put, saver_of

TASK = "11111111-1111-1111-1111-111111111111"


async def test_the_saver_conforms_in_every_capability(engine_set: Engines) -> None:
    async with own_database(engine_set) as url:
        await asyncio.to_thread(upgrade, url)
        async with open_pool(url, size=4) as pool:

            async def savers() -> AsyncGenerator[BaseCheckpointSaver[str]]:
                yield Saver(pool)

            report = await validate(checkpointer_test("Saver")(savers))
    assert {name: result.failures for name, result in report.results.items() if result.failures} == {}
    assert {name: (result.detected, result.passed) for name, result in report.results.items()} == {
        capability.value: (True, True) for capability in ALL_CAPABILITIES
    }
    assert len(report.results) == 8
    assert report.passed_all_base()
    assert report.passed_all()


async def test_sync_methods_work_from_another_thread(pool: Pool, thread: UUID) -> None:
    saver = Saver(pool)
    written = await put(saver, thread, log=["a"])

    def use() -> list[str]:
        found = saver.get_tuple(address(thread))
        assert found is not None
        saver.put_writes(address(thread, written), [("log", ["b"])], TASK)
        return [item.checkpoint["id"] for item in saver.list(address(thread))]

    assert await asyncio.to_thread(use) == [written]
    assert await pending(pool, thread) == [(TASK, "log", ["b"])]


async def test_async_methods_work_on_another_loop(pool: Pool, thread: UUID) -> None:
    saver = Saver(pool)

    async def use() -> tuple[str, list[str]]:
        written = await put(saver, thread, log=["a"])
        await saver.aput_writes(address(thread, written), [("log", ["b"])], TASK)
        found = await saver.aget_tuple(address(thread))
        assert found is not None
        assert found.checkpoint["channel_values"]["log"] == ["a"]
        return written, [item.checkpoint["id"] async for item in saver.alist(address(thread))]

    written, listed = await asyncio.to_thread(lambda: asyncio.run(use()))
    assert listed == [written]
    assert await pending(pool, thread) == [(TASK, "log", ["b"])]


async def asked(pool: Pool, thread: UUID) -> tuple[Run, str]:
    """Let a run ask a question on its checkpoint and get a first answer, and end."""
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    checkpoint_id = await put(saver, thread, run_id=run.run_id, log=["in"])
    await saver.aput_writes(address(thread, checkpoint_id), [("__interrupt__", ["first?"])], TASK)
    await saver.aput_writes(address(thread, checkpoint_id), [("__resume__", ["one"])], TASK)
    await finish(pool, run)
    return run, checkpoint_id


async def answer(pool: Pool, thread: UUID, checkpoint_id: str, *answers: str) -> Run:
    """Let a run answer on an earlier run's checkpoint, write a result there, and go on to a checkpoint of its own."""
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    await saver.aput_writes(address(thread, checkpoint_id), [("__resume__", list(answers))], TASK)
    await saver.aput_writes(address(thread, checkpoint_id), [("log", [answers[-1]])], TASK)
    return run


WAITING = [(TASK, "__interrupt__", ["first?"]), (TASK, "__resume__", ["one"])]


async def test_a_rollback_restores_the_writes_that_a_run_replaced(pool: Pool, thread: UUID) -> None:
    _, checkpoint_id = await asked(pool, thread)
    assert await pending(pool, thread) == WAITING
    run = await answer(pool, thread, checkpoint_id, "one", "two")
    await put(saver_of(pool, run), thread, run_id=run.run_id, parent=checkpoint_id, log=["in", "one,two"])
    assert await pending(pool, thread) == []
    await cancel(pool, run, "rollback")
    found = await Saver(pool).aget_tuple(address(thread))
    assert found is not None
    assert found.checkpoint["id"] == checkpoint_id
    assert found.checkpoint["channel_values"]["log"] == ["in"]
    assert await pending(pool, thread) == WAITING
    assert await journal(pool, thread) == []


async def test_writes_carry_the_run_that_wrote_them(pool: Pool, thread: UUID) -> None:
    first, checkpoint_id = await asked(pool, thread)
    second = await answer(pool, thread, checkpoint_id, "one", "two")
    async with connection(pool) as conn:
        query = "SELECT channel, run_id FROM checkpoint_writes WHERE thread_id = %s"
        rows = await (await conn.execute(query, (str(thread),))).fetchall()
    authors = {row["channel"]: row["run_id"] for row in rows}
    assert authors == {
        "__interrupt__": str(first.run_id),
        "__resume__": str(second.run_id),
        "log": str(second.run_id),
    }
    assert await journal(pool, thread) == [(str(second.run_id), str(first.run_id))]


async def test_what_two_runs_replaced_one_after_the_other_is_restored_as_before_both(pool: Pool, thread: UUID) -> None:
    _, checkpoint_id = await asked(pool, thread)
    second = await answer(pool, thread, checkpoint_id, "one", "two")
    await cancel(pool, second, "interrupt")
    third = await answer(pool, thread, checkpoint_id, "one", "two", "three")
    await Saver(pool).adelete_for_runs([str(second.run_id), str(third.run_id)])
    assert await pending(pool, thread) == WAITING


async def test_a_run_that_replaced_its_own_writes_leaves_none_of_them(pool: Pool, thread: UUID) -> None:
    _, checkpoint_id = await asked(pool, thread)
    run = await answer(pool, thread, checkpoint_id, "one", "two")
    await saver_of(pool, run).aput_writes(address(thread, checkpoint_id), [("__resume__", ["one", "more"])], TASK)
    await cancel(pool, run, "rollback")
    assert await pending(pool, thread) == WAITING


async def test_a_run_that_ends_well_keeps_no_journal(pool: Pool, thread: UUID) -> None:
    _, checkpoint_id = await asked(pool, thread)
    run = await answer(pool, thread, checkpoint_id, "one", "two")
    assert len(await journal(pool, thread)) == 1
    await finish(pool, run)
    assert await journal(pool, thread) == []
    assert (TASK, "__resume__", ["one", "two"]) in await pending(pool, thread)


async def test_a_rollback_leaves_other_threads_alone(pool: Pool, thread: UUID) -> None:
    other = UUID(int=thread.int ^ 1)
    _, kept = await asked(pool, other)
    _, checkpoint_id = await asked(pool, thread)
    run = await answer(pool, thread, checkpoint_id, "one", "two")
    await cancel(pool, run, "rollback")
    found = await Saver(pool).aget_tuple(address(other))
    assert found is not None
    assert found.checkpoint["id"] == kept
    assert found.checkpoint["channel_values"]["log"] == ["in"]
    assert await pending(pool, other) == WAITING


async def journal(pool: Pool, thread: UUID) -> list[tuple[str, str]]:
    async with connection(pool) as conn:
        query = "SELECT replaced_by, run_id FROM replaced_write WHERE thread_id = %s"
        rows = await (await conn.execute(query, (str(thread),))).fetchall()
    return [(row["replaced_by"], row["run_id"]) for row in rows]


async def test_a_run_that_is_deleted_leaves_to_the_one_that_works_what_that_goes_on_from(
    pool: Pool, thread: UUID
) -> None:
    old = await claimed(pool, thread)
    stored = await put(saver_of(pool, old), thread, run_id=old.run_id, log=["in"])
    await finish(pool, old)
    run = await claimed(pool, thread)
    saver = saver_of(pool, run)
    read = await saver.aget_tuple(address(thread))
    assert read is not None
    async with transaction(pool) as conn:
        assert await admission.delete(conn, thread, old.run_id)
    # The state that it goes on with is what it has read, of which nothing has changed.
    after = {**read.checkpoint, "id": empty_checkpoint()["id"]}
    metadata = cast(CheckpointMetadata, {"source": "loop", "step": 1, "parents": {}, "run_id": str(run.run_id)})
    await saver.aput(address(thread, stored), cast(Checkpoint, after), metadata, {})
    found = await saver.aget_tuple(address(thread))
    assert found is not None
    assert found.checkpoint["channel_values"] == {"log": ["in"]}


async def test_a_run_that_waits_needs_no_value_of_one_that_is_deleted(pool: Pool, thread: UUID) -> None:
    old = await claimed(pool, thread)
    await put(saver_of(pool, old), thread, run_id=old.run_id, log=["in"])
    await finish(pool, old)
    await admit(pool, new_run(thread))
    async with transaction(pool) as conn:
        assert await admission.delete(conn, thread, old.run_id)
        left = await conn.execute("SELECT 1 FROM checkpoint_blobs WHERE thread_id = %s", (str(thread),))
        assert await left.fetchall() == []
