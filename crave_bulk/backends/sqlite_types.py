"""How the values of each column are stored in SQLite: declared ones, and those that were found there.

SQLite has five kinds of values, and the name of a column's type decides into which of them a value is
turned (its affinity, https://www.sqlite.org/datatype3.html, 3.1). Declared columns have types whose
affinity leaves alone what is written. Columns that were found hold what other programs wrote, each in
its own way: these are brought to one form where they are read and where they are compared.

But any column may hold a value of any kind. What a frame holds, and what it cannot (see `Codec.readable`):

- Int64 and the like: integers, within the range of the dtype. Float64: reals, and integers up to 2**53. String: text. Binary: blobs.
- Boolean: the integers 0 and 1.
- Date: the text of a day that there is, ``2024-05-01``. Time: ``10:00:00`` with at most six decimals.
- Datetime: such a day, or a day and a time with ``T`` or a blank between, ``10:00`` or ``10:00:00.123``, and
  ``Z`` or an offset, by which it is brought to UTC; and an integer above 253,402,300,799, as milliseconds since
  1970. As seconds that would be a year after 9999, so it cannot have been meant; any other integer, and every
  real, may be seconds, milliseconds or a Julian day, and is not read. Neither is ``now``.
- Decimal: its text; where the column has a numeric type, an integer, or the real nearest to a decimal that fits.
- A column without a type, or of one that SQLite has no affinity for, is text: its integers and reals are read as
  their digits, of which a real has as many as tell it from all others; a blob is not read. It is written in
  the kind that a frame has: Int64 as integers, Float64 as reals, Binary as blobs. A text that says the same as the
  number that is stored changes nothing, so that what was read can be written back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from crave_bulk.backends.codec import (
    Codec,
    Form,
    Refusal,
    Step,
    always,
    decimal_refusals,
    json_form,
    text_form,
    unsupported,
)
from crave_bulk.scalar import as_utf8
from crave_bulk.sql import literal
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
        return _collated(_declared(column))
    return _collated(replace(_found(parse_type(column.sql_type), column), sql_type=column.sql_type))


def _collated(form: Codec) -> Codec:
    """Compare texts byte by byte: the column's own collation, such as NOCASE, may take others for equal."""
    return replace(form, collate=" COLLATE BINARY") if isinstance(form.wire, pl.String) else form


def _declared(column: Column) -> Codec:
    dtype, options = column.dtype, column.options
    if isinstance(dtype, pl.String):
        kind = "UUID_TEXT" if options.uuid else "JSON_TEXT" if options.json else "TEXT"
        return _stored(Codec(kind, dtype), _is("text"), ordered=_is("text"))
    if isinstance(dtype, pl.Boolean):
        form = Codec("BOOLEAN", pl.Int64(), lambda x: x.cast(pl.Int64), lambda x: x.cast(pl.Boolean))
        return _stored(form, f"{_is('integer')} AND coalesce({{0}} IN (0, 1), 1)", ordered=_IS_NUMBER)
    if dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128):
        too_large = Refusal(f"is above {_LARGEST}, the largest integer of SQLite", lambda x: x > _LARGEST)
        refusals = (too_large,) if isinstance(dtype, pl.UInt64) else ()
        form = Codec(
            "INTEGER", pl.Int64(), lambda x: x.cast(pl.Int64), lambda x: x.cast(dtype), refusals=refusals
        )
        return _stored(form, _is_integer(dtype), ordered=_IS_NUMBER)
    if isinstance(dtype, pl.Float32 | pl.Float64):
        nan = Refusal("is NaN, which SQLite would store as NULL", lambda x: x.is_nan())
        form = Codec(
            "REAL", pl.Float64(), lambda x: x.cast(pl.Float64), lambda x: x.cast(dtype), refusals=(nan,)
        )
        whole = 2**24 if isinstance(dtype, pl.Float32) else 2**53  # up to there every integer is a real
        readable = f"({_is('real')} OR (typeof({{0}}) = 'integer' AND {{0}} BETWEEN {-whole} AND {whole}))"
        return _stored(form, readable, ordered=_IS_NUMBER)
    if isinstance(dtype, pl.Binary):
        return _stored(Codec("BLOB", dtype), _is("blob"), ordered=_is("blob"))
    if isinstance(dtype, pl.List | pl.Struct):
        return _stored(replace(json_form(dtype), sql_type="JSON_TEXT"), _is_json(dtype))
    text = text_form(dtype)
    if text is None:
        raise unsupported(dtype)
    return _text_stored(replace(text, sql_type=_text_type(dtype)), dtype)


