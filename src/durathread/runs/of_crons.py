"""From the body of a cron to the run of each of its firings."""

import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from durathread.records import Assistant, Cron, JsonObject, NewRun, OnRunCompleted
from durathread.runs.policies import Terms
from durathread.runs.request import RunCreate, prepare
from durathread.users import WEBHOOK_SECRET

# What the webhooks of a cron's runs are signed with, beside what the server puts into their `configurable`: not shown.
SIGNED = f"__{WEBHOOK_SECRET}"


def _text(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"\d{4}-", value):
        return value
    raise ValueError("must be a date and time as ISO 8601 writes them, such as 2030-01-31T12:00:00Z")


def _with_zone(value: datetime) -> datetime:
    return value if value.tzinfo else value.replace(tzinfo=UTC)


# JSON has moments as text only. A number would be taken for seconds since 1970, in quotes too.
Moment = Annotated[datetime, Field(strict=False), BeforeValidator(_text), AfterValidator(_with_zone)]


class CronCreate(RunCreate):
    """A cron, as `POST /runs/crons` takes it: a run, and when to start it."""

    schedule: str = Field(description="A cron expression: five fields, or six with the seconds last.")
    timezone: str | None = Field(None, description="An IANA time zone; UTC by default.")
    end_time: Moment | None = Field(None, description="After it the cron rests. In UTC if it does not say otherwise.")
    enabled: bool = True
    on_run_completed: OnRunCompleted = Field("delete", description="What becomes of the thread of a firing's own.")


class CronPatch(RunCreate):
    """What to change of a cron. What is not given stays."""

    assistant_id: str = Field("", exclude=True, description="Ignored: a cron keeps its assistant.")
    schedule: str = ""
    timezone: str | None = None
    end_time: Moment | None = Field(None, description="Null: the cron has no end.")
    enabled: bool = True
    on_run_completed: OnRunCompleted = "delete"


def payload_of(cron: Cron, given: JsonObject) -> JsonObject:
    """Lay what a client has sent over the payload of a cron, field by field."""
    payload: JsonObject = {**cron.payload, **given, "assistant_id": str(cron.assistant_id)}
    config: JsonObject = payload.get("config") or {}
    configurable = {**(config.get("configurable") or {}), "cron_id": str(cron.cron_id)}
    return {**payload, "config": {**config, "configurable": configurable}}


def run_of(cron: Cron, assistant: Assistant, *, terms: Terms) -> NewRun:
    """Build the run of a firing.

    Raises:
        Error: the payload contradicts itself; see `prepare`.
    """
    payload, named = cron.payload, {"cron_id": str(cron.cron_id)}
    config: JsonObject = payload.get("config") or {}
    # The server says it: what a client says in `configurable` would stand against a `context`.
    configurable = {key: value for key, value in (config.get("configurable") or {}).items() if key != "cron_id"}
    given: JsonObject = {
        **payload,
        "config": {**config, "configurable": configurable},
        "metadata": {**(payload.get("metadata") or {}), **cron.metadata, **cron.stamp},
        "on_completion": cron.on_run_completed,
        "if_not_exists": "reject",
    }
    body = RunCreate.model_validate(given)
    server = {key: value for key, value in cron.configurable.items() if key != SIGNED}
    new = prepare(body, assistant, terms=terms, thread_id=cron.thread_id, server={**server, **named})
    if SIGNED in cron.configurable:
        new = replace(new, options=replace(new.options, webhook_secret=cron.configurable[SIGNED]))
    return replace(new, metadata={**new.metadata, **named}, thread_metadata={**new.thread_metadata, **named})
