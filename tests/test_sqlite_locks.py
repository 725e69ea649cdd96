"""Another SQLite connection of this process that is in the middle of something comes to no harm, nor does the file."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa
from adbc_driver_manager import dbapi

import crave_bulk as cb
from crave_bulk.backends import sqlite_handles, sqlite_locks

ROWS = 3_000
BIG = pl.DataFrame({"food_id": range(2_000, 20_000), "name": [f"bulk {n}" * 6 for n in range(18_000)]})
ONE = pl.DataFrame({"food_id": [1], "name": ["ours"]})

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its locks belong to a handle")


@pytest.fixture(
    params=[
        "locks of a handle",
        # Where the system has no such locks:
        pytest.param("listed by the kernel", marks=pytest.mark.thorough),
        pytest.param("asked for by another process", marks=pytest.mark.thorough),
    ]
)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each way to keep clear of another's locks."""
    way = str(request.param)
    if way == "locks of a handle" and not sqlite_locks.available():
        pytest.skip("this system has none")
    if way == "listed by the kernel" and not sqlite_handles._kernel_lists_locks():
        pytest.skip("only Linux lists the locks of a handle")
    monkeypatch.setattr(sqlite_locks, "available", lambda: way == "locks of a handle")
    monkeypatch.setattr(sqlite_locks, "PATIENCE", 0.4)
    if way == "asked for by another process":
        monkeypatch.setattr(sqlite_handles, "_kernel_lists_locks", lambda: False)
    return way


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with a table that takes a while to read."""
    path = tmp_path / "foods.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
    connection.executemany("INSERT INTO foods VALUES (?, ?)", [(n, f"n{n}" * 5) for n in range(ROWS)])
    connection.commit()
    connection.close()
    return path


def intact(path: Path) -> int:
    """Count the rows of a file that is not damaged."""
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    count: int = connection.execute("SELECT count(*) FROM foods").fetchone()[0]
    connection.close()
    return count


def locked_for_others(path: Path) -> bool:
    """Ask from another process whether somebody writes."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
    asked = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert asked.returncode == 0 or "database is locked" in asked.stderr
    return asked.returncode != 0


def half_read(path: Path) -> Iterator[Callable[[], None]]:
    """A cursor of sqlite3 that has not come to its end."""
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM foods")
    next(rows)
    yield rows.close
    connection.execute("UPDATE foods SET name = 'theirs' WHERE food_id < 10")
    connection.commit()
    connection.close()


def half_read_by_sqlalchemy(path: Path) -> Iterator[Callable[[], None]]:
    """The same through SQLAlchemy."""
    engine = sa.create_engine(f"sqlite:///{path}")
    with engine.connect() as connection:
        rows = connection.execute(sa.text("SELECT * FROM foods"))
        rows.fetchone()
        yield rows.close
        connection.execute(sa.text("UPDATE foods SET name = 'theirs' WHERE food_id < 10"))
        connection.commit()
    engine.dispose()


def begun(path: Path) -> Iterator[Callable[[], None]]:
    """A transaction that has written nothing yet."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("SELECT * FROM foods").fetchall()
    yield lambda: connection.execute("COMMIT") and None
    connection.close()


def read_in_a_transaction(path: Path) -> Iterator[Callable[[], None]]:
    """A transaction that has read to the end, and wants to see the same again."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM foods").fetchall()
    yield lambda: connection.execute("COMMIT") and None
    connection.close()


BUSY = [half_read, half_read_by_sqlalchemy, begun, read_in_a_transaction]
CALLS: list[Callable[[cb.Database], Any]] = [
    lambda db: db.upsert("foods", BIG),
    lambda db: db.read("foods"),
]


