"""What the first step of a run gives to its graph, also when it is repeated after a crash.

LangGraph resumes by itself once the run has a checkpoint. Before that, an input is simply given again. A command is
different: LangGraph stores what it says as pending writes on a checkpoint of an earlier run, at once or when a node asks
for its answer, and given twice it would count twice. So before its first attempt the run notes which pending writes
there are, and a repeat leaves out of the command whatever has been stored since.

A run whose graph is a node of a graph elsewhere (RemoteGraph) is given that node's input each time the node runs, also
when the graph around it resumes. It says so, with the answers it has, and the run then goes on where its thread stands.
"""

from typing import Any, LiteralString

from langgraph.types import Command, Send

from durathread.db.pool import Connection
from durathread.db.saver import Saver
from durathread.graphs.read_state import NULL_TASK, standing
from durathread.graphs.registry import Graph
from durathread.records import JsonObject, Run
from durathread.runs.request import said

PENDING: LiteralString = """
SELECT w.checkpoint_ns, w.checkpoint_id, w.task_id, w.channel, w.idx, w.type, w.blob FROM checkpoint_writes w
WHERE w.thread_id = %(thread)s AND (w.channel IN ('__resume__', '__interrupt__') OR w.task_id = %(null)s)
  AND w.checkpoint_id = (SELECT max(c.checkpoint_id) FROM checkpoints c
                         WHERE c.thread_id = w.thread_id AND c.checkpoint_ns = w.checkpoint_ns)
"""


def command_of(payload: JsonObject) -> Command[Any]:
    """Build LangGraph's command from the JSON of a request."""
    goto = payload.get("goto")
    return Command(
        update=_update(payload.get("update")),
        resume=payload.get("resume"),
        goto=() if goto is None else _goto(goto),
    )


async def baseline(conn: Connection, saver: Saver, run: Run) -> JsonObject:
    """Count what is pending on a thread before a command: `null` writes, and answers a task."""
    answers: dict[str, int] = {}
    null_writes = 0
    for row in await _pending(conn, run):
        if row["task_id"] == NULL_TASK:
            null_writes += 1
        elif row["channel"] == "__resume__":
            answers[_task_key(row)] = len(saver.serde.loads_typed((row["type"], row["blob"])))
    return {"null": null_writes, "answers": answers}


def given_by(run: Run, command: JsonObject | None) -> Any:
    """Return what a graph gets: a command, None for one that says nothing, or the run's input if there is none."""
    if command is None:
        return run.options.input
    spoken = said(command)
    return command_of(spoken) if spoken else None


async def relayed(graph: Graph, run: Run) -> JsonObject | None:
    """Build the command of a run that a graph around it resumes, from those answers that its thread waits for.

    None if the thread has nothing to go on with: then the run's input is a new one.
    """
    state = await standing(graph, {"configurable": {"thread_id": str(run.thread_id)}})
    if not state.next:
        return None
    waiting = {interrupt.id for interrupt in state.interrupts}
    answers = {key: value for key, value in (run.options.relayed_answers or {}).items() if key in waiting}
    return {"resume": answers} if answers else {}


async def remaining(conn: Connection, saver: Saver, run: Run, opening: JsonObject) -> JsonObject | None:
    """Return what is left of a run's command after a crash in its first step: `{}` if all of it is stored."""
    payload: JsonObject | None = opening.get("command", run.options.command)
    if payload is None:
        return None
    now = await baseline(conn, saver, run)
    resume = payload.get("resume")
    stored = now["null"] > opening["null"]
    if not isinstance(resume, dict):
        return {} if stored else payload
    answered = {key for key, count in now["answers"].items() if count > opening["answers"].get(key, 0)}
    ids: set[str] = set()
    for row in await _pending(conn, run):
        if row["channel"] == "__interrupt__" and _task_key(row) in answered:
            found = saver.serde.loads_typed((row["type"], row["blob"]))
            ids |= {interrupt.id for interrupt in found}
    left = {key: value for key, value in resume.items() if key not in ids}
    rest = {} if stored else {key: value for key, value in payload.items() if key != "resume"}
    return {**rest, "resume": left} if left else rest


async def _pending(conn: Connection, run: Run) -> list[dict[str, Any]]:
    return await (await conn.execute(PENDING, {"thread": str(run.thread_id), "null": NULL_TASK})).fetchall()


def _task_key(row: dict[str, Any]) -> str:
    return f"{row['checkpoint_ns']}/{row['checkpoint_id']}/{row['task_id']}"


def _update(update: Any) -> Any:
    """Pairs come as JSON arrays."""
    if isinstance(update, list) and all(isinstance(pair, list) and len(pair) == 2 for pair in update):
        return [tuple(pair) for pair in update]
    return update


def _goto(goto: Any) -> Any:
    if isinstance(goto, list):
        return [_goto(item) for item in goto]
    if isinstance(goto, dict):
        return Send(goto["node"], goto.get("input"))
    return goto
