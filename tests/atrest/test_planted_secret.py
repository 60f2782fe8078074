"""With a key, a secret that goes everywhere is nowhere in the data folder; without one it is."""

import base64
import json
import os
import secrets
import signal
import sys
from asyncio.subprocess import DEVNULL, STDOUT, create_subprocess_exec
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from durathread.embedded.ports import free_port
from tests.eventually import eventually
from tests.receiver import Receiver, receiving

PROJECT = Path(__file__).with_name("project")
COMMAND = str(Path(sys.executable).with_name("durathread"))
KEY, OTHER = "0123456789abcdef0123456789abcdef", "fedcba9876543210"


@asynccontextmanager
async def serving(folder: Path, *, key: str = "", old: str = "") -> AsyncGenerator[LangGraphClient]:
    """Serve the project on a data folder, until the end of the block."""
    port, log = free_port(), folder / "log.txt"
    options = ("--config", str(PROJECT / "langgraph.json"), "--port", str(port), "--data", str(folder / "data"))
    with log.open("wb") as output:
        process = await create_subprocess_exec(
            *(COMMAND, "dev", "--no-ui", *options),
            stdin=DEVNULL,
            stdout=output,
            stderr=STDOUT,
            env={**os.environ, "LANGGRAPH_AES_KEY": key, "DURATHREAD_OLD_AES_KEYS": old},
        )

    async def ready() -> bool:
        if process.returncode is not None:
            raise RuntimeError(log.read_text())
        return "Ctrl-C stops it" in log.read_text()

    try:
        await eventually(ready, timeout=120)
        async with get_client(url=f"http://127.0.0.1:{port}") as client:
            yield client
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
        await process.wait()


async def use(client: LangGraphClient, secret: str, receiver: Receiver) -> str:
    """Take a secret everywhere, and return the thread that it is on."""
    thread = (await client.threads.create())["thread_id"]
    hook = receiver.url("/hook")
    await client.runs.wait(thread, "agent", input={"word": secret}, webhook=hook, context={"secret": secret})
    assert (await client.threads.get(thread))["status"] == "interrupted"
    values = await client.runs.wait(thread, "agent", command={"resume": secret}, webhook=hook)
    assert isinstance(values, dict)
    assert values["answer"] == secret
    await client.threads.update_state(thread, {"words": [secret]})
    told = [received.json["values"] for received in await receiver.got("/hook", 2)]
    assert [secret] * 2 == [shown["word"] for shown in told]
    await client.store.put_item(("items",), "one", {"word": secret})
    await client.crons.create("agent", schedule="0 0 1 1 *", input={"word": secret})
    failing = (await client.threads.create())["thread_id"]
    await client.runs.wait(failing, "agent", input={"word": secret})
    await client.runs.wait(failing, "agent", command={"resume": f"fail {secret}"}, raise_error=False)
    assert secret in str(await client.threads.get(failing))
    again: dict[str, Any] = {
        "input": {"word": secret},
        "after_seconds": 3600,
        "headers": {"Idempotency-Key": "planted"},
    }
    kept = [await client.runs.create(None, "agent", **again) for _ in range(2)]
    assert kept[0] == kept[1]
    async for _ in client.runs.stream(None, "agent", input={"word": secret}, stream_mode=["values", "debug"]):
        pass
    return thread


async def check(client: LangGraphClient, thread: str, secret: str) -> None:
    """Read it all again."""
    state = await client.threads.get_state(thread)
    assert state["values"] == {"word": secret, "words": [secret], "answer": secret, "asked": 1}
    assert cast(Any, await client.threads.get(thread))["values"]["word"] == secret
    assert [cast(Any, run)["kwargs"].get("input") for run in await client.runs.list(thread)] == [None, {"word": secret}]
    item = await client.store.get_item(("items",), "one")
    assert item
    assert item["value"] == {"word": secret}
    assert [item["value"] for item in (await client.store.search_items(("memories",)))["items"]] == [{"word": secret}]
    [cron] = await client.crons.search()
    assert cron["payload"]["input"] == {"word": secret}
    assert any(cast(Any, page["values"]).get("word") == secret for page in await client.threads.get_history(thread))


def forms_of(secret: str) -> Iterator[bytes]:
    """Spell a secret as a file may have it."""
    plain = secret.encode()
    yield plain
    yield json.dumps(secret).strip('"').encode()
    yield secret.encode("utf-16-le")
    yield secret.encode("utf-16-be")
    yield plain.hex().encode()
    yield plain.hex().upper().encode()
    for before in range(3):
        # What comes before and after shares characters with its ends.
        whole = base64.b64encode(b"x" * before + plain + b"xxx")
        yield whole[4 : (before + len(plain)) // 3 * 4]


def places_of(secret: str, folder: Path) -> list[str]:
    """Name the files that have it."""
    forms = list(forms_of(secret))
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any("pg_wal" in str(path) for path in files)
    return [str(path.relative_to(folder)) for path in files if any(form in path.read_bytes() for form in forms)]


async def test_a_secret_is_in_no_file_of_the_data_if_there_is_a_key(tmp_path: Path) -> None:
    secret = f"plänted-{secrets.token_hex(16)}"
    async with receiving() as receiver:
        async with serving(tmp_path, key=KEY) as client:
            thread = await use(client, secret, receiver)
            await check(client, thread, secret)
            for search in (
                client.threads.search(values={"word": secret}),
                client.store.search_items(("items",), filter={"word": secret}),
            ):
                with pytest.raises(APIStatusError, match="encrypted") as refused:
                    await search
                assert refused.value.status_code == 422
        assert places_of(secret, tmp_path / "data") == []

        # Whoever has another key, or none, is told so, and nothing is lost.
        for key in ("", OTHER):
            with pytest.raises(RuntimeError, match="encrypted with another key"):
                async with serving(tmp_path, key=key):
                    raise AssertionError
        async with serving(tmp_path, key=OTHER, old=KEY) as client:
            await check(client, thread, secret)
            assert (await client.store.put_item(("items",), "one", {"word": secret})) is None
            await check(client, thread, secret)
        assert places_of(secret, tmp_path / "data") == []


async def test_a_folder_that_was_in_clear_is_read_with_a_key_and_what_is_new_is_encrypted(tmp_path: Path) -> None:
    secret, later = f"plänted-{secrets.token_hex(16)}", f"lätter-{secrets.token_hex(16)}"
    async with receiving() as receiver:
        async with serving(tmp_path) as client:
            thread = await use(client, secret, receiver)
        assert [place for place in places_of(secret, tmp_path / "data") if "pg_wal" in place]
        async with serving(tmp_path, key=KEY) as client:
            assert "only what is written from now on is encrypted" in (tmp_path / "log.txt").read_text()
            await check(client, thread, secret)
            await client.runs.wait(thread, "agent", input={"word": later})
            state = await client.threads.get_state(thread)
            assert state["values"] == {"word": later, "words": [later, later], "answer": secret, "asked": 1}
        assert places_of(later, tmp_path / "data") == []
