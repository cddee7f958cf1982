"""The demo site, and a client that is impatient with it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from fastfuse import Session
from xkcdfs.cache import Cache
from xkcdfs.client import Client, Settings
from xkcdfs.collection import Collection, Lifetimes
from xkcdfs.demo import Site
from xkcdfs.filesystem import comics
from xkcdfs.shelf import Shelf

REAL = Path(__file__).parents[3] / "shared" / "xkcd"

IMPATIENT = Settings(
    rate=10_000,
    connect_timeout=2,
    read_timeout=0.6,
    total_timeout=1.5,
    attempts=2,
    backoff=0.01,
    longest_retry_after=0.2,
    breaker_pause=0.2,
    longest_breaker_pause=0.4,
)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture(scope="session")
def _served() -> Iterator[Site]:
    with Site() as site:
        yield site


@pytest.fixture
def site(_served: Site) -> Iterator[Site]:
    """The site of the whole run, in good health and with its counters at zero."""
    _served.heal()
    _served.forget()
    yield _served
    _served.heal()


@pytest.fixture
def own_site() -> Iterator[Site]:
    """A site for one test, which may stop it or add to it."""
    with Site() as site:
        yield site


@pytest.fixture(scope="session")
def settings() -> Settings:
    return IMPATIENT


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(IMPATIENT) as client:
        yield client


@pytest.fixture
def collect(tmp_path: Path) -> Iterator[Callable[..., Collection]]:
    """``collect(site, offline=False, **lifetimes)``: collections with one cache."""
    clients = []

    def make(site: Site, *, offline: bool = False, **lifetimes: float) -> Collection:
        clients.append(Client(IMPATIENT, offline=offline))
        cache = Cache(tmp_path / "cache", site.url)
        return Collection(clients[-1], cache, site.url, Lifetimes(**lifetimes))

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="session")
def real() -> dict[int, dict[str, Any]]:
    """The records of the real site, by number."""
    path = REAL / "xkcd.jsonl"
    if not path.exists():
        pytest.skip(f"there is no {path.name} beside the checkout")
    with path.open(encoding="utf-8") as lines:
        return {record["num"]: record for record in map(json.loads, lines)}


@pytest.fixture(scope="session")
def odd(real: dict[int, Any]) -> dict[str, Any]:
    """Lists of what is odd in the real records."""
    found: dict[str, Any] = json.loads((REAL / "edge_cases.json").read_text())
    return found


@pytest.fixture(scope="session")
def real_folder(real: dict[int, Any]) -> Path:
    return REAL


@dataclass
class Mounted:
    """A mount in this process, and what is behind it."""

    path: Path
    shelf: Shelf
    session: Session

    def read(self, name: str) -> bytes:
        return (self.path / name).read_bytes()


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """``mount(site, offline=False, life=900, **settings)`` mounts a site's comics, all with one
    cache, until the end of the test or the next call."""
    with ExitStack() as now:

        def make(site: Site, *, offline: bool = False, life: float = 900, **settings: Any) -> Mounted:
            now.close()
            client = Client(replace(IMPATIENT, **settings), offline=offline)
            lives = Lifetimes(latest=life, failed=min(life, 60))
            collection = Collection(client, Cache(tmp_path / "cache", site.url), site.url, lives)
            shelf = Shelf(collection, life=life, patience=2)
            mountpoint = tmp_path / "mnt"
            mountpoint.mkdir(exist_ok=True)
            now.enter_context(client)
            session = now.enter_context(comics(shelf).session(mountpoint))
            return Mounted(Path(session.mountpoint), shelf, session)

        yield make


@pytest.fixture(scope="session")
def small_site() -> Iterator[Site]:
    """A site of 60 comics, for what reads all of them; nothing about it may be changed."""
    with Site(latest=60) as site:
        yield site
