"""JSON responses, and the public form of our records."""

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from durathread.crons.expression import next_run_date
from durathread.encode import dumps
from durathread.records import Assistant, Cron, JsonObject, Run, Thread
from durathread.users import without_user


class Json(Response):
    """A response of anything that JSON can hold."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Encode the content."""
        return dumps(content)


class Encoded(Response):
    """A response of what is JSON already."""

    media_type = "application/json"


def assistant_json(assistant: Assistant) -> JsonObject:
    """Show an assistant."""
    return {
        "assistant_id": assistant.assistant_id,
        "graph_id": assistant.graph_id,
        "name": assistant.name,
        "description": assistant.description,
        "config": assistant.config,
        "context": assistant.context,
        "metadata": assistant.metadata,
        "version": assistant.version,
        "created_at": assistant.created_at,
        "updated_at": assistant.updated_at,
    }


def thread_json(thread: Thread) -> JsonObject:
    """Show a thread. What only a run's end sets is absent before the first."""
    shown: JsonObject = {
        "thread_id": thread.thread_id,
        "created_at": thread.created_at,
        "updated_at": thread.updated_at,
        "state_updated_at": thread.state_updated_at,
        "metadata": thread.metadata,
        "status": thread.status,
        "config": thread.config,
        "values": thread.values,
    }
    if thread.interrupts is not None or thread.error is not None:
        shown |= {"interrupts": thread.interrupts or {}, "error": thread.error}
    return shown


def run_json(run: Run) -> JsonObject:
    """Show a run."""
    return {
        "run_id": run.run_id,
        "thread_id": run.thread_id,
        "assistant_id": run.assistant_id,
        "created_at": run.created_at,
        "updated_at": run.updated_at,
        "status": run.status,
        "metadata": run.metadata,
        "kwargs": without_user(run.options.json()),
        "multitask_strategy": run.strategy,
        "langsmith_session_name": None,
        "cancel_reason": (run.error or {}).get("message") if run.status == "interrupted" else None,
    }


def cron_json(cron: Cron) -> JsonObject:
    """Show a cron. Its next date is true also if it was due and could not fire."""
    now, due = datetime.now(UTC), cron.next_run_date
    return {
        "cron_id": cron.cron_id,
        "assistant_id": cron.assistant_id,
        "thread_id": cron.thread_id,
        "user_id": cron.user_id,
        "end_time": cron.end_time,
        "schedule": cron.schedule,
        "timezone": cron.timezone,
        "payload": cron.payload,
        "next_run_date": next_run_date(cron, now) if due and due <= now else due,
        "metadata": cron.metadata,
        "on_run_completed": cron.on_run_completed,
        "enabled": cron.enabled,
        "created_at": cron.created_at,
        "updated_at": cron.updated_at,
    }


def selected(shown: JsonObject, select: Collection[str] | None) -> JsonObject:
    """Keep the fields that a client asked for."""
    return shown if not select else {key: shown[key] for key in select if key in shown}
