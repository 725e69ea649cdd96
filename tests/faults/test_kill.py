"""A writer that is killed, interrupted or cancelled leaves whole batches only, and running it again is safe."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import _GeneratorContextManager, contextmanager
from types import FrameType

import adbc_driver_postgresql.dbapi
import pytest

import crave_bulk as cb
from faults import children, stopping
from faults.bench import Figures, begun
from faults.counts import Counts, agree, ones
from faults.writers import file_of

# What starts processes takes its time, and does not depend on the version of the server.
BOTH = pytest.mark.parametrize("url", ["sqlite", "postgres"], indirect=True)


def clean(figures: Figures, faults: int) -> Figures:
    assert figures.complaints == [], figures
    assert figures.faults == faults
    return figures


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Keep others from writing to the table."""
    if url.startswith("sqlite"):
        with children.start(children.hold, file_of(url), "BEGIN IMMEDIATE", 60) as holder:
            assert children.hear(holder) == "go"
            yield
        return
    with (
        adbc_driver_postgresql.dbapi.connect(url) as connection,  # in a transaction
        connection.cursor() as cursor,
    ):
        cursor.execute("LOCK TABLE counts IN EXCLUSIVE MODE")
        yield


@contextmanager
def soon(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


@BOTH
@pytest.mark.thorough
def test_a_killed_writer_leaves_whole_batches(url: str) -> None:
    clean(stopping.kills(url, seed=1, count=2), 2)


@pytest.mark.thorough
@BOTH
@pytest.mark.parametrize("twice", [False, True])
def test_ctrl_c_before_any_statement_leaves_nothing(url: str, twice: bool) -> None:
    figures = stopping.presses(url, twice=twice, every=4)
    assert figures.complaints == []
    assert figures.faults > 3


@BOTH
def test_ctrl_c_twice_before_the_clean_up_begins(url: str) -> None:
    pressed: list[str] = []

    def press(statement: str) -> None:
        if not pressed and statement.startswith('INSERT INTO "crave_bulk_batches" '):
            pressed.append(statement)
            raise KeyboardInterrupt

    def press_again(frame: FrameType, event: str, _: object) -> None:
        # Python raises it wherever a function begins, and so also where the block of the transaction is left.
        left = (
            frame.f_locals.get("self") if frame.f_code is _GeneratorContextManager.__exit__.__code__ else None
        )
        if event == "call" and left is not None and len(pressed) == 1:
            block = left.gen.gi_frame
            if block is not None and block.f_code.co_name == "atomic" and block.f_locals["depth"] == 0:
                pressed.append(event)
                raise KeyboardInterrupt

    with begun(url) as (db, written), cb.connect(url) as other:
        db.trace(press)
        usual = sys.getprofile()
        sys.setprofile(press_again)
        try:
            with pytest.raises(KeyboardInterrupt) as raised:  # a notebook keeps the last error, too
                db.upsert(Counts, ones(1), once="b1")
        finally:
            sys.setprofile(usual)
        assert len(pressed) == 2
        report = db.upsert(Counts, ones(1), once="b1", timeout=5)
        assert not report.replayed
        written.add(ones(1))
        assert agree(db, url, written, report) == []
        del raised
        assert agree(db, url, written) == []
        assert agree(other, url, written) == []


@pytest.mark.thorough
@BOTH
def test_sigint_stops_a_call_that_waits_for_others(url: str) -> None:
    with begun(url) as (db, written), children.start(children.write_until_interrupted, url) as writer:
        assert children.hear(writer) == "go"
        with locked(url):
            children.ask(writer, 1)
            assert children.hear(writer) == "begin"
            time.sleep(0.25)  # by then it waits
            writer.send_signal(signal.SIGINT)
            with soon(8):
                assert children.hear(writer) == {"caught": "KeyboardInterrupt()", "told": False}
        assert children.hear(writer) == {"late": [], "replayed": False}
        written.add(ones(1))
        assert agree(db, url, written) == []


def test_cancel_stops_calls_that_wait_for_others(url: str) -> None:
    with begun(url) as (db, written):
        errors: list[BaseException] = []

        def write(number: int) -> None:
            with pytest.raises(cb.Cancelled, match="run it again") as raised:
                db.upsert(Counts, ones(number), once=f"b{number}")
            errors.append(raised.value)

        with locked(url):
            threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
            for thread in threads:
                thread.start()
            time.sleep(0.3)
            with soon(8):
                assert db.cancel() == 3
                for thread in threads:
                    thread.join()
        assert len(errors) == 3
        assert agree(db, url, written) == []


@BOTH
def test_a_call_may_take_so_long_and_no_longer(url: str) -> None:
    with begun(url) as (db, written):
        with locked(url), soon(8), pytest.raises(cb.TimedOut, match="nothing was written"):
            db.upsert(Counts, ones(1), once="b1", timeout=0.7)
        assert agree(db, url, written) == []
        report = db.upsert(Counts, ones(1), once="b1", timeout=10)
        assert not report.replayed
        written.add(ones(1))
        assert agree(db, url, written, report) == []


@BOTH
def test_cancel_at_any_moment_leaves_whole_batches(url: str) -> None:
    clean(stopping.cancels(url, seed=2, count=6), 6)
