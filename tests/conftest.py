"""Real databases for every test: SQLite, PostgreSQL 18 from the wheel, and 15 where it is installed."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_postgresql.dbapi
import pytest
from hypothesis import settings
from properties import DEFAULT

import crave_bulk as cb
from crave_bulk.sql import quote

settings.load_profile(DEFAULT)

OLD_SERVER = Path("/usr/lib/postgresql/15/bin")
HAS_OLD_SERVER = (OLD_SERVER / "postgres").exists()
SERVERS = [
    "postgres",
    *([pytest.param("postgres15", marks=pytest.mark.thorough)] if HAS_OLD_SERVER else []),
]

LONG_TUTORIALS = {"03_trust.ipynb", "05_food_discovery.ipynb", "06_resolution.ipynb"}


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, also if the tests were started with it ignored, as by ``nohup``."""
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, usual)


@contextmanager
def _old_server() -> Iterator[str]:
    """Run an installed PostgreSQL 15; as root it runs as the user that owns such servers."""
    user = "postgres" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        if user:
            os.chmod(folder, 0o777)
        data = f"{folder}/data"

        def run(*words: str) -> None:
            subprocess.run(words, check=True, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        run(f"{OLD_SERVER}/initdb", "--auth=trust", "-U", "postgres", "--encoding=utf8", "-D", data)
        run(
            f"{OLD_SERVER}/pg_ctl",
            "-w",
            "-D",
            data,
            "-o",
            f"-h '' -k {folder} -c fsync=off",  # nobody pulls this plug
            "-l",
            f"{folder}/log",
            "start",
        )
        try:
            yield f"postgresql://postgres@/postgres?host={folder}"
        finally:
            run(f"{OLD_SERVER}/pg_ctl", "-w", "-m", "immediate", "-D", data, "stop")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Run one process more than there are processors, as tests also wait: for locks, servers and other processes."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave some to the thorough run: long tutorials, and PostgreSQL where a test says so."""
    for item in items:
        if item.path.name in LONG_TUTORIALS:
            item.add_marker(pytest.mark.thorough)
        on_postgres = any(value == "postgres" for value in _parameters(item) if isinstance(value, str))
        if on_postgres and item.get_closest_marker("thorough_on_postgres"):
            item.add_marker(pytest.mark.thorough)


def _parameters(item: pytest.Item) -> Iterable[object]:
    return item.callspec.params.values() if hasattr(item, "callspec") else ()


@contextmanager
def _statements(url: str) -> Iterator[adbc_driver_postgresql.dbapi.Cursor]:
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


class Servers(ExitStack):
    """URLs of servers by name; each is started when it is first asked for, and stopped at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._urls: dict[str, str] = {}

    def __getitem__(self, kind: str) -> str:
        if kind not in self._urls:
            self._urls[kind] = self._start(kind)
        return self._urls[kind]

    def _start(self, kind: str) -> str:
        if kind == "postgres15":
            return self.enter_context(_old_server())
        if given := os.environ.get("CRAVE_BULK_TEST_POSTGRES_URL"):
            return given
        folder = self.enter_context(tempfile.TemporaryDirectory())
        url = self.enter_context(cb.embedded_postgres(f"{folder}/pg"))
        with _statements(url) as cursor:
            cursor.execute("ALTER SYSTEM SET fsync = off")  # nobody pulls this plug
            cursor.execute("SELECT pg_reload_conf()")
        return url


class Databases(ExitStack):
    """URLs of one database on each server, by the server's name; each is made when it is first asked for.

    Args:
        servers: the servers.
        name: what the databases are called.
    """

    def __init__(self, servers: Servers, name: str) -> None:
        super().__init__()
        self._servers, self._name = servers, name
        self._urls: dict[str, str] = {}

    def __getitem__(self, kind: str) -> str:
        if kind not in self._urls:
            self._urls[kind] = self.enter_context(_database(self._servers[kind], self._name))
        return self._urls[kind]


_emptying: dict[str, adbc_driver_postgresql.dbapi.Connection] = {}  # connecting takes as long as the rest


def empty_database(url: str) -> None:
    """Drop everything that a test made."""
    try:
        _empty(_emptying[url])
    except (KeyError, adbc_driver_postgresql.dbapi.Error):  # a test may have ended all connections
        if url in _emptying:
            _emptying[url].close()
        _emptying[url] = adbc_driver_postgresql.dbapi.connect(url, autocommit=True)
        _empty(_emptying[url])


def _empty(connection: adbc_driver_postgresql.dbapi.Connection) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        )
        for (schema,) in cursor.fetchall():
            cursor.execute(f"DROP SCHEMA {quote(schema)} CASCADE")
        cursor.execute("CREATE SCHEMA public")


@contextmanager
def _database(server: str, name: str) -> Iterator[str]:
    with _statements(server) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
    yield url
    if url in _emptying:
        _emptying.pop(url).close()
    with _statements(server) as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The servers of this process, each started when a test first asks for it."""
    with Servers() as started:
        yield started


@pytest.fixture(scope="session")
def databases(servers: Servers) -> Iterator[Databases]:
    """One database on each server, of this process alone."""
    with Databases(servers, f"crave_bulk_{os.getpid()}") as made:
        yield made


@pytest.fixture(params=["sqlite", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/test.db"
        return
    database = request.getfixturevalue("databases")[request.param]
    yield database
    empty_database(database)


@pytest.fixture(params=SERVERS)
def server_db(request: pytest.FixtureRequest, databases: Databases) -> Iterator[cb.Database]:
    """An empty PostgreSQL database of each version in turn, for what SQLite cannot meet."""
    with cb.connect(databases[request.param]) as connected:
        yield connected
    empty_database(databases[request.param])


@pytest.fixture(scope="module", params=["sqlite", *SERVERS])
def lasting_db(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[cb.Database]:
    """A database of each kind that lasts for a module, for tests that fill a table once and then read it."""
    if request.param == "sqlite":
        with cb.connect(f"sqlite:///{tmp_path_factory.mktemp('lasting')}/test.db") as database:
            yield database
        return
    with (
        Databases(request.getfixturevalue("servers"), f"crave_bulk_{os.getpid()}_lasting") as databases,
        cb.connect(databases[request.param]) as database,
    ):
        yield database


@pytest.fixture
def db(url: str) -> Iterator[cb.Database]:
    """An empty database of each kind in turn."""
    with cb.connect(url) as database:
        yield database
