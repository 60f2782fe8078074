"""What LangSmith is told of a run: one trace, whichever workers and attempts it took."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from langgraph_sdk import get_client
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from durathread.embedded.engines import Engines
from tests.conftest import environment_of
from tests.eventually import eventually
from tests.receiver import serving
from tests.runs.support import entered
from tests.stack import Stack, free_port, running

PLAIN_BATCHES = {
    "batch_ingest_config": {
        "use_multipart_endpoint": False,
        "size_limit": 100,
        "size_limit_bytes": 20_000_000,
        "scale_up_nthreads_limit": 1,
        "scale_up_qsize_trigger": 1000,
        "scale_down_nempty_trigger": 4,
    }
}


class LangSmith:
    """Listens in the place of LangSmith, and puts together what it is sent."""

    def __init__(self) -> None:
        self.port = free_port()
        self.spans: dict[str, dict[str, Any]] = {}
        self.app = Starlette(
            routes=[
                Route("/info", self._info),
                Route("/runs/batch", self._batch, methods=["POST"]),
            ]
        )

    async def _info(self, _: Request) -> JSONResponse:
        return JSONResponse(PLAIN_BATCHES)

    async def _batch(self, request: Request) -> JSONResponse:
        body = await request.json()
        for span in (*body.get("post", ()), *body.get("patch", ())):
            said = {key: value for key, value in span.items() if value is not None}
            self.spans.setdefault(span["id"], {}).update(said)
        return JSONResponse({}, status_code=202)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "LANGSMITH_API_KEY": "none",
            "LANGSMITH_DISABLE_RUN_COMPRESSION": "true",
        }

    async def ended(self, name: str, run_id: str) -> None:
        """Wait for the end of a span by its name."""

        async def there() -> bool:
            own = (span for span in self.spans.values() if span["trace_id"] == run_id)
            return any(span["name"] == name and "end_time" in span for span in own)

        await eventually(there, what=f"the span of {name} ends")

    async def trace(self, run_id: str) -> list[dict[str, Any]]:
        """Wait until a run has ended, and return its spans in their order."""

        async def ended() -> bool:
            return "end_time" in self.spans.get(run_id, {})

        await eventually(ended, what=f"the span of {run_id} ends")
        found = [span for span in self.spans.values() if span["trace_id"] == run_id]
        return sorted(found, key=lambda span: span["dotted_order"])


@pytest.fixture(scope="module")
async def langsmith() -> AsyncIterator[LangSmith]:
    found = LangSmith()
    async with serving(uvicorn.Config(found.app, port=found.port, log_level="warning")):
        yield found


@pytest.fixture(scope="module")
async def traced(
    langsmith: LangSmith, engine_set: Engines, database: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Stack]:
    environment = {**environment_of(engine_set, queue="traces"), **langsmith.environment}
    async with running(environment, tmp_path_factory.mktemp("traces")) as stack:
        yield stack


async def test_a_run_whose_worker_is_killed_is_one_trace(
    traced: Stack, langsmith: LangSmith, thread_id: str, tmp_path: Path
) -> None:
    gate, trace = tmp_path / "gate", tmp_path / "b"
    async with get_client(url=traced.url) as client:
        given: Any = {"log": ["in"], "do": {"b": {"trace": str(trace), "until": str(gate)}}}
        run = await client.runs.create(thread_id, "agent", input=given, if_not_exists="create")
        await entered(trace)
        await langsmith.ended("a", run["run_id"])
        await traced.kill("worker")
        await traced.start("worker")
        gate.touch()
        await client.runs.join(thread_id, run["run_id"])
    spans = await langsmith.trace(run["run_id"])
    root, *children = spans
    assert root["id"] == run["run_id"]
    assert not root.get("parent_run_id")
    assert not root.get("error")
    assert root["outputs"]["log"] == ["in", "a", "b", "c"]
    assert root["inputs"]["log"] == ["in"]
    metadata = root["extra"]["metadata"]
    assert (metadata["thread_id"], metadata["run_id"]) == (thread_id, run["run_id"])
    assert {span["parent_run_id"] for span in children} == {root["id"]}
    assert [span["name"] for span in children if "end_time" in span] == ["a", "b", "c"]
    assert all(span["dotted_order"].startswith(f"{root['dotted_order']}.") for span in children)
    assert not [span for span in langsmith.spans.values() if "Drained" in str(span.get("error"))]


async def test_a_run_that_fails_and_one_that_is_cancelled_end_with_an_error(
    traced: Stack, langsmith: LangSmith, thread_id: str, tmp_path: Path
) -> None:
    trace = tmp_path / "b"
    async with get_client(url=traced.url) as client:
        failing: Any = {"log": [], "do": {"b": {"fail": "boom"}}}
        failed = await client.runs.create(thread_id, "agent", input=failing, if_not_exists="create")
        await client.runs.join(thread_id, failed["run_id"])
        waiting: Any = {"log": [], "do": {"b": {"trace": str(trace), "sleep": 60}}}
        stopped = await client.runs.create(thread_id, "agent", input=waiting)
        await entered(trace)
        await client.runs.cancel(thread_id, stopped["run_id"], wait=True)
    assert (await langsmith.trace(failed["run_id"]))[0]["error"].startswith("ValueError('boom')")
    assert (await langsmith.trace(stopped["run_id"]))[0]["error"].startswith("CancelledError")


async def test_a_tool_and_a_model_are_within_the_nodes_that_call_them(
    traced: Stack, langsmith: LangSmith, thread_id: str
) -> None:
    asked: Any = {"messages": [{"role": "user", "content": "weather Rome"}]}
    async with get_client(url=traced.url) as client:
        run = await client.runs.create(
            thread_id, "toolbox", input=asked, stream_mode="messages-tuple", if_not_exists="create"
        )
        await client.runs.join(thread_id, run["run_id"])
    spans = await langsmith.trace(run["run_id"])
    names = {span["id"]: span["name"] for span in spans}
    kinds = [(span["run_type"], names.get(span.get("parent_run_id"))) for span in spans]
    assert kinds.count(("chain", None)) == 1
    assert [kind for kind, _ in kinds].count("llm") == 2
    assert [kind for kind, _ in kinds].count("tool") == 1
    assert not [span for span in spans if span.get("error")]
