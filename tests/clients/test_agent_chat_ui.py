"""The requests of Agent Chat UI, from its sources: threads by graph, turns, regeneration, edits, and questions answered."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.clients.pages import ORIGIN, events_of, said, values_of
from tests.stack import Stack

HEADERS = {"x-api-key": "lsv2_anything", "x-auth-scheme": "langsmith-api-key", "origin": ORIGIN}
STREAM: dict[str, Any] = {
    "stream_mode": ["values", "messages-tuple", "custom"],
    "stream_subgraphs": True,
    "stream_resumable": True,
    "on_disconnect": "continue",
}


def human(text: str) -> dict[str, Any]:
    """Build what the page sends for a turn of the user."""
    return {"messages": [{"id": str(uuid4()), "type": "human", "content": text}]}


@pytest.fixture
async def page(server: Stack) -> AsyncIterator[httpx.AsyncClient]:
    """The page's requests."""
    async with httpx.AsyncClient(base_url=server.url, headers=HEADERS, timeout=30) as http:
        yield http


async def turn(page: httpx.AsyncClient, thread_id: str, **body: Any) -> Any:
    """Stream a run and return its last state."""
    answer = await page.post(f"/threads/{thread_id}/runs/stream", json={"assistant_id": "chat", **STREAM, **body})
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert {"content-location", "location"} <= {name.strip() for name in exposed.split(",")}
    assert answer.headers["content-location"].startswith(f"/threads/{thread_id}/runs/")
    return values_of(events_of(answer))


async def history(page: httpx.AsyncClient, thread_id: str) -> Any:
    """Read what the page reads after each turn."""
    return (await page.post(f"/threads/{thread_id}/history", json={"limit": 10})).json()


async def test_a_conversation_is_listed_continued_regenerated_and_edited(page: httpx.AsyncClient) -> None:
    assert (await page.get("/info")).is_success
    thread_id = (await page.post("/threads", json={"metadata": {}})).json()["thread_id"]
    assert await history(page, thread_id) == []
    assert said(await turn(page, thread_id, input=human("one"))) == ["one", "one "]

    head = (await history(page, thread_id))[0]["checkpoint"]
    checkpoint = {key: value for key, value in head.items() if key != "thread_id"}
    assert said(await turn(page, thread_id, input=human("two"), checkpoint=checkpoint)) == [
        "one",
        "one ",
        "two",
        "two ",
    ]

    listed = await page.post("/threads/search", json={"metadata": {"graph_id": "chat"}, "limit": 100, "offset": 0})
    [mine] = [thread for thread in listed.json() if thread["thread_id"] == thread_id]
    assert said(mine["values"])[0] == "one"
    by_id = {"metadata": {"assistant_id": mine["metadata"]["assistant_id"]}, "limit": 100, "offset": 0}
    assert thread_id in {thread["thread_id"] for thread in (await page.post("/threads/search", json=by_id)).json()}

    # Regenerate: the answer's parent is run again, without any input.
    states = await history(page, thread_id)
    answered = next(state for state in states if len(state["values"]["messages"]) == 4)
    parent = {key: value for key, value in answered["parent_checkpoint"].items() if key != "thread_id"}
    assert said(await turn(page, thread_id, checkpoint=parent)) == ["one", "one ", "two", "two "]

    # Edit: another question goes where the first was asked.
    asked = next(state for state in reversed(states) if len(state["values"]["messages"]) == 3)
    before = {key: value for key, value in asked["parent_checkpoint"].items() if key != "thread_id"}
    assert said(await turn(page, thread_id, input=human("three"), checkpoint=before)) == [
        "one",
        "one ",
        "three",
        "three ",
    ]


async def test_a_question_is_shown_and_answered(page: httpx.AsyncClient) -> None:
    thread_id = (await page.post("/threads", json={"metadata": {}})).json()["thread_id"]
    asked = await turn(page, thread_id, assistant_id="hitl", input={"log": []})
    assert [item["value"] for item in asked["__interrupt__"]] == ["ask?"]
    [latest, *_] = await history(page, thread_id)
    assert latest["tasks"][0]["interrupts"][0]["value"] == "ask?"
    answer = {"input": {}, "command": {"resume": {"decisions": [{"type": "approve"}]}}, "on_disconnect": "cancel"}
    answered = await turn(page, thread_id, assistant_id="hitl", **answer)
    assert answered["log"] == ["ask={'decisions': [{'type': 'approve'}]}", "after"]
