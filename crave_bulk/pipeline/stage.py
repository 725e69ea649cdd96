"""Stage: encode rows for the wire and ingest them into a temporary table.

In the staging table the columns are called ``c0``, ``c1``, …, so that no name of a user's can clash,
and keep the types that the driver gave them; `Wire` writes the SQL that turns them into the target's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import polars as pl

from crave_bulk.backends.base import Backend
from crave_bulk.backends.codec import Codec
from crave_bulk.backends.spelling import first_changed, first_lost
from crave_bulk.errors import ContractError, Unreadable
from crave_bulk.session import NotText, Session
from crave_bulk.sql import FALSE, TRUE, quote
from crave_bulk.table import Column, Contract

KeyOf = Callable[[str, str], Sequence[tuple[str, Any]]]
STAGE = "crave_bulk_stage"
UNREADABLE = "_unreadable"
_LONGEST = 200  # characters of a document that a message shows


class Wire:
    """A table's columns on their way to one database: short names, codecs, and the SQL between them."""

    def __init__(self, contract: Contract, backend: Backend, codecs: dict[str, Codec] | None = None) -> None:
        self.contract, self.backend = contract, backend
        self.codecs = codecs or {column.name: backend.codec(column) for column in contract.columns}
        self.short = {name: f"c{i}" for i, name in enumerate(self.codecs)}
        self.target = backend.table(contract.name)

    def over(self, contract: Contract) -> Wire:
        """Take another contract of the same table.

        Args:
            contract: the contract.

        Returns:
            Its wire.
        """
        codecs = {c.name: self.codecs.get(c.name) or self.backend.codec(c) for c in contract.columns}
        return Wire(contract, self.backend, codecs)

    def only(self, columns: tuple[Column, ...]) -> Wire:
        """Leave columns out; the others keep their short names.

        Args:
            columns: those that stay.

        Returns:
            The wire of those.
        """
        names = [column.name for column in columns]
        fewer = Wire(
            replace(self.contract, columns=columns), self.backend, {n: self.codecs[n] for n in names}
        )
        fewer.short = {name: self.short[name] for name in names}
        return fewer

    def shorts(self, names: Iterable[str]) -> list[str]:
        """Give the short names of columns.

        Args:
            names: columns of the contract.

        Returns:
            Their names in the staging table, in the same order.
        """
        return [self.short[name] for name in names]

    def encode(
        self, frame: pl.DataFrame, accepted: pl.Series | None, names: Iterable[str] | None = None
    ) -> pl.DataFrame:
        """Encode a frame for the wire.

        Args:
            frame: all columns of the contract.
            accepted: which rows to take, None for all; what is refused may not even be encodable.
            names: which columns, None for all.

        Returns:
            ``_row`` (the number of the input row) and the short columns.
        """
        rows = frame.with_row_index("_row")
        if accepted is not None:
            rows = rows.filter(accepted)
        chosen = self.codecs if names is None else names
        encoded = [self.codecs[name].encode(pl.col(name)).alias(self.short[name]) for name in chosen]
        return rows.select(pl.col("_row").cast(pl.Int64), *encoded)

    def fetch(
        self,
        session: Session,
        query: str,
        names: Sequence[str],
        *,
        numbers: Sequence[str] = (),
        parameters: pl.DataFrame | None = None,
        checked: bool = True,
    ) -> pl.DataFrame:
        """Run a query over columns of the table, and bring them to the wire's dtypes.

        Args:
            session: the connection.
            query: selects the short columns of `names`, in their order, as `read` writes them.
            names: columns of the contract.
            numbers: what the query selects before them, such as ``_row``: 64-bit integers.
            parameters: the values that the query binds.
            checked: as for `read`.

        Returns:
            `numbers`, and the short columns in the dtypes of `encode`.

        Raises:
            Unreadable: a row holds what a frame cannot.
        """
        names = list(names)
        last = [UNREADABLE] if checked and any(self.codecs[name].readable for name in names) else []
        dtypes: list[pl.DataType] = [pl.Int64()] * len(numbers) + [self.codecs[name].wire for name in names]
        typed = session.backend.typed(query, dtypes + [pl.String()] * len(last))
        try:
            fetched = session.fetch(typed or query, parameters).slice(0 if typed is None else 1)
        except NotText as error:
            raise self.not_text(error, names, len(numbers)) from error
        fetched.columns = [*numbers, *self.shorts(names), *last]
        return self.readable(fetched, names).cast(dict.fromkeys(numbers, pl.Int64))

    def not_text(self, error: NotText, names: Sequence[str], numbers: int = 0) -> Unreadable:
        """Build the error for text that is not UTF-8.

        Args:
            error: what the session has found.
            names: the columns of the contract that were selected.
            numbers: how many others before them.

        Returns:
            The error.
        """
        places = {n: error.row[p] for p, n in enumerate(names, numbers) if p in error.row}
        key = [(n, places[n]) for n in self.contract.key if n in places]
        at = error.column - numbers
        return self.refusal(names[at : at + 1], key, "text that is not UTF-8", is_text=False)

    def readable(self, fetched: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
        """Bring what `read` selects to the wire's dtypes, if a frame can hold it.

        Args:
            fetched: the short columns as the driver gave them, and what is said of those that a frame cannot hold.
            names: the columns of the contract among them.

        Returns:
            The short columns in the dtypes of `encode`; others are left alone.

        Raises:
            Unreadable: a row holds what a frame cannot.
        """
        if UNREADABLE in fetched.columns and fetched[UNREADABLE].null_count() < fetched.height:
            raise self._unreadable(names, fetched[UNREADABLE].drop_nulls())
        return self.from_wire(fetched.drop(UNREADABLE, strict=False), names)

    def _unreadable(self, names: Sequence[str], found: pl.Series) -> Unreadable:
        """Build the error for values that a frame cannot hold, from what `read` says of them."""
        place, array = int(found[0].partition("[")[0]), found[0].index("[")
        key, end = json.JSONDecoder().raw_decode(found[0], array)
        why = found[0][end:]
        others = found.str.extract(r"^(\d+)").cast(pl.Int64).unique()
        why += f", and {len(found) - 1} more rows hold such values" if len(found) > 1 else ""
        bad = [names[place], *(names[other] for other in others.sort() if other != place)]
        return self.refusal(bad, zip(self.contract.key, key, strict=True), why)

    def refusal(
        self, names: Sequence[str], key: Iterable[tuple[str, Any]], why: str, *, is_text: bool = True
    ) -> Unreadable:
        """Build the error for values of some columns, of which the first is named with its row.

        Args:
            names: the columns.
            key: the key of the row, column by column, as far as it is known.
            why: the value, or what is wrong with it.
            is_text: the value can be read as text.

        Returns:
            The error.
        """
        column = f"column {names[0]!r} ({self.contract.column(names[0]).dtype})" if names else "a column"
        row = ", ".join(f"{name} = {value}" for name, value in key)
        return Unreadable(
            f"table {self.contract.name} holds a value that {column} of a frame cannot"
            f"{f', in the row with {row}' if row else ''}: {why}",
            tuple(names),
            is_text=is_text,
        )

    def from_wire(self, fetched: pl.DataFrame, names: Iterable[str]) -> pl.DataFrame:
        """Bring short columns to the wire's dtypes, where the driver gave others.

        Args:
            fetched: short columns as the driver gave them.
            names: the columns of the contract among them.

        Returns:
            The same columns in the dtypes of `encode`; others are left alone.
        """
        with self._held():
            return fetched.with_columns(pl.col(self.short[n]).cast(self.codecs[n].wire) for n in names)

    def decode(self, rows: pl.DataFrame, names: Iterable[str], key_of: KeyOf | None = None) -> pl.DataFrame:
        """Bring short columns to the table's names and dtypes.

        Args:
            rows: short columns in the wire's dtypes.
            names: the columns of the contract among them.
            key_of: finds the key of a row that has a text in a column, where `rows` do not have the key.

        Returns:
            The columns as the contract has them.

        Raises:
            Unreadable: a row holds what a frame cannot.
        """
        names = list(names)
        try:
            with self._held():
                decoded = rows.select(self.codecs[n].decode(pl.col(self.short[n])).alias(n) for n in names)
        except ContractError:
            self._check_read(rows, names, None, key_of)
            raise
        self._check_read(rows, names, decoded, key_of)
        return decoded

    def _check_read(
        self, rows: pl.DataFrame, names: list[str], decoded: pl.DataFrame | None, key_of: KeyOf | None
    ) -> None:
        """Refuse documents of which a frame cannot hold all; without `decoded`, that is still to be tried."""
        for name in names:
            codec, texts = self.codecs[name], rows[self.short[name]]
            if codec.same is None:
                continue
            if decoded is None:
                place = first_lost(texts, codec.encode, codec.decode, codec.same)
            else:
                place = first_changed(texts, decoded[name], codec.encode, codec.same)
            if place is not None:
                key, text = self._key_in(rows.row(place, named=True)), texts[place]
                key = key or (key_of(name, text) if key_of else [])
                raise self.refusal([name], key, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")

    def _key_in(self, row: dict[str, Any]) -> Sequence[tuple[str, Any]]:
        """Give the key of a row of short columns, if all of it is there."""
        shorts = {name: self.short[name] for name in self.contract.key}
        found = [(name, row[short]) for name, short in shorts.items() if short in row]
        return found if len(found) == len(shorts) else []

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Say what is wrong where another program has written what the columns of a frame cannot hold."""
        try:
            yield
        except pl.exceptions.PolarsError as error:
            raise ContractError(
                f"table {self.contract.name} holds a value that its columns in a frame cannot: "
                f"{self._named(str(error).splitlines()[0])}"
            ) from error

    def _named(self, text: str) -> str:
        """Put the columns' own names in place of the short ones that Polars quotes."""
        names = {short: name for name, short in self.short.items()}
        return re.sub(r"'(c\d+)'", lambda found: repr(names.get(found[1], found[1])), text)

    def read(self, names: Iterable[str], alias: str = "t", *, checked: bool = True) -> str:
        """Write the select list that reads columns of the target.

        Args:
            names: columns of the contract.
            alias: the target's alias; nothing in RETURNING, where SQLite does not know it.
            checked: say, in one more column, what is in a row that a frame cannot hold; needs the key beside.

        Returns:
            Such as ``t."id"::text AS c0, t."name" AS c1``.
        """
        names = list(names)
        columns = [f"{self._value(name, _of(alias, name), checked)} AS {self.short[name]}" for name in names]
        phrases, join = self.backend.phrases, self.backend.spelling.op("||")
        key = phrases.array.format(", ".join(phrases.shown.format(_of(alias, n)) for n in self.contract.key))
        cases = [
            f"WHEN NOT ({codec.readable.format(_of(alias, name))}) THEN '{place}' {join} {key} {join} "
            + (codec.why or codec.text).format(_of(alias, name))
            for place, name in enumerate(names)
            if checked and (codec := self.codecs[name]).readable
        ]
        if cases:
            columns.append(f"CASE {' '.join(cases)} END AS {UNREADABLE}")
        return ", ".join(columns)

    def read_staged(self, names: Iterable[str]) -> str:
        """Write the select list that reads staged columns, of ``s``, as they would come from the target."""
        return ", ".join(
            f"{self.codecs[n].read.format(f's.{self.short[n]}')} AS {self.short[n]}" for n in names
        )

    def _value(self, name: str, value: str, checked: bool) -> str:
        """Write a value as it is fetched; NULL in place of what the driver could not fetch."""
        codec = self.codecs[name]
        fetchable = (codec.fetchable or codec.readable) if checked else ""
        read = codec.read.format(value)
        if fetchable in ("", "true"):
            return read
        return f"CASE WHEN {fetchable.format(value)} THEN {read} END"

    def as_text(self, names: Collection[str]) -> Wire:
        """Read columns as text, whatever they hold.

        Args:
            names: the columns.

        Returns:
            A wire that reads those as text, and the others as this one does.
        """
        columns = tuple(
            replace(column, dtype=pl.String()) if column.name in names else column
            for column in self.contract.columns
        )
        forms = {name: self.codecs[name].text for name in names}
        texts = {name: Codec("", pl.String(), read=form, text=form) for name, form in forms.items()}
        return Wire(replace(self.contract, columns=columns), self.backend, {**self.codecs, **texts})

    def as_spelt(self) -> Wire:
        """Take the keys as they stand in the table, in whatever form.

        Returns:
            A wire for keys that `crave_bulk.pipeline.dedupe.spelt` has found.
        """
        codecs = {
            name: replace(
                codec, read="CAST({} AS TEXT)", compare="{}", decode=codec.spelt, spellings="", readable=""
            )
            for name, codec in self.codecs.items()
            if codec.spellings and name in self.contract.key
        }
        return Wire(self.contract, self.backend, {**self.codecs, **codecs})

    def staged(self, names: Iterable[str], table: str, where: str = TRUE, extra: Sequence[str] = ()) -> str:
        """Write the sub-query that gives staged rows the target's types, under their short names.

        Args:
            names: columns of the contract.
            table: the staging table, or a sub-query over it.
            where: a condition over it, as ``s``.
            extra: columns of its own, such as ``s._row``.

        Returns:
            Such as ``SELECT s.c0::uuid AS c0 FROM crave_bulk_stage AS s WHERE …``.
        """
        columns = [
            f"{self.codecs[n].stage.format(f's.{self.short[n]}')} AS {self.short[n]}"
            for n in dict.fromkeys(names)
        ]
        source = table if table.startswith("(") else self.backend.spelling.temp(table)
        return f"SELECT {', '.join([*extra, *columns])} FROM {source} AS s WHERE {where}"

    def equal(self, names: Iterable[str], target: str, staged: str) -> str:
        """Write the join condition over columns that hold no NULL.

        Args:
            names: columns of the contract.
            target: the alias of the table.
            staged: that of staged rows.

        Returns:
            Such as ``t."id" = s.c0``.
        """
        equal = self.backend.spelling.equal
        return " AND ".join(equal(f"{target}.{quote(n)}", f"{staged}.{self.short[n]}") for n in names)

    def alive(self, alias: str = "t") -> str:
        """Write the condition under which a row is not marked as deleted.

        Args:
            alias: the target's alias.

        Returns:
            Such as ``t."deleted_at" IS NULL``; always true where the table has no such column.
        """
        mark = self.contract.soft_delete
        if mark is None:
            return TRUE
        value = f"{alias}.{quote(mark.name)}"
        return f"NOT coalesce({value}, {FALSE})" if isinstance(mark.dtype, pl.Boolean) else f"{value} IS NULL"


def _of(alias: str, name: str) -> str:
    return f"{alias}.{quote(name)}" if alias else quote(name)


def without(rows: pl.DataFrame, numbers: Collection[int]) -> pl.DataFrame:
    """Leave rows out.

    Args:
        rows: with ``_row``.
        numbers: the rows to leave out.

    Returns:
        The others.

    Example:
        >>> without(pl.DataFrame({"_row": [0, 1, 2]}), {1})["_row"].to_list()
        [0, 2]
    """
    return rows.filter(~pl.col("_row").is_in(list(numbers))) if numbers else rows


def with_keys(rows: pl.DataFrame, keys: pl.DataFrame, key: Sequence[str]) -> pl.DataFrame:
    """Put keys in place of those that some rows have."""
    known = keys.rename({name: f"{name}_now" for name in key})
    joined = rows.join(known, on="_row", how="left", maintain_order="left")
    found = [pl.coalesce(f"{name}_now", name).alias(name) for name in key]
    return joined.with_columns(found).select(rows.columns)
