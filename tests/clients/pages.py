"""What web pages do: plain HTTP from another origin."""

from typing import Any

import httpx

ORIGIN = "https://page.example"


def events_of(answer: httpx.Response) -> list[tuple[str, Any]]:
    """Read the server-sent events of an answer: names and data."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/event-stream")
    found: list[tuple[str, Any]] = []
    for block in answer.text.replace("\r\n", "\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "event" in fields:
            found.append((fields["event"], httpx.Response(200, text=fields["data"]).json()))
    return found


def values_of(events: list[tuple[str, Any]]) -> Any:
    """Return the last state that a stream showed."""
    return [data for name, data in events if name == "values"][-1]


def said(state: Any) -> list[str]:
    """List what the messages of a state say."""
    return [message["content"] for message in state["messages"]]
