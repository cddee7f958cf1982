"""The rounds: every server once in each, in rotated order; the report comes after the last."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from .catalog import Server, probe
from .report import Report
from .workplace import QUICK, Settings, Workplace

SETTINGS = pytest.StashKey[Settings]()
REPORT = pytest.StashKey[Report]()
RESULTS = Path(__file__).parent / "results"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("benchmarks")
    group.addoption("--quick", action="store_true", help="small sizes, one round")
    group.addoption("--rounds", type=int, help="of each server in turn")


def pytest_configure(config: pytest.Config) -> None:
    settings = QUICK if config.getoption("--quick") else Settings()
    if config.getoption("--rounds"):
        settings = dataclasses.replace(settings, rounds=config.getoption("--rounds"))
    config.stash[SETTINGS] = settings
    config.stash[REPORT] = Report(settings)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that takes *server* its module's SERVERS, once a round, rotated."""
    if "server" not in metafunc.fixturenames:
        return
    servers: tuple[Server, ...] = metafunc.module.SERVERS
    turns = []
    for number in range(metafunc.config.stash[SETTINGS].rounds):
        first = number * 5 % len(servers)
        for server in servers[first:] + servers[:first]:
            name = f"round {number + 1}, {server.name}"
            turns.append(pytest.param(server, id=name))
    metafunc.parametrize("server", turns, indirect=True)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.param
    report = request.config.stash[REPORT]
    version, reason = probe(server)
    if reason:
        report.leave_out(server, reason)
        pytest.skip(f"{server.name}: {reason}")
    report.add_version(server, version)
    return server


@pytest.fixture(scope="session")
def workplace(pytestconfig: pytest.Config) -> Iterator[Workplace]:
    for program in ("cc", "pkg-config", "fusermount3"):
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    workplace = Workplace(pytestconfig.stash[SETTINGS])
    yield workplace
    workplace.close()


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Report:
    return pytestconfig.stash[REPORT]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[REPORT]
    if not any(report.rows()):
        return
    name = "quick" if config.getoption("--quick") else "full"
    terminalreporter.section("benchmarks")
    terminalreporter.write_line(report.table())
    report.write(RESULTS, name)
    terminalreporter.write_line(f"\nwritten: {RESULTS / name}.json, .png, .svg")
