"""Time-outs, cancelling, retries, recovery of lists of operations, and what is logged."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods


def foods(*ids: int, name: str = "soup") -> pl.DataFrame:
    return pl.DataFrame({"food_id": ids, "name": [name] * len(ids)})


@pytest.fixture
def kitchen(db: cb.Database) -> cb.Database:
    db.create(Foods)
    db.insert(Foods, foods(1, 2, 3))
    return db


@contextmanager
def held(url: str) -> Iterator[Callable[[], None]]:
    """Hold a lock on a row from another connection, in a thread of its own, until told to let go."""
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with cb.connect(url) as other, other.transaction():
            other.update(Foods, foods(1, name="held"))
            ready.set()
            done.wait(30)

    with ThreadPoolExecutor(1) as pool:
        holding = pool.submit(hold)
        assert ready.wait(10)
        try:
            yield done.set
        finally:
            done.set()
            holding.result()


# -- time-outs and cancelling --


def test_a_call_that_waits_too_long_for_a_lock_is_stopped(kitchen: cb.Database, url: str) -> None:
    with held(url):
        start = time.perf_counter()
        with pytest.raises(cb.TimedOut, match=r"after 0\.3 s, its timeout; nothing was written"):
            kitchen.update(Foods, foods(1, name="late"), timeout=0.3)
        assert time.perf_counter() - start < 10
    assert kitchen.update(Foods, foods(1, name="next"), timeout=20).counts["updated"] == 1


def test_a_call_that_is_cancelled_from_another_thread(kitchen: cb.Database, url: str) -> None:
    with held(url):
        timer = threading.Timer(0.3, kitchen.cancel)
        timer.start()
        with pytest.raises(cb.Cancelled, match="nothing was written"):
            kitchen.update(Foods, foods(1, name="late"))
        timer.join()
    assert kitchen.update(Foods, foods(1, name="next")).counts["updated"] == 1


@pytest.mark.thorough
def test_a_large_batch_is_stopped_in_the_middle(kitchen: cb.Database) -> None:
    seen: list[str] = []
    writing = threading.Event()

    def watch(statement: str) -> None:
        seen.append(statement)
        if statement.startswith(('INSERT INTO "foods"', "MERGE")):
            writing.set()

    def cancel() -> None:
        assert writing.wait(30)
        kitchen.cancel()

    kitchen.trace(watch)
    with ThreadPoolExecutor(1) as other:
        cancelled = other.submit(cancel)
        with pytest.raises(cb.Cancelled):
            kitchen.upsert(Foods, foods(*range(700_000)), undo=False)
        cancelled.result()
    assert kitchen.read(Foods).height == 3
    assert "COMMIT" not in seen[-3:]
    assert kitchen.batches().height == 1
    assert kitchen.insert(Foods, foods(9)).counts["inserted"] == 1


def test_a_transaction_that_is_cancelled_is_rolled_back(kitchen: cb.Database) -> None:
    with pytest.raises(cb.Cancelled), kitchen.transaction():
        kitchen.insert(Foods, foods(7))
        with ThreadPoolExecutor(1) as other:
            assert other.submit(kitchen.cancel).result() == 1
        kitchen.insert(Foods, foods(8))
    assert kitchen.read(Foods).height == 3
    kitchen.insert(Foods, foods(7))


def test_the_time_of_a_call_within_a_transaction_is_its_own(kitchen: cb.Database) -> None:
    with kitchen.transaction():
        with pytest.raises(cb.TimedOut):
            kitchen.insert(Foods, foods(7), timeout=1e-9)
        kitchen.insert(Foods, foods(8))
    assert kitchen.read(Foods)["food_id"].sort().to_list() == [1, 2, 3, 8]


def test_a_limit_of_the_database_is_a_time_out_too(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1))
    with server_db.session() as session:
        session.execute("SET statement_timeout = 200")
        with pytest.raises(cb.TimedOut, match="raise the limit of the database"):
            session.fetch("SELECT pg_sleep(5)::text AS x")
        session.execute("SET statement_timeout = 0")
    assert server_db.insert(Foods, foods(2)).counts["inserted"] == 1


@pytest.mark.parametrize("timeout", [0, -1, "5", True])
def test_a_timeout_must_be_seconds(kitchen: cb.Database, timeout: object) -> None:
    with pytest.raises(cb.ContractError, match="is no time"):
        kitchen.insert(Foods, foods(9), timeout=timeout)  # type: ignore[arg-type]


def test_cancelling_from_a_signal_handler_does_not_wait_for_itself(kitchen: cb.Database, url: str) -> None:
    def handler(*_: object) -> None:
        kitchen.cancel()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        with held(url) as let_go:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            threading.Timer(3, let_go).start()  # no signal is handled while a statement runs in C
            with pytest.raises(cb.Cancelled):
                kitchen.update(Foods, foods(1, name="late"))
    finally:
        signal.signal(signal.SIGALRM, before)
    assert kitchen.update(Foods, foods(1, name="next")).counts["updated"] == 1


def test_a_list_that_is_cancelled_is_not_gone_on_with(kitchen: cb.Database, url: str) -> None:
    listed = [
        cb.Operation("update", Foods, (foods(1, name="late"),)),
        cb.Operation("insert", Foods, (foods(9),)),
    ]
    with held(url):
        threading.Timer(0.3, kitchen.cancel).start()
        with pytest.raises(cb.Cancelled):
            kitchen.run(listed, atomic=False)
    assert kitchen.read(Foods).height == 3


def test_the_time_of_a_call_covers_the_wait_for_a_connection() -> None:
    with cb.connect() as memory:  # which has one connection
        memory.create(Foods)
        ready, done = threading.Event(), threading.Event()

        def hold() -> None:
            with memory.transaction():
                ready.set()
                done.wait(20)

        with ThreadPoolExecutor(1) as pool:
            holding = pool.submit(hold)
            assert ready.wait(10)
            start = time.perf_counter()
            with pytest.raises(cb.TimedOut):
                memory.insert(Foods, foods(1), timeout=0.3)
            assert time.perf_counter() - start < 10
            done.set()
            holding.result()


@pytest.mark.parametrize("error", [BrokenPipeError, KeyboardInterrupt])
def test_what_a_listener_raises_never_leaves_a_transaction_open(
    kitchen: cb.Database, error: type[BaseException]
) -> None:
    left = [2]

    def fail(statement: str) -> None:
        if left[0] and (statement.startswith('INSERT INTO "crave_bulk_batches"') or statement == "ROLLBACK"):
            left[0] -= 1
            raise error

    kitchen.trace(fail)
    with pytest.raises(error):
        kitchen.upsert(Foods, foods(1, 2, name="half"), undo=False)
    left[0] = 0
    kitchen.insert(Foods, foods(7))
    assert [row[1] for row in kitchen.read(Foods, order_by="food_id").rows()] == ["soup"] * 4
    assert kitchen.batches()["verb"].to_list() == ["insert", "insert"]


@pytest.mark.parametrize("statement", ["BEGIN", "SAVEPOINT"])
@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_while_a_block_is_begun_leaves_nothing_open(kitchen: cb.Database, statement: str) -> None:
    """The driver notices the signal; the statement comes to its end all the same."""
    fired = [False]

    def press(text: str) -> None:
        if text.startswith(statement) and not fired[0]:
            fired[0] = True
            os.kill(os.getpid(), signal.SIGINT)

    kitchen.trace(press)
    with pytest.raises(KeyboardInterrupt):
        kitchen.upsert(Foods, foods(1, 9, name="x"))
        time.sleep(1)
    assert fired[0]
    assert kitchen.insert(Foods, foods(7)).counts == {"input": 1, "inserted": 1}
    assert sorted(kitchen.read(Foods)["food_id"]) == [1, 2, 3, 7]


# -- retries --


def test_what_is_in_the_way_for_a_while_is_waited_out(kitchen: cb.Database, url: str) -> None:
    with held(url) as let_go:
        threading.Timer(0.5, let_go).start()
        report = kitchen.update(Foods, foods(1, name="mine"))
    assert report.counts == {"input": 1, "updated": 1}
    assert kitchen.read(Foods, where={"food_id": 1})["name"].item() == "mine"


def test_a_deadlock_is_tried_again_and_counted(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1, 2))
    waiting = threading.Event()

    def other() -> None:
        with server_db.session() as session:
            session.execute("BEGIN")
            session.execute("SET LOCAL deadlock_timeout = '10s'")  # it is the call that is to be the victim
            session.execute("UPDATE foods SET name = 'other' WHERE food_id = 2")
            waiting.set()
            time.sleep(0.5)
            session.execute("UPDATE foods SET name = 'other' WHERE food_id = 1")
            session.execute("COMMIT")

    with ThreadPoolExecutor(1) as pool:
        there = pool.submit(other)
        assert waiting.wait(10)
        report = server_db.update(Foods, foods(1, 2, name="mine"))
        there.result()
    assert report.retries >= 1
    assert f"{report.retries} retries" in repr(report)
    assert server_db.batches()["retries"][0] == report.retries
    assert set(server_db.read(Foods)["name"]) == {"mine"}


def test_a_lost_connection_is_replaced(server_db: cb.Database) -> None:
    server_db.create(Foods)
    once = [True]

    def kill(statement: str) -> None:
        if once[0] and statement.startswith(("MERGE", 'INSERT INTO "foods"')):
            once[0] = False
            with ThreadPoolExecutor(1) as pool:
                pool.submit(terminate_others, server_db).result()

    server_db.trace(kill)
    report = server_db.upsert(Foods, foods(1, 2))
    assert not once[0]
    assert report.retries == 1
    assert server_db.read(Foods).height == 2
    assert server_db.batches().height == 1


def terminate_others(db: cb.Database) -> None:
    with db.session() as session:
        session.fetch(
            "SELECT pg_terminate_backend(pid) AS t FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_a_mistake_is_not_tried_again(kitchen: cb.Database) -> None:
    seen: list[str] = []
    kitchen.trace(seen.append)
    with pytest.raises(cb.RejectedRows):
        kitchen.insert(Foods, foods(1))
    with pytest.raises(cb.ContractError):
        kitchen.insert(Foods, pl.DataFrame({"x": [1]}))
    assert seen.count(kitchen.backend.begin) == 1


# -- lists of operations --


def operations() -> list[cb.Operation]:
    return [
        cb.Operation("insert", Foods, (foods(7),), name="first"),
        cb.Operation("insert", Foods, (foods(1),), name="second"),
        cb.Operation("insert", Foods, (foods(8),), name="third"),
    ]


@pytest.mark.parametrize(
    ("options", "status", "left"),
    [
        ({"recovery": "skip"}, ["completed", "failed", "completed"], [1, 2, 3, 7, 8]),
        ({"recovery": "partial"}, ["completed", "failed", "pending"], [1, 2, 3, 7]),
        ({"atomic": False}, ["completed", "failed", "completed"], [1, 2, 3, 7, 8]),
        ({"atomic": False, "recovery": "partial"}, ["completed", "failed", "pending"], [1, 2, 3, 7]),
    ],
)
def test_recovery(
    kitchen: cb.Database, options: dict[str, object], status: list[str], left: list[int]
) -> None:
    results = kitchen.run(operations(), **options)  # type: ignore[arg-type]
    assert [result.status for result in results] == status
    assert [result.succeeded for result in results] == [s == "completed" for s in status]
    assert kitchen.read(Foods)["food_id"].sort().to_list() == left
    written = kitchen.batches(where={"name__isnull": False})
    assert written["name"].to_list() == [
        name for name, s in zip(("third", "first"), (status[2], status[0]), strict=True) if s == "completed"
    ]
    together = options.get("atomic", True)
    assert written["transaction_id"].n_unique() == (1 if together else written.height)
    assert "not run" in repr(results) or "pending" not in status


@pytest.mark.parametrize("recovery", ["rollback", "retry"])
def test_recovery_by_taking_all_back(kitchen: cb.Database, recovery: cb.operations.Recovery) -> None:
    with pytest.raises(cb.RejectedRows) as refused:
        kitchen.run(operations(), recovery=recovery)
    assert "operation 1 of 3 (second)" in refused.value.__notes__[0]
    assert kitchen.read(Foods).height == 3
    assert kitchen.batches().height == 1


def test_retry_runs_the_list_again_where_the_connection_was_lost(server_db: cb.Database) -> None:
    server_db.create(Foods)
    server_db.insert(Foods, foods(1))
    lost = [0]

    def kill(statement: str) -> None:
        if statement == "COMMIT" and lost[0] < 2:
            lost[0] += 1
            with ThreadPoolExecutor(1) as pool:
                pool.submit(terminate_others, server_db).result()

    server_db.trace(kill)
    listed = [
        cb.Operation("insert", Foods, (foods(2),)),
        cb.Operation("update", Foods, (foods(1, name="x"),)),
    ]
    with pytest.raises(cb.ConnectionFailed, match="nothing of the transaction was written"):
        server_db.run(listed)
    assert server_db.read(Foods).height == 1
    results = server_db.run(listed, recovery="retry")
    assert lost == [2]
    assert [result.status for result in results] == ["completed", "completed"]
    assert server_db.read(Foods, order_by="food_id").rows() == [(1, "x"), (2, "soup")]
    assert server_db.batches().height == 3


@pytest.mark.parametrize("options", [{"recovery": "hope"}, {"atomic": False, "recovery": "rollback"}])
def test_recovery_that_cannot_be(kitchen: cb.Database, options: dict[str, object]) -> None:
    with pytest.raises(cb.ContractError, match="recovery="):
        kitchen.run(operations(), **options)  # type: ignore[arg-type]


# -- logs --


def test_a_batch_is_a_line_and_no_value_is_shown(
    kitchen: cb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "crave_bulk"):
        report = kitchen.upsert(Foods, foods(8, 9, name="secret"))
        with pytest.raises(cb.RejectedRows):
            kitchen.insert(Foods, foods(8, name="secret"))
        with pytest.raises(cb.DatabaseError):
            kitchen.delete_where("nowhere", "secret = 1")
    infos = [r.getMessage() for r in caplog.records if r.levelno == logging.INFO]
    assert infos[0].startswith(f"batch {report.batch_id}: upsert foods: 2 rows -> 2 inserted in ")
    assert infos[1].endswith("rolled back")
    assert len(infos) == 2
    phases = [
        r.getMessage()
        for r in caplog.records
        if r.levelno == logging.DEBUG and report.batch_id in r.getMessage()
    ]
    assert any(": merge: " in line for line in phases)
    assert "secret" not in caplog.text


def test_a_batch_that_fails_is_logged_without_the_words_of_the_database(
    kitchen: cb.Database, caplog: pytest.LogCaptureFixture
) -> None:
    with kitchen.session() as session:
        session.execute("CREATE TABLE words (id integer PRIMARY KEY, word text NOT NULL)")
    with caplog.at_level(logging.INFO, "crave_bulk"), pytest.raises(cb.TimedOut):
        kitchen.insert("words", pl.DataFrame({"id": [1], "word": ["secret"]}), timeout=1e-9)
    assert caplog.records == [] or "TimedOut" in caplog.text
    assert "secret" not in caplog.text


def test_values_are_traced_only_where_they_are_asked_for(kitchen: cb.Database) -> None:
    plain: list[str] = []
    told: list[str] = []
    kitchen.trace(plain.append)
    kitchen.trace(told.append, values=True)
    kitchen.update_where(Foods, {"name": "secret"}, {"food_id": 1})
    assert not any("secret" in statement for statement in plain)
    assert any("secret" in statement for statement in told)
    assert len(plain) == len(told)


def test_no_password_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), pytest.raises(cb.ConnectionFailed) as failed:
        cb.connect("postgresql://ann:hunter2@127.0.0.1:1/x")
    assert "hunter2" not in caplog.text + str(failed.value)