def _text_stored(form: Codec, dtype: pl.DataType) -> Codec:
    """Complete the codec of a dtype that SQLite has no type for."""
    match dtype:
        case pl.Decimal():
            form = replace(form, refusals=decimal_refusals(dtype), order=_decimal_order(dtype))
            return _stored(form, _is_decimal_text(dtype), ordered=_is_decimal_text(dtype))
        case pl.Date():
            return _stored(form, _IS_DAY, ordered=_IS_DAY)
        case pl.Time():
            spellings = ", ".join(_fractions(1))
            form = replace(form, read=_TIME, spellings=spellings, spelt=_spelt_time)
            return _stored(form, _IS_TIME, ordered=_IS_TIME)
        case pl.Datetime():
            zone = "+00:00" if dtype.time_zone else ""
            test = _is_moment(dtype)
            form = replace(form, read=_moment(zone), spellings=_spellings(zone), spelt=_spelt_moment(dtype))
            return _stored(form, test, _NO_MOMENT, ordered=test)
        case pl.Duration():
            return _stored(form, _is_duration(dtype), ordered=_IS_NUMBER)
        case pl.Enum():
            labels = (
                ", ".join(literal(name) for name in dtype.categories).replace("{", "{{").replace("}", "}}")
            )
            known = f"coalesce({{0}} IN ({labels}), 1)" if labels else "{0} IS NULL"
            return _stored(form, f"{_is('text')} AND {known}", ordered=_is("text"))
    return _stored(form, _is("text"), ordered=_is("text"))


# -- what a frame can hold, as SQL over a column {0}; NULL passes every test ---------------------------------

