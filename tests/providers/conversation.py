"""What a client asks a provider, told alike for OpenAI and Anthropic, and what it is answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Body = Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """A call of a tool, as a model wants it."""

    name: str
    args: Mapping[str, Any]


@dataclass(frozen=True)
class Reply:
    """What a model says, and which tools it calls."""

    text: str = ""
    calls: tuple[Call, ...] = ()


@dataclass(frozen=True)
class Said:
    """A message: `calls` are the ids of the calls in it, `answers` that of the call whose result it is."""

    role: str
    text: str = ""
    calls: tuple[str, ...] = ()
    answers: str | None = None


@dataclass(frozen=True)
class Asked:
    """A request."""

    model: str
    said: tuple[Said, ...]
    tools: tuple[str, ...]
    schema: str | None = None

    @property
    def system(self) -> str:
        """What the model was told to be."""
        return "\n".join(each.text for each in self.said if each.role == "system")

    @property
    def question(self) -> str:
        """What the person has said last."""
        return next((each.text for each in reversed(self.said) if each.role == "user"), "")

    @property
    def since(self) -> tuple[Said, ...]:
        """What came after that."""
        last = max((n for n, each in enumerate(self.said) if each.role == "user"), default=-1)
        return self.said[last + 1 :]

    @property
    def results(self) -> tuple[str, ...]:
        """What tools have answered since."""
        return tuple(each.text for each in self.since if each.role == "tool")

    def problem(self) -> str | None:
        """Say why a provider would refuse this conversation."""
        open_calls = set[str]()
        for each in self.said:
            if each.answers is not None:
                if each.answers not in open_calls:
                    return "messages with role 'tool' must be a response to a preceding message with 'tool_calls'"
                open_calls.discard(each.answers)
            elif open_calls:
                break
            else:
                open_calls = set(each.calls)
        return f"'tool_calls' must be followed by tool messages: {sorted(open_calls)}" if open_calls else None


Script = Callable[[Asked], Reply]


def echo(asked: Asked) -> Reply:
    """Answer with the words of the last message; if there is a tool, by a call of it."""
    words = "".join(f"{word} " for word in asked.said[-1].text.split())
    return Reply(calls=(Call(asked.tools[0], {"text": words}),)) if asked.tools else Reply(words)


def of_completions(body: Body) -> Asked:
    """Read a request for OpenAI's chat completions."""
    said = [
        Said(
            "system" if each["role"] == "developer" else each["role"],
            text_of(each.get("content")),
            tuple(call["id"] for call in each.get("tool_calls") or ()),
            each.get("tool_call_id"),
        )
        for each in body["messages"]
    ]
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("name")
    return Asked(body["model"], tuple(said), tuple(tool["function"]["name"] for tool in body.get("tools", ())), schema)


def of_responses(body: Body) -> Asked:
    """Read a request for OpenAI's responses."""
    said = [Said("system", body["instructions"])] if body.get("instructions") else []
    calls: list[str] = []
    for each in body["input"]:
        if each.get("type") == "function_call":
            calls.append(each["call_id"])
            continue
        if calls:
            said.append(Said("assistant", calls=tuple(calls)))
            calls = []
        if each.get("type") == "function_call_output":
            said.append(Said("tool", text_of(each["output"]), answers=each["call_id"]))
        else:
            said.append(Said("system" if each["role"] == "developer" else each["role"], text_of(each["content"])))
    said += [Said("assistant", calls=tuple(calls))] if calls else []
    schema = (body.get("text") or {}).get("format", {}).get("name")
    return Asked(body["model"], tuple(said), tuple(tool["name"] for tool in body.get("tools", ())), schema)


def of_anthropic(body: Body) -> Asked:
    """Read a request for Anthropic's messages."""
    said = [Said("system", text_of(body["system"]))] if body.get("system") else []
    for each in body["messages"]:
        blocks: Any = [] if isinstance(each["content"], str) else each["content"]
        results = [block for block in blocks if block["type"] == "tool_result"]
        said += [Said("tool", text_of(block.get("content")), answers=block["tool_use_id"]) for block in results]
        text = text_of(each["content"])
        calls = tuple(block["id"] for block in blocks if block["type"] == "tool_use")
        said += [Said(each["role"], text, calls)] if text or calls else []
    return Asked(body["model"], tuple(said), tuple(tool["name"] for tool in body.get("tools", ())))


def text_of(content: Any) -> str:
    """Read the text of a message's content."""
    if content is None or isinstance(content, str):
        return content or ""
    return "".join(part.get("text", "") for part in content)
