"""Refreshing: the metrics that change with time alone."""

from __future__ import annotations

import datetime as dt

from crave_bulk.crave import graph
from crave_bulk.crave.metrics import metrics, moment
from crave_bulk.crave.tables import Connections
from crave_bulk.database import Database
from crave_bulk.report import Report

_STILL_WARM = "recent_mention_count > 0 OR activity_level <> 'normal'"


def refresh_metrics(db: Database, *, as_of: dt.datetime | None = None) -> Report:
    """Bring up to date how recently connections were mentioned: those that nobody mentions any more cool down.

    An ingestion does so for the connections that it touches; this does it for all that were not at rest. Run it once
    a day, say.

    Args:
        db: the database.
        as_of: the moment from which days are counted; now, if not given.

    Returns:
        What became of each of these connections.

    Raises:
        ContractError: `as_of` has no time zone.
        BulkError: the database refused; nothing was written.

    Example:
        >>> import crave_bulk as cb
        >>> with cb.connect() as db:
        ...     db.create(*cb.crave.TABLES)
        ...     cb.crave.refresh_metrics(db).counts
        {'input': 0}
    """
    now = moment(as_of)

    def write() -> Report:
        warm = db.read(Connections, columns=["connection_id"], where=_STILL_WARM)
        counted = metrics(graph.mentions(db, warm["connection_id"]), now)
        changed = counted.select("connection_id", "recent_mention_count", "activity_level")
        return db.update(Connections, changed)

    return db.atomically(write, turn=graph.TURN)
