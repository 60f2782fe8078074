"""What is encrypted in the database, piece by piece."""

from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import uuid4

import pytest
from langgraph.checkpoint.base import Checkpoint, empty_checkpoint
from langgraph.store.base import SearchOp
from psycopg.types.json import Jsonb

from durathread import encryption
from durathread.db import deployment
from durathread.db.memory_store import StoreConfig, open_store
from durathread.db.migrate import upgrade
from durathread.db.pool import Pool, connection, open_pool
from durathread.db.saver import Saver
from durathread.db.sealed import SEALED, loads, sealed, sealed_in
from durathread.embedded.engines import Engines
from durathread.errors import ConfigError, Invalid, NotStored
from tests.conftest import own_database
from tests.db.support import address

KEY, OTHER = "0123456789abcdef", "fedcba9876543210fedcba98"


@pytest.fixture(scope="module")
async def pool(engine_set: Engines) -> AsyncIterator[Pool]:
    """A pool on a database of this module's own: no other test has the keys that its rows are encrypted with."""
    async with own_database(engine_set) as url:
        upgrade(url)
        async with open_pool(url, size=8) as opened:
            yield opened


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key in the environment."""
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    return KEY


def checkpoint_of(values: dict[str, Any], versions: dict[str, str]) -> Checkpoint:
    """Build a checkpoint of values."""
    return cast(Checkpoint, {**empty_checkpoint(), "channel_values": values, "channel_versions": versions})


async def stored(pool: Pool, value: Jsonb) -> tuple[str, Any]:
    """Have Postgres keep a value: what it keeps, and what is read."""
    async with connection(pool) as conn:
        row = await (
            await conn.execute("SELECT v::text AS kept, v AS read FROM (SELECT %s AS v) s", (value,))
        ).fetchone()
    assert row
    return row["kept"], row["read"]


@pytest.mark.parametrize("value", [{"a": ["ä", 1, None, {"b": 2.5}]}, "text", 0, False, [1], {"nested": {SEALED: "x"}}])
async def test_what_is_sealed_comes_back_as_it_was(pool: Pool, key: str, value: Any) -> None:
    kept, read = await stored(pool, sealed(value))
    assert read == value
    assert kept.startswith(f'{{"{SEALED}"')


@pytest.mark.parametrize("value", [{}, [], None])
async def test_what_is_empty_stays_in_clear(pool: Pool, key: str, value: Any) -> None:
    assert await stored(pool, sealed(value)) == ({"{}": "{}", "[]": "[]", "None": "null"}[str(value)], value)


async def test_other_parts_of_an_object_stay_in_clear(pool: Pool, key: str) -> None:
    kept, read = await stored(pool, sealed_in({"input": {"a": "secret"}, "webhook": "there"}, ("input", "command")))
    assert read == {"input": {"a": "secret"}, "webhook": "there"}
    assert "there" in kept
    assert "secret" not in kept


async def test_the_same_is_never_encrypted_alike(pool: Pool, key: str) -> None:
    assert (await stored(pool, sealed("x")))[0] != (await stored(pool, sealed("x")))[0]


@pytest.mark.parametrize("value", [{SEALED: "forged"}, {"a": [{SEALED: "forged"}]}])
@pytest.mark.parametrize("given", ["", KEY])
async def test_nobody_can_store_what_looks_as_if_it_were_sealed(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, value: Any, given: str
) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", given)
    for parameter in (Jsonb(value), sealed_in({"metadata": value, "input": 1}, ("input",))):
        with pytest.raises(NotStored):
            await stored(pool, parameter)


async def test_what_was_encrypted_with_an_old_key_is_read(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = encryption.sealed(b"before")
    monkeypatch.setenv("LANGGRAPH_AES_KEY", OTHER)
    with pytest.raises(encryption.Unreadable, match="another key"):
        encryption.unsealed(written)
    monkeypatch.setenv("DURATHREAD_OLD_AES_KEYS", f"aaaabbbbccccdddd {KEY}")
    assert encryption.unsealed(written) == b"before"
    assert encryption.unsealed(encryption.sealed(b"after")) == b"after"


async def test_what_was_changed_is_not_believed(key: str) -> None:
    written = encryption.sealed(b"before")
    for at in (10, 30, len(written) - 1):
        changed = written[:at] + bytes([written[at] ^ 1]) + written[at + 1 :]
        with pytest.raises(encryption.Unreadable):
            encryption.unsealed(changed)


@pytest.mark.parametrize("text", ["short", "x" * 33])
def test_a_key_of_another_length_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("LANGGRAPH_AES_KEY", text)
    with pytest.raises(ConfigError, match="16, 24 or 32"):
        encryption.keys()


async def test_small_values_of_checkpoints_are_not_in_their_rows(pool: Pool, key: str) -> None:
    values: dict[str, Any] = {"text": "secret", "number": 4711, "nothing": None, "flag": True}
    thread, saver = uuid4(), Saver(pool)
    versions = dict.fromkeys(values, "1")
    config: Any = {"configurable": {"thread_id": str(thread), "checkpoint_ns": "", "tone": "secret", "run_id": "r"}}
    saved = await saver.aput(config, checkpoint_of(values, versions), {"step": 1}, cast(Any, versions))
    await saver.aput_writes(saved, [("text", "secret")], "task")
    async with connection(pool) as conn:
        rows = [
            str(await (await conn.execute(query, (str(thread),))).fetchall())
            for query in (
                "SELECT checkpoint::text, metadata::text FROM checkpoints WHERE thread_id = %s",
                "SELECT type, blob FROM checkpoint_blobs WHERE thread_id = %s",
                "SELECT type, blob FROM checkpoint_writes WHERE thread_id = %s",
            )
        ]
    assert "secret" not in str(rows)
    assert "4711" not in rows[0]
    assert "durathread" in rows[1]
    found = await saver.aget_tuple(address(thread))
    assert found
    assert found.checkpoint["channel_values"] == values
    assert cast(Any, found.metadata)["tone"] == "secret"
    assert found.pending_writes == [("task", "text", "secret")]


async def test_values_that_stand_in_a_row_of_before_move_into_blobs(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = uuid4()
    config: Any = {"configurable": {"thread_id": str(thread), "checkpoint_ns": ""}}
    values: dict[str, Any] = {"text": "same", "nothing": None, "flag": True}
    versions = dict.fromkeys(values, "1")
    saved = await Saver(pool).aput(config, checkpoint_of(values, versions), {"step": 1}, cast(Any, versions))
    monkeypatch.setenv("LANGGRAPH_AES_KEY", KEY)
    await Saver(pool).aput(saved, checkpoint_of(values, versions), {"step": 2}, {})
    found = await Saver(pool).aget_tuple(address(thread))
    assert found
    assert found.checkpoint["channel_values"] == values


async def test_items_are_encrypted_and_not_searched_by_what_they_hold(pool: Pool, key: str) -> None:
    namespace, value = (uuid4().hex,), {"word": "secret"}
    async with open_store(pool, StoreConfig()) as store:
        await store.aput(namespace, "one", value)
        async with connection(pool) as conn:
            query = "SELECT value::text AS kept FROM store WHERE prefix = %s"
            [row] = await (await conn.execute(query, namespace)).fetchall()
        assert SEALED in row["kept"]
        assert "secret" not in row["kept"]
        item = await store.aget(namespace, "one")
        assert item
        assert item.value == value
        [found] = await store.asearch(namespace)
        assert found.value == value
        with pytest.raises(Invalid, match="encrypted"):
            await store.abatch([SearchOp(namespace, filter={"word": "secret"})])


async def test_a_database_says_which_keys_it_needs(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with connection(pool) as conn:
        try:
            for current, old, needed in (
                (KEY, "", ""),
                (OTHER, KEY, ""),
                (KEY, OTHER, ""),
                (KEY, "", "x"),
                ("", "", "x"),
            ):
                monkeypatch.setenv("LANGGRAPH_AES_KEY", current)
                monkeypatch.setenv("DURATHREAD_OLD_AES_KEYS", old)
                if needed:
                    with pytest.raises(ConfigError, match="another key"):
                        await deployment.agree_on_keys(conn)
                else:
                    await deployment.agree_on_keys(conn)
        finally:
            await conn.execute("UPDATE deployment SET sealed_by = '{}'")


def test_clear_json_of_before_is_read_with_a_key(key: str) -> None:
    assert loads(b'{"a": {"b": 1}}') == {"a": {"b": 1}}
