"""Writers that are stopped at some moment of a batch: killed, interrupted, cancelled."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import crave_bulk as cb
from faults import children
from faults.bench import Figures, begun, look_at_the_ledger, measured
from faults.counts import Counts, Written, agree, ones
from faults.writers import backends_left, kill_at, wait_until


def kills(url: str, seed: int, count: int) -> Figures:
    """Kill a writer at some moment, run the batch that it was in again, and start another."""
    rng, number = random.Random(seed), 1
    with measured("kill -9 of a writer") as figures, begun(url) as (db, written):
        for _ in range(count):
            with children.start(children.write_on, url, number) as writer:
                said = kill_at(writer, rng.uniform(0, 0.25))
            figures.faults += 1
            done = [line for line in said if line.startswith("done")]
            for _ in done:
                written.add(ones(number))
                number += 1
            # The server may still be at a commit that was sent before the kill.
            if not url.startswith("sqlite"):
                wait_until(lambda: backends_left(url) == 0)
            # The batch that it was in is in the database or it is not, and the ledger says which.
            there = db.batches(where={"name": f"b{number}"}).height == 1
            figures.notes["in a batch"] += bool(said) and said[-1].startswith("begin")
            figures.notes["committed, not told"] += there
            if there:
                written.add(ones(number))
            figures.check(agree(db, url, written))
            again = db.upsert(Counts, ones(number), once=f"b{number}")
            figures.expect(again.replayed == there, f"replayed={again.replayed}, in the ledger: {there}")
            if not there:
                written.add(ones(number))
            figures.check(agree(db, url, written, again))
            number += 1
    return figures


def interrupts(url: str, seed: int, count: int) -> Figures:
    """Send SIGINT to a writer at some moment of a batch, which it then runs again."""
    rng, number = random.Random(seed), 0
    with measured("SIGINT to a writer") as figures, begun(url) as (_, written):
        while figures.faults < count:
            with children.start(children.write_until_interrupted, url) as writer:
                assert children.hear(writer) == "go"
                fine = True
                while fine and figures.faults < count:
                    number += 1
                    fine = _interrupted(url, writer, number, rng.uniform(0, 0.05), figures, written)
    return figures


def _interrupted(
    url: str, writer: subprocess.Popen[str], number: int, after: float, figures: Figures, written: Written
) -> bool:
    """Interrupt one batch; tell whether the writer can go on."""
    children.ask(writer, number)
    assert children.hear(writer) == "begin"
    time.sleep(after)
    writer.send_signal(signal.SIGINT)
    told, before = children.hear(writer), len(figures.complaints)
    told = told and {**told, **children.hear(writer)}
    figures.faults += 1
    with cb.connect(url) as db:
        if told is None:
            figures.notes[f"process ended by signal {-writer.wait()}"] += 1
            db.upsert(Counts, ones(number), once=f"b{number}")
        else:
            if told["caught"] == "None":
                figures.notes["signal lost"] += 1
            else:
                figures.errors[told["caught"].partition("(")[0]] += 1
            figures.notes["told before the signal"] += told["told"]
            figures.notes["committed, not told"] += bool(told["replayed"]) and not told["told"]
            figures.notes["raised more than once"] += bool(told["late"])
            figures.expect(told["replayed"] is not None, f"cannot be run again: {told['late'][-1:]}")
            figures.expect(bool(told["replayed"]) or not told["told"], "what was told was not there")
        if told is None or told["replayed"] is not None:
            written.add(ones(number))
        figures.check(agree(db, url, written))
    return told is not None and len(figures.complaints) == before


class Presses:
    """Presses Ctrl-C just before one of the statements that follow, as Python does it: by raising.

    Args:
        twice: once more before the rollback that follows.
    """

    def __init__(self, *, twice: bool) -> None:
        self._twice, self._at = twice, -1
        self.seen: list[str] = []

    def at(self, place: int) -> None:
        """Begin to count statements from 0."""
        self.seen, self._at = [], place

    def __call__(self, statement: str) -> None:
        self.seen.append(statement)
        place = len(self.seen) - 1
        if place == self._at or (self._twice and statement == "ROLLBACK" and place > self._at >= 0):
            self._at = -1 if not self._twice or statement == "ROLLBACK" else self._at
            raise KeyboardInterrupt


def presses(url: str, *, twice: bool, every: int = 1) -> Figures:
    """Press Ctrl-C before each statement of a batch in turn, and run others on the same connection.

    Args:
        url: the database.
        twice: once more when the batch is rolled back.
        every: before one in so many statements.
    """
    with measured(f"Ctrl-C {'twice' if twice else 'once'}: batch") as figures, begun(url) as (_, written):
        press = Presses(twice=twice)
        for place in range(0, 200, every):
            with cb.connect(url) as db:
                look_at_the_ledger(db, written)
                db.trace(press)
                press.at(place)
                try:
                    report = db.upsert(Counts, ones(place), once=False)
                except KeyboardInterrupt:
                    report = None
                    figures.faults += 1
                hit = len(press.seen) > place
                figures.expect(
                    hit == (report is None), f"what was pressed at {press.seen[-1]} was not heeded"
                )
                press.at(-1)
                if report is not None:
                    written.add(ones(place))
                figures.check(agree(db, url, written, report))
            if not hit or figures.complaints:
                break  # there is no such statement; or what follows would come of the same mistake
    return figures


def cancels(url: str, seed: int, count: int) -> Figures:
    """Cancel a call from another thread at some moment, and run it again."""
    rng = random.Random(seed)
    with measured("cancel()") as figures, begun(url) as (db, written), ThreadPoolExecutor(1) as thread:
        for number in range(1, count + 1):
            call = thread.submit(db.upsert, Counts, ones(number), once=f"b{number}")
            time.sleep(rng.uniform(0, 0.05))
            figures.notes["calls told to stop"] += db.cancel()
            figures.faults += 1
            error = call.exception()
            figures.errors.update([type(error).__name__] if error else [])
            figures.expect(isinstance(error, cb.Cancelled | None), f"cancel() became {error!r}")
            report = db.upsert(Counts, ones(number), once=f"b{number}")
            figures.expect(report.replayed == (error is None), f"replayed={report.replayed} after {error!r}")
            written.add(ones(number))
            figures.check(agree(db, url, written, report))
    return figures
