"""Records the histories that later versions of the workflows must be able to replay: `python -m tests.replay.record`.

It takes about two minutes. Record anew only when a change of commands is meant to break with what runs.
"""

import asyncio
import base64
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import psycopg
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from temporalio.client import Client, WorkflowHistory
from temporalio.worker import Worker

from durathread.config.settings import Settings
from durathread.db.migrate import upgrade
from durathread.embedded.engines import engines
from durathread.plugin import DurathreadPlugin
from durathread.workflows.messages import Expiration, RunRequest, Sweep, ThreadState
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.receiver import receiving
from tests.runs.crons import create as create_cron
from tests.runs.crons import fire, workflows
from tests.runs.support import entered, start, status_becomes
from tests.stack import GRAPHS, Stack, running
from tests.workflows.hasty import hasty_server
from tests.workflows.support import chain, closed, described

FOLDER = Path(__file__).parent / "histories"
# The rest of a name: who talked to Temporal, and where users' code lay.
MACHINE = {"identity", "stackTrace", "binaryChecksum", "requestId"}


@dataclass
class Recorder:
    """A server, and what is needed to look at it."""

    client: LangGraphClient
    temporal: Client
    stack: Stack
    folder: Path

    def path(self) -> Path:
        """Name a file that is not there."""
        return self.folder / uuid4().hex

    async def works(self, thread_id: str, **options: Any) -> str:
        """Start a run, and return its id when it is in node b, where it stays."""
        trace = self.path()
        run = await start(self.client, thread_id, "r", do={"b": {"trace": str(trace), "sleep": 60}}, **options)
        await entered(trace)
        return run["run_id"]

    async def done(self, thread_id: str, run_id: str) -> None:
        """Wait for the end of a run."""
        await self.client.runs.join(thread_id, run_id)
        await closed(self.temporal, f"run/{run_id}")

    async def store(self, name: str, workflow_id: str, run_id: str | None = None) -> None:
        """Store a history as it is now."""
        handle = self.temporal.get_workflow_handle(workflow_id, run_id=run_id)
        write(name, await handle.fetch_history())


async def record_thread(recorder: Recorder) -> None:
    """One thread that sees all there is, and its runs."""
    client, thread_id = recorder.client, str(uuid4())
    success = await start(client, thread_id, "r1")
    await recorder.done(thread_id, success["run_id"])
    interrupted = await recorder.works(thread_id)
    await start(client, thread_id, "queued")
    rolled_back = await recorder.works(thread_id, multitask_strategy="interrupt")
    last = await start(client, thread_id, "r4", multitask_strategy="rollback")
    delayed = await start(client, thread_id, "late", after_seconds=1)
    await recorder.done(thread_id, last["run_id"])
    await recorder.done(thread_id, delayed["run_id"])
    cancelled = await recorder.works(thread_id)
    waiting = await start(client, thread_id, "never")
    await client.runs.cancel(thread_id, waiting["run_id"], wait=True)
    await client.runs.cancel(thread_id, cancelled, wait=True)
    in_temporal = await recorder.works(thread_id)
    await recorder.temporal.get_workflow_handle(f"run/{in_temporal}").cancel()
    await status_becomes(client, thread_id, "interrupted")
    terminated = await recorder.works(thread_id)
    await recorder.temporal.get_workflow_handle(f"run/{terminated}").terminate()
    await status_becomes(client, thread_id, "error")
    failed = await start(client, thread_id, "r5", do={"b": {"fail": "boom"}})
    await recorder.done(thread_id, failed["run_id"])
    for strategy in ("enqueue", "nonsense"):
        request = signalled(thread_id, strategy)
        await recorder.temporal.get_workflow_handle(f"thread/{thread_id}").signal("new_run", request)
    await admitted(recorder, thread_id)
    await client.threads.delete(thread_id)
    await closed(recorder.temporal, f"thread/{thread_id}")
    await recorder.store("thread-double-texting", f"thread/{thread_id}")
    await recorder.store("run-success", f"run/{success['run_id']}")
    await recorder.store("run-interrupted", f"run/{interrupted}")
    await recorder.store("run-rolled-back", f"run/{rolled_back}")
    await recorder.store("run-cancelled-in-temporal", f"run/{in_temporal}")
    await recorder.store("run-error", f"run/{failed['run_id']}")


