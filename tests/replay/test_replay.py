"""Workflows replay what earlier versions of them have done: `record.py` has stored it."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from durathread.config.settings import Settings
from durathread.plugin import DurathreadPlugin
from durathread.workflows.messages import RUN, RunOutcome, RunRequest

FOLDER = Path(__file__).parent / "histories"
HISTORIES = sorted(FOLDER.glob("*.json"))
PLUGIN = DurathreadPlugin(Settings(config=Path("there-is-no/langgraph.json")))


def load(path: Path) -> WorkflowHistory:
    history = WorkflowHistory.from_json(path.stem, path.read_text())
    # A thread's workflow looks at its own id.
    started = history.events[0].workflow_execution_started_event_attributes
    return dataclasses.replace(history, workflow_id=started.workflow_id)


def kind_of(path: Path) -> str:
    return load(path).events[0].workflow_execution_started_event_attributes.workflow_type.name


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
async def test_a_stored_history_replays(path: Path) -> None:
    await Replayer(workflows=[], plugins=[PLUGIN]).replay_workflow(load(path))


def test_every_workflow_has_stored_histories() -> None:
    config = Replayer(workflows=[], plugins=[PLUGIN]).config(active_config=True)
    served = {str(kind.__name__) for kind in config.get("workflows", ())}
    assert {kind_of(path) for path in HISTORIES} == served


def test_stored_histories_are_small() -> None:
    assert {path.stem: path.stat().st_size for path in HISTORIES if path.stat().st_size > 150_000} == {}


@workflow.defn(name=RUN, sandboxed=False)
class ChangedRun:
    """A run whose commands have changed without a patch."""

    @workflow.run
    async def run(self, request: RunRequest) -> RunOutcome:
        """Begin with a timer, which no stored run did."""
        await workflow.sleep(timedelta(seconds=1))
        return RunOutcome(request.run_id, "success")


async def test_a_changed_workflow_does_not_replay() -> None:
    with pytest.raises(workflow.NondeterminismError):
        await Replayer(workflows=[ChangedRun]).replay_workflow(load(FOLDER / "run-success.json"))
