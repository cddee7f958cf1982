"""What the rounds gave: medians with their spread, as a table, a JSON file and a chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .catalog import ALL, TMPFS, C, Server
from .workplace import Settings, may_drop_caches

COLOURS = {"native": "#888888", "C": "#3b6ea5", "fastfuse": "#e07b39", "peer": "#6aa56a"}


class Report:
    """Collects the values of each metric and server; the rows keep the catalog's order."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._units: dict[str, str] = {}
        self._values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._failures: dict[str, dict[str, str]] = defaultdict(dict)
        self._versions: dict[str, str] = {}
        self._left_out: dict[str, str] = {}

    def add(self, server: Server, metric: str, value: float, unit: str) -> None:
        self._units[metric] = unit
        self._values[metric][server.name].append(value)

    def add_failure(self, server: Server, metric: str, reason: str) -> None:
        self._failures[metric][server.name] = reason

    def add_version(self, server: Server, version: str) -> None:
        self._versions[server.name] = version

    def leave_out(self, server: Server, reason: str) -> None:
        self._left_out[server.name] = reason

    def rows(self) -> Iterator[dict[str, Any]]:
        """One for each metric and server measured, with its ratios to tmpfs and the C server."""
        for metric, by_server in self._values.items():
            medians = {name: statistics.median(values) for name, values in by_server.items()}
            for name in (server.name for server in ALL if server.name in by_server):
                yield {
                    "metric": metric,
                    "unit": self._units[metric],
                    "server": name,
                    "median": medians[name],
                    "min": min(by_server[name]),
                    "max": max(by_server[name]),
                    "of_tmpfs": _ratio(medians, name, TMPFS.name),
                    "of_c": _ratio(medians, name, C["keep_cache"].name),
                    "values": by_server[name],
                }

    def table(self) -> str:
        lines = [f"{name}: {value}" for name, value in describe_machine().items()]
        lines += [f"settings: {asdict(self._settings)}"]
        lines += [f"{name}: version {v}" for name, v in self._versions.items() if v != "-"]
        lines += [f"left out: {name}: {reason}" for name, reason in self._left_out.items()]
        last = ""
        for row in self.rows():
            if row["metric"] != last:
                last = row["metric"]
                title = f"{last} ({row['unit']})"
                heads = f"{'median':>9}   {'min - max':^19} {'x tmpfs':>8} {'x C':>7}"
                lines += ["", f"{title:48} {heads}"]
            spread = f"{_number(row['min']):>8} - {_number(row['max']):<8}"
            ratios = " ".join(
                f"{'' if row[key] is None else f'{row[key]:.2f}':>{width}}"
                for key, width in (("of_tmpfs", 8), ("of_c", 7))
            )
            lines.append(f"  {row['server']:46} {_number(row['median']):>9}   {spread} {ratios}")
        for metric, by_server in self._failures.items():
            lines += [f"failed: {metric}: {name}: {why}" for name, why in by_server.items()]
        return "\n".join(lines)

    def write(self, directory: Path, name: str) -> None:
        """*name*.json, .png and .svg in *directory*."""
        directory.mkdir(parents=True, exist_ok=True)
        content = {
            "machine": describe_machine(),
            "settings": asdict(self._settings),
            "versions": self._versions,
            "left_out": self._left_out,
            "failures": self._failures,
            "results": list(self.rows()),
        }
        (directory / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
        self._draw(directory, name)

    def _draw(self, directory: Path, name: str) -> None:
        try:
            import matplotlib

            matplotlib.use("agg")
            from matplotlib import pyplot, ticker
        except ImportError as error:
            print(f"no chart: {error}")
            return
        panels = defaultdict(list)
        for row in self.rows():
            panels[row["metric"]].append(row)
        family = {server.name: server.family for server in ALL}
        columns = 4
        figure, axes = pyplot.subplots(
            -(-len(panels) // columns), columns, figsize=(20, 3.2 * -(-len(panels) // columns))
        )
        for axis, (metric, rows) in zip(axes.flat, panels.items(), strict=False):
            rows.reverse()
            medians = [row["median"] for row in rows]
            below = [row["median"] - row["min"] for row in rows]
            above = [row["max"] - row["median"] for row in rows]
            axis.barh(
                [row["server"] for row in rows],
                medians,
                xerr=[below, above],
                color=[COLOURS[family[row["server"]]] for row in rows],
                error_kw={"elinewidth": 0.8, "capsize": 1.5},
            )
            if max(medians) > 20 * min(medians) > 0:
                axis.set_xscale("log")
                axis.set_xlim(left=min(medians) / 3)
                axis.xaxis.set_minor_formatter(ticker.NullFormatter())
            axis.set_title(f"{metric} ({rows[0]['unit']})", fontsize=9)
            axis.tick_params(labelsize=7)
        for axis in list(axes.flat)[len(panels) :]:
            axis.remove()
        machine = describe_machine()
        figure.suptitle(
            f"Medians of {self._settings.rounds} rounds, with minimum and maximum - "
            f"{machine['cpu']}, {machine['kernel']}, libfuse {machine['libfuse']}",
            fontsize=10,
        )
        figure.tight_layout(rect=(0, 0, 1, 0.985))
        for suffix in ("png", "svg"):
            figure.savefig(directory / f"{name}.{suffix}", dpi=110)
        pyplot.close(figure)


def describe_machine() -> dict[str, str]:
    """The names and versions that the figures depend on."""
    model = "unknown processor"
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    cold = "cold" if may_drop_caches() else "cached: only root may drop caches"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "cpu": f"{len(os.sched_getaffinity(0))} x {model}, {memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "libfuse": _output("pkg-config", "--modversion", "fuse3"),
        "cc": _output("cc", "-dumpfullversion"),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "disk": f"{_output('findmnt', '-no', 'FSTYPE', '-T', tempfile.gettempdir())}, {cold}",
    }


def _output(*command: str) -> str:
    """The first line that *command* prints, or that it could not be run."""
    try:
        return subprocess.check_output(command, text=True).split("\n")[0]
    except (OSError, subprocess.CalledProcessError) as error:
        return f"unknown ({error})"


def _ratio(medians: dict[str, float], name: str, base: str) -> float | None:
    return medians[name] / medians[base] if medians.get(base) else None


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 1000 else f"{value:.3g}"