def signalled(thread_id: str, strategy: str = "enqueue") -> RunRequest:
    """Build a run that does not come from the API."""
    payload = {"input": {"log": ["signalled"], "do": {}}, "if_not_exists": "create"}
    return RunRequest(str(uuid4()), thread_id=thread_id, assistant_id="agent", strategy=strategy, payload=payload)


async def admitted(recorder: Recorder, thread_id: str) -> None:
    """Wait until a thread rests."""

    async def is_it() -> bool:
        runs = await recorder.client.runs.list(thread_id, limit=1)
        return runs[0]["status"] == "success" and (await recorder.client.threads.get(thread_id))["status"] == "idle"

    await eventually(is_it)


async def record_stateless(recorder: Recorder) -> None:
    """A run without a thread: its thread is forgotten after a while."""
    stream = recorder.client.runs.stream(None, "agent", input={"log": ["r"], "do": {}})
    run_id = (await anext(stream)).data["run_id"]
    rest = [part async for part in stream]
    assert rest[-1].event == "end"
    found = await described(recorder.temporal, f"run/{run_id}")
    assert found is not None
    thread_id = str(found.parent_id)

    async def forgotten() -> bool:
        found = await described(recorder.temporal, thread_id)
        return found is not None and found.close_time is not None

    await eventually(forgotten, timeout=90)
    await recorder.store("thread-stateless", thread_id)


async def record_superseded(recorder: Recorder) -> None:
    """A run that is ended in the database while nobody tells its workflow."""
    thread_id, trace, gate = str(uuid4()), recorder.path(), recorder.path()
    do = {"b": {"trace": str(trace), "until": str(gate)}}
    run = await start(recorder.client, thread_id, "r", do=do)
    await entered(trace)
    database = recorder.stack.environment["DATABASE_URL"]
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as conn:
        query = "UPDATE run SET status = 'interrupted', ended_at = now() WHERE run_id = %s"
        await conn.execute(query, (run["run_id"],))
    gate.touch()
    await closed(recorder.temporal, f"run/{run['run_id']}")
    await status_becomes(recorder.client, thread_id, "interrupted")
    await recorder.store("run-superseded", f"run/{run['run_id']}")
    await recorder.store("thread-superseded", f"thread/{thread_id}")