@pytest.mark.parametrize("busy", BUSY)
@pytest.mark.parametrize("call", CALLS)
def test_what_another_connection_is_in_the_middle_of_is_waited_for_and_then_refused(
    path: Path,
    busy: Callable[[Path], Iterator[Callable[[], None]]],
    call: Callable[[cb.Database], Any],
    way: str,
) -> None:
    with cb.connect(f"sqlite:///{path}") as db:
        other = busy(path)
        finish = next(other)
        start = time.monotonic()
        both_read = way == "locks of a handle" and call is CALLS[1]
        with (
            nullcontext()
            if both_read
            else pytest.raises(cb.DatabaseBusy, match="read its results to the end, commit and close it")
        ):
            call(db)
        assert both_read or 0.3 < time.monotonic() - start < 10
        assert locked_for_others(path) == (busy is begun)  # the lock of the other is still there
        finish()
        call(db)
        next(other, None)
        call(db)
    assert intact(path) in (ROWS, 20_000)


@pytest.mark.usefixtures("way")
def test_a_reader_beside_reads_every_row(path: Path) -> None:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM foods ORDER BY food_id")
    next(rows)
    with cb.connect(f"sqlite:///{path}") as db, pytest.raises(cb.DatabaseBusy):
        db.upsert("foods", BIG)
    assert sum(1 for _ in rows) == ROWS - 1
    connection.close()
    assert intact(path) == ROWS


needs_locks = pytest.mark.skipif(not sqlite_locks.available(), reason="this system has no locks of a handle")


@needs_locks
@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE", "PERSIST", "MEMORY"])
def test_who_comes_during_a_transaction_reads_what_was_there_and_writes_nothing(
    path: Path, journal: str
) -> None:
    with cb.connect(f"sqlite:///{path}") as db:
        with db.transaction():
            db.upsert("foods", BIG)
            other = sqlite3.connect(path, timeout=0.1)
            other.execute(f"PRAGMA journal_mode = {journal}")
            assert other.execute("SELECT count(*) FROM foods").fetchone() == (ROWS,)
            for statement in ("INSERT INTO foods VALUES (100000, 'theirs')", "BEGIN IMMEDIATE"):
                with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                    other.execute(statement)
            other.close()
            assert locked_for_others(path)  # though closing the file drops the locks of a process
            db.upsert("foods", ONE)
        assert intact(path) == 20_000
        assert db.read("foods", where={"food_id": 1})["name"].item() == "ours"
    assert not locked_for_others(path)


@needs_locks
def test_a_cursor_begun_during_a_transaction_reads_every_row_and_the_transaction_is_refused(
    path: Path,
) -> None:
    connection = sqlite3.connect(path)
    with cb.connect(f"sqlite:///{path}") as db:
        with pytest.raises(cb.DatabaseBusy, match="read its results to the end"), db.transaction():
            db.upsert("foods", BIG)
            rows = connection.execute("SELECT * FROM foods")
            next(rows)
        assert sum(1 for _ in rows) == ROWS - 1
        connection.close()
        assert intact(path) == ROWS
        assert db.upsert("foods", BIG).counts["inserted"] == 17_000


@needs_locks
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_the_handles_of_others_are_told_from_ours(path: Path, mode: str) -> None:
    sqlite3.connect(path).execute(f"PRAGMA journal_mode = {mode}").connection.close()
    assert not sqlite_handles.others(path)
    with cb.connect(f"sqlite:///{path}") as db, db.session() as session:
        session.fetch("SELECT count(*) FROM foods")
        assert not sqlite_handles.others(path)
        with path.open("rb"):
            assert sqlite_handles.others(path)
        assert not sqlite_handles.others(path)
    assert not sqlite_handles.others(path)
    assert not sqlite_handles._handles(path)


@needs_locks
def test_while_a_cursor_is_half_read_no_handles_pile_up(path: Path) -> None:
    connection = sqlite3.connect(path)
    rows = connection.execute("SELECT * FROM foods")
    next(rows)
    with cb.connect(f"sqlite:///{path}") as db:
        for _ in range(20):
            assert db.read("foods").height == ROWS
        assert len(sqlite_handles._handles(path)) < 10
        rows.close()
        connection.close()
        assert db.upsert("foods", BIG).counts["inserted"] == 17_000
    assert not sqlite_handles._handles(path)
    assert intact(path) == 20_000


