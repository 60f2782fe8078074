"""What a bad request is answered with: the right status, and always `{"detail": "<string>"}`."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from langgraph_sdk.client import LangGraphClient

from tests.stack import Stack

AGENT = "fe096781-5601-53d2-b2f6-0d3403f7e9ca"
NOBODY = "deadbeef-0000-4000-8000-000000000000"
NOT_JSON = b'{"limit": '


@dataclass(frozen=True)
class Case:
    """A request, and the status that answers it. THREAD, BUSY and MINE in it stand for things that exist."""

    status: int
    method: str
    path: str
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.body!r:.60} is {self.status}"


def get(status: int, path: str) -> Case:
    """Build a case without a body."""
    return Case(status, "GET", path)


def post(status: int, path: str, body: Any) -> Case:
    """Build a case with a body."""
    return Case(status, "POST", path, body)


CASES = [
    # Ids in paths.
    *(get(422, f"/threads/nope{rest}") for rest in ("", "/state", f"/state/{NOBODY}", "/history", "/runs")),
    *(post(422, f"/threads/nope/{rest}", {}) for rest in ("state", "state/checkpoint", "history", "copy")),
    Case(422, "PATCH", "/threads/nope", {"metadata": {}}),
    Case(422, "DELETE", "/threads/nope"),
    *(get(422, f"/assistants/agent{rest}") for rest in ("", "/schemas", "/subgraphs", "/subgraphs/sub")),
    *(post(422, f"/assistants/agent/{rest}", {"version": 1}) for rest in ("versions", "latest")),
    Case(422, "PATCH", "/assistants/agent", {}),
    Case(422, "DELETE", "/assistants/agent"),
    get(422, "/assistants/nobody/graph"),
    # Unknown ids.
    *(get(404, f"/threads/{NOBODY}{rest}") for rest in ("", "/state", f"/state/{NOBODY}", "/history")),
    *(post(404, f"/threads/{NOBODY}/{rest}", {}) for rest in ("state", "state/checkpoint", "history")),
    Case(404, "PATCH", f"/threads/{NOBODY}", {"metadata": {}}),
    Case(404, "DELETE", f"/threads/{NOBODY}"),
    *(get(404, f"/assistants/{NOBODY}{rest}") for rest in ("", "/graph", "/schemas", "/subgraphs")),
    *(post(404, f"/assistants/{NOBODY}/{rest}", {"version": 1}) for rest in ("versions", "latest")),
    Case(404, "PATCH", f"/assistants/{NOBODY}", {}),
    Case(404, "DELETE", f"/assistants/{NOBODY}"),
    post(404, "/assistants", {"graph_id": "nobody"}),
    post(404, "/assistants/search", {"graph_id": "nobody"}),
    post(404, "/assistants/count", {"graph_id": "nobody"}),
    post(404, f"/assistants/{AGENT}/latest", {"version": 1000}),
    post(404, "/threads/THREAD/state", {"values": {"log": []}, "checkpoint_id": NOBODY}),
    # Bodies that are no JSON, or not what is asked for.
    *(
        post(422, path, body)
        for path in ("/assistants", "/assistants/search", "/threads", "/threads/search", "/threads/prune")
        for body in (NOT_JSON, b"", b"[]", b"null", b'"x"')
    ),
    post(422, "/threads", b"\xff"),
    post(422, "/threads", b"[" * 100_000),
    *(post(422, f"/threads/THREAD/{rest}", NOT_JSON) for rest in ("state", "state/checkpoint", "history")),
    post(422, "/assistants", {}),
    post(422, "/assistants", {"graph_id": 7}),
    post(422, "/assistants", {"graph_id": "agent", "assistant_id": "x"}),
    post(422, "/assistants", {"graph_id": "agent", "config": []}),
    post(422, "/assistants", {"graph_id": "agent", "config": {"recursion_limit": "many"}}),
    post(422, "/assistants", {"graph_id": "agent", "config": {"metadata": [1]}}),
    post(422, "/assistants", {"graph_id": "agent", "context": "x"}),
    post(422, "/assistants", {"graph_id": "agent", "context": {"\x00": 1}}),
    post(422, "/assistants", {"graph_id": "agent", "metadata": []}),
    post(422, "/assistants", {"graph_id": "agent", "if_exists": "sometimes"}),
    post(400, "/assistants", {"graph_id": "agent", "config": {"configurable": {"a": 1}}, "context": {"a": 1}}),
    post(422, f"/assistants/{AGENT}/latest", {}),
    post(422, f"/assistants/{AGENT}/latest", {"version": 2**40}),
    post(422, "/threads", {"thread_id": "x"}),
    post(422, "/threads", {"metadata": "x"}),
    post(422, "/threads", {"if_exists": "sometimes"}),
    post(422, "/threads", {"metadata": {"graph_id": "agent"}, "supersteps": [{"updates": []}]}),
    post(404, "/threads", {"metadata": {"graph_id": "nobody"}, "supersteps": [{"updates": [{"as_node": "a"}]}]}),
    post(422, "/threads/prune", {"thread_ids": ["x"]}),
    post(422, "/threads/prune", {"thread_ids": [], "strategy": "burn"}),
    # Searches.
    *(
        post(422, f"/{what}/search", body)
        for what in ("assistants", "threads")
        for body in (
            {"limit": 0},
            {"limit": 1001},
            {"limit": "x"},
            {"offset": -1},
            {"offset": 2**70},
            {"metadata": "x"},
            {"sort_by": "beauty"},
            {"sort_order": "up"},
            {"select": ["beauty"]},
            {"select": "name"},
        )
    ),
    post(422, "/threads/search", {"status": "tired"}),
    post(422, "/threads/search", {"ids": ["x"]}),
    post(422, "/threads/search", {"values": "x"}),
    post(422, "/threads/search", {"extract": {"a": "secrets"}}),
    post(422, "/threads/search", b'{"extract": {"a": "\\ud800"}}'),
    post(422, "/threads/search", b'{"extract": {"\\ud800": "values"}}'),
    post(422, "/threads/search", {"select": ["context"]}),
    # States.
    get(422, "/threads/THREAD/state?select=beauty"),
    get(422, "/threads/THREAD/state?select=[1"),
    get(422, "/threads/THREAD/history?limit=x"),
    get(422, "/threads/THREAD/runs?limit=AAA"),
    get(422, "/threads/THREAD/history?limit=0"),
    get(422, "/threads/THREAD/history?limit=1001"),
    get(422, "/threads/THREAD/history?before=x"),
    post(422, "/threads/THREAD/history", {"limit": 0}),
    post(422, "/threads/THREAD/history", {"before": "x"}),
    post(422, "/threads/THREAD/history", {"before": {"checkpoint_id": "x\x00"}}),
    post(422, "/threads/THREAD/history", {"select": ["beauty"]}),
    post(422, "/threads/THREAD/history", {"metadata": []}),
    post(422, "/threads/THREAD/state", {"values": {}, "checkpoint_id": "x"}),
    post(422, "/threads/THREAD/state", {"values": {}, "as_node": 7}),
    post(400, "/threads/THREAD/state", {"values": ["x"]}),
    post(400, "/threads/THREAD/state", {"values": {"log": ["x"]}, "as_node": "nobody\x00"}),
    post(400, "/threads/THREAD/state", {"values": {}, "checkpoint": {"checkpoint_ns": "nobody:x\x00"}}),
    # Graphs.
    *(get(422, f"/assistants/agent/graph?xray={wrong}") for wrong in ("0", "-1", "x", "1.5")),
    # Conflicts.
    post(409, "/threads", {"thread_id": "THREAD"}),
    post(409, "/assistants", {"graph_id": "agent", "assistant_id": AGENT}),
    post(409, f"/threads/{NOBODY}/copy", None),
    post(409, "/threads/BUSY/state", {"values": {"log": []}}),
    Case(409, "DELETE", f"/assistants/{AGENT}"),
    # Routes.
    get(404, "/nowhere"),
    get(404, "/threads/THREAD/nowhere"),
    Case(405, "PUT", "/threads"),
    Case(405, "DELETE", "/assistants/search/graph"),
    Case(405, "DELETE", "/threads/THREAD/state"),
    Case(422, "PATCH", "/threads/THREAD/state", {"metadata": 7}),
    Case(404, "PATCH", f"/threads/{NOBODY}/state", {"metadata": {}}),
    get(400, "/ok?check_db=maybe"),
]


@pytest.fixture(scope="module")
async def known(server: Stack) -> dict[str, str]:
    """A thread that has a graph, and one that is busy."""
    async with httpx.AsyncClient(base_url=server.url) as http:
        ids = [(await http.post("/threads", json={"metadata": {"graph_id": "agent"}})).json() for _ in range(2)]
        thread_id, busy = (thread["thread_id"] for thread in ids)
        body = {"assistant_id": "agent", "input": {"log": []}, "after_seconds": 600}
        await http.post(f"/threads/{busy}/runs", json=body)
    return {"THREAD": thread_id, "BUSY": busy}


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_bad_request_is_answered_with_a_detail(server: Stack, known: dict[str, str], case: Case) -> None:
    path, body = case.path, case.body
    for name, value in known.items():
        path = path.replace(name, value)
        if isinstance(body, dict) and body.get("thread_id") == name:
            body = {**body, "thread_id": value}
    sent: dict[str, Any] = {} if body is None else {"content": body} if isinstance(body, bytes) else {"json": body}
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.request(case.method, path, **sent)
    assert answer.status_code == case.status, answer.text
    assert answer.headers["content-type"] == "application/json"
    detail = answer.json()
    assert list(detail) == ["detail"]
    assert isinstance(detail["detail"], str)
    assert detail["detail"]


async def test_a_wrong_verb_is_told_the_right_ones(server: Stack) -> None:
    async with httpx.AsyncClient(base_url=server.url) as http:
        answer = await http.put("/threads")
    assert "POST" in answer.headers["allow"]


async def test_what_postgres_cannot_store_is_replaced(server: Stack, client: LangGraphClient) -> None:
    made = await client.assistants.create("agent", metadata={"a\x00": "b\x00"}, name="x\x00y")
    assert (made["name"], made["metadata"]) == ("x\ufffdy", {"a\ufffd": "b\ufffd"})
    assert await client.assistants.search(name="x\x00y", metadata={"a\x00": "b\x00"})
    thread = await client.threads.create(metadata={"a": "\x00"}, graph_id="agent")
    await client.threads.update_state(thread["thread_id"], {"log": ["\x00"]}, as_node="a")
    assert (await client.threads.get(thread["thread_id"]))["values"] == {"log": ["\ufffd"]}
    async with httpx.AsyncClient(base_url=server.url) as http:
        halves = b'{"graph_id": "agent", "name": "\\ud800", "metadata": {"x": "\\ud800", "big": 1e999}}'
        assert (await http.post("/assistants", content=halves)).status_code == 200
        assert (await http.get(f"/threads/{thread['thread_id']}/state/%00")).json()["values"] == {}
