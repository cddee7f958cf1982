"""Handlers that compute, asked by one client and by two: how far Python's threads use the processors."""

from __future__ import annotations

from .catalog import FASTFUSE, Server
from .report import Report
from .workplace import Workplace

SERVERS = (FASTFUSE["handlers"],)


def test_cores(server: Server, workplace: Workplace, report: Report) -> None:
    with workplace.running(server) as running:
        results = workplace.load(running, ("computing opens, 1 client", "computing opens, 2 clients"))
    for metric, result in results.items():
        assert "error" not in result
        report.add(server, metric, result["value"], result["unit"])
