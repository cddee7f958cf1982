"""Reading, writing, listing: one tree through every server, beside tmpfs and the disk."""

from __future__ import annotations

from .catalog import DISK, SERVERS, Server
from .report import Report
from .workplace import Workplace

__all__ = ["SERVERS"]

METRICS = (
    "read cold 128K",
    "read warm 128K",
    "read cold 1M",
    "read warm 1M",
    "read O_DIRECT 128K",
    "read O_DIRECT 1M",
    "random 4K O_DIRECT",
    "random 4K O_DIRECT, 4 threads",
    "small files first",
    "small files again",
    "stat first",
    "stat again",
    "ls -l cold",
    "ls -l warm",
    "absent first",
    "absent again",
    "write 128K",
)


def test_files(server: Server, workplace: Workplace, report: Report) -> None:
    metrics = tuple(metric for metric in METRICS if metric not in server.without)
    with workplace.running(server) as running:
        if running.process:
            report.add(server, "resident, tree loaded", running.resident() / 2**20, "MiB")
        results = workplace.load(running, (*metrics, "verify"))
        if running.process:
            report.add(server, "resident, after the load", running.resident() / 2**20, "MiB")
    failures = {metric: r["error"] for metric, r in results.items() if "error" in r}
    for metric in metrics:
        if metric in failures:
            report.add_failure(server, metric, failures[metric])
        else:
            report.add(server, metric, results[metric]["value"], results[metric]["unit"])
    assert "wrong data" not in " ".join(failures.values())
    assert not failures or not server.strict or server is DISK
