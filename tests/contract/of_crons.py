"""What `client.crons` promises."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from langgraph_sdk.errors import NotFoundError, UnprocessableEntityError

from tests.contract.calling import Caller

YEARLY = "0 0 1 1 *"
END = datetime.now(UTC) + timedelta(days=1000)
FIELDS: dict[str, Any] = {
    "input": {"log": ["in"]},
    "metadata": {"m": 1},
    "config": {"tags": ["t"]},
    "interrupt_before": ["c"],
    "interrupt_after": ["nobody"],
    "end_time": END,
    "enabled": False,
    "timezone": "Europe/Berlin",
    "stream_mode": ["values"],
    "stream_subgraphs": True,
    "stream_resumable": True,
    "durability": "sync",
}


async def made(call: Caller, **kwargs: Any) -> Any:
    """Create a cron that does not fire during a test."""
    return await call("crons.create", "agent", schedule=YEARLY, enabled=False, **kwargs)


async def check_fields(call: Caller, method: str, *args: Any, **rest: Any) -> Any:
    """Every field is kept, and a bad one refused."""
    with pytest.raises(UnprocessableEntityError):
        await call(method, *args, schedule="often")
    with pytest.raises(UnprocessableEntityError):
        await call(method, *args, schedule=YEARLY, webhook="gopher://nowhere")
    with pytest.warns(DeprecationWarning, match="checkpoint_during"):
        told = await call(method, *args, schedule=YEARLY, enabled=False, checkpoint_during=True, context={"c": 1})
    assert told["payload"]["context"] == {"c": 1}
    cron = await call(method, *args, schedule=YEARLY, multitask_strategy="interrupt", **FIELDS, **rest)
    assert (cron["schedule"], cron["timezone"], cron["enabled"]) == (YEARLY, "Europe/Berlin", False)
    assert datetime.fromisoformat(cron["end_time"]) == END
    assert cron["metadata"]["m"] == 1
    payload = cron["payload"]
    kept = ("input", "interrupt_before", "interrupt_after", "stream_mode", "stream_subgraphs", "stream_resumable")
    assert {key: payload[key] for key in kept} == {key: FIELDS[key] for key in kept}
    assert (payload["multitask_strategy"], payload["durability"]) == ("interrupt", "sync")
    return cron


async def create(call: Caller) -> None:
    """A cron of threads of its own."""
    cron = await check_fields(call, "crons.create", "agent", on_run_completed="keep")
    assert (cron["thread_id"], cron["on_run_completed"]) == (None, "keep")


async def create_for_thread(call: Caller) -> None:
    """A cron of a thread."""
    thread = await call("threads.create")
    cron = await check_fields(call, "crons.create_for_thread", thread["thread_id"], "agent")
    assert cron["thread_id"] == thread["thread_id"]
    with pytest.raises(NotFoundError):
        await call("crons.create_for_thread", str(uuid4()), "agent", schedule=YEARLY)


async def update(call: Caller) -> None:
    """What is given changes, what is not stays."""
    cron = await made(call)
    given: dict[str, Any] = {**FIELDS, "schedule": "0 12 * * *", "on_run_completed": "keep"}
    changed = await call("crons.update", cron["cron_id"], **given)
    assert (changed["schedule"], changed["timezone"], changed["on_run_completed"]) == (
        "0 12 * * *",
        "Europe/Berlin",
        "keep",
    )
    assert changed["payload"]["input"] == {"log": ["in"]}
    changed = await call("crons.update", cron["cron_id"], context={"c": 2}, enabled=True)
    assert datetime.fromisoformat(changed["next_run_date"]) > datetime.now(UTC)
    assert changed["payload"]["input"] == {"log": ["in"]}
    with pytest.raises(UnprocessableEntityError):
        await call("crons.update", cron["cron_id"], webhook="gopher://nowhere")
    await call("crons.delete", cron["cron_id"])


async def delete(call: Caller) -> None:
    """A cron goes."""
    cron = await made(call)
    await call("crons.delete", cron["cron_id"])
    with pytest.raises(NotFoundError):
        await call("crons.delete", cron["cron_id"])


async def search(call: Caller) -> None:
    """Filters, order, pages and selections."""
    mark = {"mark": str(uuid4())}
    thread = await call("threads.create")
    crons = [
        await call(
            "crons.create_for_thread", thread["thread_id"], "agent", schedule=YEARLY, enabled=False, metadata=mark
        )
        for _ in range(2)
    ]
    ids = [cron["cron_id"] for cron in crons]
    asked: dict[str, Any] = {
        "assistant_id": crons[0]["assistant_id"],
        "thread_id": thread["thread_id"],
        "enabled": False,
        "metadata": mark,
    }
    found = await call("crons.search", **asked, sort_by="created_at", sort_order="asc", select=["cron_id"])
    assert [cron["cron_id"] for cron in found] == ids
    assert [cron["cron_id"] for cron in await call("crons.search", **asked, limit=1, offset=1)] == [ids[0]]


async def count(call: Caller) -> None:
    """The number of what a search finds."""
    mark = {"mark": str(uuid4())}
    thread = await call("threads.create")
    cron = await call(
        "crons.create_for_thread", thread["thread_id"], "agent", schedule=YEARLY, enabled=False, metadata=mark
    )
    asked: Any = {"assistant_id": cron["assistant_id"], "thread_id": thread["thread_id"], "metadata": mark}
    assert await call("crons.count", **asked) == 1
    assert await call("crons.count", thread_id=str(uuid4())) == 0
