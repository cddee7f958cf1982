"""All of xkcd as xkcdfs has it in its cache, beside a C server of the same files: sizes are real, pictures are not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from xkcdfs.facts import Fact, known_facts

from .catalog import XKCDFS, C, Server
from .report import Report
from .servers import xkcdfs
from .workplace import Workplace

SERVERS = (C["keep_cache"], C["passthrough"], XKCDFS)


@pytest.fixture(scope="session")
def facts(workplace: Workplace) -> dict[int, Fact]:
    images = {number: fact for number, fact in known_facts().items() if fact.size}
    return dict(list(images.items())[: workplace.settings.files + 1000])  # all, but for a quick run


@pytest.fixture(scope="session")
def files(workplace: Workplace, facts: dict[int, Fact]) -> Path:
    (plain := workplace.build / "plain").mkdir()
    for number, fact in facts.items():
        (plain / str(number)).write_bytes(xkcdfs.image(fact))
    return plain


@pytest.fixture(scope="session")
def cache(workplace: Workplace, facts: dict[int, Fact]) -> Path:
    cache = workplace.build / "cache"
    xkcdfs.fill(cache, facts)
    return cache


def test_collection(
    server: Server, workplace: Workplace, report: Report, files: Path, cache: Path, facts: dict[int, Fact]
) -> None:
    started = time.monotonic()
    with workplace.running(server, str(cache if server is XKCDFS else files)) as running:
        (running.path / "1").stat()
        if server is XKCDFS:
            report.add(server, "collection: first answer after", time.monotonic() - started, "s")
        time.sleep(2)  # xkcdfs goes through its cache in the background
        results = workplace.load(running, ("collection first", "collection again"), nodes=max(facts))
    for metric, result in results.items():
        assert "error" not in result, result
        report.add(server, metric, result["value"], result["unit"])
