"""A forked process says at once to connect anew, and does no harm to the connections of its parent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.timed,  # a child that would hang is told from one that is refused at once
]

BEGIN = """
import os, signal, sys, threading, time, traceback, warnings

at_fork = []  # the names of the threads of the parent; what is registered first is asked last
os.register_at_fork(before=lambda: at_fork.extend(t.name for t in threading.enumerate()))

import polars as pl
import crave_bulk as cb
from crave_bulk.examples import Foods

warnings.simplefilter("ignore")  # that a process with threads is forked, which is what this is about

def food(number):
    return pl.DataFrame({"food_id": [number], "name": ["x"]})

def fork(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)  # seconds until a child that hangs is killed
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        sys.exit(0)  # with everything that is done at the end of an interpreter
    assert os.waitpid(pid, 0)[1] == 0

def refused(call):
    start = time.monotonic()
    try:
        call()
    except cb.ConnectionFailed as error:
        assert "connect anew" in str(error) and "spawn" in str(error), error
        assert time.monotonic() - start < 5
    else:
        raise AssertionError("not refused")

url = sys.argv[1]
"""

CALLS = """
db = cb.connect(url)
db.create(Foods)
report = db.insert(Foods, food(0))
plan = db.upsert(Foods, food(1), plan=True)

def child():
    for call in (
        lambda: db.read(Foods),
        lambda: db.read("foods"),
        lambda: db.insert(Foods, food(1)),
        lambda: db.delete_where("foods", {"food_id": 0}),
        lambda: db.create(Foods),
        lambda: db.evolve(Foods),
        lambda: db.batches(),
        lambda: db.undo(report.batch_id),
        report.undo,
        plan.apply,
        lambda: db.atomically(lambda: None),
        lambda: db.transaction().__enter__(),
        lambda: db.run([cb.Operation("insert", Foods, (food(1),))]),
        lambda: db.in_transaction,
        db.cancel,
        lambda: db.trace(print),
        lambda: cb.connect(url),
    ):
        refused(call)
    db.close()
    refused(lambda: db.read(Foods))

fork(child)
fork(db.close)
fork(lambda: None)
assert db.insert(Foods, food(2)).retries == 0
assert db.read(Foods, order_by="food_id")["food_id"].to_list() == [0, 2]
db.close()
"""

TRANSACTION = """
db = cb.connect(url)
db.create(Foods)
ended = []
try:
    with db.transaction():
        db.insert(Foods, food(1))
        pid = os.fork()
        if pid == 0:
            signal.alarm(30)
            refused(lambda: db.insert(Foods, food(2)))
        else:
            assert os.waitpid(pid, 0)[1] == 0
            db.insert(Foods, food(3))
except cb.ConnectionFailed as error:  # the child leaves the block, and commits nothing
    assert pid == 0 and "connect anew" in str(error)
    ended.append(error)
if pid == 0:
    os._exit(0 if ended else 1)
assert db.insert(Foods, food(4)).retries == 0
assert db.read(Foods, order_by="food_id")["food_id"].to_list() == [1, 3, 4]
db.close()
"""

UNUSED = """
db = cb.connect(url)  # which has not been used yet

def child():
    refused(lambda: db.read(Foods))
    db.close()
    with cb.connect(url) as own:
        own.create(Foods)
        assert own.insert(Foods, food(1)).committed
        assert own.read(Foods).height == 1

fork(child)
assert at_fork == ["MainThread"], at_fork  # what DuckDB makes once in a process would wait for ever in the child
db.create(Foods)
assert db.insert(Foods, food(2)).retries == 0
db.close()
"""

THREADS = """
db = cb.connect(url)
db.create(Foods)
held, go = threading.Event(), threading.Event()

def hold():
    with db.transaction():
        db.insert(Foods, food(1))
        held.set()
        go.wait(60)
        db.insert(Foods, food(2))

thread = threading.Thread(target=hold)
thread.start()
held.wait(60)
fork(lambda: refused(lambda: db.insert(Foods, food(3))))
fork(db.close)
go.set()
thread.join()
assert db.read(Foods, order_by="food_id")["food_id"].to_list() == [1, 2]
db.close()
"""


@pytest.mark.parametrize("script", [CALLS, TRANSACTION, UNUSED, THREADS])
def test_a_fork_is_told_to_connect_anew_and_harms_nobody(url: str, script: str) -> None:
    run(script, url)


@pytest.mark.parametrize("script", [CALLS, THREADS])
def test_a_fork_does_not_get_a_copy_of_a_database_in_memory(script: str) -> None:
    run(script, "sqlite://")


def run(script: str, url: str) -> None:
    """Run a script in a process of its own, which then forks."""
    command = [sys.executable, "-c", BEGIN + script, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
