"""What the tests of tables that other programs made share."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import polars as pl

import crave_bulk as cb
from crave_bulk.pipeline.stage import STAGE, Wire
from crave_bulk.pipeline.validate import validate
from crave_bulk.table import Contract, TableName

DDL = Path(__file__).parent / "ddl"
MOMENT = dt.datetime(2024, 5, 1, 12, 30, 15, 123000)


def run(db: cb.Database, *statements: str) -> None:
    with db.session() as session:
        for statement in statements:
            session.execute(statement)


def made_by(db: cb.Database, program: str) -> None:
    text = (DDL / f"{program}_{db.backend.name}.sql").read_text()
    run(db, *(part for part in text.split(";\n") if part.strip()))


def contract(db: cb.Database, name: str) -> Contract:
    with db.session() as session:
        return db.backend.reflect(session, TableName.parse(name))


def dtypes(found: Contract) -> dict[str, pl.DataType]:
    return {column.name: column.dtype for column in found.columns}


def filled_in(found: Contract) -> list[str]:
    return [column.name for column in found.columns if column.default_sql]


def required(found: Contract) -> list[str]:
    return [column.name for column in found.columns if column.required]


def longest(found: Contract, column: str) -> list[str | None]:
    return [check.error for check in found.schema.columns[column].checks]


def write(db: cb.Database, name: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Send rows the way a batch does: validate, stage, cast and insert; gives what was refused."""
    found = contract(db, name)
    wire = Wire(found, db.backend)
    missing = [
        pl.lit(None, dtype=c.dtype).alias(c.name) for c in found.columns if c.name not in frame.columns
    ]
    checked = validate(found, wire.codecs, frame.with_columns(missing).select(found.column_names))
    if checked.failures.height:
        return checked.failures
    names = ", ".join(f'"{name}"' for name in frame.columns)
    with db.session() as session, session.atomic():
        session.ingest(STAGE, wire.encode(checked.frame, None))
        staged = wire.staged(frame.columns, STAGE)
        shorts = ", ".join(wire.shorts(frame.columns))
        session.execute(f"INSERT INTO {wire.target} ({names}) SELECT {shorts} FROM ({staged}) AS s")
        session.execute(f"DROP TABLE {STAGE}")
    return checked.failures


def unchanged(db: cb.Database, name: str, frame: pl.DataFrame, key: str) -> bool:
    """Tell whether the merge's own comparison finds every row of the frame as it is in the table."""
    wire = Wire(contract(db, name), db.backend)
    frame = frame.select(wire.contract.column_names)
    with db.session() as session, session.atomic():
        session.ingest(STAGE, wire.encode(frame, None))
        forms = [(wire.codecs[n].exact, f't."{n}"', f"s.{wire.short[n]}") for n in frame.columns]
        same = " AND ".join(f"{c.format(t)} IS NOT DISTINCT FROM {c.format(s)}" for c, t, s in forms)
        staged = wire.staged(frame.columns, STAGE)
        query = f"SELECT count(*) AS n FROM {wire.target} AS t JOIN ({staged}) AS s ON {wire.equal([key], 't', 's')} AND {same}"
        found = session.fetch(query).item()
        session.execute(f"DROP TABLE {STAGE}")
    return bool(found == frame.height)


def ask(db: cb.Database, query: str) -> pl.DataFrame:
    with db.session() as session:
        return session.fetch(query)
