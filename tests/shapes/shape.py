"""What is said of a project: how it is talked to, and how its model answers."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.providers.conversation import Asked, Call, Reply, Script

if TYPE_CHECKING:
    from tests.shapes.serving import Served

PROJECTS = Path(__file__).parent / "projects"

# Tools know Oslo, Rome and Lima; what they make of Atlantis is each project's own.
PLACES = ("Oslo", "Rome", "Lima", "Atlantis")

Told = Callable[[Any], list[str]]


def place_in(text: str) -> str:
    """Find the place that a text is about: the last that it names."""
    found = re.findall("|".join(PLACES), text)
    return found[-1] if found else ""


def question(place: str) -> str:
    """Ask about a place."""
    return f"What about {place}?"


def answer(place: str) -> str:
    """Answer that, as the scripted models do."""
    return f"That is all there is to {place}."


def looks_up(tool: str, parameter: str) -> Script:
    """Script a model that calls a tool for the place that it is asked about, and then answers."""

    def script(asked: Asked) -> Reply:
        place = place_in(asked.question)
        return Reply(answer(place)) if asked.results else Reply(calls=(Call(tool, {parameter: place}),))

    return script


def has_looked(asked: Asked) -> bool:
    """Whether a model is about to answer, its tool having done so."""
    return bool(asked.results)


def messages(place: str) -> Any:
    """Ask about a place, in a message."""
    return {"messages": [{"role": "user", "content": question(place)}]}


def spoken(values: Any, *, by: str | None = None) -> list[str]:
    """List what people have asked and models have answered; `by` a name, where several do."""
    return [
        message["content"] if isinstance(message["content"], str) else message["content"][0]["text"]
        for message in values["messages"]
        if message["type"] == "human"
        or (message["type"] == "ai" and not message["tool_calls"] and by in (None, message.get("name")))
    ]


@dataclass(frozen=True)
class Failure:
    """What the log says when a tool has failed."""

    kind: str
    """The class of what it raised."""
    file: str
    """The user's file."""
    line: str
    """The line of it."""
    node: str
    """The node that it failed in."""


@dataclass(frozen=True)
class Shape:
    """A project of somebody else's kind."""

    name: str
    """Its folder's name."""
    graph: str
    script: Script
    failure: Failure
    own: Callable[["Served"], Awaitable[None]]
    """Checks what makes it this shape."""
    held: Callable[[Asked], bool] = has_looked
    """Finds the request whose answer is kept back."""
    given: Callable[[str], Any] = messages
    told: Told = spoken
    keeps_question: bool = True
    """Whether a run that is interrupted leaves what it was asked."""
    is_chat: bool = True
    """Whether its state has messages, of which the last is the answer."""
    headers: dict[str, str] = field(default_factory=dict[str, str])
    with_dev: bool = False
    """Whether it is served by `durathread dev`, instead of the roles."""
    writes_env: bool = True
    """Whether its user has made a .env of .env.example, instead of setting variables."""

    before: Callable[["Served"], None] = lambda server: None
    """What is done before its tool fails."""

    @property
    def folder(self) -> Path:
        """Where the project is."""
        return PROJECTS / self.name
