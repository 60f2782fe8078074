"""Health, facts, and the description of the API."""

from typing import Any
from uuid import uuid4

import httpx
from langgraph_sdk.client import LangGraphClient
from prometheus_client.parser import text_string_to_metric_families

from tests.stack import Stack


async def answer_of(server: Stack, path: str) -> Any:
    """Get a path."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.get(path)
    assert answer.status_code == 200
    return answer.json()


async def test_the_server_says_that_it_is_well(server: Stack) -> None:
    assert await answer_of(server, "/") == {"ok": True}
    for path in ("/ok", "/ok?check_db=0", "/ok?check_db=1"):
        assert await answer_of(server, path) == {"ok": True, "services": {}}


async def test_the_server_says_that_its_engines_answer(server: Stack) -> None:
    well = {"ok": True}
    assert await answer_of(server, "/ready") == {
        "ok": True,
        "services": {"postgres": well, "temporal": well, "valkey": well},
    }


async def test_the_server_says_what_it_is(server: Stack) -> None:
    info = await answer_of(server, "/info")
    # Studio refuses servers that name an older version.
    assert tuple(int(part) for part in info["version"].split(".")) >= (0, 4, 35)
    assert info["flags"]["assistants"] is True
    assert info["host"] == {}
    assert {"durathread_version", "langgraph_py_version"} < set(info)


async def test_openapi_describes_every_answer(server: Stack) -> None:
    described = await answer_of(server, "/openapi.json")
    for path in ("/assistants", "/threads/search", "/threads/{thread_id}/state", "/threads/{thread_id}/history"):
        for operation in described["paths"][path].values():
            assert operation["summary"]
            assert operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert operation["responses"]["422"]["content"]["application/json"]["schema"]["$ref"].endswith("/Problem")


async def test_openapi_is_right_where_the_reference_is_wrong(server: Stack) -> None:
    paths: Any = (await answer_of(server, "/openapi.json"))["paths"]
    deleted = [path for path, operations in paths.items() if "delete" in operations]
    assert {"/assistants/{assistant_id}", "/threads/{thread_id}", "/store/items"} <= set(deleted)
    for path in deleted:
        assert "204" in paths[path]["delete"]["responses"]
        assert "200" not in paths[path]["delete"]["responses"]
    cancel = paths["/threads/{thread_id}/runs/{run_id}/cancel"]["post"]["responses"]
    assert "content" not in cancel["202"]
    assert "content" in cancel["200"]
    latest = paths["/assistants/{assistant_id}/latest"]["post"]
    assert "requestBody" in latest
    assert [parameter["name"] for parameter in latest["parameters"]] == ["assistant_id"]
    streams = [path for path in paths if path.endswith("/stream")]
    assert len(streams) >= 5
    for path in streams:
        for operation in paths[path].values():
            assert list(operation["responses"]["200"]["content"]) == ["text/event-stream"]
    names = [operation["operationId"] for operations in paths.values() for operation in operations.values()]
    assert len(names) == len(set(names))
    assert {"threads_create", "runs_join_stream", "assistants_set_latest"} <= set(names)


async def test_head_answers_wherever_get_does_also_for_what_never_ends(server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as http:
        thread = (await http.post("/threads", json={})).json()["thread_id"]
        for path in ("/ok", f"/threads/{thread}", f"/threads/{thread}/stream"):
            response = await http.head(path)
            assert (response.status_code, response.content) == (200, b"")
        assert (await http.head("/nowhere")).status_code == 404


def sample_of(text: str, name: str, **labels: str) -> float:
    """Read a sample in Prometheus' text form; 0 if it is not there."""
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return 0


async def test_metrics_count_requests_by_route_and_runs_by_status(
    server: Stack, client: LangGraphClient, thread_id: str
) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:

        async def read(name: str, **labels: str) -> float:
            answer = await http.get("/metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            return sample_of(answer.text, name, **labels)

        requests = {"method": "GET", "path": "/threads/{thread_id}", "status": "404"}
        counted = await read("lg_api_http_requests_total", **requests)
        pending = await read("lg_api_num_pending_runs")
        assert (await http.get(f"/threads/{thread_id}")).status_code == 404
        assert await read("lg_api_http_requests_total", **requests) == counted + 1

        await client.runs.create(
            thread_id,
            "agent",
            input={"log": []},
            if_not_exists="create",
            after_seconds=600,
            multitask_strategy="reject",
        )
        assert await read("lg_api_num_pending_runs") == pending + 1
        await client.threads.delete(thread_id)
        assert await read("lg_api_num_pending_runs") == pending
        assert await read("lg_api_pg_pool_size") >= 1
        unknown = f"/{uuid4()}"
        await http.get(unknown)
        shown = (await http.get("/metrics")).text
        assert unknown not in shown
        assert 'path="unmatched"' in shown


async def test_metrics_as_json(server: Stack) -> None:
    found = await answer_of(server, "/metrics?format=json")
    assert [sample["value"] >= 0 for sample in found["lg_api_num_running_runs"]] == [True]
