"""Several writers that share their rows, or that run the very same batch at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import crave_bulk as cb
from faults import children
from faults.bench import Figures, begun, measured
from faults.counts import Counts, Written, agree, ones


def writers(url: str, seed: int, writers: int, batches: int, *, processes: bool) -> Figures:
    """Let several write to the same items at the same time, in threads or in processes of their own."""
    name = f"{writers} {'processes' if processes else 'threads'} x {batches}"
    with measured(name) as figures, cb.connect(url) as db:
        db.create(Counts)
        run = _processes if processes else _threads
        told, written, ids = run(url, seed, writers, batches), Written(), []
        for writer, reports in enumerate(told):
            for frame, report in zip(children.frames(seed, writer, batches), reports, strict=True):
                if report["error"] is None:
                    written.add(frame)
                    ids.append(report["batch_id"])
                    figures.retries += report["retries"]
                else:
                    figures.errors[report["error"].partition(":")[0]] += 1
                    figures.expect(False, f"writer {writer}: {report['error']}")
        figures.faults = writers * batches
        figures.notes["tried again"] += sum(report["retries"] > 0 for part in told for report in part)
        figures.expect(sorted(ids) == sorted(db.batches()["batch_id"]), "the ledger has other batches")
        figures.check(agree(db, url, written))
    return figures


def _threads(url: str, seed: int, writers: int, batches: int) -> list[list[dict[str, Any]]]:
    def work(writer: int) -> list[dict[str, Any]]:
        return [children.add(db, frame) for frame in children.frames(seed, writer, batches)]

    with cb.connect(url) as db, ThreadPoolExecutor(writers) as pool:
        return list(pool.map(work, range(writers)))


def _processes(url: str, seed: int, writers: int, batches: int) -> list[list[dict[str, Any]]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(children.start(children.write_with_others, url, seed, writer, batches))
            for writer in range(writers)
        ]
        for child in started:
            assert children.hear(child) == "go"
        for child in started:
            children.ask(child, "now")
        return [children.hear(child) for child in started]


def same_batch(url: str, count: int) -> Figures:
    """Let two processes run the same batch at the same time: by its name, and by its content."""
    with measured("the same batch twice") as figures, begun(url) as (db, written), ExitStack() as stack:
        both = [stack.enter_context(children.start(children.write_when_asked, url)) for _ in range(2)]
        for child in both:
            assert children.hear(child) == "go"
        for number in range(1, count + 1):
            for child in both:
                children.ask(child, number, "content" if number % 2 else f"b{number}")
            one, other = (children.hear(child) for child in both)
            figures.faults += 1
            figures.retries += one["retries"] + other["retries"]
            figures.expect(one["replayed"] != other["replayed"], f"{one}, {other}")
            figures.expect(one["batch_id"] == other["batch_id"], f"{one}, {other}")
            written.add(ones(number))
            figures.check(agree(db, url, written))
    return figures