UPGRADE = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
end = time.monotonic() + 2
while time.monotonic() < end:
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM foods").fetchone()
    connection.execute("UPDATE foods SET name = 'theirs' WHERE food_id = 1")  # at once, whatever the timeout
    connection.execute("COMMIT")
"""


WRITER = """
import sqlite3, sys
writer = sqlite3.connect(sys.argv[1], isolation_level=None)
writer.execute("PRAGMA cache_spill = OFF")
for sql in sys.stdin:
    writer.execute(sql)
    print(flush=True)
"""


@needs_locks
def test_a_reader_waits_for_no_transaction_of_another_process(path: Path) -> None:
    idle = sqlite3.connect(path)
    idle.execute("SELECT * FROM foods").fetchall()
    command = [sys.executable, "-c", WRITER, str(path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer,
        cb.connect(f"sqlite:///{path}") as db,
    ):

        def say(sql: str) -> None:
            print(sql, file=writer.stdin, flush=True)
            assert writer.stdout
            assert writer.stdout.readline() == "\n"

        for turn in range(3):
            before = db.read("foods", order_by="food_id")
            say("BEGIN IMMEDIATE")
            say(f"UPDATE foods SET name = 'theirs {turn}'")
            assert path.with_name("foods.db-journal").stat().st_size
            assert db.read("foods", order_by="food_id").equals(before)
            say("COMMIT")
            assert set(db.read("foods")["name"]) == {f"theirs {turn}"}
            report = db.upsert("foods", before[:10].with_columns(name=pl.lit("ours")))
            assert report.counts["updated"] == 10
            report.undo()
    idle.close()
    assert intact(path) == ROWS


@needs_locks
@pytest.mark.parametrize("replaced", [Path.unlink, lambda path: path.rename(f"{path}.old")])
def test_a_file_in_the_place_of_another_is_another(path: Path, replaced: Callable[[Path], Any]) -> None:
    with cb.connect(f"sqlite:///{path}") as db:
        for turn in range(3):
            other = sqlite3.connect(path)
            rows = other.execute("SELECT * FROM foods")
            next(rows)  # so that our connections cannot be closed
            assert db.read("foods", limit=1)["name"].item() == ("n0" * 5 if not turn else f"new {turn}")
            with pytest.raises(cb.DatabaseBusy, match="in the middle of"):
                db.upsert("foods", ONE)
            rows.close()
            other.close()
            replaced(path)
            new = sqlite3.connect(path)
            new.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
            new.executemany("INSERT INTO foods VALUES (?, ?)", [(n, f"new {turn + 1}") for n in range(9)])
            new.commit()
            new.close()


@needs_locks
def test_a_file_that_cannot_be_locked_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    real = fcntl.fcntl

    def without_locks(handle: int, command: int, argument: Any = 0) -> Any:
        if command == fcntl.F_OFD_SETLK:  # type: ignore[attr-defined]
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
        return real(handle, command, argument)

    with cb.connect(f"sqlite:///{path}") as db:
        monkeypatch.setattr(fcntl, "fcntl", without_locks)
        with pytest.raises(cb.BulkError, match=r"the file cannot be locked: No locks available"):
            db.upsert("foods", ONE)
        monkeypatch.setattr(fcntl, "fcntl", real)
        assert db.upsert("foods", ONE).counts["updated"] == 1


@needs_locks
def test_a_connection_with_tables_of_its_own_goes_on_seeing_them(path: Path) -> None:
    idle = sqlite3.connect(path)
    idle.execute("SELECT * FROM foods").fetchall()
    with cb.connect(f"sqlite:///{path}") as db, db.session() as session:
        session.execute("CREATE TEMP TABLE mine AS SELECT * FROM foods LIMIT 5")
        assert session.fetch("SELECT * FROM mine").height == 5
        assert session.fetch("PRAGMA foreign_keys").item() == 1
    idle.close()
    assert intact(path) == ROWS


@needs_locks
def test_reading_refuses_no_other_process_that_goes_on_to_write(path: Path) -> None:
    with (
        cb.connect(f"sqlite:///{path}") as db,
        subprocess.Popen(
            [sys.executable, "-c", UPGRADE, str(path)], stderr=subprocess.PIPE, text=True
        ) as other,
    ):
        while other.poll() is None:
            assert db.read("foods").height == ROWS
        assert other.stderr is not None
        assert (other.returncode, other.stderr.read()) == (0, "")


def test_a_relative_path_is_the_same_file_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    with cb.connect("sqlite:///x.db") as db:
        with db.session() as session:
            session.execute("CREATE TABLE foods (food_id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert db.insert("foods", ONE).counts["inserted"] == 1
    assert [file.name for file in tmp_path.rglob("*.db")] == ["x.db"]


def test_who_connects_waits_for_a_busy_file(path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None and other.stdout is not None  # noqa: PT018
        assert other.stdout.readline() == "held\n"
        threading.Timer(1, lambda: (other.stdin.write("\n"), other.stdin.flush())).start()  # type: ignore[union-attr]
        with cb.connect(f"sqlite:///{path}") as db:
            assert db.read("foods").height == ROWS


@needs_locks
@pytest.mark.parametrize("place", range(1, 12))
def test_ctrl_c_while_something_is_closed_leaves_no_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    left = [place]

    def interrupted(close: Callable[[Any], None]) -> Callable[[Any], None]:
        def closing(cursor: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise KeyboardInterrupt
            close(cursor)

        return closing

    with cb.connect(f"sqlite:///{path}") as db:
        with monkeypatch.context() as patch:
            patch.setattr(dbapi.Cursor, "close", interrupted(dbapi.Cursor.close))
            with suppress(KeyboardInterrupt):
                db.upsert("foods", ONE)
        assert not locked_for_others(path)
        assert db.upsert("foods", BIG).counts["input"] == BIG.height
    assert intact(path) == 20_000


@needs_locks
def test_threads_that_write_by_both_lose_nothing(path: Path) -> None:
    def theirs(first: int) -> int:
        for number in range(first, first + 40):
            connection = sqlite3.connect(path, timeout=30)
            with connection:
                connection.execute("INSERT INTO foods VALUES (?, 'theirs')", [number])
            if number % 3:
                rows = connection.execute("SELECT food_id FROM foods").fetchall()
                assert len(set(rows)) == len(rows)
            connection.close()
        return 40

    def ours(first: int) -> int:
        for number in range(first, first + 40):
            frame = pl.DataFrame({"food_id": [number], "name": ["ours"]})
            assert db.insert("foods", frame).counts["inserted"] == 1
            assert number in db.read("foods", columns=["food_id"])["food_id"]
        return 40

    with cb.connect(f"sqlite:///{path}") as db, ThreadPoolExecutor(4) as pool:
        written = [pool.submit(work, n * 10_000) for n, work in enumerate([theirs, theirs, ours, ours], 5)]
        assert sum(done.result() for done in written) == 160
    assert intact(path) == ROWS + 160


@needs_locks
def test_in_wal_mode_nobody_opens_the_file_during_a_transaction(path: Path) -> None:
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()
    with cb.connect(f"sqlite:///{path}") as db:
        with db.transaction():
            db.upsert("foods", BIG)
            for statement in ("SELECT count(*) FROM foods", "INSERT INTO foods VALUES (100000, 'theirs')"):
                other = sqlite3.connect(path, timeout=0.1)
                with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                    other.execute(statement)
                other.close()
            db.upsert("foods", ONE)
        assert intact(path) == 20_000
        assert not list(path.parent.glob("foods.db-*"))


USE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
for number, line in enumerate(sys.stdin):
    found = connection.execute("SELECT count(*) FROM foods").fetchone()[0]
    if line == "write\\n":
        connection.execute("INSERT INTO foods VALUES (?, 'theirs')", [200_000 + number])
    print(found, flush=True)
"""


