"""How the values of each column are stored in SQLite: declared ones, and those that were found there.

SQLite has five kinds of values, and the name of a column's type decides into which of them a value is
turned (its affinity, https://www.sqlite.org/datatype3.html, 3.1). Declared columns have types whose
affinity leaves alone what is written. Columns that were found hold what other programs wrote, each in
its own way: these are brought to one form where they are read and where they are compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from crave_bulk.backends.codec import (
    Codec,
    Refusal,
    decimal_refusals,
    json_form,
    text_form,
    unsupported,
)
from crave_bulk.table import Column

_LARGEST = 2**63 - 1
_WIDEST = 38  # digits of a Decimal
_DIGITS = 15  # that a REAL always gives back


def codec(column: Column) -> Codec:
    """Choose how a column is stored: natively where that is exact, else as text.

    Args:
        column: a column of a contract, declared or found in the database.

    Returns:
        Its codec.

    Raises:
        ContractError: there is no exact form for the dtype.
    """
    if column.sql_type is None:
        return _declared(column)
    return replace(_found(parse_type(column.sql_type), column), sql_type=column.sql_type)


def _declared(column: Column) -> Codec:
    dtype, options = column.dtype, column.options
    if isinstance(dtype, pl.String):
        return Codec("UUID_TEXT" if options.uuid else "JSON_TEXT" if options.json else "TEXT", dtype)
    if isinstance(dtype, pl.Boolean):
        return Codec("BOOLEAN", pl.Int64(), lambda x: x.cast(pl.Int64), lambda x: x.cast(pl.Boolean))
    if isinstance(dtype, pl.UInt64):
        too_large = Refusal(f"is above {_LARGEST}, the largest integer of SQLite", lambda x: x > _LARGEST)
        return Codec(
            "INTEGER", pl.Int64(), lambda x: x.cast(pl.Int64), lambda x: x.cast(dtype), refusals=(too_large,)
        )
    if dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128):
        return Codec("INTEGER", pl.Int64(), lambda x: x.cast(pl.Int64), lambda x: x.cast(dtype))
    if isinstance(dtype, pl.Float32 | pl.Float64):
        nan = Refusal("is NaN, which SQLite would store as NULL", lambda x: x.is_nan())
        return Codec(
            "REAL", pl.Float64(), lambda x: x.cast(pl.Float64), lambda x: x.cast(dtype), refusals=(nan,)
        )
    if isinstance(dtype, pl.Binary):
        return Codec("BLOB", dtype)
    if isinstance(dtype, pl.List | pl.Struct):
        return replace(json_form(dtype), sql_type="JSON_TEXT")
    form = text_form(dtype)
    if form is None:
        raise unsupported(dtype)
    refusals = decimal_refusals(dtype) if isinstance(dtype, pl.Decimal) else form.refusals
    order = _decimal_order(dtype) if isinstance(dtype, pl.Decimal) else form.order
    return replace(form, sql_type=_text_type(dtype), refusals=refusals, order=order)


def _decimal_order(dtype: pl.Decimal) -> str:
    """Write what decimals, stored as text of fixed scale, sort by: exactly, which a REAL is not.

    Up to 18 digits fit an integer. More are sorted as text of one width behind their sign, those below
    zero with each digit turned into 9 minus itself.
    """
    if (dtype.precision or 38) <= 18:
        return "CAST(replace({0}, '.', '') AS INTEGER)"
    above = "substr(printf('%040d', 0) || ltrim({0}, '-'), -40)"
    below = above
    swaps = [*zip("01234", "abcde", strict=True), *zip("98765", "01234", strict=True)]
    for old, new in [*swaps, *zip("abcde", "98765", strict=True)]:
        below = f"replace({below}, '{old}', '{new}')"
    return f"CASE WHEN {{0}} LIKE '-%' THEN '0' || {below} ELSE '1' || {above} END"


def _text_type(dtype: pl.DataType) -> str:
    """Name the type so that its affinity leaves the stored form alone, and a reader knows what it is.

    SQLite derives the affinity from the name (https://www.sqlite.org/datatype3.html, 3.1): ``TEXT``
    anywhere keeps text as it is, ``INT`` keeps integers, and no ISO date looks like a number.
    """
    match dtype:
        case pl.Decimal():
            return f"DECIMAL_TEXT({dtype.precision}, {dtype.scale})"
        case pl.Date():
            return "DATE"
        case pl.Time():
            return "TIME"
        case pl.Datetime():
            return "TIMESTAMPTZ" if dtype.time_zone else "TIMESTAMP"
        case pl.Duration():
            return "INTERVAL"  # microseconds
    return "TEXT"


# -- columns that were found in the database -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SqlType:
    """A declared type in parts: its name in capitals, and what stands in its brackets."""

    name: str
    args: tuple[int, ...] = ()

    @property
    def zoned(self) -> bool:
        """Whether it names moments with a zone."""
        return self.name == "TIMESTAMPTZ" or self.name.endswith(" WITH TIME ZONE")

    @property
    def numeric(self) -> bool:
        """Whether SQLite turns text that looks like a number into one: NUMERIC affinity."""
        return bool(self.name) and not re.search("INT|CHAR|CLOB|TEXT|BLOB|REAL|FLOA|DOUB", self.name)

    @property
    def text(self) -> bool:
        """Whether it keeps text as it is; no UUID looks like a number."""
        return self.name == "UUID" or (bool(self.name) and not self.numeric)


def parse_type(sql_type: str) -> SqlType:
    """Read a type as ``CREATE TABLE`` has it.

    Args:
        sql_type: such as ``varchar(100)``; SQLite takes anything, and nothing.

    Returns:
        Its parts.

    Example:
        >>> parse_type("Numeric (10, 2)"), parse_type("integer unsigned")
        (SqlType(name='NUMERIC', args=(10, 2)), SqlType(name='INTEGER UNSIGNED', args=()))
    """
    start, _, rest = sql_type.partition("(")
    inside, _, end = rest.partition(")")
    args = tuple(int(part) for part in inside.split(",") if part.strip().isdecimal())
    return SqlType(" ".join(f"{start} {end}".upper().split()), args)


def dtype_of(kind: SqlType) -> pl.DataType:
    """Choose the dtype of a column that was found in the database.

    Args:
        kind: its declared type.

    Returns:
        The dtype: by the name where it is one that databases know, else by SQLite's affinity; text where
        the column may hold anything.

    Example:
        >>> dtype_of(SqlType("VARCHAR", (100,))), dtype_of(SqlType("DATETIME"))
        (String, Datetime(time_unit='us', time_zone=None))
    """
    name = kind.name
    if name == "INTERVAL":
        return pl.Duration("us")
    if name.startswith(("TIMESTAMP", "DATETIME")):
        return pl.Datetime("us", "UTC" if kind.zoned else None)
    if name == "DATE":
        return pl.Date()
    if name in ("TIME", "TIME WITHOUT TIME ZONE"):
        return pl.Time()
    if name in ("BOOL", "BOOLEAN"):
        return pl.Boolean()
    if name == "DECIMAL_TEXT" or (kind.numeric and name.startswith(("DEC", "NUMERIC", "NUMBER"))):
        return _decimal(kind.args)
    if "INT" in name:
        return pl.Int64()
    if re.search("CHAR|CLOB|TEXT", name):
        return pl.String()
    if "BLOB" in name:
        return pl.Binary()
    return pl.Float64() if re.search("REAL|FLOA|DOUB", name) else pl.String()


def same_as_wire(kind: SqlType, dtype: pl.DataType) -> bool:
    """Tell whether two values of a type are equal exactly where they are equal on the wire.

    Only such columns can be part of a key: a ``datetime`` has several spellings of one moment.

    Args:
        kind: the type.
        dtype: its dtype.

    Returns:
        Whether they are.
    """
    match dtype:
        case pl.String():
            return kind.text
        case pl.Datetime():
            return kind.name.startswith("TIMESTAMP")  # written by us or by SQLAlchemy, in one form
        case pl.Decimal():
            return not kind.numeric or (bool(kind.args) and kind.args[0] <= _DIGITS)
    return True


def _decimal(args: tuple[int, ...]) -> pl.Decimal:
    """Take the precision that is declared; without one, as on PostgreSQL, what should hold any."""
    precision, scale = (*args, 0)[:2] if args else (_WIDEST, 18)
    return pl.Decimal(min(max(precision, scale), _WIDEST), min(scale, _WIDEST))


def _found(kind: SqlType, column: Column) -> Codec:
    match column.dtype:
        case pl.String():
            return _found_text(kind)
        case pl.Datetime():
            form = _MOMENT + (" || '+00:00'" if kind.zoned else "")
            return replace(_declared(replace(column, sql_type=None)), read=form, compare=form, order=form)
        case pl.Time():
            return replace(_declared(replace(column, sql_type=None)), read=_TIME, compare=_TIME, order=_TIME)
        case pl.Decimal() if kind.numeric:
            return _found_decimal(kind, column.dtype)
    return _declared(replace(column, sql_type=None))


_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_WHOLE = r"^(0|-?[1-9]\d{0,17})$"


def _found_text(kind: SqlType) -> Codec:
    """Read as text what may be anything; a column of a made-up type turns ``007`` into 7."""
    if kind.text:
        return Codec("", pl.String())
    form = "CAST({0} AS TEXT)"
    if kind.name.startswith("JSON"):
        form = "CASE typeof({0}) WHEN 'blob' THEN json({0}) ELSE CAST({0} AS TEXT) END"
    number = Refusal(
        f"looks like a number, and a column of type {kind.name} would not keep it as it is written",
        lambda x: x.str.contains(_NUMBER) & ~x.str.contains(_WHOLE),
    )
    return Codec("", pl.String(), read=form, compare=form, refusals=(number,) if kind.numeric else ())


def _found_decimal(kind: SqlType, dtype: pl.Decimal) -> Codec:
    """Read a decimal that SQLite stores as a number: exact up to 15 digits, and no further."""
    scale = dtype.scale
    written = (
        f"printf('%.{scale}f', {{0}})" if (dtype.precision or _WIDEST) <= _DIGITS else "printf('%.15g', {0})"
    )
    read = (
        f"CASE typeof({{0}}) WHEN 'integer' THEN {{0}} || '{'.' if scale else ''}{'0' * scale}' WHEN 'real' THEN "
        f"CASE WHEN printf('%.15g', round({{0}}, {scale})) = printf('%.15g', {{0}}) THEN {written} "
        f"ELSE {{0}} || ' has more than {scale} decimals' END ELSE CAST({{0}} AS TEXT) END"
    )
    digits = 18 if scale == 0 else _DIGITS  # whole numbers are stored as such
    long = Refusal(
        f"has more than {digits} digits, which {kind.name} does not keep in SQLite",
        lambda x: _significant(x) > digits,
    )
    form = text_form(dtype) or Codec("", pl.String())
    return replace(form, stage="CAST({} AS NUMERIC)", read=read, refusals=(*decimal_refusals(dtype), long))


def _significant(x: pl.Expr) -> pl.Expr:
    return x.cast(pl.String).str.replace_all("[-.]", "").str.strip_chars("0").str.len_bytes()


# Moments are text in many forms, or Prisma's milliseconds. `_REST` is what follows the seconds: a fraction,
# then a zone.
_REST = "substr({0}, 20)"
_ZONE = f"ltrim({_REST}, '.0123456789')"
_FRACTION = f"ltrim(replace({_REST}, {_ZONE}, ''), '.')"
_MILLISECONDS = "((({0} % 1000) + 1000) % 1000)"
_MOMENT = (
    "CASE typeof({0}) WHEN 'null' THEN NULL "
    f"WHEN 'integer' THEN strftime('%Y-%m-%d %H:%M:%S', ({{0}} - {_MILLISECONDS}) / 1000, 'unixepoch') "
    f"|| printf('.%03d000', {_MILLISECONDS}) "
    f"WHEN 'text' THEN CASE WHEN length(rtrim({_FRACTION}, '0')) > 6 THEN 'finer than a microsecond: ' || {{0}} "
    f"ELSE coalesce(strftime('%Y-%m-%d %H:%M:%S', substr({{0}}, 1, 19) || {_ZONE}) "
    f"|| '.' || substr({_FRACTION} || '000000', 1, 6), {{0}}) END "
    "ELSE 'no moment: ' || CAST({0} AS TEXT) END"
)
_TIME = (
    "CASE length({0}) WHEN 8 THEN {0} || '.000000' ELSE "
    "CASE WHEN length({0}) < 15 THEN substr({0} || '000000', 1, 15) ELSE {0} END END"
)
