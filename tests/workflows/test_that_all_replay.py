"""Whatever the tests of this session have left in Temporal replays."""

from temporalio.client import Client
from temporalio.worker import Replayer

from durathread.plugin import DurathreadPlugin
from durathread.settings import Settings
from tests.stack import GRAPHS, Stack

ENOUGH = 200


async def test_the_newest_workflows_of_this_session_replay(temporal: Client, server: Stack) -> None:
    queue = server.environment["DURATHREAD_TASK_QUEUE"]
    replayer = Replayer(workflows=[], plugins=[DurathreadPlugin(Settings(config=GRAPHS))])
    query = f"WorkflowType IN ('Thread', 'Run', 'Sweep', 'Cron') AND TaskQueue = '{queue}'"
    found = temporal.list_workflows(query, limit=ENOUGH)
    results = await replayer.replay_workflows(found.map_histories(), raise_on_replay_failure=False)
    assert results.replay_failures == {}
