"""Bulk writes you can trust from a notebook.

A Polars DataFrame goes in; one set-based transaction is applied to SQLite or PostgreSQL; and every
single row is accounted for::

    import crave_bulk as cb

    class Foods(cb.Table):
        food_id: int = cb.field(key=True)
        name: str = cb.field(unique=True)

    with cb.connect("sqlite:///crave.db") as db:
        db.create(Foods)
        report = db.upsert(Foods, frame, on_reject="keep")
"""

from crave_bulk import crave
from crave_bulk.database import Database, connect
from crave_bulk.embedded import embedded_postgres
from crave_bulk.errors import (
    BulkError,
    Cancelled,
    CommitUnknown,
    ConnectionFailed,
    ConstraintViolated,
    ContractError,
    DatabaseBusy,
    DatabaseError,
    DatabaseFull,
    PermissionRefused,
    PlanStale,
    ReadOnlyDatabase,
    RejectedRows,
    TableNotFound,
    TimedOut,
    UndoRefused,
    Unreadable,
)
from crave_bulk.operations import Operation, Result
from crave_bulk.plan import Plan
from crave_bulk.report import Report
from crave_bulk.table import Table, field

__all__ = [
    "BulkError",
    "Cancelled",
    "CommitUnknown",
    "ConnectionFailed",
    "ConstraintViolated",
    "ContractError",
    "Database",
    "DatabaseBusy",
    "DatabaseError",
    "DatabaseFull",
    "Operation",
    "PermissionRefused",
    "Plan",
    "PlanStale",
    "ReadOnlyDatabase",
    "RejectedRows",
    "Report",
    "Result",
    "Table",
    "TableNotFound",
    "TimedOut",
    "UndoRefused",
    "Unreadable",
    "connect",
    "crave",
    "embedded_postgres",
    "field",
]
__version__ = "0.1.0"