@needs_locks
def test_in_wal_mode_another_process_that_has_the_file_open_goes_on(path: Path) -> None:
    sqlite3.connect(path).execute("PRAGMA journal_mode = WAL").connection.close()

    def tell(line: str) -> int:
        assert other.stdin is not None and other.stdout is not None  # noqa: PT018
        other.stdin.write(f"{line}\n")
        other.stdin.flush()
        return int(other.stdout.readline())

    command = [sys.executable, "-c", USE, str(path)]
    with (
        cb.connect(f"sqlite:///{path}") as db,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert tell("write") == ROWS
        with db.transaction():
            db.upsert("foods", BIG)
            assert tell("read") == ROWS + 1
            newcomer = sqlite3.connect(path, timeout=0.1)
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                newcomer.execute("SELECT count(*) FROM foods")
            newcomer.close()
        assert tell("write") == 20_001
        assert db.read("foods").height == 20_002
    assert intact(path) == 20_002


@needs_locks
def test_a_batch_that_outgrows_the_cache_keeps_readers_out_while_it_is_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_locks, "CACHE", 1)
    rows = pl.DataFrame({"food_id": range(4_000, 64_000), "name": ["x" * 30] * 60_000})
    other = sqlite3.connect(path, timeout=0)
    with cb.connect(f"sqlite:///{path}") as db:
        with db.transaction():
            db.upsert("foods", rows, undo=False)
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                other.execute("SELECT count(*) FROM foods")
        assert other.execute("SELECT count(*) FROM foods").fetchone() == (ROWS + 60_000,)
        other.close()
    assert intact(path) == ROWS + 60_000


