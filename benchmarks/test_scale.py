"""A large tree beside a small one: publishing, memory for each node, first lookups."""

from __future__ import annotations

import pytest

from .catalog import FASTFUSE, C, Server
from .report import Report
from .workplace import Workplace

SERVERS = (C["keep_cache"], FASTFUSE["keep_cache"])


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
def test_scale(server: Server, large: bool, workplace: Workplace, report: Report) -> None:
    nodes = workplace.settings.nodes if large else workplace.settings.files
    with workplace.running(server, f"nodes:{nodes}") as running:
        result = workplace.load(running, ("lookup sample",), nodes=nodes)["lookup sample"]
        assert running.facts
        report.add(server, f"{nodes} nodes: publish", nodes / running.facts["seconds"], "nodes/s")
        report.add(server, f"{nodes} nodes: memory", running.facts["bytes"] / nodes, "bytes/node")
    assert "error" not in result
    report.add(server, f"{nodes} nodes: lookup first", result["value"], result["unit"])
