"""A transaction belongs to the task or thread that opened it, whatever else runs beside it."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from conftest import SERVERS, empty_database

import crave_bulk as cb
from crave_bulk import connections, retry, session
from crave_bulk.backends.base import Patience
from crave_bulk.examples import Foods


def food(number: int, name: str = "x") -> pl.DataFrame:
    return pl.DataFrame({"food_id": [number], "name": [name]})


@pytest.fixture(params=["sqlite in memory", "sqlite", *SERVERS])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Each kind of database in turn, and the one that has a single connection."""
    if request.param.startswith("sqlite"):
        yield f"sqlite:///{tmp_path}/test.db" if request.param == "sqlite" else "sqlite://"
        return
    database = request.getfixturevalue("databases")[request.param]
    yield database
    empty_database(database)


@pytest.fixture
def kitchen(db: cb.Database) -> cb.Database:
    """A database with a table and a ledger."""
    db.create(Foods)
    db.insert(Foods, food(0))
    return db


def ids(db: cb.Database) -> list[int]:
    return db.read(Foods, order_by="food_id")["food_id"].to_list()


CALLS: list[Callable[[cb.Database], Any]] = [
    lambda db: db.insert(Foods, food(9)),
    lambda db: db.update(Foods, food(0, "y")),
    lambda db: db.delete_where(Foods, {"food_id": 0}),
    lambda db: db.read(Foods),
    lambda db: db.read("foods"),
    lambda db: db.batches(),
    lambda db: db.create(Foods),
    lambda db: db.atomically(lambda: db.insert(Foods, food(9))),
    lambda db: db.run([cb.Operation("insert", Foods, (food(9),))]),
    lambda db: db.transaction().__enter__(),
]


@pytest.mark.thorough_on_postgres
@pytest.mark.parametrize("call", CALLS)
def test_calls_that_were_started_within_a_transaction_are_not_part_of_it(
    kitchen: cb.Database, call: Callable[[cb.Database], Any]
) -> None:
    async def child() -> None:
        call(kitchen)

    async def parent() -> None:
        for start in (lambda: asyncio.create_task(child()), lambda: asyncio.to_thread(call, kitchen)):
            with kitchen.transaction():
                kitchen.insert(Foods, food(1))
                with pytest.raises(cb.BulkError, match=r"is not shared: .*asyncio\.to_thread"):
                    await start()
                assert kitchen.in_transaction
                kitchen.insert(Foods, food(2))
            assert ids(kitchen) == [0, 1, 2]
            kitchen.delete(Foods, [1, 2])

    asyncio.run(parent())


def test_tasks_that_outlive_the_transaction_they_were_started_in_are_outside(kitchen: cb.Database) -> None:
    async def child(over: asyncio.Event) -> cb.Report:
        await over.wait()
        assert not kitchen.in_transaction
        with kitchen.transaction():
            kitchen.insert(Foods, food(7))
        return kitchen.insert(Foods, food(8))

    async def parent() -> None:
        over = asyncio.Event()
        with pytest.raises(ZeroDivisionError), kitchen.transaction():
            kitchen.insert(Foods, food(1))
            late = asyncio.create_task(child(over))
            await asyncio.sleep(0)
            raise ZeroDivisionError
        over.set()
        assert (await late).committed
        with kitchen.transaction():  # another one does not take it in either
            later = asyncio.create_task(asyncio.to_thread(ids, kitchen))
            with pytest.raises(cb.BulkError, match="is not shared"):
                await later
        assert await asyncio.to_thread(ids, kitchen) == [0, 7, 8]

    asyncio.run(parent())


def test_what_other_tasks_write_is_not_rolled_back_with_a_transaction(kitchen: cb.Database) -> None:
    """Either it is written on its own, or the call says that it is not."""

    async def fails() -> None:
        with kitchen.transaction():
            kitchen.insert(Foods, food(1))
            begun.set()
            await done.wait()
            raise ZeroDivisionError

    async def other() -> cb.Report:
        await begun.wait()
        assert not kitchen.in_transaction
        try:
            return kitchen.update(Foods, food(0, "kept"))
        finally:
            done.set()

    async def both() -> list[Any]:
        return await asyncio.gather(fails(), other(), return_exceptions=True)

    begun, done = asyncio.Event(), asyncio.Event()
    start = time.monotonic()
    failed, result = asyncio.run(both())
    assert time.monotonic() - start < 8
    assert isinstance(failed, ZeroDivisionError)
    if kitchen.backend.concurrent:
        assert result.committed
    else:
        assert isinstance(result, cb.DatabaseBusy)
        assert "another task or generator of this thread" in str(result)
    assert kitchen.read(Foods).rows() == [(0, "kept" if kitchen.backend.concurrent else "x")]
    assert kitchen.insert(Foods, food(1)).committed