async def record_attached(recorder: Recorder) -> None:
    """A run that is sent again to a thread whose workflow was lost while the run worked."""
    thread_id, trace, gate = str(uuid4()), recorder.path(), recorder.path()
    run = await start(recorder.client, thread_id, "r", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    history = await recorder.temporal.get_workflow_handle(f"run/{run['run_id']}").fetch_history()
    sent = history.events[0].workflow_execution_started_event_attributes.input.payloads
    [request] = await recorder.temporal.data_converter.decode(list(sent), [RunRequest])
    await recorder.temporal.get_workflow_handle(f"thread/{thread_id}").terminate()
    queue = recorder.stack.environment["DURATHREAD_TASK_QUEUE"]
    again = await recorder.temporal.start_workflow(
        "Thread",
        ThreadState(),
        id=f"thread/{thread_id}",
        task_queue=queue,
        start_signal="new_run",
        start_signal_args=[request],
    )

    async def attached() -> bool:
        return any(
            event.activity_task_scheduled_event_attributes.activity_type.name == "await_run"
            for event in (await again.fetch_history()).events
        )

    await eventually(attached)
    gate.touch()
    await recorder.done(thread_id, run["run_id"])
    last = await start(recorder.client, thread_id, "last")
    await recorder.done(thread_id, last["run_id"])
    await recorder.store("thread-attached", f"thread/{thread_id}", again.result_run_id)


async def record_handed_back(recorder: Recorder) -> None:
    """A step that its worker hands back when it stops, and that another worker repeats."""
    thread_id, trace, gate = str(uuid4()), recorder.path(), recorder.path()
    run = await start(recorder.client, thread_id, "r", do={"b": {"trace": str(trace), "until": str(gate)}})
    await entered(trace)
    await recorder.stack.stop("worker")
    await recorder.stack.start("worker")
    await entered(trace, 2)
    gate.touch()
    await recorder.done(thread_id, run["run_id"])
    await recorder.store("run-handed-back", f"run/{run['run_id']}")


async def record_lost(recorder: Recorder) -> None:
    """A step that takes its worker down until the run is given up."""
    thread_id = str(uuid4())
    run = await start(recorder.client, thread_id, "r", do={"b": {"kill": True}})
    for _ in range(3):
        process = recorder.stack.processes["worker"]
        assert await process.wait() == -signal.SIGKILL
        await recorder.stack.start("worker")
    await status_becomes(recorder.client, thread_id, "error")
    await recorder.store("run-lost", f"run/{run['run_id']}")
    await recorder.store("thread-lost", f"thread/{thread_id}")


async def record_webhooks(recorder: Recorder) -> None:
    """A webhook that is delivered at the second attempt, and one that is refused."""
    environment = {
        **recorder.stack.environment,
        "DURATHREAD_TASK_QUEUE": "webhooks",
        "DURATHREAD_CONFIG": str(GRAPHS.parent / "webhooks.json"),
        "DURATHREAD_WEBHOOK_FIRST_WAIT": "0.1",
        "LG_WEBHOOK_TOKEN": "recorded",
    }
    async with (
        running(environment, recorder.path()) as stack,
        get_client(url=stack.url) as client,
        receiving() as receiver,
    ):
        receiver.answers = {"/twice": [(500, {})], "/refused": [(404, {})]}
        for name in ("twice", "refused"):
            run = await start(client, str(uuid4()), "r", webhook=receiver.url(f"/{name}"))
            await closed(recorder.temporal, f"webhook/{run['run_id']}")
            await recorder.store(f"webhook-{name}", f"webhook/{run['run_id']}")


async def record_expiry(recorder: Recorder) -> None:
    """A thread that has outlived its time."""
    await recorder.client.threads.create(ttl={"ttl": 0.0001})
    queue = recorder.stack.environment["DURATHREAD_TASK_QUEUE"]
    await recorder.temporal.execute_workflow("Expire", Expiration(), id="expire", task_queue=queue)
    await recorder.store("expire", "expire")


async def record_sweep(recorder: Recorder) -> None:
    """A sweep that finds a run."""
    thread_id = str(uuid4())
    await start(recorder.client, thread_id, "r", after_seconds=3600)
    queue = recorder.stack.environment["DURATHREAD_TASK_QUEUE"]
    for name, crons in (("sweep", True), ("sweep-without-crons", False)):
        await recorder.temporal.execute_workflow("Sweep", Sweep(age=1, crons=crons), id=name, task_queue=queue)
        await recorder.store(name, name)


async def record_cron(recorder: Recorder) -> None:
    """A cron that fires, one that must not, and a sweep that looks after them."""
    thread_id = str(uuid4())
    await recorder.client.threads.create(thread_id=thread_id)
    for name, enabled in (("admitted", True), ("skipped", False)):
        cron = await create_cron(recorder.client, thread_id=thread_id, enabled=enabled)
        await fire(recorder.temporal, cron["cron_id"])
        [started] = await workflows(recorder.temporal, cron["cron_id"], 1)
        await recorder.store(f"cron-terse-{name}", started.workflow_id)
    queue = recorder.stack.environment["DURATHREAD_TASK_QUEUE"]
    await recorder.temporal.execute_workflow("Sweep", Sweep(), id="sweep-crons", task_queue=queue)
    await recorder.store("sweep-crons", "sweep-crons")


async def record_timeout(recorder: Recorder) -> None:
    """A run that takes longer than it may."""
    environment = {
        **recorder.stack.environment,
        "DURATHREAD_TASK_QUEUE": "impatient",
        "BG_JOB_TIMEOUT_SECS": "2",
    }
    async with running(environment, recorder.path()) as stack, get_client(url=stack.url) as client:
        patient = Recorder(client, recorder.temporal, stack, recorder.folder)
        thread_id = str(uuid4())
        run_id = await patient.works(thread_id)
        await status_becomes(client, thread_id, "error")
        await patient.store("run-timeout", f"run/{run_id}")
        await patient.store("thread-timeout", f"thread/{thread_id}")


async def record_long_lived(recorder: Recorder) -> None:
    """A thread that continues as new, with a queue."""
    thread_id = str(uuid4())
    requests = [signalled(thread_id) for _ in range(9)]
    async with hasty_server(recorder.path()) as address:
        temporal = await Client.connect(address, plugins=[plugin_of(recorder.stack)])
        async with Worker(temporal, task_queue="hasty"):
            handle = await temporal.start_workflow("Thread", id=f"thread/{thread_id}", task_queue="hasty")
            for request in requests:
                await handle.signal("new_run", request)
            await closed(temporal, f"run/{requests[-1].run_id}")
        histories = await chain(temporal, f"thread/{thread_id}")
        assert len(histories) > 1
        write("thread-continues", histories[0])
        write("thread-continued", histories[1])


def plugin_of(stack: Stack) -> DurathreadPlugin:
    """Build the plugin for a worker in this process."""
    environment = stack.environment
    settings = Settings(database_url=environment["DATABASE_URL"], redis_url=environment["REDIS_URL"], config=GRAPHS)
    return DurathreadPlugin(settings)


def write(name: str, history: WorkflowHistory) -> None:
    """Write a history without what tells of the machine it was recorded on."""
    found = json.loads(history.to_json())
    text = json.dumps(scrubbed(found), separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for told in (socket.gethostname(), os.getcwd(), sys.prefix, tempfile.gettempdir()):
        assert told not in text + payloads(found), f"{name} tells of {told}"
    (FOLDER / f"{name}.json").write_text(text + "\n")
    print(f"{name}: {len(found['events'])} events, {len(text)} bytes")  # noqa: T201


def scrubbed(value: Any, key: str = "") -> Any:
    """Copy a history without what tells of the machine it was recorded on."""
    if isinstance(value, list):
        return [scrubbed(item) for item in cast(list[Any], value)]
    if not isinstance(value, dict):
        return "scrubbed" if key in MACHINE else value
    found = {name: scrubbed(item, name) for name, item in cast(dict[str, Any], value).items()}
    if found.get("kind") == "TASK_QUEUE_KIND_STICKY":
        found["name"] = "scrubbed"
    return found


def payloads(value: Any) -> str:
    """Join the texts of all payloads in a history."""
    if isinstance(value, list):
        return "".join(payloads(item) for item in cast(list[Any], value))
    if not isinstance(value, dict):
        return ""
    fields = cast(dict[str, Any], value)
    data = fields.get("data")
    own = base64.b64decode(data).decode(errors="replace") if isinstance(data, str) and "metadata" in fields else ""
    return own + "".join(payloads(item) for item in fields.values())


@asynccontextmanager
async def recorder() -> AsyncGenerator[Recorder]:
    """Start a server to record."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with engines(folder / "engines", ephemeral=True, headless=True) as found:
            await asyncio.to_thread(upgrade, found.database_url)
            environment = environment_of(found, queue="recorded")
            async with running(environment, folder / "logs") as stack, get_client(url=stack.url) as client:
                temporal = await Client.connect(found.temporal_address, plugins=[plugin_of(stack)])
                yield Recorder(client, temporal, stack, folder)


async def main() -> None:
    """Record all histories anew."""
    FOLDER.mkdir(exist_ok=True)
    for path in FOLDER.glob("*.json"):
        path.unlink()
    async with recorder() as found:
        stateless = asyncio.create_task(record_stateless(found))
        await record_thread(found)
        await record_superseded(found)
        await record_attached(found)
        await record_sweep(found)
        await record_webhooks(found)
        await record_cron(found)
        await record_expiry(found)
        await record_timeout(found)
        await record_long_lived(found)
        await stateless
        await record_handed_back(found)
        await record_lost(found)


if __name__ == "__main__":
    asyncio.run(main())
