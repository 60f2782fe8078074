"""A short chaos run. `python -m tests.chaos` does longer ones, and hurts the engines too."""

from pathlib import Path

import pytest

from durathread.embedded.engines import Engines
from tests.chaos.drive import Mix, chaos_on
from tests.conftest import own_database


@pytest.mark.parametrize("seed", [7])
async def test_nothing_is_lost_and_nothing_done_twice_while_processes_die(
    engine_set: Engines, tmp_path: Path, seed: int
) -> None:
    mix = Mix(
        seed=seed,
        seconds=8,
        clients=6,
        threads=3,
        pause=1,
        only=("kill-worker", "stop-worker", "freeze-worker"),
        patience=60,
    )
    async with own_database(engine_set) as database:
        verdict, ledger, havoc = await chaos_on(engine_set, mix, tmp_path, database=database)
    assert verdict.wrong == []
    assert len(ledger.acknowledged) > 5
    assert havoc.counts
