"""What OpenAPI shows of requests and answers that FastAPI cannot see: lists in queries, headers, streams."""

from typing import Any

from fastapi.routing import APIRoute

JsonObject = dict[str, Any]


def parameters(*shown: JsonObject) -> JsonObject:
    """Add parameters to the description of a route, as its `openapi_extra`."""
    return {"parameters": list(shown)}


def query_list(name: str, what: str) -> JsonObject:
    """Describe a list in a query: repeated keys, a JSON array or names with commas between them."""
    schema = {"type": "array", "items": {"type": "string"}}
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": what}


LAST_EVENT_ID: JsonObject = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "The last event that the client has seen.",
}
IDEMPOTENCY_KEY: JsonObject = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
    "description": "Whoever repeats a request with the same key within a day gets what the first one has made; with another body 422.",
}
STREAM_END: JsonObject = {
    "name": "stream_end",
    "in": "query",
    "required": False,
    "schema": {"type": "boolean"},
    "description": "Whether to end the stream with an `end` event, which clients that know it are sent anyway.",
}
STREAM_MODE = query_list("stream_mode", "Which events to show; all by default.")
SELECT = query_list("select", "Which fields to show; all by default.")
EVENTS: dict[int | str, JsonObject] = {
    200: {"description": "Server-sent events.", "content": {"text/event-stream": {}}}
}
# As the protocol says errors; other routes say `detail`.
MALFORMED: dict[int | str, JsonObject] = {
    400: {"description": "No command.", "content": {"application/json": {"schema": {"type": "object"}}}}
}
STOPPING: dict[int | str, JsonObject] = {202: {"description": "Without `wait`: the run has been told to stop."}}


def operation_id(route: APIRoute) -> str:
    """Name a route for generated clients: `threads_create`."""
    tag = str(route.tags[0]) if route.tags else "custom"
    return f"{tag.lower().replace(' ', '_')}_{route.name}"
