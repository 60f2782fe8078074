"""A turn that was cut off does not spoil its thread: with clients of providers, and an endpoint that refuses what those refuse."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from redis.asyncio import Redis

from durathread.steps.conversations import STOPPED
from durathread.streams.events import stream_key
from tests.eventually import eventually
from tests.protocol.support import data_of, run_start, watching
from tests.providers.conversation import Asked, Call, Reply
from tests.providers.endpoint import Endpoint
from tests.providers.endpoint import endpoint as listening
from tests.runs.support import is_there, status_becomes, statuses
from tests.stack import Stack, running, started

CONFIG = Path(__file__).parents[1] / "served" / "repairs.json"
REPAIR: Any = {"configurable": {"on_interrupt": "repair"}}


def script(asked: Asked) -> Reply:
    """Call the tools that the question names in JSON, or speak."""
    if not asked.question.startswith("["):
        return Reply(f"About {asked.question}: that is all.")
    if asked.results:
        return Reply("All is done.")
    calls: list[Any] = json.loads(asked.question)
    return Reply("Let me look.", calls=tuple(Call(name, args) for name, args in calls))


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with listening(script) as found:
        yield found


@pytest.fixture(scope="module")
def own(environment: dict[str, str], endpoint: Endpoint) -> dict[str, str]:
    return {
        **environment,
        "DURATHREAD_TASK_QUEUE": "repairs",
        "DURATHREAD_CONFIG": str(CONFIG),
        "PROVIDER_URL": endpoint.url,
    }


@pytest.fixture(scope="module")
async def stack(own: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running(own, tmp_path_factory.mktemp("repairs")) as found:
        yield found


@pytest.fixture
async def sdk(stack: Stack) -> AsyncIterator[LangGraphClient]:
    async with get_client(url=stack.url) as found:
        yield found


@dataclass(frozen=True)
class Others:
    """Clients of other APIs of the same worker: runs of one may take ten seconds, those of the other one worker."""

    hasty: LangGraphClient
    strict: LangGraphClient


@pytest.fixture(scope="module")
async def others(own: dict[str, str], stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Others]:
    assert stack.processes
    hasty = Stack({**own, "BG_JOB_TIMEOUT_SECS": "10"}, tmp_path_factory.mktemp("hasty"))
    strict = Stack({**own, "DURATHREAD_STEP_ATTEMPTS": "1"}, tmp_path_factory.mktemp("strict"))
    async with AsyncExitStack() as opened:
        await asyncio.gather(*(opened.enter_async_context(started(each, workers=0)) for each in (hasty, strict)))
        clients = [await opened.enter_async_context(get_client(url=each.url)) for each in (hasty, strict)]
        yield Others(*clients)


def said(content: str) -> Any:
    return {"messages": [{"role": "user", "content": content}]}


def calls(tmp_path: Path, *names: str) -> str:
    """Ask for calls of tools; each says in a file of its name that it works."""
    args: dict[str, Any] = {"slow": {"trace": str(tmp_path / "slow")}, "deadly": {"trace": str(tmp_path / "deadly")}}
    return json.dumps([[name, args.get(name, {"folder": str(tmp_path)} if name == "jot" else {})] for name in names])


async def working(sdk: LangGraphClient, graph: str, text: str, tmp_path: Path, **options: Any) -> tuple[str, Any]:
    """Begin a turn on a new thread, and return when its slow tool works and all others have returned."""
    thread_id = (await sdk.threads.create())["thread_id"]
    run = await sdk.runs.create(thread_id, graph, input=said(text), **options)
    await appears(tmp_path / "slow")

    async def others() -> bool:
        messages = await told(sdk, thread_id)
        return graph in ("within", "remembering") or len(messages) == 1 + len(json.loads(text))

    await eventually(others, what="the others are done")
    return thread_id, run


async def revive(stack: Stack) -> None:
    """Start the worker again."""
    times = stack.log("worker").count("The worker is ready") + 1
    await stack.start("worker")
    await stack.worker_ready(times=times)


async def appears(path: Path) -> None:
    """Wait for a file."""

    async def there() -> bool:
        return is_there(path)

    await eventually(there, what=f"{path} is there")


async def told(sdk: LangGraphClient, thread_id: str) -> list[str]:
    """Read what a conversation has come to."""
    values: Any = (await sdk.threads.get_state(thread_id))["values"]
    return [text(message["content"]) for message in values.get("messages", [])]


def text(content: Any) -> str:
    return content if isinstance(content, str) else "".join(block.get("text", "") for block in content)


async def repairs(sdk: LangGraphClient, thread_id: str) -> list[Any]:
    """List the checkpoints of a thread that repair."""
    history = await sdk.threads.get_history(thread_id, limit=100)
    return [each for each in history if (each["metadata"] or {}).get("durathread")]


PROVIDERS = pytest.mark.parametrize("graph", ["openai", "responses", "anthropic"])


@PROVIDERS
async def test_what_providers_refuse_after_an_interruption_passes_after_a_repair(
    sdk: LangGraphClient, endpoint: Endpoint, tmp_path: Path, graph: str
) -> None:
    thread_id, run = await working(sdk, graph, calls(tmp_path, "quick", "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    parts = [
        part
        async for part in sdk.runs.stream(
            thread_id, graph, input=said("the time"), config=REPAIR, stream_mode=["values", "updates"]
        )
    ]
    shown = [part.data for part in parts if part.event == "values"]
    first = [text(message["content"]) for message in shown[0]["messages"]]
    assert first[1:] == ["Let me look.", "quick is done", STOPPED, "the time"]
    assert [message["status"] for message in shown[0]["messages"][2:4]] == ["success", "error"]
    assert text(shown[-1]["messages"][-1]["content"]) == "About the time: that is all."
    assert endpoint.asked[-1].problem() is None
    [repairing] = await repairs(sdk, thread_id)
    assert (repairing["metadata"]["source"], repairing["next"]) == ("update", [])
    assert await statuses(sdk, thread_id) == ["interrupted", "success"]


async def test_clients_of_the_protocol_see_the_repair_in_the_state(
    sdk: LangGraphClient, stack: Stack, tmp_path: Path
) -> None:
    thread_id, run = await working(sdk, "openai", calls(tmp_path, "quick", "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    expected = ["quick is done", STOPPED, "the time", "About the time: that is all."]
    await run_start(stack.url, thread_id, "openai", input=said("the time"), config=REPAIR)
    async with watching(stack.url, thread_id, ["values"]) as watch:
        events = await watch.until(lambda event: expected[-1] in str(event) and event["method"] == "values")
    states = [[text(message["content"]) for message in state["messages"]] for state in data_of(events, "values")]
    assert states[-1][2:] == expected
    assert expected[:3] in [state[2:] for state in states]


@PROVIDERS
async def test_a_thread_that_providers_refuse_is_repaired_when_that_is_asked_for(
    sdk: LangGraphClient, tmp_path: Path, graph: str
) -> None:
    thread_id, run = await working(sdk, graph, calls(tmp_path, "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    refused: Any = await sdk.runs.wait(thread_id, graph, input=said("the weather"), raise_error=False)
    assert "__error__" in refused
    await sdk.runs.wait(thread_id, graph, input=said("the time"), config=REPAIR)
    assert (await told(sdk, thread_id))[2:-1] == [STOPPED, "the weather", "the time"]


@pytest.mark.parametrize("graph", ["within", "remembering"])
async def test_an_agent_within_a_graph_is_repaired_too(
    sdk: LangGraphClient, endpoint: Endpoint, tmp_path: Path, graph: str
) -> None:
    thread_id, run = await working(sdk, graph, calls(tmp_path, "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    await sdk.runs.wait(thread_id, graph, input=said("the time"), config=REPAIR)
    assert (await told(sdk, thread_id))[1:] == ["Let me look.", STOPPED, "the time", "About the time: that is all."]


async def test_a_message_that_interrupts_repairs_what_it_interrupts(sdk: LangGraphClient, tmp_path: Path) -> None:
    thread_id, _ = await working(sdk, "openai", calls(tmp_path, "quick", "slow"), tmp_path)
    await sdk.runs.create(thread_id, "openai", input=said("the time"), config=REPAIR, multitask_strategy="interrupt")
    await status_becomes(sdk, thread_id, "idle")
    assert await statuses(sdk, thread_id) == ["interrupted", "success"]
    assert (await told(sdk, thread_id))[2:] == [
        "quick is done",
        STOPPED,
        "the time",
        "About the time: that is all.",
    ]


async def test_a_rollback_to_the_middle_of_a_turn_is_repaired(sdk: LangGraphClient, tmp_path: Path) -> None:
    thread_id, run = await working(sdk, "openai", calls(tmp_path, "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    (tmp_path / "slow").unlink()
    await sdk.runs.create(thread_id, "openai", input=None, config=REPAIR)
    await appears(tmp_path / "slow")
    assert not await repairs(sdk, thread_id)
    await sdk.runs.create(thread_id, "openai", input=said("the time"), config=REPAIR, multitask_strategy="rollback")
    await status_becomes(sdk, thread_id, "idle")
    assert (await told(sdk, thread_id))[2:] == [STOPPED, "the time", "About the time: that is all."]
    # What repairs belongs to its run, and goes with it.
    last = (await sdk.runs.list(thread_id))[0]
    await sdk.runs.delete(thread_id, last["run_id"])
    assert (await told(sdk, thread_id))[1:] == ["Let me look."]
    assert (await sdk.threads.get_state(thread_id))["next"] == ["tools"]


async def test_a_run_that_timed_out_is_repaired(sdk: LangGraphClient, others: Others, tmp_path: Path) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    await others.hasty.runs.create(thread_id, "openai", input=said(calls(tmp_path, "slow")))
    await appears(tmp_path / "slow")
    await status_becomes(sdk, thread_id, "error")
    assert await statuses(sdk, thread_id) == ["timeout"]
    await sdk.runs.wait(thread_id, "openai", input=said("the time"), config=REPAIR)
    assert (await told(sdk, thread_id))[2:] == [STOPPED, "the time", "About the time: that is all."]


async def test_a_run_that_took_its_worker_down_is_repaired(
    sdk: LangGraphClient, others: Others, stack: Stack, tmp_path: Path
) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    await others.strict.runs.create(thread_id, "openai", input=said(calls(tmp_path, "deadly")))
    await stack.processes["worker"].wait()

    async def given_up() -> bool:
        # A death is counted only when it is certain: the tool may kill another worker.
        if stack.processes["worker"].returncode is not None:
            await revive(stack)
        return (await sdk.threads.get(thread_id))["status"] == "error"

    await eventually(given_up, timeout=200, what="the run is given up")
    assert await statuses(sdk, thread_id) == ["error"]
    await sdk.runs.wait(thread_id, "openai", input=said("the time"), config=REPAIR)
    assert (await told(sdk, thread_id))[2:] == [STOPPED, "the time", "About the time: that is all."]


async def test_a_question_is_closed_by_a_message_and_not_by_its_answer(sdk: LangGraphClient, tmp_path: Path) -> None:
    for closes in (False, True):
        thread_id = (await sdk.threads.create())["thread_id"]
        await sdk.runs.wait(thread_id, "openai", input=said(calls(tmp_path, "ask")))
        assert (await sdk.threads.get(thread_id))["interrupts"]
        given: Any = {"input": said("the time")} if closes else {"command": {"resume": "yes"}}
        await sdk.runs.wait(thread_id, "openai", config=REPAIR, **given)
        expected = [STOPPED, "the time", "About the time: that is all."] if closes else ["yes", "All is done."]
        assert (await told(sdk, thread_id))[2:] == expected
        thread = await sdk.threads.get(thread_id)
        assert (thread["status"], thread["interrupts"]) == ("idle", {})


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_a_worker_that_dies_at_a_repair_leaves_it_to_another_which_makes_it_once(
    sdk: LangGraphClient, stack: Stack, tmp_path: Path, moment: str
) -> None:
    thread_id, run = await working(sdk, "openai", calls(tmp_path, "jot", "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    await status_becomes(sdk, thread_id, "interrupted")
    (tmp_path / "after").mkdir()
    # Notes are added when the repair is made; the context is built when it is.
    folder = tmp_path if moment == "before" else tmp_path / "after"
    (folder / "armed").touch()
    more: Any = {} if moment == "before" else {"context": {"folder": str(folder)}}
    await sdk.runs.create(thread_id, "openai", input=said("the time"), config=REPAIR, **more)
    await appears(folder / "entered")
    await stack.kill("worker")
    (folder / "armed").unlink()
    assert len(await repairs(sdk, thread_id)) == (moment == "after")
    await revive(stack)
    await status_becomes(sdk, thread_id, "idle")
    assert (await told(sdk, thread_id))[2:] == ["noted", STOPPED, "the time", "About the time: that is all."]
    assert len(await repairs(sdk, thread_id)) == 1
    state: Any = await sdk.threads.get_state(thread_id)
    assert state["values"]["notes"] == [str(tmp_path)]


@pytest.mark.parametrize("shown", ["messages-tuple", "messages", "protocol", "nothing", "lost"])
async def test_what_was_said_when_the_turn_was_cut_off_is_kept_if_somebody_was_told(
    sdk: LangGraphClient, stack: Stack, own: dict[str, str], endpoint: Endpoint, shown: str
) -> None:
    thread_id = (await sdk.threads.create())["thread_id"]
    topic = f"stars {uuid4().hex}"
    with endpoint.holding(lambda asked: asked.question == topic) as gate:
        run_id = await begun(stack, sdk, thread_id, topic, shown)
        await gate.entered()
        async with Redis.from_url(own["REDIS_URL"]) as redis:
            if shown not in ("nothing", "protocol"):

                async def streamed() -> bool:
                    return "About " in str(await redis.xrange(stream_key(run_id)))

                await eventually(streamed, what="a word is shown")
            elif shown == "protocol":

                async def framed() -> bool:
                    return await redis.xlen(stream_key(run_id)) > 3

                await eventually(framed, what="a word is shown")
            await sdk.runs.cancel(thread_id, run_id, wait=True)
            if shown == "lost":
                await redis.delete(stream_key(run_id))
    await sdk.runs.wait(thread_id, "openai", input=said("the time"), config=REPAIR)
    kept = [] if shown in ("nothing", "lost") else ["About "]
    assert await told(sdk, thread_id) == [topic, *kept, "the time", "About the time: that is all."]
    values: Any = (await sdk.threads.get_state(thread_id))["values"]
    marks = [message["response_metadata"].get("durathread") for message in values["messages"]]
    assert marks == [None, *([{"interrupted": True}] if kept else []), None, None]
    assert [each.text for each in endpoint.asked[-1].said] == [topic, *kept, "the time"]


async def begun(stack: Stack, sdk: LangGraphClient, thread_id: str, topic: str, shown: str) -> str:
    """Begin a turn, as a client of each kind does."""
    if shown == "protocol":
        command = {"id": 1, "method": "run.start", "params": {"assistant_id": "openai", "input": said(topic)}}
        async with httpx.AsyncClient(base_url=stack.url) as http:
            answered = (await http.post(f"/threads/{thread_id}/commands", json=command)).json()
        return answered["result"]["run_id"]
    mode: Any = {"nothing": "values", "lost": "messages-tuple"}.get(shown, shown)
    return (await sdk.runs.create(thread_id, "openai", input=said(topic), stream_mode=mode))["run_id"]


async def test_a_run_that_is_cancelled_after_its_repair_leaves_the_thread_whole(
    sdk: LangGraphClient, tmp_path: Path
) -> None:
    thread_id, run = await working(sdk, "openai", calls(tmp_path, "slow"), tmp_path)
    await sdk.runs.cancel(thread_id, run["run_id"], wait=True)
    (tmp_path / "armed").touch()
    second = await sdk.runs.create(
        thread_id, "openai", input=said("the time"), config=REPAIR, context={"folder": str(tmp_path)}
    )
    await appears(tmp_path / "entered")
    await sdk.runs.cancel(thread_id, second["run_id"])
    (tmp_path / "armed").unlink()
    await status_becomes(sdk, thread_id, "idle")
    assert (await told(sdk, thread_id))[2:] == [STOPPED]
    await sdk.runs.wait(thread_id, "openai", input=said("the news"))
    assert (await told(sdk, thread_id))[2:] == [STOPPED, "the news", "About the news: that is all."]
