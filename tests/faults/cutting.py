"""Connections that are cut at each statement in turn, and servers that crash in the middle of a batch."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import polars as pl

import crave_bulk as cb
from faults.bench import Figures, begun, look_at_the_ledger, measured
from faults.counts import JOURNAL, Counts, Written, agree, ones
from faults.proxy import CuttingProxy
from faults.server import Server


class Cut:
    """Cuts the connection once, at one of the statements that follow.

    Args:
        proxy: what the connection runs through.
        lost: lose the answer to the statement, rather than cut before it is sent.
    """

    def __init__(self, proxy: CuttingProxy, *, lost: bool) -> None:
        self._proxy, self._lost, self._at = proxy, lost, -1
        self.seen: list[str] = []

    def at(self, place: int) -> None:
        """Begin to count statements from 0; cut at one of them, or at none where there are fewer."""
        self.seen, self._at = [], place

    def __call__(self, statement: str) -> None:
        self.seen.append(statement)
        if len(self.seen) - 1 == self._at:
            self._at = -1
            if self._lost:
                self._proxy.cut_after_request()
            else:
                self._proxy.cut()


def cuts(url: str, *, lost: bool, first: bool = False, every: int = 1) -> Figures:
    """Cut the connection at each statement of a batch in turn, which is then tried again by itself.

    Args:
        url: a PostgreSQL database.
        lost: lose the answers, rather than cut before the statements.
        first: of the first batch of all, which creates the ledger.
        every: at one in so many statements, and at the last.
    """
    name = f"{'answer lost' if lost else 'cut'}: {'first batch' if first else 'batch'}"
    with measured(name) as figures, CuttingProxy(url) as proxy, begun(url) as (own, written):
        cut = Cut(proxy, lost=lost)
        with cb.connect(proxy.url()) as db:
            look_at_the_ledger(db, written)
            db.trace(cut)

            def run(place: int) -> None:
                if first:
                    _start_over(own, db, written)
                cut.at(place)
                report, frame = None, ones(place)
                try:
                    report = db.upsert(Counts, frame, once=False)
                except cb.BulkError as error:
                    figures.errors[type(error).__name__] += 1
                    figures.expect(False, f"at {cut.seen[place]}: {error!r}")
                if report is not None or own.batches().height > written.batches:
                    written.add(frame)
                figures.check(agree(own, url, written, report))
                if report is not None and place >= 0:
                    # A commit whose answer is lost is looked up, and nothing has to be done again.
                    settled = lost and _commits_a_batch(cut.seen[: place + 1])
                    figures.notes["settled by the ledger"] += settled
                    figures.retries += report.retries
                    told = f"{report.retries} retries at {cut.seen[place]}"
                    figures.expect(report.retries == (not settled), told)

            _each(run, cut, proxy, figures, every)
    return figures


def cuts_in_a_block(url: str, *, lost: bool, every: int = 1) -> Figures:
    """Cut the connection at each statement of a transaction of two batches, which is not tried again by itself.

    Args:
        url: a PostgreSQL database.
        lost: lose the answers, rather than cut before the statements.
        every: at one in so many statements, and at the last.
    """
    name = f"{'answer lost' if lost else 'cut'}: transaction"
    with measured(name) as figures, CuttingProxy(url) as proxy, begun(url) as (own, written):
        cut = Cut(proxy, lost=lost)
        with cb.connect(proxy.url()) as db:
            look_at_the_ledger(db, written)
            db.trace(cut)

            def run(place: int) -> None:
                cut.at(place)
                frames, reports, error = [ones(place), ones(place + 1)], [], None
                try:
                    with db.transaction():
                        reports = [db.upsert(Counts, frame, once=False) for frame in frames]
                except cb.BulkError as raised:
                    error = raised
                    figures.errors[type(error).__name__] += 1
                settled = place < 0 or (lost and cut.seen[place] == "COMMIT")
                begins = (
                    place >= 0 and cut.seen[place] == "BEGIN"
                )  # which is tried again, as nothing is done yet
                kind = type(None) if settled or begins else cb.ConnectionFailed
                figures.notes["settled by the ledger"] += settled and place >= 0
                figures.expect(type(error) is kind, f"at {cut.seen[place]}: {error!r}")
                for frame in frames if error is None else []:
                    written.add(frame)
                figures.check(agree(own, url, written, reports[-1] if error is None else None))
                for frame in frames if error is not None else []:  # the same cell again
                    written.add(frame)
                    figures.check(agree(own, url, written, db.upsert(Counts, frame, once=False)))

            _each(run, cut, proxy, figures, every)
    return figures


def _each(run: Callable[[int], None], cut: Cut, proxy: CuttingProxy, figures: Figures, every: int) -> None:
    """Cut at the statements in turn; at none the first time, to know how many there are."""
    run(-1)
    statements = len(cut.seen)
    for place in sorted({*range(0, statements, every), statements - 1}):
        run(place)
        figures.faults += 1
        figures.expect(not proxy.armed, f"no answer was lost at {cut.seen[place]}")


def flaky(url: str, seed: int, count: int, threads: int = 4) -> Figures:
    """Cut connections and lose commits at random moments, while several threads write under names."""
    rng, done = random.Random(seed), threading.Event()
    with ExitStack() as stack:
        figures = stack.enter_context(measured(f"flaky network, {threads} threads"))
        proxy = stack.enter_context(CuttingProxy(url))
        own, written = stack.enter_context(begun(url))
        db = stack.enter_context(cb.connect(proxy.url()))

        def write(thread: int) -> list[tuple[pl.DataFrame, cb.Report]]:
            reports = []
            while not done.is_set():
                frame = ones(len(reports))
                try:
                    report = db.upsert(Counts, frame, once=f"t{thread} b{len(reports)}")
                except cb.BulkError as error:  # to be run again, which is safe
                    figures.errors[type(error).__name__] += 1
                    figures.expect("run" in str(error), f"nobody is told what to do: {error}")
                else:
                    reports.append((frame, report))
            return reports

        with ThreadPoolExecutor(threads) as pool:
            writing = [pool.submit(write, thread) for thread in range(threads)]
            for _ in range(count):
                time.sleep(rng.uniform(0, 0.1))
                if rng.random() < 0.5:
                    proxy.cut()
                else:
                    proxy.cut_after_request("COMMIT")
                figures.faults += 1
            done.set()
            told = [pair for thread in writing for pair in thread.result()]
        proxy.cut()
        for frame, report in told:
            written.add(frame)
            figures.retries += report.retries
            figures.notes["found in the ledger"] += report.replayed
        figures.notes["batches"] += len(told)
        figures.check(agree(own, url, written))
    return figures


def outage(server: Server, url: str) -> Figures:
    """Stop a server for longer than a call tries again, before a batch and while one is committed."""
    with ExitStack() as stack:
        figures = stack.enter_context(measured("server gone for long"))
        db, written = stack.enter_context(begun(url))
        proxy = stack.enter_context(CuttingProxy(url))
        far = stack.enter_context(cb.connect(proxy.url()))
        report = None
        for number in range(2):
            error = None
            try:
                if number:
                    proxy.cut_after_request("COMMIT")
                    far.trace(lambda _: proxy.refuse(not proxy.armed))
                    report = far.upsert(Counts, ones(number), once=f"b{number}")
                else:
                    server.stop_immediate()
                    report = db.upsert(Counts, ones(number), once=f"b{number}")
            except cb.BulkError as raised:
                error = raised
            figures.faults += 1
            figures.errors[type(error).__name__] += 1
            kind = cb.CommitUnknown if number else cb.ConnectionFailed
            figures.expect(type(error) is kind and "run" in str(error), f"it became {error!r}")
            if not number:
                server.start()
            report = db.upsert(Counts, ones(number), once=f"b{number}")
            figures.expect(report.replayed == bool(number), f"replayed={report.replayed}")
            written.add(ones(number))
            figures.check(agree(db, url, written, report))
    return figures


def _commits_a_batch(statements: Sequence[str]) -> bool:
    return statements[-1] == "COMMIT" and statements[-2].startswith('INSERT INTO "crave_bulk_batches" ')


def _start_over(own: cb.Database, db: cb.Database, written: Written) -> None:
    """Leave a database without a ledger."""
    with own.session() as session:
        session.execute(f"DROP TABLE crave_bulk_batches, {JOURNAL}, counts")
    for each in (own, db):
        assert each.ledger is not None
        each.ledger.forget()
    own.create(Counts)
    written.sums, written.batches = Counter(), 0


def crashes(server: Server, url: str, seed: int, count: int) -> Figures:
    """Crash a server in the middle of a batch, and start it again while the writer tries."""
    rng, number = random.Random(seed), 1

    def crash(after: float, down: float) -> None:
        time.sleep(after)
        server.stop_immediate()
        time.sleep(down)
        server.start()

    with measured("server crash") as figures, begun(url) as (db, written), ThreadPoolExecutor(1) as thread:
        for _ in range(count):
            crashed = thread.submit(crash, rng.uniform(0, 0.1), rng.uniform(0, 0.3))
            report = None
            while not crashed.done():
                try:
                    report = db.upsert(Counts, ones(number), once=f"b{number}")
                except cb.BulkError as error:  # to be run again, which is safe
                    figures.errors[type(error).__name__] += 1
                    figures.expect("run" in str(error), f"nobody is told what to do: {error}")
                    continue
                figures.retries += report.retries
                written.add(ones(number))
                number += 1
            crashed.result()
            figures.faults += 1
            figures.check(agree(db, url, written, report))
    return figures
