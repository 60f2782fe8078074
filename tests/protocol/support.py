"""What the tests of the streaming protocol do again and again."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson

ALL = ["values", "updates", "messages", "tools", "lifecycle", "input", "checkpoints", "tasks", "custom"]
# How long a test waits for the next event, in seconds.
PATIENCE = 60.0

Event = dict[str, Any]


@asynccontextmanager
async def watching(
    url: str, thread_id: str, channels: list[str] | None = None, *, patience: float = PATIENCE, **body: Any
) -> AsyncGenerator["Watch"]:
    """Watch a thread as a plain HTTP client does."""
    timeout = httpx.Timeout(patience)
    async with httpx.AsyncClient(base_url=url, timeout=timeout) as http:
        given = {"channels": channels or ALL, **body}
        async with http.stream("POST", f"/threads/{thread_id}/stream/events", json=given) as response:
            assert response.status_code == 200, await response.aread()
            assert response.headers["content-type"].startswith("text/event-stream")
            yield Watch(response, patience)


class Watch:
    """An open stream of events."""

    def __init__(self, response: httpx.Response, patience: float) -> None:
        self._patience = patience
        self._lines = response.aiter_lines()
        self.events: list[Event] = []

    async def next(self) -> Event:
        """Wait for the next event."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(self._patience):
            while True:
                line = await anext(self._lines)
                if line.startswith(":"):
                    continue
                if not line and fields:
                    break
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
        event = orjson.loads(fields["data"])
        assert fields["event"] == event["method"]
        assert fields["id"] == str(event["seq"])
        self.events.append(event)
        return event

    async def until(self, found: Callable[[Event], bool]) -> list[Event]:
        """Read to the first event that is looked for, and return all that were read."""
        while not found(await self.next()):
            pass
        return self.events

    async def ended(self, times: int = 1) -> list[Event]:
        """Read to the end of a run, or of as many."""
        for _ in range(times):
            await self.until(is_end)
        return self.events


def is_root(event: Event, status: str) -> bool:
    """Whether an event says that of the run itself."""
    params = event["params"]
    return event["method"] == "lifecycle" and not params["namespace"] and params["data"]["event"] == status


def is_end(event: Event) -> bool:
    """Whether an event ends a run."""
    return any(is_root(event, status) for status in ("completed", "failed", "interrupted"))


def kinds(events: list[Event]) -> list[str]:
    """Name events briefly: their method, and what kind of it they are."""
    found = list[str]()
    for event in events:
        data = event["params"]["data"]
        kind = data.get("event") if isinstance(data, dict) else None
        found.append(f"{event['method']} {kind}" if kind else event["method"])
    return found


def data_of(events: list[Event], method: str, namespace: list[str] | None = None) -> list[Any]:
    """Pick the data of a method's events."""
    return [
        event["params"]["data"]
        for event in events
        if event["method"] == method and (namespace is None or event["params"]["namespace"] == namespace)
    ]


async def command(url: str, thread_id: str, method: str, **params: Any) -> Any:
    """Send a command and return the answer."""
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE) as http:
        body = {"id": 7, "method": method, "params": params}
        response = await http.post(f"/threads/{thread_id}/commands", json=body)
        assert response.status_code == 200, response.text
        answer = response.json()
        assert answer["id"] == 7
        return answer


async def run_start(url: str, thread_id: str, assistant_id: str, **params: Any) -> str:
    """Start a run and return its id."""
    answer = await command(url, thread_id, "run.start", assistant_id=assistant_id, **params)
    assert answer["type"] == "success", answer
    return answer["result"]["run_id"]
