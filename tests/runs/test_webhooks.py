"""Webhooks: what is sent when a run has ended, how often, and to whom."""

import asyncio
import base64
import hashlib
import hmac
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import UnprocessableEntityError
from temporalio.client import Client, WorkflowExecutionStatus

from durathread.temporal.connection import ASSISTANT_ID, GRAPH_ID, RUN_STATUS, THREAD_ID
from durathread.workflows.messages import Sweep
from tests.eventually import eventually
from tests.receiver import Received, Receiver, receiving
from tests.runs.crons import create, fire
from tests.runs.support import entered, start, status_becomes
from tests.stack import GRAPHS, Stack, running
from tests.workflows.support import attribute, closed, described

SECRETS = ["whsec_" + base64.b64encode(b"the first secret of 32 bytes....").decode(), "an-old-one"]
KEYS = [b"the first secret of 32 bytes....", b"an-old-one"]
RUN_FIELDS = {
    "run_id",
    "thread_id",
    "assistant_id",
    "created_at",
    "updated_at",
    "status",
    "metadata",
    "kwargs",
    "multitask_strategy",
    "langsmith_session_name",
    "cancel_reason",
    "run_started_at",
    "run_ended_at",
    "webhook_sent_at",
    "values",
    "interrupts",
}
INPUT: dict[str, Any] = {"log": ["in"], "do": {}}


