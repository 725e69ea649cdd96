"""Real databases for every test: SQLite, PostgreSQL 18 from the wheel, and 15 where it is installed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import adbc_driver_postgresql.dbapi
import pytest

import crave_bulk as cb

OLD_SERVER = Path("/usr/lib/postgresql/15/bin")
SERVERS = ["postgres", *(["postgres15"] if (OLD_SERVER / "postgres").exists() else [])]


def pytest_configure(config: pytest.Config) -> None:
    """Ask for the coverage of the whole suite only where the whole suite runs."""
    if not config.invocation_params.args and not os.environ.get("CRAVE_BULK_NO_COVERAGE_FLOOR"):
        config.option.cov_fail_under = 95


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


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """URLs of servers that were started for the tests, by name."""
    with ExitStack() as stack:
        given = os.environ.get("CRAVE_BULK_TEST_POSTGRES_URL")
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        urls = {"postgres": given or stack.enter_context(cb.embedded_postgres(f"{folder}/pg"))}
        if "postgres15" in SERVERS:
            urls["postgres15"] = stack.enter_context(_old_server())
        yield urls


@contextmanager
def _statements(url: str) -> Iterator[adbc_driver_postgresql.dbapi.Cursor]:
    with (
        adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


@pytest.fixture(scope="session")
def databases(servers: dict[str, str]) -> Iterator[dict[str, str]]:
    """URLs of one database per server, of this test run's own."""
    name = f"crave_bulk_{os.getpid()}"
    for server in servers.values():
        with _statements(server) as cursor:
            cursor.execute(f"CREATE DATABASE {name}")
    yield {kind: urlunsplit(urlsplit(server)._replace(path=f"/{name}")) for kind, server in servers.items()}
    for server in servers.values():
        with _statements(server) as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


def empty_database(url: str) -> None:
    """Drop everything that a test made."""
    with _statements(url) as cursor:
        cursor.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
        )
        for (schema,) in cursor.fetchall():
            cursor.execute(f'DROP SCHEMA "{schema}" CASCADE')
        cursor.execute("CREATE SCHEMA public")


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
def server_db(request: pytest.FixtureRequest) -> Iterator[cb.Database]:
    """An empty PostgreSQL database of each version in turn, for what SQLite cannot meet."""
    database = request.getfixturevalue("databases")[request.param]
    with cb.connect(database) as connected:
        yield connected
    empty_database(database)


@pytest.fixture(scope="module", params=["sqlite", *SERVERS])
def lasting_db(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[cb.Database]:
    """A database of each kind that lasts for a module, for tests that fill a table once and then read it."""
    if request.param == "sqlite":
        with cb.connect(f"sqlite:///{tmp_path_factory.mktemp('lasting')}/test.db") as database:
            yield database
        return
    server = request.getfixturevalue("servers")[request.param]
    name = f"crave_bulk_{os.getpid()}_lasting"
    with _statements(server) as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    with cb.connect(urlunsplit(urlsplit(server)._replace(path=f"/{name}"))) as database:
        yield database
    with _statements(server) as cursor:
        cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def db(url: str) -> Iterator[cb.Database]:
    """An empty database of each kind in turn."""
    with cb.connect(url) as database:
        yield database
