"""Whatever the tests of this session have left in Temporal replays."""

from temporalio.client import Client
from temporalio.worker import Replayer

from durathread.plugin import DurathreadPlugin
from durathread.settings import Settings
from tests.stack import GRAPHS, Stack

ENOUGH = 200


async def test_the_newest_workflows_of_this_session_replay(temporal: Client, server: Stack) -> None:
    assert server.url
    replayer = Replayer(workflows=[], plugins=[DurathreadPlugin(Settings(config=GRAPHS))])
    found = temporal.list_workflows("WorkflowType IN ('Thread', 'Run', 'Sweep')", limit=ENOUGH)
    results = await replayer.replay_workflows(found.map_histories(), raise_on_replay_failure=False)
    assert results.replay_failures == {}
