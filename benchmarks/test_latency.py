"""How long a hit takes while the server's process is busy: a direct 4 KiB read of a known file."""

from __future__ import annotations

from .catalog import FASTFUSE, PEERS, TMPFS, C, Server
from .report import Report
from .workplace import Workplace

SERVERS = (TMPFS, C["keep_cache"], FASTFUSE["keep_cache"], FASTFUSE["handlers"], *PEERS)

STATES = {
    "computing": "one thread computing",
    "gil": "the GIL held asleep",
    "sleepers": "64 handlers asleep",
}


def test_latency(server: Server, workplace: Workplace, report: Report) -> None:
    failures = []
    for busy in ("", *server.busy):
        with workplace.running(server, busy=busy) as running:
            results = workplace.load(
                running,
                ("4K hit", "4K hit after a pause"),
                sleepers=64 if busy == "sleepers" else 0,
            )
        for name, result in results.items():
            metric = f"{name}, {STATES.get(busy, 'idle')}"
            if "error" in result:
                report.add_failure(server, metric, result["error"])
                failures.append(result["error"])
            else:
                report.add(server, f"{metric}: p50", result["value"], result["unit"])
                report.add(server, f"{metric}: p99", result["p99"], result["unit"])
    assert not failures or not server.strict