@pytest.fixture
def impatient(db: cb.Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that lets nobody wait for ten seconds."""
    if db.backend.wait_at_most:
        monkeypatch.setattr(type(db.backend), "wait_at_most", "SET LOCAL lock_timeout = '1s'")


@pytest.mark.usefixtures("impatient")
def test_a_task_that_waits_for_what_another_of_its_thread_holds_says_so(kitchen: cb.Database) -> None:
    async def holds() -> None:
        with kitchen.transaction():
            kitchen.update(Foods, food(0, "held"))
            begun.set()
            await done.wait()
            kitchen.insert(Foods, food(1))

    async def waits() -> None:
        await begun.wait()
        with pytest.raises(cb.DatabaseBusy, match="another task or generator of this thread"):
            kitchen.update(Foods, food(0, "waited for"))
        done.set()

    async def both() -> None:
        await asyncio.gather(holds(), waits())

    begun, done = asyncio.Event(), asyncio.Event()
    asyncio.run(both())
    assert kitchen.read(Foods, order_by="food_id").rows() == [(0, "held"), (1, "x")]


def test_the_first_of_two_transactions_does_not_wait_for_the_second_for_ever(
    server_db: cb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(server_db.backend), "wait_at_most", "SET LOCAL lock_timeout = '1s'")

    async def first() -> None:
        with server_db.transaction():
            server_db.read(Foods)
            first_begun.set()
            await second_holds.wait()
            with pytest.raises(cb.DatabaseBusy, match="another task or generator of this thread"):
                server_db.update(Foods, food(0, "first"))
        done.set()

    async def second() -> None:
        await first_begun.wait()
        with server_db.transaction():
            server_db.update(Foods, food(0, "second"))
            second_holds.set()
            await done.wait()

    async def both() -> None:
        await asyncio.gather(first(), second())

    server_db.create(Foods)
    server_db.insert(Foods, food(0))
    first_begun, second_holds, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    asyncio.run(both())
    assert server_db.read(Foods).rows() == [(0, "second")]


def test_whole_transactions_run_in_threads_beside_each_other(kitchen: cb.Database) -> None:
    def load(number: int) -> None:
        with kitchen.transaction():
            kitchen.insert(Foods, food(number))
            with kitchen.transaction():
                kitchen.insert(Foods, food(number + 100))
            if number % 2:
                raise ZeroDivisionError

    async def all_of_them() -> None:
        loads = (asyncio.to_thread(load, number) for number in range(1, 7))
        results = await asyncio.gather(*loads, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["ZeroDivisionError", "NoneType"] * 3

    asyncio.run(all_of_them())
    assert ids(kitchen) == [0, 2, 4, 6, 102, 104, 106]


def test_plain_threads_within_a_transaction_have_their_own(kitchen: cb.Database) -> None:
    with ThreadPoolExecutor(1) as pool:
        with kitchen.transaction():
            kitchen.insert(Foods, food(1))
            if not kitchen.backend.in_memory:  # which has one connection
                assert pool.submit(ids, kitchen).result() == [0]
        assert pool.submit(ids, kitchen).result() == [0, 1]


def test_a_copy_of_a_context_may_be_used_by_the_same_thread(kitchen: cb.Database) -> None:
    with kitchen.transaction():
        copy = contextvars.copy_context()
        with pytest.raises(cb.BulkError, match="is not shared"):
            copy.run(kitchen.insert, Foods, food(1))
        assert not copy.run(lambda: kitchen.in_transaction)
    copy.run(kitchen.insert, Foods, food(1))
    assert ids(kitchen) == [0, 1]


def test_the_name_of_a_batch_goes_along_with_the_context(kitchen: cb.Database) -> None:
    async def named() -> tuple[cb.Report, cb.Report]:
        with kitchen.named("nightly"):
            one = await asyncio.to_thread(kitchen.insert, Foods, food(1))
        return one, await asyncio.to_thread(kitchen.insert, Foods, food(2))

    asyncio.run(named())
    assert kitchen.batches(limit=2)["name"].to_list() == [None, "nightly"]


def test_a_cancelled_task_rolls_back_its_transaction_and_no_other(kitchen: cb.Database) -> None:
    async def endless() -> None:
        with kitchen.transaction():
            kitchen.insert(Foods, food(1))
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(endless())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kitchen.insert(Foods, food(2))

    asyncio.run(main())
    assert ids(kitchen) == [0, 2]


def test_time_runs_out_only_for_the_call_it_was_set_for(kitchen: cb.Database) -> None:
    async def main() -> None:
        limited = [asyncio.to_thread(kitchen.insert, Foods, food(n), timeout=60) for n in range(1, 4)]
        assert all(report.committed for report in await asyncio.gather(*limited))

    asyncio.run(main())
    assert ids(kitchen) == [0, 1, 2, 3]


def load(db: cb.Database, *numbers: int) -> Iterator[int]:
    """A generator that writes as it goes, in one transaction."""
    with db.transaction():
        for number in numbers:
            db.insert(Foods, food(number))
            yield number


def test_generators_that_take_turns_write_nothing_by_half(kitchen: cb.Database) -> None:
    one, two = load(kitchen, 1, 2), load(kitchen, 3, 4, 5)
    assert [next(one), next(two), next(one), next(two)] == [1, 3, 2, 4]
    with pytest.raises(cb.BulkError, match="left before another that was begun within it"):
        next(one)
    assert ids(kitchen) == [0]
    with pytest.raises(cb.BulkError, match="the transaction has ended"):
        kitchen.insert(Foods, food(6))  # nobody knows whether the second generator calls
    with pytest.raises(cb.BulkError, match="the transaction has ended"):
        next(two)
    assert ids(kitchen) == [0]
    assert kitchen.insert(Foods, food(1)).committed


def test_a_generator_that_is_closed_leaves_the_one_within_it_nothing_to_write(kitchen: cb.Database) -> None:
    one, two = load(kitchen, 1, 2), load(kitchen, 3, 4)
    next(one), next(two)
    one.close()
    with pytest.raises(cb.BulkError, match="the transaction has ended"):
        list(two)
    assert ids(kitchen) == [0]


def test_a_connection_that_is_in_use_in_another_thread_is_waited_for() -> None:
    def hold() -> None:
        with db.transaction():
            db.insert(Foods, food(1))
            begun.set()
            time.sleep(0.5)

    begun = threading.Event()
    with cb.connect() as db, ThreadPoolExecutor(1) as pool:
        db.create(Foods)
        held = pool.submit(hold)
        begun.wait(5)
        assert ids(db) == [1]
        held.result()


def test_a_thread_that_a_transaction_waits_for_is_told_so(
    db: cb.Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "_HELD_BESIDE", 1)
    monkeypatch.setattr(retry, "_ENOUGH", 1)
    monkeypatch.setattr(connections, "_POOL_SECONDS", 1)
    if db.backend.patience:
        monkeypatch.setattr(db.backend, "patience", Patience(db.backend.patience.statement, 1))
    db.create(Foods)
    db.insert(Foods, pl.DataFrame({"food_id": [1], "name": ["a"]}))
    said: list[cb.DatabaseBusy] = []

    def write() -> None:
        with pytest.raises(cb.DatabaseBusy) as error:
            db.upsert(Foods, pl.DataFrame({"food_id": [1], "name": ["c"]}))
        said.append(error.value)

    with db.transaction():
        db.upsert(Foods, pl.DataFrame({"food_id": [1], "name": ["b"]}))
        thread = threading.Thread(target=write)
        thread.start()
        thread.join(20)
    single = db.backend.pooled and not db.backend.remote  # all wait for the one connection
    assert ("were in use" if single else "another thread of this program has a transaction open") in str(
        said[0]
    )
    assert db.read(Foods)["name"].item() == "b"