@pytest.fixture(scope="module")
async def stack(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """A server that may call back on this machine."""
    own = {
        **environment,
        "DURATHREAD_TASK_QUEUE": "webhooks",
        "DURATHREAD_CONFIG": str(GRAPHS.parent / "webhooks.json"),
        "DURATHREAD_WEBHOOK_SECRET": " ".join(SECRETS),
        "DURATHREAD_WEBHOOK_FIRST_WAIT": "0.1",
        "DURATHREAD_WEBHOOK_TIMEOUT": "1.5",
        "BG_JOB_TIMEOUT_SECS": "12",
        "LG_WEBHOOK_TOKEN": "t0ken",
    }
    async with running(own, tmp_path_factory.mktemp("webhooks")) as found:
        yield found


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


@pytest.fixture
def path() -> str:
    """A path that nothing has come to."""
    return f"/{uuid4().hex}"


async def the_one(receiver: Receiver, temporal: Client, path: str, run_id: str) -> Received:
    """Wait until the webhook of a run has been delivered, and check that it came once."""
    await receiver.got(path)
    found = await closed(temporal, f"webhook/{run_id}")
    assert found.status == WorkflowExecutionStatus.COMPLETED
    [received] = receiver.at(path)
    return received


async def test_a_run_that_succeeds_is_told_of_once_with_all_that_it_was(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await start(client, thread_id, "in", webhook=receiver.url(path), metadata={"mine": 1})
    await client.runs.join(thread_id, run["run_id"])
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert set(said) == RUN_FIELDS
    now: Any = await client.runs.get(thread_id, run["run_id"])
    # The server's own keys are not for receivers.
    del now["kwargs"]["config"]["configurable"]["langgraph_request_id"]
    told = {key: said[key] for key in now if key not in ("created_at", "updated_at")}
    assert told == {key: now[key] for key in told}
    assert (said["status"], said["metadata"]["mine"], said["interrupts"]) == ("success", 1, {})
    assert said["values"] == {"log": ["in", "a", "b", "c"], "do": {}}
    moments = [
        datetime.fromisoformat(said[key]) for key in ("created_at", "run_started_at", "run_ended_at", "webhook_sent_at")
    ]
    assert moments == sorted(moments)
    assert datetime.fromisoformat(said["created_at"]) == datetime.fromisoformat(now["created_at"])


async def test_a_webhook_is_signed_as_standard_webhooks_says_with_every_secret(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    received = await the_one(receiver, temporal, path, run["run_id"])
    headers = received.headers
    assert headers["webhook-id"] == run["run_id"]
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    wanted = [base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in KEYS]
    assert headers["webhook-signature"] == " ".join(f"v1,{each}" for each in wanted)
    assert headers["content-type"] == "application/json"
    assert headers["x-token"] == "Bearer t0ken"


async def test_a_failed_run_is_told_of_with_its_error_masked_as_elsewhere(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await start(client, thread_id, "in", do={"b": {"fail": "boom"}}, webhook=receiver.url(path))
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert (said["status"], said["error"]) == ("error", {"error": "ValueError", "message": "boom"})
    assert said["values"]["log"] == ["in", "a"]
    secret = await client.runs.create(
        None, "failing", input={"log": ["secret"]}, webhook=receiver.url(path + "/secret")
    )
    said = (await the_one(receiver, temporal, path + "/secret", secret["run_id"])).json
    assert said["error"] == {"error": "Secret", "message": "An internal error occurred"}


async def test_a_run_that_asks_a_human_is_told_of_with_its_interrupts(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await client.runs.create(
        thread_id, "hitl", input={"log": ["in"]}, if_not_exists="create", webhook=receiver.url(path)
    )
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    [[interrupt]] = said["interrupts"].values()
    assert (said["status"], interrupt["value"], "error" in said) == ("success", "ask?", False)
    assert (await client.threads.get(thread_id))["interrupts"] == said["interrupts"]


@pytest.mark.parametrize("way", ["cancel", "supersede"])
async def test_an_interrupted_run_is_told_of_with_what_it_left(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, tmp_path: Path, way: str
) -> None:
    trace = tmp_path / "b"
    do = {"b": {"trace": str(trace), "sleep": 60}}
    run = await start(client, thread_id, "in", do=do, webhook=receiver.url(path))
    await entered(trace)
    if way == "cancel":
        await client.runs.cancel(thread_id, run["run_id"])
    else:
        await start(client, thread_id, "next", multitask_strategy="interrupt")
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert (said["status"], said["values"]["log"], "error" in said) == ("interrupted", ["in", "a"], False)
    assert said["cancel_reason"] == (await client.runs.get(thread_id, run["run_id"])).get("cancel_reason")


@pytest.mark.parametrize("way", ["cancel", "supersede", "delete the thread"])
async def test_a_run_that_is_rolled_back_is_told_of_although_it_is_gone(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, tmp_path: Path, way: str
) -> None:
    trace = tmp_path / "b"
    do = {"b": {"trace": str(trace), "sleep": 60}}
    run = await start(client, thread_id, "in", do=do, webhook=receiver.url(path))
    await entered(trace)
    if way == "cancel":
        await client.runs.cancel(thread_id, run["run_id"], action="rollback")
    elif way == "supersede":
        await start(client, thread_id, "next", multitask_strategy="rollback")
    else:
        await client.threads.delete(thread_id)
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert set(said) == RUN_FIELDS
    assert (said["status"], said["values"], said["interrupts"]) == ("rollback", None, None)
    assert said["kwargs"]["input"]["log"] == ["in"]


async def test_a_run_that_takes_too_long_is_told_of(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await start(client, thread_id, "in", do={"b": {"sleep": 60}}, webhook=receiver.url(path))
    await status_becomes(client, thread_id, "busy")
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert (said["status"], said["error"]) == ("timeout", {"error": "TimeoutError", "message": ""})
    assert said["values"]["log"] == ["in", "a"]


async def test_nobody_is_told_of_a_run_that_never_began(
    client: LangGraphClient, receiver: Receiver, thread_id: str, path: str, tmp_path: Path, database: str
) -> None:
    trace, gate = tmp_path / "b", tmp_path / "gate"
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    first = await start(client, thread_id, "in", do=do, webhook=receiver.url(path))
    await entered(trace)
    for action in ("interrupt", "rollback"):
        queued = await start(client, thread_id, "never", webhook=receiver.url(path + "/never"))
        await client.runs.cancel(thread_id, queued["run_id"], action=action)
    gate.touch()
    await client.runs.join(thread_id, first["run_id"])
    await receiver.got(path)
    assert receiver.at(path + "/never") == []
    async with await psycopg.AsyncConnection.connect(database) as conn:
        rows = await (await conn.execute("SELECT 1 FROM outbox WHERE url LIKE %s", (f"%{path}/never",))).fetchall()
    assert rows == []


async def test_stateless_runs_are_told_of_with_their_values(
    client: LangGraphClient, receiver: Receiver, temporal: Client, path: str
) -> None:
    run = await client.runs.create(None, "agent", input=INPUT, webhook=receiver.url(path))
    said = (await the_one(receiver, temporal, path, run["run_id"])).json
    assert (said["status"], said["values"]["log"]) == ("success", ["in", "a", "b", "c"])
    payload: Any = {"assistant_id": "agent", "input": INPUT, "webhook": receiver.url(path + "/batch")}
    batch = await client.runs.create_batch([payload, payload])
    received = await receiver.got(path + "/batch", 2)
    assert {each.json["run_id"] for each in received} == {each["run_id"] for each in batch}


async def test_every_run_of_a_race_is_told_of_once(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    do = {"b": {"trace": str(trace), "sleep": 60}}
    first = await start(client, thread_id, "in", do=do, webhook=receiver.url(f"{path}/0"))
    await entered(trace)
    rest = await asyncio.gather(
        *(
            start(client, thread_id, f"r{n}", multitask_strategy="interrupt", webhook=receiver.url(f"{path}/{n}"))
            for n in range(1, 6)
        ),
        client.runs.cancel(thread_id, first["run_id"], wait=True),
        return_exceptions=True,
    )
    await the_one(receiver, temporal, f"{path}/0", first["run_id"])
    ids = {n: run["run_id"] for n, run in enumerate(rest[:5], 1) if isinstance(run, dict)}
    assert len(ids) == 5
    for n, run_id in ids.items():
        await client.runs.join(thread_id, run_id)
        run = await client.runs.get(thread_id, run_id)
        if run["status"] == "success":
            said = (await the_one(receiver, temporal, f"{path}/{n}", run_id)).json
            assert (said["run_id"], said["status"]) == (run_id, "success")
        else:
            assert len(receiver.at(f"{path}/{n}")) <= 1


@pytest.mark.parametrize("status", [500, 503, 429])
async def test_a_receiver_that_fails_is_tried_again_with_the_same_id(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, status: int
) -> None:
    receiver.answers[path] = [(status, {}), (status, {})]
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    tries = await receiver.got(path, 3)
    found = await closed(temporal, f"webhook/{run['run_id']}")
    assert found.status == WorkflowExecutionStatus.COMPLETED
    assert len(receiver.at(path)) == 3
    assert {each.headers["webhook-id"] for each in tries} == {run["run_id"]}
    assert [each.json["values"] for each in tries] == [tries[0].json["values"]] * 3


async def test_a_receiver_that_asks_for_time_gets_it(
    client: LangGraphClient, receiver: Receiver, thread_id: str, path: str
) -> None:
    receiver.answers[path] = [(429, {"retry-after": "2"})]
    await start(client, thread_id, "in", webhook=receiver.url(path))
    first, second = await receiver.got(path, 2)
    sent = [datetime.fromisoformat(each.json["webhook_sent_at"]) for each in (first, second)]
    assert (sent[1] - sent[0]).total_seconds() >= 2


async def test_a_receiver_that_refuses_is_not_tried_again(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, database: str
) -> None:
    receiver.answers[path] = [(404, {})]
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    found = await closed(temporal, f"webhook/{run['run_id']}")
    assert found.status == WorkflowExecutionStatus.FAILED
    assert len(receiver.at(path)) == 1
    assert (await client.runs.get(thread_id, run["run_id"]))["status"] == "success"
    async with await psycopg.AsyncConnection.connect(database) as conn:
        rows = await (await conn.execute("SELECT 1 FROM outbox WHERE run_id = %s", (run["run_id"],))).fetchall()
    assert rows == []


async def test_redirects_are_followed_with_the_body_and_no_secrets_of_ours(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    async with receiving() as other:
        receiver.answers[path] = [(302, {"location": f"{path}/2"})]
        receiver.answers[f"{path}/2"] = [(308, {"location": other.url("/there")})]
        run = await start(client, thread_id, "in", webhook=receiver.url(path))
        await the_one(other, temporal, "/there", run["run_id"])
        bodies = [receiver.at(path), receiver.at(f"{path}/2"), other.at("/there")]
        assert [len(each) for each in bodies] == [1, 1, 1]
        assert len({each[0].body for each in bodies}) == 1
        assert ["x-token" in each[0].headers for each in bodies] == [True, True, False]


@pytest.mark.parametrize(
    "location", ["ftp://127.0.0.1/x", "http://169.254.169.254/latest/meta-data", "loop", "http://[::"]
)
async def test_a_redirect_to_where_no_webhook_may_go_is_final(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str, location: str
) -> None:
    target = path if location == "loop" else location
    receiver.answers[path] = [(307, {"location": target})] * 10
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    found = await closed(temporal, f"webhook/{run['run_id']}")
    assert found.status == WorkflowExecutionStatus.FAILED
    assert len(receiver.at(path)) == (6 if location == "loop" else 1)


async def test_a_receiver_that_hangs_holds_neither_the_thread_nor_other_receivers(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    async with receiving() as hanging:
        hanging.answers["/hangs"] = [None] * 1000
        payload: Any = {"assistant_id": "agent", "input": INPUT, "webhook": hanging.url("/hangs")}
        await client.runs.create_batch([payload] * 40)
        await start(client, thread_id, "r1", webhook=hanging.url("/hangs"))
        await hanging.got("/hangs", 20)
        result: Any = await client.runs.wait(thread_id, "agent", input=INPUT, webhook=receiver.url(path))
        assert result["log"] == ["r1", "a", "b", "c", "in", "a", "b", "c"]
        await receiver.got(path)
        del hanging.answers["/hangs"]
        hanging.released.set()

        async def all_told() -> bool:
            return len({each.headers["webhook-id"] for each in hanging.received}) == 41

        await eventually(all_told, timeout=30)


async def test_a_worker_that_is_killed_in_a_delivery_costs_a_repetition(
    stack: Stack, client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    receiver.answers[path] = [None]
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    await receiver.got(path)
    await stack.kill("worker")
    await stack.start("worker")
    await stack.worker_ready(times=2)
    first, second = await receiver.got(path, 2)
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert (await closed(temporal, f"webhook/{run['run_id']}")).status == WorkflowExecutionStatus.COMPLETED


async def test_a_webhook_that_nobody_has_started_is_found_by_the_sweep(
    stack: Stack,
    client: LangGraphClient,
    receiver: Receiver,
    temporal: Client,
    thread_id: str,
    path: str,
    database: str,
) -> None:
    run = await start(client, thread_id, "in", after_seconds=3600, webhook=receiver.url(path))
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        # As a worker would that dies at once after.
        await conn.execute(
            "UPDATE run SET status = 'success', started_at = now(), ended_at = now() WHERE run_id = %s",
            (run["run_id"],),
        )
        await conn.execute(
            "UPDATE outbox SET created_at = now() - interval '1 hour' WHERE run_id = %s", (run["run_id"],)
        )
    queue = stack.environment["DURATHREAD_TASK_QUEUE"]
    await temporal.execute_workflow("Sweep", Sweep(age=60), id=f"sweep-{path}", task_queue=queue)
    assert (await the_one(receiver, temporal, path, run["run_id"])).json["status"] == "success"


async def test_a_webhook_that_an_operator_has_ended_stays_ended(
    stack: Stack,
    client: LangGraphClient,
    receiver: Receiver,
    temporal: Client,
    thread_id: str,
    path: str,
    database: str,
) -> None:
    receiver.answers[path] = [(500, {"retry-after": "3000"})] * 10
    run = await start(client, thread_id, "in", webhook=receiver.url(path))
    await receiver.got(path)
    await temporal.get_workflow_handle(f"webhook/{run['run_id']}").terminate()
    queue = stack.environment["DURATHREAD_TASK_QUEUE"]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute(
            "UPDATE outbox SET created_at = now() - interval '1 hour' WHERE run_id = %s", (run["run_id"],)
        )
        await temporal.execute_workflow("Sweep", Sweep(age=60), id=f"sweep-{path}", task_queue=queue)
        rows = await (await conn.execute("SELECT 1 FROM outbox WHERE run_id = %s", (run["run_id"],))).fetchall()
    assert (rows, len(receiver.at(path))) == ([], 1)


async def test_a_delivery_is_seen_in_the_temporal_ui(
    client: LangGraphClient, receiver: Receiver, temporal: Client, thread_id: str, path: str
) -> None:
    run = await start(client, thread_id, "in", webhook=receiver.url(f"{path}?token=hidden"))
    await receiver.got(path)
    found = await closed(temporal, f"webhook/{run['run_id']}")
    keys = (THREAD_ID, ASSISTANT_ID, GRAPH_ID, RUN_STATUS)
    assert [attribute(found, key) for key in keys] == [thread_id, run["assistant_id"], "agent", "success"]
    assert await found.static_summary() == "success · 127.0.0.1"
    result: Any = await temporal.get_workflow_handle(f"webhook/{run['run_id']}").result()
    assert result == {"run_id": run["run_id"], "status": 200}


async def test_a_relative_webhook_leads_to_the_server_itself(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    run = await start(client, thread_id, "in", webhook="/assistants/search")
    await client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"webhook/{run['run_id']}")
    result: Any = await temporal.get_workflow_handle(f"webhook/{run['run_id']}").result()
    assert result["status"] == 200


async def test_what_the_server_keeps_for_itself_is_not_sent(
    client: LangGraphClient, receiver: Receiver, thread_id: str, path: str, tmp_path: Path, database: str
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    run = await start(client, thread_id, "in", do=do, webhook=receiver.url(path), config={"configurable": {"mine": 1}})
    await entered(trace)
    ours = '{"langgraph_auth_user": {"token": "s3cret"}, "langgraph_auth_user_id": "s3cret", "__internal": "s3cret"}'
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        await conn.execute(
            "UPDATE run SET kwargs = jsonb_set(kwargs, '{config,configurable}', kwargs #> '{config,configurable}' || %s::jsonb)"
            " WHERE run_id = %s",
            (ours, run["run_id"]),
        )
    gate.touch()
    [received] = await receiver.got(path)
    assert b"s3cret" not in received.body
    assert received.json["kwargs"]["config"]["configurable"]["mine"] == 1


async def test_webhooks_are_refused_by_every_way_to_create_a_run(
    server: Stack, client: LangGraphClient, thread_id: str
) -> None:
    refused = "http://127.0.0.1:1/hook"
    body = {"assistant_id": "agent", "input": INPUT, "webhook": refused, "if_not_exists": "create"}
    async with httpx.AsyncClient(base_url=server.url) as http:
        for path in (f"/threads/{thread_id}/runs", "/runs"):
            for suffix in ("", "/stream", "/wait"):
                answer = await http.post(path + suffix, json=body)
                assert (answer.status_code, "loopback" in answer.json()["detail"]) == (422, True)
        batch = await http.post("/runs/batch", json=[{**body, "webhook": None}, body])
        assert batch.status_code == 422
        assert (await http.get(f"/threads/{thread_id}")).status_code == 404
    with pytest.raises(UnprocessableEntityError, match="https URL"):
        await client.runs.create(None, "agent", input=INPUT, webhook="ftp://example.com/")


async def test_there_is_no_delivery_without_a_webhook(
    client: LangGraphClient, temporal: Client, thread_id: str
) -> None:
    run = await start(client, thread_id, "in")
    await client.runs.join(thread_id, run["run_id"])
    await closed(temporal, f"run/{run['run_id']}")
    assert await described(temporal, f"webhook/{run['run_id']}") is None


async def test_the_run_of_a_cron_is_told_of(
    client: LangGraphClient, receiver: Receiver, temporal: Client, path: str
) -> None:
    cron = await create(client, webhook=receiver.url(path), metadata={"mine": 1})
    fired = await fire(temporal, cron["cron_id"])
    await client.crons.delete(cron["cron_id"])
    said = (await the_one(receiver, temporal, path, fired.run_id)).json
    assert (said["run_id"], said["thread_id"], said["status"]) == (fired.run_id, fired.thread_id, "success")
    assert (said["metadata"]["cron_id"], said["metadata"]["mine"]) == (cron["cron_id"], 1)
    assert said["values"] == {"log": ["cron", "a", "b", "c"], "do": {}}
