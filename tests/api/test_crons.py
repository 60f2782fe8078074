"""`client.crons`."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import BadRequestError, NotFoundError, UnprocessableEntityError
from temporalio.client import Client, ScheduleDescription, ScheduleOverlapPolicy
from temporalio.service import RPCError, RPCStatusCode

from durathread.crons.expression import Timetable
from durathread.temporal.connection import ASSISTANT_ID, THREAD_ID
from tests.stack import Stack

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"
# Far away, so that it does not fire here.
YEARLY = "0 0 1 1 *"
NOBODY = "deadbeef-0000-4000-8000-000000000000"


async def schedule_of(temporal: Client, cron_id: str) -> ScheduleDescription | None:
    """Describe a cron's schedule; None if it has none."""
    try:
        return await temporal.get_schedule_handle(f"cron/{cron_id}").describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise


async def create(client: LangGraphClient, schedule: str = YEARLY, assistant: str = "agent", **options: Any) -> Any:
    """Create a cron."""
    return await client.crons.create(assistant, schedule=schedule, input={"log": ["cron"], "do": {}}, **options)


async def existing_thread(client: LangGraphClient) -> str:
    return (await client.threads.create())["thread_id"]


async def new_assistant(client: LangGraphClient) -> str:
    """Create an assistant that no other test's crons have."""
    return (await client.assistants.create("agent"))["assistant_id"]


async def test_a_cron_is_shown_with_all_that_was_asked_for(client: LangGraphClient) -> None:
    end = datetime(2100, 1, 1, 12, tzinfo=UTC)
    cron = await create(
        client,
        "30 2 * * *",
        timezone="Europe/Berlin",
        end_time=end,
        metadata={"team": "shown"},
        config={"tags": ["x"], "configurable": {"tone": "dry"}},
        webhook="https://example.com/hook",
        interrupt_before=["b"],
        stream_mode=["updates"],
        durability="sync",
        multitask_strategy="reject",
    )
    assert UUID(cron["cron_id"]).version == 7
    assert cron.pop("created_at") <= cron.pop("updated_at")
    next_run = datetime.fromisoformat(cron.pop("next_run_date"))
    assert timedelta() < next_run - datetime.now(UTC) <= timedelta(hours=25)
    assert next_run.astimezone(ZoneInfo("Europe/Berlin")).strftime("%H:%M") in ("02:30", "03:00")
    assert await client.crons.search(metadata={"team": "shown"}, select=["cron_id"]) == [{"cron_id": cron["cron_id"]}]
    assert cron == {
        "cron_id": cron["cron_id"],
        "assistant_id": AGENT,
        "thread_id": None,
        "user_id": None,
        "end_time": "2100-01-01T12:00:00+00:00",
        "schedule": "30 2 * * *",
        "timezone": "Europe/Berlin",
        "on_run_completed": "delete",
        "enabled": True,
        "metadata": {"team": "shown"},
        "payload": {
            "assistant_id": AGENT,
            "schedule": "30 2 * * *",
            "timezone": "Europe/Berlin",
            "end_time": "2100-01-01T12:00:00+00:00",
            "input": {"log": ["cron"], "do": {}},
            "metadata": {"team": "shown"},
            "config": {"tags": ["x"], "configurable": {"tone": "dry", "cron_id": cron["cron_id"]}},
            "webhook": "https://example.com/hook",
            "interrupt_before": ["b"],
            "stream_mode": ["updates"],
            "durability": "sync",
            "multitask_strategy": "reject",
        },
    }
    await client.crons.delete(cron["cron_id"])


async def test_a_cron_on_a_thread_keeps_to_it(client: LangGraphClient) -> None:
    thread_id = await existing_thread(client)
    cron: Any = await client.crons.create_for_thread(thread_id, AGENT, schedule=YEARLY, timezone=ZoneInfo("Asia/Tokyo"))
    assert (cron["thread_id"], cron["on_run_completed"], cron["timezone"]) == (thread_id, None, "Asia/Tokyo")
    found: Any = await client.crons.update(cron["cron_id"], on_run_completed="keep")
    assert found["on_run_completed"] is None
    assert await client.http.get(f"/runs/crons/{cron['cron_id']}") == found


