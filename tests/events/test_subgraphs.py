"""Subgraphs are told of by one name."""

from durathread.events.subgraphs import Lineage


def test_the_end_of_a_subagent_has_the_name_of_its_beginning() -> None:
    lineage = Lineage()
    namespace = ("tools:1",)
    begun = list(lineage.started(namespace, {"id": "2", "input": None, "metadata": {"lc_agent_name": "researcher"}}))
    over = list(lineage.ended((), {"id": "1", "result": {}}))
    assert [data["graph_name"] for _, data in (*begun, *over)] == ["researcher"] * 2