@pytest.mark.parametrize("journal", ["DELETE", "TRUNCATE", "PERSIST", "MEMORY"])
@pytest.mark.usefixtures("way")
def test_idle_connections_and_exhausted_cursors_go_on_working(path: Path, journal: str) -> None:
    idle, fresh, engine = sqlite3.connect(path), sqlite3.connect(path), sa.create_engine(f"sqlite:///{path}")
    idle.execute(f"PRAGMA journal_mode = {journal}")
    with cb.connect(f"sqlite:///{path}") as db, engine.connect() as connection, path.open("rb"):
        for number in range(3):
            assert len(idle.execute("SELECT * FROM foods").fetchall()) == db.read("foods").height
            connection.execute(sa.text("SELECT count(*) FROM foods")).scalar_one()
            connection.rollback()
            idle.execute("INSERT INTO foods VALUES (?, 'theirs')", [100_000 + number])
            idle.commit()
            assert db.upsert("foods", BIG).counts["input"] == BIG.height
        fresh.execute("UPDATE foods SET name = 'theirs' WHERE food_id < 10")
        fresh.commit()
    engine.dispose()
    idle.close()
    fresh.close()
    assert intact(path) == 20_003


@pytest.mark.parametrize("read", [False, True])
@pytest.mark.usefixtures("way")
def test_a_log_that_another_connection_uses_is_left_alone(path: Path, *, read: bool) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    rows = connection.execute("SELECT * FROM foods")
    next(rows)
    if read:
        rows.fetchall()
    with cb.connect(f"sqlite:///{path}") as db:
        for call in CALLS:
            with pytest.raises(cb.DatabaseBusy, match="WAL mode"):
                call(db)
        rows.close()
        connection.execute("UPDATE foods SET name = 'theirs' WHERE food_id < 10")
        connection.commit()
        connection.close()
        assert db.upsert("foods", BIG).counts["inserted"] == 17_000
    assert intact(path) == 20_000


@pytest.mark.parametrize("link", [os.symlink, os.link])
@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.usefixtures("way")
def test_a_file_is_known_by_each_of_its_names(
    path: Path, tmp_path: Path, link: Callable[[Path, Path], None], mode: str
) -> None:
    (tmp_path / "names").mkdir()
    name = tmp_path / "names" / "other.db"
    link(path, name)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA journal_mode = {mode}")
    with cb.connect(f"sqlite:///{name}") as db:
        connection.execute("UPDATE foods SET name = 'theirs' WHERE food_id < 10")
        with pytest.raises(cb.DatabaseBusy):
            db.upsert("foods", BIG)
        connection.commit()
        connection.close()
        assert db.read("foods", where={"name": "theirs"}).height == 10
    assert intact(path) == ROWS


