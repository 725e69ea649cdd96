"""What is logged, under ``crave_bulk``: a line a batch, and its phases at DEBUG; never a value of a row."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from crave_bulk import card
from crave_bulk.errors import DatabaseError

if TYPE_CHECKING:
    from crave_bulk.report import Report

LOG = logging.getLogger("crave_bulk")
LOG.addHandler(logging.NullHandler())


def done(report: Report) -> None:
    """Log a batch that has run to its end.

    Args:
        report: what became of its rows.
    """
    state = "" if report.written else ", rolled back"
    state = ", replayed" if report.replayed else state
    retries = f", {report.retries} retries" if report.retries else ""
    LOG.info(
        "batch %s: %s %s: %s in %s%s%s",
        report.batch_id,
        report.verb,
        report.table,
        card.sentence(report.counts),
        card.duration(report.seconds),
        retries,
        state,
    )
    for phase, seconds, rows in report.timings.select("phase", "seconds", "rows").iter_rows():
        LOG.debug("batch %s: %s: %d rows in %s", report.batch_id, phase, rows, card.duration(seconds))


def failed(batch_id: str, verb: str, table: str, error: BaseException) -> None:
    """Log a batch that was given up, by the kind of its error: the database's own words may hold values.

    Args:
        batch_id: the batch.
        verb: what it was to do.
        table: where.
        error: why not.
    """
    LOG.warning("batch %s: %s %s: %s", batch_id, verb, table, kind(error))


def retried(batch_id: str, attempt: int, error: BaseException) -> None:
    """Log an attempt that has failed and is followed by another.

    Args:
        batch_id: the batch.
        attempt: its number, from 1.
        error: why.
    """
    LOG.debug("batch %s: attempt %d: %s; trying again", batch_id, attempt, kind(error))


def kind(error: BaseException) -> str:
    """Name an error without its words, which may hold values of rows.

    Args:
        error: any error.

    Returns:
        Its class, and the database's code where it has one.

    Example:
        >>> kind(DatabaseError("Key (name)=(soup) exists", sqlstate="23505")), kind(ValueError("soup"))
        ('DatabaseError [23505]', 'ValueError')
    """
    code = error.sqlstate if isinstance(error, DatabaseError) else ""
    return f"{type(error).__name__} [{code}]" if code else type(error).__name__