_TEXT = "CASE typeof({0}) WHEN 'blob' THEN quote({0}) ELSE CAST({0} AS TEXT) END"
_IS_NUMBER = "typeof({0}) IN ('integer', 'real')"
_LIMITS: dict[type[pl.DataType], tuple[int, int]] = {
    pl.Int8: (-(2**7), 2**7 - 1),
    pl.Int16: (-(2**15), 2**15 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.UInt8: (0, 2**8 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt32: (0, 2**32 - 1),
    pl.UInt64: (0, 2**63 - 1),
}


def _is(*kinds: str) -> str:
    """Test for values of some kinds."""
    return f"typeof({{0}}) IN ({', '.join(map(literal, [*kinds, 'null']))})"


def _stored(form: Codec, readable: str, why: str = "", ordered: str = "") -> Codec:
    """Say which values of a column can be read; the others by their kind and their text."""
    why = why or "quote({0})"  # of text only what stands before a NUL character
    fetchable = _is("text") if isinstance(form.wire, pl.String) and form.read == "{}" else ""
    if isinstance(form.wire, pl.String) and not fetchable:
        fetchable = "true"  # whatever it reads is text
    return replace(form, readable=readable, fetchable=fetchable, text=_TEXT, why=why, ordered=ordered)


def _is_integer(dtype: pl.DataType) -> str:
    limits = _LIMITS.get(type(dtype))
    between = f" AND coalesce({{0}} BETWEEN {limits[0]} AND {limits[1]}, 1)" if limits else ""
    return _is("integer") + between


def _is_duration(dtype: pl.Duration) -> str:
    test = _is("integer")
    if dtype.time_unit == "ms":
        return f"{test} AND coalesce({{0}} % 1000 = 0, 1)"
    if dtype.time_unit == "ns":
        return f"{test} AND coalesce({{0}} BETWEEN {-(2**63 // 1000)} AND {2**63 // 1000}, 1)"
    return test


def _is_decimal_text(dtype: pl.Decimal) -> str:
    """Test for digits, a point among them and a minus before them, that the dtype has room for."""
    whole = (dtype.precision or _WIDEST) - dtype.scale
    point = "instr({0} || '.', '.')"
    return (
        f"{_is('text')} AND coalesce({{0}} GLOB '*[0-9]*' AND {{0}} NOT GLOB '*[^0-9.-]*' AND {{0}} NOT GLOB '?*-*' "
        f"AND {{0}} NOT GLOB '*.*.*' AND {_PLAIN} AND length(ltrim(substr({{0}}, 1, {point} - 1), '-0')) <= {whole} "
        f"AND length(rtrim(substr({{0}}, {point} + 1), '0')) <= {dtype.scale}, 1)"
    )


def _is_json(dtype: pl.DataType) -> str:
    kind = "array" if isinstance(dtype, pl.List) else "object"
    return (
        f"{_is('text')} AND CASE WHEN {{0}} IS NULL THEN 1 WHEN json_valid({{0}}) THEN "
        f"json_type({{0}}) = '{kind}' ELSE 0 END"
    )


# A column compared with text would turn it into a number by its affinity, an expression over the column does not.
# SQLite's date functions let 31 February pass, and know 'now' and Julian days, so what they give is compared with
# what they were given.
_IS_DAY = f"{_is('text')} AND coalesce({{0}} IS date({{0}}) AND substr({{0}}, 1, 4) >= '0001', 1)"
_DECIMALS = "ltrim(substr({0}, 10), '0123456789') = '' AND length(rtrim(substr({0}, 10), '0')) <= 6"
_PLAIN = "octet_length({0}) = length({0})"  # no NUL character, at which these functions stop
_IS_TIME = (
    f"{_is('text')} AND ({{0}} IS NULL OR ({_PLAIN} AND substr({{0}}, 1, 8) IS time(substr({{0}}, 1, 8)) AND substr({{0}}, 1, 2) < '24' AND "
    f"(length({{0}}) = 8 OR (substr({{0}}, 9, 1) = '.' AND length({{0}}) > 9 AND {_DECIMALS}))))"
)
# Of a blob it would make text that is not UTF-8.
_TIME = (
    "CASE WHEN typeof({0}) <> 'text' THEN NULL WHEN length({0}) = 8 THEN {0} || '.000000' "
    "ELSE substr({0} || '000000', 1, 15) END"
)

# A moment is a day, or a day and a clock and what follows it: a fraction, then a zone. Most are written in the first
# of these shapes, which is why it is tried first: the general test takes ten times as long.
_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
_TO_MINUTES, _TO_SECONDS = f"{_DAY}[ T][0-2][0-9]:[0-5][0-9]", f"{_DAY}[ T][0-2][0-9]:[0-5][0-9]:[0-5][0-9]"
_WRITTEN = f"{_DAY} [0-2][0-9]:[0-5][0-9]:[0-5][0-9].[0-9][0-9][0-9][0-9][0-9][0-9]"
_FIRST_MILLISECOND, _LAST_MILLISECOND = (
    253_402_300_800,
    253_402_300_799_999,
)  # as seconds 10000-01-01; 9999-12-31
_TOO_FINE = "typeof({0}) = 'text' AND {0} GLOB '*.[0-9][0-9][0-9][0-9][0-9][0-9][0-9]*'"
_NO_MOMENT = f"CASE WHEN {_TOO_FINE} THEN 'finer than a microsecond: ' ELSE 'no moment: ' END || {_TEXT}"


@dataclass(frozen=True, slots=True)
class _Clock:
    """The text of a moment whose clock is so many characters long: SQL over a column {0}."""

    length: int

    @property
    def rest(self) -> str:
        """What follows the clock."""
        return f"substr({{0}}, {12 + self.length})"

    @property
    def zone(self) -> str:
        """The zone, which no fraction is part of."""
        return f"ltrim({self.rest}, '.0123456789')"

    @property
    def fraction(self) -> str:
        """The fraction with its point, or nothing."""
        return f"substr({self.rest}, 1, length({self.rest}) - length({self.zone}))"

    @property
    def local(self) -> str:
        """The moment up to its seconds, in its own zone."""
        seconds = "" if self.length == _WITH_SECONDS.length else " || ':00'"
        return f"substr({{0}}, 1, 10) || ' ' || substr({{0}}, 12, {self.length}){seconds}"

    @property
    def shifted(self) -> str:
        """The moment up to its seconds, in UTC, where the zone is an offset."""
        return f"strftime('%Y-%m-%d %H:%M:%S', {self.local} || {self.zone})"

    def follows(self, digits: int, first: str, last: str) -> str:
        """Test what follows the clock."""
        offset = f"{self.zone} GLOB '[+-][0-9][0-9]:[0-9][0-9]'"
        fraction = f"{self.fraction} = ''"
        if self.length == _WITH_SECONDS.length:
            fraction += (
                f" OR ({self.fraction} GLOB '.[0-9]*' AND substr({self.fraction}, 2) NOT GLOB '*.*' "
                f"AND length(rtrim({self.fraction}, '0')) <= {digits + 1})"
            )
        return (
            f"({self.rest} IN ('', 'Z', '+00:00') OR (({fraction}) AND ({self.zone} IN ('', 'Z', '+00:00') "
            f"OR ({offset} AND coalesce({self.shifted} >= '{first}' AND {self.shifted} < '{last}', 0)))))"
        )

    @property
    def value(self) -> str:
        """The moment in UTC, in the form in which declared columns hold it, without its zone."""
        seconds = f"CASE WHEN {self.zone} IN ('', 'Z', '+00:00') THEN {self.local} ELSE {self.shifted} END"
        return f"{seconds} || '.' || substr(substr({self.fraction}, 2) || '000000', 1, 6)"


_WITH_SECONDS, _WITHOUT_SECONDS = _Clock(8), _Clock(5)


def _is_moment(dtype: pl.Datetime) -> str:
    """Test for the text of a moment, and for an integer that can only be milliseconds."""
    digits = 3 if dtype.time_unit == "ms" else 6
    first, last = ("1677-09-22", "2262-04-11") if dtype.time_unit == "ns" else ("0001", "9999-12-32")
    day = f"date(substr({{0}}, 1, 10)) IS substr({{0}}, 1, 10) AND substr({{0}}, 1, 10) >= '{first}'"
    if dtype.time_unit == "ns":
        day += f" AND substr({{0}}, 1, 10) < '{last}'"
    day += f" AND {_PLAIN}"
    clock = f"{day} AND substr({{0}}, 12, 2) < '24'"
    zone = "+00:00" if dtype.time_zone else ""
    written = f"WHEN {{0}} GLOB '{_WRITTEN}{zone}' THEN {clock} " if digits == 6 else ""
    text = (
        f"CASE {written}WHEN {{0}} GLOB '{_TO_SECONDS}*' THEN {clock} AND {_WITH_SECONDS.follows(digits, first, last)} "
        f"WHEN {{0}} GLOB '{_TO_MINUTES}*' THEN {clock} AND {_WITHOUT_SECONDS.follows(digits, first, last)} "
        f"WHEN {{0}} GLOB '{_DAY}' THEN {day} ELSE 0 END"
    )
    milliseconds = f"{{0}} BETWEEN {_FIRST_MILLISECOND} AND {_LAST_MILLISECOND}"
    if dtype.time_unit == "ns":
        milliseconds += " AND {0} < 9223286400000"  # 2262-04-11
    return f"CASE typeof({{0}}) WHEN 'text' THEN {text} WHEN 'integer' THEN {milliseconds} WHEN 'null' THEN 1 ELSE 0 END"


def _fractions(start: int) -> list[str]:
    """Write the clock of a time as declared columns hold it, which begins there, with as many decimals as others may."""
    clock, fraction = f"substr({{0}}, {start}, 8)", f"rtrim(substr({{0}}, {start + 9}, 6), '0')"
    exact = f"rtrim({clock} || '.' || {fraction}, '.')"
    milliseconds = f"iif(length({fraction}) <= 3, {clock} || '.' || substr({{0}}, {start + 9}, 3), NULL)"
    minutes = f"iif(substr({{0}}, {start + 5}) GLOB ':00.000000*', substr({{0}}, {start}, 5), NULL)"
    return [exact, milliseconds, minutes, f"substr({{0}}, {start}, 15)"]


def _spellings(zone: str) -> str:
    """Write the forms of a moment in UTC, in the order in which they are usual."""
    day, clocks = "substr({0}, 1, 10)", _fractions(12)
    forms = [
        f"{day} || '{mark}' || {clock} || '{end}'"
        for mark in " T"
        for clock in clocks
        for end in ("", "Z", "+00:00")
        if (mark, clock, end) != (" ", clocks[-1], zone)
    ]
    midnight = f"iif(substr({{0}}, 12, 15) = '00:00:00.000000', {day}, NULL)"
    milliseconds = "strftime('%s', substr({0}, 1, 19)) * 1000 + substr({0}, 21, 3)"
    return ", ".join([*forms, midnight, milliseconds])


def _spelt_time(text: pl.Expr) -> pl.Expr:
    """Read a time in any form."""
    return pl.when(text.str.len_bytes() == 5).then(text + ":00").otherwise(text).str.to_time("%H:%M:%S%.f")


def _spelt_moment(dtype: pl.Datetime) -> Step:
    """Read a moment in any form: a day, a clock without seconds or a fraction, an offset, milliseconds since 1970."""

    def read(text: pl.Expr) -> pl.Expr:
        milliseconds = pl.from_epoch(text.str.extract(r"^(\d{12,})$").cast(pl.Int64), "ms").cast(
            pl.Datetime("us")
        )
        local = text.str.extract(r"^(\d{4}-\d\d-\d\d([ T][0-9:.]+)?)").str.replace("T", " ")
        clock = pl.when(local.str.len_bytes() == 10).then(pl.lit(" 00:00:00"))
        lacking = clock.when(local.str.len_bytes() == 16).then(pl.lit(":00")).otherwise(pl.lit(""))
        moment = (local + lacking).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
        offset = text.str.extract_groups(r"([+-])(\d\d):(\d\d)$").struct
        minutes = offset[1].cast(pl.Int64) * 60 + offset[2].cast(pl.Int64)
        east = pl.when(offset[0] == "-").then(-minutes).otherwise(minutes).fill_null(0)
        moment = pl.coalesce(milliseconds, moment - pl.duration(minutes=east))
        if dtype.time_zone:
            moment = moment.dt.replace_time_zone("UTC").dt.convert_time_zone(dtype.time_zone)
        return moment.cast(dtype)

    return read


def _moment(zone: str) -> str:
    """Write a readable moment in the form in which declared columns hold it; NULL if it is none."""
    milliseconds = "strftime('%Y-%m-%d %H:%M:%S', {0} / 1000, 'unixepoch') || printf('.%03d000', {0} % 1000)"
    return (
        f"CASE typeof({{0}}) WHEN 'text' THEN CASE WHEN {{0}} GLOB '{_WRITTEN}{zone}' THEN {{0}} "
        f"WHEN length({{0}}) = 10 THEN {{0}} || ' 00:00:00.000000{zone}' "
        f"WHEN substr({{0}}, 17, 1) = ':' THEN {_WITH_SECONDS.value} || '{zone}' ELSE {_WITHOUT_SECONDS.value} || '{zone}' END "
        f"WHEN 'integer' THEN {milliseconds} || '{zone}' END"
    )


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
    def affinity(self) -> str:
        """Into which kind SQLite turns values (https://www.sqlite.org/datatype3.html, 3.1)."""
        kinds = {"INT": "INTEGER", "CHAR|CLOB|TEXT": "TEXT", "BLOB|^$": "BLOB", "REAL|FLOA|DOUB": "REAL"}
        return next((kind for names, kind in kinds.items() if re.search(names, self.name)), "NUMERIC")

    @property
    def numeric(self) -> bool:
        """Whether SQLite turns text that looks like a number into one."""
        return self.affinity == "NUMERIC"

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


def untyped(kind: SqlType) -> bool:
    """Tell whether a column says nothing of its values: it has no type, or one that SQLite does not know.

    Example:
        >>> untyped(SqlType("")), untyped(SqlType("MONEY")), untyped(SqlType("TEXT")), untyped(SqlType("JSON"))
        (True, True, False, False)
    """
    return isinstance(dtype_of(kind), pl.String) and not kind.text and not kind.name.startswith("JSON")


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
    form = _declared(replace(column, sql_type=None))
    match column.dtype:
        case pl.String():
            return _found_text(kind)
        case _ if column.untyped:
            # As expressions, which have no affinity that would make a number of a text; and of a column without a
            # type, 5 is another value than 5.0.
            exact = not kind.name and column.dtype.is_numeric()
            return replace(form, compare="quote({0})" if exact else "+{0}")
        case pl.Datetime():
            moment = _moment("+00:00" if kind.zoned else "")
            return replace(form, read=moment, compare=_or_why(form, moment), order=_or_why(form, moment))
        case pl.Time():
            return replace(form, compare=_or_why(form, _TIME), order=_or_why(form, _TIME))
        case pl.Decimal() if kind.numeric:
            return _found_decimal(kind, column.dtype)
    return form


def _or_why(form: Codec, value: str) -> str:
    """Write a value in one form, or what is none, and so is different from all that are."""
    return f"CASE WHEN {form.readable} THEN {value} ELSE {form.why} END"


_NUMBER = r"^\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$"
_WHOLE = r"^(0|-?[1-9]\d{0,17})$"


def _found_text(kind: SqlType) -> Codec:
    """Read as text what may be anything; a column of a made-up type turns ``007`` into 7."""
    if kind.text:
        return _stored(Codec("", pl.String()), _is("text"), ordered=_is("text"))
    form, readable = _TEXT, _is("text", "integer", "real")
    if kind.name.startswith("JSON"):
        binary = "typeof({0}) = 'blob' AND json_valid({0}, 8)"
        form, readable = (
            f"CASE WHEN {binary} THEN json({{0}}) ELSE {_TEXT} END",
            f"({readable} OR ({binary}))",
        )
    number = Refusal(
        f"looks like a number, and a column of type {kind.name} would not keep it as it is written",
        lambda x: x.str.contains(_NUMBER) & ~x.str.contains(_WHOLE),
    )
    compare = f"CASE WHEN {readable} THEN {form} ELSE {{0}} END"
    codec = Codec("", pl.String(), read=form, compare=compare, refusals=(number,) if kind.numeric else ())
    return _stored(codec, readable)


def _found_decimal(kind: SqlType, dtype: pl.Decimal) -> Codec:
    """Read a decimal that SQLite stores as a number: exact up to 15 digits, and no further."""
    scale, whole = dtype.scale, (dtype.precision or _WIDEST) - dtype.scale
    written = (
        f"printf('%.{scale}f', {{0}})" if (dtype.precision or _WIDEST) <= _DIGITS else "printf('%.15g', {0})"
    )
    zeros = "." + "0" * scale if scale else ""
    read = f"CASE typeof({{0}}) WHEN 'integer' THEN {{0}} || '{zeros}' WHEN 'real' THEN {written} END"
    fits = f"abs({{0}}) < 1e{whole} AND CAST({written} AS REAL) = {{0}} AND CAST(printf('%.{scale}f', {{0}}) AS REAL) = {{0}}"
    small = f"{{0}} > -{10**whole} AND {{0}} < {10**whole}" if whole <= 18 else "1"
    readable = f"CASE typeof({{0}}) WHEN 'null' THEN 1 WHEN 'integer' THEN {small} WHEN 'real' THEN {fits} ELSE 0 END"
    why = f"{_TEXT} || ' has more than {scale} decimals or {min(_DIGITS, whole + scale)} digits, or is not a number'"
    digits = 18 if scale == 0 else _DIGITS  # whole numbers are stored as such
    long = Refusal(
        f"has more than {digits} digits, which {kind.name} does not keep in SQLite",
        lambda x: _significant(x) > digits,
    )
    form = text_form(dtype) or Codec("", pl.String())
    form = replace(form, stage="CAST({} AS NUMERIC)", read=read, refusals=(*decimal_refusals(dtype), long))
    return _stored(form, readable, why, ordered=_IS_NUMBER)


def _significant(x: pl.Expr) -> pl.Expr:
    return x.cast(pl.String).str.replace_all("[-.]", "").str.strip_chars("0").str.len_bytes()


# -- every value that a column can hold, for the journal ------------------------------------------------

# A letter says what is stored: an integer, a real, text (with other signs than ASCII's as hex), a blob. Seventeen digits
# tell any two reals apart, and are read as the same again.
_RAW_READ = (
    "CASE typeof({0}) WHEN 'integer' THEN 'i' || {0} "
    "WHEN 'real' THEN CASE {0} WHEN 9e999 THEN 'r9e999' WHEN -9e999 THEN 'r-9e999' ELSE printf('r%!.17g', {0}) END "
    "WHEN 'text' THEN CASE WHEN {0} GLOB '*[^ -~]*' OR length({0}) <> length(CAST({0} AS BLOB)) "
    "THEN 'x' || hex({0}) ELSE 't' || {0} END "
    "WHEN 'blob' THEN 'b' || hex({0}) END"
)
_RAW_STAGE = (
    "CASE substr({0}, 1, 1) WHEN 'i' THEN CAST(substr({0}, 2) AS INTEGER) WHEN 'r' THEN CAST(substr({0}, 2) AS REAL) "
    "WHEN 't' THEN substr({0}, 2) WHEN 'x' THEN CAST(unhex(substr({0}, 2)) AS TEXT) WHEN 'b' THEN unhex(substr({0}, 2)) END"
)
_RAW_WRITTEN = r"(?s)^(i-?\d+|r-?[0-9.e+-]+|t.*|[xb]([0-9A-F]{2})*)$"


def form(column: Column) -> Form:
    """Choose how every value travels that a column of the database can hold.

    Args:
        column: a column that was found in the database.

    Returns:
        Its form: native for the one kind of values that its type is meant for, else with the kind of each value.

    Example:
        >>> from crave_bulk.backends.catalog import plain_column
        >>> found = {"filled": False, "generated": False, "identity_always": False}
        >>> form(plain_column("n", "INT", pl.Int64(), found)).clean
        "typeof({0}) IN ('integer', 'null')"
    """
    raw = Codec("", pl.String(), decode=_shown, stage=_RAW_STAGE, read=_RAW_READ, compare=_RAW_READ)
    held = _held(parse_type(column.sql_type or ""))
    if held is None:
        return always(raw, _RAW_WRITTEN)
    stored, wire = held
    # The driver would bring all values of a column to one type.
    plain = _collated(Codec("", wire, read=f"iif(typeof({{0}}) = '{stored}', {{0}}, NULL)"))
    return Form(plain, raw, f"typeof({{0}}) IN ('{stored}', 'null')", _RAW_WRITTEN)


def _shown(raw: pl.Expr) -> pl.Expr:
    """Write a value for people: without its letter, and text as text."""
    text = raw.str.slice(1)
    written = pl.when(raw.str.starts_with("x")).then(text).str.decode("hex")
    return pl.coalesce(written.map_batches(lambda part: as_utf8(part, "replace"), pl.String), text)


def _held(kind: SqlType) -> tuple[str, pl.DataType] | None:
    """Name the one kind of values that a type is meant for, by the rules of its affinity; None where it is any."""
    name = kind.name
    if "INT" in name or name in ("BOOL", "BOOLEAN"):
        return "integer", pl.Int64()
    if re.search("CHAR|CLOB|TEXT", name):
        return "text", pl.String()
    if "BLOB" in name:
        return "blob", pl.Binary()
    if re.search("REAL|FLOA|DOUB", name):
        return "real", pl.Float64()
    if re.match("DATE|TIME|UUID$|JSON", name):
        return "text", pl.String()
    return None