@pytest.mark.usefixtures("way")
def test_another_thread_that_comes_to_its_end_is_waited_for(path: Path) -> None:
    def read_slowly() -> int:
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT * FROM foods")
        next(rows)
        begun.set()
        time.sleep(0.3)
        count = sum(1 for _ in rows)
        connection.close()
        return count

    begun = threading.Event()
    with ThreadPoolExecutor(1) as pool, cb.connect(f"sqlite:///{path}") as db:
        count = pool.submit(read_slowly)
        begun.wait(5)
        assert db.upsert("foods", BIG).counts["inserted"] == 17_000
        assert count.result() == ROWS - 1


@pytest.mark.usefixtures("way")
def test_a_transaction_of_our_own_is_waited_for_as_ever(path: Path) -> None:
    """With a connection of sqlite3 beside, too: it is idle."""

    def write() -> None:
        with db.transaction():
            db.upsert("foods", BIG)
            begun.set()
            time.sleep(1.5)

    begun, idle = threading.Event(), sqlite3.connect(path)
    idle.execute("SELECT * FROM foods").fetchall()
    with ThreadPoolExecutor(1) as pool, cb.connect(f"sqlite:///{path}") as db:
        done = pool.submit(write)
        begun.wait(5)
        assert db.upsert("foods", ONE).counts["updated"] == 1
        done.result()
    idle.close()
    assert intact(path) == 20_000


HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 5")  # so that its journal is on the disk
connection.execute("BEGIN IMMEDIATE")
connection.execute("UPDATE foods SET name = 'theirs' || name")
print("held", flush=True)
sys.stdin.readline()
connection.execute("COMMIT")
"""


def test_another_process_is_waited_for_as_ever(path: Path, way: str) -> None:
    idle = sqlite3.connect(path)
    idle.execute("SELECT * FROM foods").fetchall()
    with (
        cb.connect(f"sqlite:///{path}") as db,
        subprocess.Popen(
            [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as other,
    ):
        assert other.stdin is not None and other.stdout is not None  # noqa: PT018
        assert other.stdout.readline() == "held\n"
        threading.Timer(2, lambda: (other.stdin.write("\n"), other.stdin.flush())).start()  # type: ignore[union-attr]
        assert db.upsert("foods", ONE).counts["updated"] == 1
    idle.close()
    assert intact(path) == ROWS


@pytest.mark.skipif(not sqlite_handles._kernel_lists_locks(), reason="only Linux tells whose a lock is")
def test_a_transaction_begun_beside_our_reading_keeps_its_lock(path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("SELECT * FROM foods").fetchall()
    with cb.connect(f"sqlite:///{path}") as db:
        with db.session() as session:
            session.fetch("SELECT * FROM foods")
            other.execute("BEGIN IMMEDIATE")
        assert locked_for_others(path)
        other.execute("UPDATE foods SET name = 'theirs' WHERE food_id < 10")
        other.execute("COMMIT")
        assert db.upsert("foods", BIG).counts["inserted"] == 17_000
        assert not sqlite_handles._kept_open
    other.close()
    assert intact(path) == 20_000


@pytest.mark.timed
def test_looking_costs_little(path: Path) -> None:
    idle, files = sqlite3.connect(path), [path.open("rb") for _ in range(50)]
    idle.execute("SELECT * FROM foods").fetchall()
    spent = []
    for _ in range(20):
        start = time.perf_counter()
        sqlite_handles._in_the_way(path, sqlite_handles._handles(path))
        spent.append(time.perf_counter() - start)
    for file in files:
        file.close()
    idle.close()
    if sqlite_handles._kernel_lists_locks():
        assert min(spent) < 0.002