@pytest.mark.parametrize("timezone", [None, "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize("schedule", ["30 2 * 3,10 0", "*/17 * * * *", "0 0 13 * 5", "0 3 * * * 5"])
async def test_temporal_fires_at_the_dates_that_are_shown(
    client: LangGraphClient, temporal: Client, schedule: str, timezone: str | None
) -> None:
    cron = await create(client, schedule, timezone=timezone)
    found = await schedule_of(temporal, cron["cron_id"])
    assert found
    times = found.info.next_action_times
    assert times[0] == datetime.fromisoformat(cron["next_run_date"])
    assert times == Timetable.parse(schedule, timezone).upcoming(times[0] - timedelta(seconds=1), 10)
    await client.crons.delete(cron["cron_id"])


async def test_people_see_in_temporal_what_a_schedule_is_for(client: LangGraphClient, temporal: Client) -> None:
    thread_id = await existing_thread(client)
    cron: Any = await client.crons.create_for_thread(thread_id, "agent", schedule="0 9 * * mon", timezone="Asia/Tokyo")
    found = await schedule_of(temporal, cron["cron_id"])
    assert found
    assert found.schedule.state.note == f"0 9 * * mon Asia/Tokyo, on thread {thread_id}, assistant {AGENT}"
    assert await found.memo() == {"assistant": AGENT, "thread": thread_id, "task_queue": "tests"}
    action: Any = found.schedule.action
    assert action.workflow == "Cron"
    assert action.typed_search_attributes.get(THREAD_ID) == thread_id
    assert action.typed_search_attributes.get(ASSISTANT_ID) == AGENT
    assert {calendar.comment for calendar in found.schedule.spec.calendars} == {"0 9 * * mon Asia/Tokyo"}
    policy = found.schedule.policy
    assert (policy.overlap, policy.catchup_window) == (ScheduleOverlapPolicy.SKIP, timedelta(hours=1))


async def test_a_disabled_cron_rests(client: LangGraphClient, temporal: Client) -> None:
    cron = await create(client, "* * * * * *", enabled=False)
    assert (cron["enabled"], cron["next_run_date"]) == (False, None)
    found = await schedule_of(temporal, cron["cron_id"])
    assert found
    assert found.schedule.state.paused
    enabled = await client.crons.update(cron["cron_id"], schedule=YEARLY, enabled=True)
    assert enabled["enabled"]
    assert enabled["next_run_date"]
    found = await schedule_of(temporal, cron["cron_id"])
    assert found
    assert not found.schedule.state.paused


@pytest.mark.parametrize("timezone", [None, "Europe/Berlin"])
async def test_a_cron_ends_with_its_end_time(client: LangGraphClient, temporal: Client, timezone: str | None) -> None:
    past = await create(client, "* * * * * *", end_time=datetime(2020, 1, 1, tzinfo=UTC), timezone=timezone)
    assert past["next_run_date"] is None
    found = await schedule_of(temporal, past["cron_id"])
    assert found
    assert found.info.next_action_times == []
    end = datetime.now(UTC) + timedelta(minutes=150)
    soon = await create(client, "0 * * * *", end_time=end, timezone=timezone)
    found = await schedule_of(temporal, soon["cron_id"])
    assert found
    assert [time <= end for time in found.info.next_action_times] in ([True, True], [True, True, True])
    cleared = await client.crons.update(soon["cron_id"], end_time=None)
    assert cleared["end_time"] is None
    found = await schedule_of(temporal, soon["cron_id"])
    assert found
    assert len(found.info.next_action_times) == 10
    for cron in (past, soon):
        await client.crons.delete(cron["cron_id"])


async def test_an_end_time_without_an_offset_is_in_utc(client: LangGraphClient) -> None:
    cron = await create(client, end_time=datetime(2099, 5, 1, 8))
    assert datetime.fromisoformat(cron["end_time"]) == datetime(2099, 5, 1, 8, tzinfo=UTC)


async def test_a_change_of_schedule_takes_effect_at_once(client: LangGraphClient, temporal: Client) -> None:
    cron = await create(client, YEARLY)
    changed: Any = await client.crons.update(cron["cron_id"], schedule="0 5 * * *", timezone="Asia/Kathmandu")
    assert (changed["schedule"], changed["timezone"]) == ("0 5 * * *", "Asia/Kathmandu")
    due = datetime.fromisoformat(changed["next_run_date"])
    assert (due.hour, due.minute) == (23, 15)
    found = await schedule_of(temporal, cron["cron_id"])
    assert found
    assert found.info.next_action_times[0] == due
    assert changed["updated_at"] > changed["created_at"]


async def test_a_change_leaves_what_it_does_not_name(client: LangGraphClient) -> None:
    cron = await create(client, metadata={"a": 1, "b": 1}, config={"tags": ["x"]}, interrupt_before=["b"])
    changed: Any = await client.crons.update(
        cron["cron_id"],
        input={"log": ["new"]},
        metadata={"b": 2},
        on_run_completed="keep",
        webhook="https://example.com/h",
    )
    cron_id = cron["cron_id"]
    assert changed["metadata"] == {"a": 1, "b": 2}
    assert changed["on_run_completed"] == "keep"
    assert changed["payload"] == {
        **cron["payload"],
        "input": {"log": ["new"]},
        "metadata": {"b": 2},
        "on_run_completed": "keep",
        "webhook": "https://example.com/h",
    }
    configured: Any = await client.crons.update(cron_id, config={"configurable": {"tone": "dry"}})
    assert configured["payload"]["config"] == {"configurable": {"tone": "dry", "cron_id": cron_id}}
    assert (await client.crons.search(assistant_id=AGENT, metadata={"a": 1}, limit=1))[0]["schedule"] == YEARLY


async def test_a_cron_keeps_its_assistant(client: LangGraphClient, server: Stack) -> None:
    cron = await create(client)
    async with httpx.AsyncClient(base_url=server.url) as http:
        path = f"/runs/crons/{cron['cron_id']}"
        changed = await http.patch(path, json={"assistant_id": str(uuid4()), "enabled": False})
        assert (changed.status_code, changed.json()["assistant_id"]) == (200, AGENT)
        assert changed.json()["payload"]["assistant_id"] == AGENT
        alone = await http.patch(path, json={"assistant_id": str(uuid4())})
        assert alone.status_code == 400


async def test_a_change_that_contradicts_itself_changes_nothing(client: LangGraphClient) -> None:
    cron = await create(client, config={"configurable": {"tone": "dry"}})
    with pytest.raises(BadRequestError):
        await client.crons.update(cron["cron_id"], context={"tone": "wet"}, schedule="0 5 * * *")
    with pytest.raises(UnprocessableEntityError, match="not a minute"):
        await client.crons.update(cron["cron_id"], schedule="61 * * * *", enabled=False)
    assert await client.http.get(f"/runs/crons/{cron['cron_id']}") == cron


async def test_the_end_of_a_cron_is_no_number(client: LangGraphClient, server: Stack) -> None:
    cron = await create(client)
    path = f"/runs/crons/{cron['cron_id']}"
    async with httpx.AsyncClient(base_url=server.url) as http:
        for wrong in (5, 4102444800.5, "4102444800", True, []):
            answer = await http.patch(path, json={"end_time": wrong})
            assert answer.status_code == 422
            assert "ISO 8601" in answer.json()["detail"]
        for right in ("2030-01-31", "2030-01-31T12:00:00+02:00", None):
            assert (await http.patch(path, json={"end_time": right})).status_code == 200


async def test_crons_are_found_by_what_they_are(client: LangGraphClient) -> None:
    assistant, thread_id = await new_assistant(client), await existing_thread(client)
    one = await create(client, "0 1 * * *", assistant, metadata={"k": {"deep": 1}, "n": 1})
    two = await create(client, "0 2 * * *", assistant, enabled=False)
    three: Any = await client.crons.create_for_thread(thread_id, assistant, schedule="0 3 * * *")

    async def ids(**asked: Any) -> list[str]:
        return [cron["cron_id"] for cron in await client.crons.search(assistant_id=assistant, **asked)]

    assert await ids() == [cron["cron_id"] for cron in (three, two, one)]
    assert await ids(enabled=False) == [two["cron_id"]]
    assert await ids(enabled=True) == [three["cron_id"], one["cron_id"]]
    assert await ids(thread_id=thread_id) == [three["cron_id"]]
    assert await ids(metadata={"k": {"deep": 1}}) == [one["cron_id"]]
    assert await ids(metadata={"k": {"deep": 2}}) == []
    assert await client.crons.count(assistant_id=assistant) == 3
    assert await client.crons.count(assistant_id=assistant, thread_id=thread_id) == 1
    assert await client.crons.count(assistant_id=assistant, metadata={"n": 1}) == 1


async def test_crons_are_sorted_as_asked(client: LangGraphClient) -> None:
    assistant = await new_assistant(client)
    january = await create(client, "0 0 1 1 *", assistant, end_time=datetime(2099, 1, 1, tzinfo=UTC))
    each_minute = await create(client, "* * * * *", assistant, enabled=False)
    hourly = await create(client, "0 * * * *", assistant, end_time=datetime(2098, 1, 1, tzinfo=UTC))

    async def order(sort_by: Any, **asked: Any) -> list[Any]:
        return [cron["cron_id"] for cron in await client.crons.search(assistant_id=assistant, sort_by=sort_by, **asked)]

    assert await order("next_run_date", sort_order="asc") == [c["cron_id"] for c in (hourly, january, each_minute)]
    assert await order("next_run_date") == [c["cron_id"] for c in (january, hourly, each_minute)]
    assert await order("end_time", sort_order="asc") == [c["cron_id"] for c in (hourly, january, each_minute)]
    assert await order("created_at", sort_order="asc") == [c["cron_id"] for c in (january, each_minute, hourly)]
    await client.crons.update(january["cron_id"], metadata={"touched": True})
    assert (await order("updated_at"))[0] == january["cron_id"]
    for name in ("cron_id", "assistant_id", "thread_id"):
        assert len(await order(name)) == 3


async def test_a_page_says_where_the_next_begins(client: LangGraphClient, server: Stack) -> None:
    assistant = await new_assistant(client)
    for _ in range(3):
        await create(client, YEARLY, assistant)
    async with httpx.AsyncClient(base_url=server.url) as http:
        path, body = "/runs/crons/search", {"assistant_id": assistant, "limit": 2, "select": ["schedule", "now"]}
        first = await http.post(path, json=body)
        assert (first.headers["x-pagination-total"], first.headers["x-pagination-next"]) == ("3", "2")
        assert [sorted(cron) for cron in first.json()] == [["now", "schedule"]] * 2
        last = await http.post(path, json={**body, "offset": 2})
        assert len(last.json()) == 1
        assert "x-pagination-next" not in last.headers


async def test_a_deleted_cron_takes_its_schedule_along(client: LangGraphClient, temporal: Client) -> None:
    cron = await create(client)
    await client.crons.delete(cron["cron_id"])
    assert await schedule_of(temporal, cron["cron_id"]) is None
    with pytest.raises(NotFoundError, match="not found"):
        await client.crons.delete(cron["cron_id"])
    with pytest.raises(NotFoundError):
        await client.crons.update(cron["cron_id"], enabled=False)
    with pytest.raises(NotFoundError):
        await client.http.get(f"/runs/crons/{cron['cron_id']}")


async def test_a_deleted_thread_takes_its_crons_along(client: LangGraphClient, temporal: Client) -> None:
    thread_id = await existing_thread(client)
    cron: Any = await client.crons.create_for_thread(thread_id, "agent", schedule=YEARLY)
    await client.threads.delete(thread_id)
    assert await client.crons.count(thread_id=thread_id) == 0
    assert await schedule_of(temporal, cron["cron_id"]) is None


async def test_a_deleted_assistant_takes_its_crons_along(client: LangGraphClient, temporal: Client) -> None:
    assistant = await new_assistant(client)
    cron = await create(client, YEARLY, assistant)
    await client.assistants.delete(assistant)
    assert await client.crons.count(assistant_id=assistant) == 0
    assert await schedule_of(temporal, cron["cron_id"]) is None


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (422, {}),
        (422, {"assistant_id": "agent"}),
        (422, {"schedule": YEARLY}),
        (422, {"assistant_id": "agent", "schedule": None}),
        (422, {"assistant_id": "agent", "schedule": 5}),
        (422, {"assistant_id": "agent", "schedule": "every day"}),
        (422, {"assistant_id": "agent", "schedule": "every day", "enabled": False}),
        (422, {"assistant_id": "agent", "schedule": "* * * * *\x00"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "timezone": "Mars/Olympus"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "timezone": "\x00"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "end_time": "tomorrow"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "end_time": 5}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "end_time": "4102444800"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "enabled": "maybe"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "on_run_completed": "burn"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "multitask_strategy": "x"}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "metadata": []}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "config": {"configurable": {"\x00": 1}}}),
        (422, {"assistant_id": "agent", "schedule": YEARLY, "config": {"metadata": "x"}}),
        (400, {"assistant_id": "agent", "schedule": YEARLY, "context": {"a": 1}, "config": {"configurable": {"a": 1}}}),
        (404, {"assistant_id": "nobody", "schedule": YEARLY}),
        (404, {"assistant_id": NOBODY, "schedule": YEARLY}),
    ],
)
async def test_a_cron_that_could_not_fire_is_refused(server: Stack, status: int, body: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.post("/runs/crons", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]
    assert isinstance(answer.json()["detail"], str)


async def test_a_resume_needs_a_thread(client: LangGraphClient, server: Stack) -> None:
    thread_id = await existing_thread(client)
    body = {"assistant_id": "agent", "schedule": YEARLY, "command": {"resume": "yes"}}
    async with httpx.AsyncClient(base_url=server.url) as http:
        assert (await http.post("/runs/crons", json=body)).status_code == 400
        assert (await http.post(f"/threads/{thread_id}/runs/crons", json=body)).status_code == 200


@pytest.mark.parametrize(
    ("status", "method", "path", "body"),
    [
        (404, "POST", f"/threads/{NOBODY}/runs/crons", {"assistant_id": "agent", "schedule": YEARLY}),
        (422, "POST", "/threads/nope/runs/crons", {"assistant_id": "agent", "schedule": YEARLY}),
        (422, "GET", "/runs/crons/nope", None),
        (422, "DELETE", "/runs/crons/nope", None),
        (422, "PATCH", "/runs/crons/nope", {"enabled": True}),
        (404, "GET", f"/runs/crons/{NOBODY}", None),
        (404, "DELETE", f"/runs/crons/{NOBODY}", None),
        (404, "PATCH", f"/runs/crons/{NOBODY}", {"enabled": True}),
        (400, "PATCH", f"/runs/crons/{NOBODY}", {}),
        (422, "PATCH", f"/runs/crons/{NOBODY}", {"schedule": None}),
        (422, "PATCH", f"/runs/crons/{NOBODY}", {"enabled": None}),
        *[(422, "POST", f"/runs/crons/{what}", {"assistant_id": "agent"}) for what in ("search", "count")],
        *[(422, "POST", f"/runs/crons/{what}", {"thread_id": "x"}) for what in ("search", "count")],
        *[(422, "POST", f"/runs/crons/{what}", {"metadata": "x"}) for what in ("search", "count")],
        (422, "POST", "/runs/crons/search", {"enabled": "x"}),
        (422, "POST", "/runs/crons/search", {"sort_by": "beauty"}),
        (422, "POST", "/runs/crons/search", {"sort_order": "up"}),
        (422, "POST", "/runs/crons/search", {"select": ["beauty"]}),
        (422, "POST", "/runs/crons/search", {"limit": 0}),
        (422, "POST", "/runs/crons/search", {"offset": -1}),
    ],
)
async def test_a_bad_request_is_refused(server: Stack, status: int, method: str, path: str, body: Any) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["detail"]


async def test_crons_can_be_left_out(environment: dict[str, str], server: Stack, tmp_path: Path) -> None:
    without = Stack({**environment, "FF_CRONS_ENABLED": "false"}, tmp_path)
    await without.start("api")
    try:
        await without.ready()
        async with httpx.AsyncClient() as http:
            flags = [(await http.get(f"{stack.url}/info")).json()["flags"]["crons"] for stack in (server, without)]
            assert flags == [True, False]
            for path in ("", "/search", "/count"):
                assert (await http.post(f"{without.url}/runs/crons{path}", json={})).status_code == 404
    finally:
        await without.stop("api")
