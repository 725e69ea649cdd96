"""How the values of each column travel to PostgreSQL: declared ones, and those that were found there.

A declared column has the type that its dtype asks for. A column that was found has its own, and a codec
that loses nothing on the way to it: a cast to a length or a precision would cut off or round in silence,
so there is none, and what such a type does not keep is refused before.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import polars as pl

from crave_bulk import sql
from crave_bulk.backends.codec import (
    Codec,
    Form,
    Refusal,
    Step,
    always,
    any_bad,
    decimal_refusals,
    inner_dtype,
    json_form,
    outside_years,
    sub_microsecond,
    text_form,
    unsupported,
)
from crave_bulk.table import Column

_LARGEST = 2**63 - 1
_LONGEST_NAME = 63  # bytes
_WIDEST = 38  # digits of a Decimal
_MICROSECONDS = 6  # digits of a second that PostgreSQL keeps at most

_INTEGERS: dict[type[pl.DataType], str] = {
    pl.Int8: "smallint",
    pl.Int16: "smallint",
    pl.Int32: "integer",
    pl.Int64: "bigint",
    pl.UInt8: "smallint",
    pl.UInt16: "integer",
    pl.UInt32: "bigint",
    pl.UInt64: "bigint",
}
_NATIVE: dict[type[pl.DataType], str] = {
    pl.Boolean: "boolean",
    pl.Float32: "real",
    pl.Float64: "double precision",
    pl.Binary: "bytea",
}
_WIRE: dict[str, pl.DataType] = {"smallint": pl.Int16(), "integer": pl.Int32(), "bigint": pl.Int64()}

# PostgreSQL's calendar ends and its text has no NUL; https://www.postgresql.org/docs/current/datatype-datetime.html
_NUL = Refusal(
    "holds a NUL character, which PostgreSQL's text cannot", lambda x: x.str.contains("\0", literal=True)
)


def codec(column: Column) -> Codec:
    """Choose the type of a column and how its values get there.

    Args:
        column: a column of a contract, declared or found in the database.

    Returns:
        Its codec.

    Raises:
        ContractError: there is no exact form for the dtype.
    """
    if column.sql_type is None:
        declared = _declared(column)
        return replace(declared, text="{0}::text", collate=_collate(parse_type(declared.sql_type), declared))
    kind = parse_type(column.sql_type)
    found = _found(kind, column.dtype)
    found = replace(found, collate=_collate(kind, found))
    if isinstance(found.wire, pl.String) or found.wire == pl.List(pl.String):
        found = replace(found, kept=_kept(column.sql_type, kind, column.dtype))
    return replace(found, sql_type=column.sql_type, text="{0}::text")


def _collate(kind: SqlType, form: Codec) -> str:
    """Compare texts byte by byte, where their column may have a collation that takes others for equal."""
    texts = form.compare.endswith(("::text", "::text[]")) or (
        kind.base in _COLLATED and form.compare in ("{}", _to(kind))
    )
    return ' COLLATE pg_catalog."C"' if texts else ""


_COLLATED = ("text", "character varying", "character", "bpchar")
_NUMBERED = {"oid", "xid", "cid", "xid8", "tid"}  # some of which take -1 for a large number
_FLOATS = {"point", "line", "lseg", "box", "path", "polygon", "circle"}  # made of double precision
_TIMES = {
    "time with time zone",
    "interval",
    "tsrange",
    "tstzrange",
    "tsmultirange",
    "tstzmultirange",
}


def _kept(sql_type: str, kind: SqlType, dtype: pl.DataType) -> str:
    """Test for text that a type keeps as it is written, where it would cut off or round in silence."""
    plain = dtype.inner if isinstance(dtype, pl.List) else dtype
    if plain != pl.String():
        return ""
    if isinstance(dtype, pl.List) and (test := _kept_element(replace(kind, array=False))):
        one = test.format("u.v").replace("{", "{{").replace("}", "}}")
        return f"NOT EXISTS (SELECT FROM pg_catalog.unnest({{0}}) AS u (v) WHERE ({one}) IS FALSE)"
    if not kind.array and (test := _kept_element(kind)):
        return test
    if not kind.array and kind.base in ("character varying", "character"):
        return ""  # what is longer is refused by its length
    if not (kind.args or kind.base.startswith("interval ")):
        return ""
    return sql.pinned(f"{{0}}::{sql_type}::text [=] {{0}}::{kind.cast}::text")


def _kept_element(kind: SqlType) -> str:
    """Write the test for one value of a type for which a cast without a length or a precision does not tell."""
    fine = f"{{0}} [!~] {sql.literal(r'[.][0-9]{{7,}}')}"
    if kind.base == '"char"':
        return sql.pinned('{0} [=] {0}::"char"::text')
    if kind.base in _NUMBERED:
        return sql.pinned(f"{{0}}::{kind.base}::text [=] pg_catalog.btrim({{0}})")
    if kind.base == "money":
        digits = "pg_catalog.btrim(pg_catalog.regexp_replace({}, '[^0-9]', '', 'g'), '0')"  # 1.5 is $1.50
        return sql.pinned(f"{digits.format('{0}')} [=] {digits.format('{0}::money::text')}")
    if kind.base in _FLOATS:
        return sql.pinned(f"{{0}} [!~] {sql.literal('([0-9][.]?){{18}}')}")
    if kind.base in _TIMES and not kind.args:
        return sql.pinned(fine)
    if kind.base.startswith('"') and not kind.args:
        return _kept_record(kind)
    return ""


def _kept_record(kind: SqlType) -> str:
    """Test for a row of fields of which each says the same, blanks and quotes aside, when it is written back.

    Its fields have types of their own, which may cut off or round, and no cast leaves those out. Another type that a
    program has made writes its values as it likes.
    """
    signs = "pg_catalog.regexp_replace({}, '[\"\\\\\\s]', '', 'g')"
    cast = _to(kind).format("{0}")
    composite = f"EXISTS (SELECT FROM pg_catalog.pg_type WHERE oid [=] {sql.literal(kind.base)}::regtype AND typtype [=] 'c')"
    composite = composite.replace("{", "{{").replace("}", "}}")
    return sql.pinned(f"NOT {composite} OR {signs.format('{0}')} [=] {signs.format(f'{cast}::text')}")


def _declared(column: Column) -> Codec:
    dtype, options = column.dtype, column.options
    if isinstance(dtype, pl.String):
        if options.uuid:
            return Codec("uuid", dtype, stage="{}::uuid", read="{}::text")
        if options.json:
            return _json_column(Codec("json", dtype, refusals=(_NUL,)))
        return Codec("text", dtype, refusals=(_NUL,))
    if isinstance(dtype, pl.List):
        return _list_codec(column, inner_dtype(dtype))
    if isinstance(dtype, pl.Struct):
        return _json_column(json_form(dtype))
    return _scalar(dtype)


def _scalar(dtype: pl.DataType) -> Codec:
    return _limited(_typed(dtype), *_limits(dtype))


def _limited(form: Codec, readable: str = "", why: str = "") -> Codec:
    """Say which values a frame can hold, and why it cannot hold the others."""
    return (
        replace(form, readable=sql.pinned(readable), why=sql.pinned(f"{{0}}::text [||] {sql.literal(why)}"))
        if readable
        else form
    )


def _limits(dtype: pl.DataType) -> tuple[str, ...]:
    """Tell the values that a frame can hold from those that only PostgreSQL can."""
    match dtype:
        case pl.Date():
            test = "{0} [>=] '0001-01-01' AND {0} [<=] '9999-12-31'"
            why = " is no moment that a frame can hold, of the years 1 to 9999"
        case pl.Datetime():
            return _moment_limits(dtype)
        case pl.Time():
            test, why = "{0} [<] '24:00:00'", " is no time that a frame can hold, which ends before 24:00"
        case pl.Duration():
            return _interval_limits(dtype)
        case pl.Decimal():
            precision, scale = dtype.precision or _WIDEST, dtype.scale
            test, why = (
                f"pg_catalog.abs({{0}}) [<] 1e{precision - scale} AND {{0}} [=] pg_catalog.round({{0}}, {scale})",
                f" does not fit {dtype}",
            )
        case _ if type(dtype) in _NARROW:
            low, high = _NARROW[type(dtype)]
            test, why = (
                f"{{0}} [>=] '{low}'::bigint AND {{0}} [<=] '{high}'::bigint",
                f" does not fit {dtype}",
            )
        case _:
            return ()
    return test, why


def _moment_limits(dtype: pl.Datetime) -> tuple[str, str]:
    first, last = ("1677-09-22", "2262-04-11") if dtype.time_unit == "ns" else ("0001-01-01", "10000-01-01")
    zone = "+00" if dtype.time_zone else ""
    test = f"{{0}} [>=] '{first} 00:00{zone}' AND {{0}} [<] '{last} 00:00{zone}'"
    why = f" is no moment that a frame can hold, {first} to {last}"
    if dtype.time_unit == "ms":
        test += " AND {0} [=] pg_catalog.date_trunc('milliseconds', {0})"
        why += ", to the millisecond"
    return test, why


def _interval_limits(dtype: pl.Duration) -> tuple[str, str]:
    largest = 2**63 - 1 if dtype.time_unit != "ns" else 2**63 // 1000  # microseconds
    longest = f"{largest // 10**6}.{largest % 10**6}"
    seconds = "EXTRACT(EPOCH FROM {0})"
    test = f"EXTRACT(YEAR FROM {{0}}) [=] 0 AND EXTRACT(MONTH FROM {{0}}) [=] 0 AND pg_catalog.abs({seconds}) [<=] '{longest}'::numeric"
    why = " has months, which have no fixed length, or is too long"
    if dtype.time_unit == "ms":
        test += f" AND {seconds} [*] 1000 [=] pg_catalog.round({seconds} [*] 1000)"
        why += ", or is finer than a millisecond"
    return test, why


_NARROW: dict[type[pl.DataType], tuple[int, int]] = {
    pl.Int8: (-(2**7), 2**7 - 1),
    pl.Int16: (-(2**15), 2**15 - 1),
    pl.Int32: (-(2**31), 2**31 - 1),
    pl.UInt8: (0, 2**8 - 1),
    pl.UInt16: (0, 2**16 - 1),
    pl.UInt32: (0, 2**32 - 1),
    pl.UInt64: (0, 2**63 - 1),
}


def _typed(dtype: pl.DataType) -> Codec:
    if sql_type := _INTEGERS.get(type(dtype)):
        wire = _WIRE[sql_type]
        too_large = Refusal(f"is above {_LARGEST}, the largest bigint", lambda x: x > _LARGEST)
        refusals = (too_large,) if isinstance(dtype, pl.UInt64) else ()
        return Codec(sql_type, wire, lambda x: x.cast(wire), lambda x: x.cast(dtype), refusals=refusals)
    if sql_type := _NATIVE.get(type(dtype)):
        return Codec(sql_type, dtype)
    match dtype:
        case pl.Date():
            return Codec("date", dtype, refusals=outside_years(dtype))
        case pl.Time():
            return Codec("time", dtype, refusals=sub_microsecond(dtype))
        case pl.Datetime():
            return _moment(dtype)
        case pl.Duration():
            # Polars cannot read an interval back, so it is asked for as a number of microseconds.
            return Codec(
                "interval",
                pl.Duration("us"),
                lambda x: x.cast(pl.Duration("us")),
                lambda x: x.cast(dtype),
                read=sql.pinned("(EXTRACT(EPOCH FROM {0}) [*] 1000000)::bigint"),
                refusals=sub_microsecond(dtype),
            )
        case pl.Decimal():
            return Codec(
                f"numeric({dtype.precision}, {dtype.scale})",
                pl.String(),
                lambda x: x.cast(pl.String),
                lambda x: x.cast(dtype),
                stage=f"{{}}::numeric({dtype.precision}, {dtype.scale})",
                read="{}::text",
                refusals=decimal_refusals(dtype),
            )
        case pl.Enum() | pl.Categorical():
            form = text_form(dtype) or Codec("text", dtype)
            order = _by_category(dtype) if isinstance(dtype, pl.Enum) else "{}"
            form = replace(form, sql_type="text", order=order, refusals=(_nul_category(),))
            if not isinstance(dtype, pl.Enum):
                return form
            labels = ", ".join(map(sql.literal, dtype.categories)).replace("{", "{{").replace("}", "}}")
            return replace(form, readable=sql.pinned("{0} [=] ANY ") + f"(ARRAY[{labels}]::text[])")
    raise unsupported(dtype)


def _by_category(dtype: pl.Enum) -> str:
    """Write the place of a value among its categories; CASE would look for an operator."""
    names = ", ".join(map(sql.literal, dtype.categories)).replace("{", "{{").replace("}", "}}")
    return f"pg_catalog.array_position(ARRAY[{names}]::text[], {{}})"


def _nul_category() -> Refusal:
    return replace(_NUL, bad=lambda x: _NUL.bad(x.cast(pl.String)))


def _moment(dtype: pl.Datetime) -> Codec:
    zone = dtype.time_zone
    wire = pl.Datetime("us", "UTC" if zone else None)

    def encode(x: pl.Expr) -> pl.Expr:
        moment = x.cast(pl.Datetime("us", zone))
        return moment.dt.convert_time_zone("UTC") if zone else moment

    def decode(x: pl.Expr) -> pl.Expr:
        return (x.dt.convert_time_zone(zone) if zone else x).cast(dtype)

    sql_type = "timestamptz" if zone else "timestamp"
    return Codec(sql_type, wire, encode, decode, refusals=(*sub_microsecond(dtype), *outside_years(dtype)))


def _list_codec(column: Column, inner: pl.DataType) -> Codec:
    """Store a list as an array where its elements have an exact form in one, else as JSON."""
    if column.options.json or isinstance(inner, pl.List | pl.Struct | pl.Duration | pl.Array):
        return _json_column(json_form(column.dtype))
    element = Codec("uuid", inner) if column.options.uuid else _scalar_or_text(inner)
    encode, decode, dtype = element.encode, element.decode, element.wire
    read = "{}"
    if isinstance(inner, pl.Time | pl.Decimal) or column.options.uuid:
        form = text_form(inner)
        encode, decode, dtype = (form.encode, form.decode, form.wire) if form else (encode, decode, dtype)
        read = "{}::text[]"
    form = Codec(
        f"{element.sql_type}[]",
        pl.List(dtype),
        lambda x: x.list.eval(encode(pl.element())),
        lambda x: x.list.eval(decode(pl.element())),
        stage="{}::" + f"{element.sql_type}[]",
        read=read,
        compare="{}::" + f"{element.sql_type}[]",  # the column may be of another type
        refusals=_in_elements(any_bad(element.refusals)),
    )
    return _limited(form, *_list_limits(element))


def _in_elements(bad: Step | None) -> tuple[Refusal, ...]:
    if bad is None:
        return ()
    return (
        Refusal(
            "holds an element that PostgreSQL cannot", lambda x: x.list.eval(bad(pl.element())).list.any()
        ),
    )


def _scalar_or_text(dtype: pl.DataType) -> Codec:
    return Codec("text", dtype, refusals=(_NUL,)) if isinstance(dtype, pl.String) else _scalar(dtype)


def _json_column(form: Codec) -> Codec:
    """Store JSON as ``json``: it keeps the text to the letter, which ``jsonb`` does not."""
    return replace(form, sql_type="json", stage="{}::json", read="{}::text", compare="{}::text")


# -- columns that were found in the database -----------------------------------------------------------

_DTYPES: dict[str, pl.DataType] = {
    "smallint": pl.Int16(),
    "integer": pl.Int32(),
    "bigint": pl.Int64(),
    "real": pl.Float32(),
    "double precision": pl.Float64(),
    "boolean": pl.Boolean(),
    "bytea": pl.Binary(),
    "date": pl.Date(),
    "time without time zone": pl.Time(),
    "timestamp without time zone": pl.Datetime("us"),
    "timestamp with time zone": pl.Datetime("us", "UTC"),
    "interval": pl.Duration("us"),
}
_TEXT = ("text", "character varying", "character", "bpchar", "name", "uuid")
_TYPE = re.compile(r"(?P<start>[^(\[]+?)(?:\((?P<args>[-\d,]+)\))?(?P<end>[^(\[]*)(?P<array>\[\])?")


@dataclass(frozen=True, slots=True)
class SqlType:
    """A type as the catalog writes it, in parts.

    Attributes:
        base: the name without length, precision and brackets.
        args: the length, or the precision and the scale.
        array: whether it is an array of the base type.
    """

    base: str
    args: tuple[int, ...] = ()
    array: bool = False

    @property
    def cast(self) -> str:
        """The type to cast to: without length or precision, as a cast would cut off or round."""
        # Without its length, a character is one character and a bit one bit; these two have none.
        base = {"character": "bpchar", "bit": '"bit"'}.get(self.base, self.base)
        if base.startswith("interval "):
            base = "interval"
        return f"{base}[]" if self.array else base


def parse_type(sql_type: str) -> SqlType:
    """Read a type as ``format_type`` writes it.

    Args:
        sql_type: such as ``numeric(10,2)`` or ``"public"."mood"[]``.

    Returns:
        Its parts.

    Example:
        >>> parse_type("timestamp(3) without time zone")
        SqlType(base='timestamp without time zone', args=(3,), array=False)
    """
    if sql_type.startswith('"'):
        return SqlType(sql_type.removesuffix("[]"), (), sql_type.endswith("[]"))
    match = _TYPE.fullmatch(sql_type)
    if match is None:
        return SqlType(sql_type)
    args = tuple(int(part) for part in (match["args"] or "").split(",") if part)
    return SqlType(match["start"] + match["end"], args, bool(match["array"]))


def dtype_of(kind: SqlType, labels: list[str] | None) -> pl.DataType:
    """Choose the dtype of a column that was found in the database.

    A ``numeric`` without a precision, or wider than a Decimal, becomes Decimal(38, 18): a value that
    does not fit is refused on the way in, and an error on the way out. Types that Polars does not know
    are text, as PostgreSQL writes them.

    Args:
        kind: the type.
        labels: of an enum, in order.

    Returns:
        The dtype.

    Example:
        >>> dtype_of(SqlType("numeric", (10, 2)), None), dtype_of(SqlType("inet"), None)
        (Decimal(precision=10, scale=2), String)
    """
    if labels is not None:
        scalar: pl.DataType = pl.Enum(labels)
    elif kind.base == "numeric":
        scalar = _decimal(kind.args)
    else:
        scalar = _DTYPES.get(kind.base, pl.String())
    if not kind.array:
        return scalar
    return pl.String() if isinstance(scalar, pl.Duration) else pl.List(scalar)


def same_as_wire(kind: SqlType, dtype: pl.DataType) -> bool:
    """Tell whether two values of a type are equal exactly where they are equal on the wire.

    Only such columns can be part of a key: an ``inet`` has several spellings, a ``citext`` several cases.

    Args:
        kind: the type.
        dtype: its dtype.

    Returns:
        Whether they are.
    """
    if isinstance(dtype, pl.List):
        inner = inner_dtype(dtype)
        return not isinstance(inner, pl.Decimal) and same_as_wire(replace(kind, array=False), inner)
    return kind.base in _TEXT if isinstance(dtype, pl.String) else True


def _decimal(args: tuple[int, ...]) -> pl.Decimal:
    precision, scale = (*args, 0)[:2] if args else (_WIDEST + 1, 18)
    if scale < 0:
        return pl.Decimal(_WIDEST, 0)  # rounded to tens, hundreds, …: see _coarse
    precision = max(precision, scale)
    return pl.Decimal(precision, scale) if precision <= _WIDEST else pl.Decimal(_WIDEST, min(scale, 18))


def _found(kind: SqlType, dtype: pl.DataType) -> Codec:
    if isinstance(dtype, pl.List):
        return _found_list(kind, dtype)
    if isinstance(dtype, pl.String):
        return _found_text(kind)
    if isinstance(dtype, pl.Enum):
        return replace(_scalar(dtype), stage=_to(kind), read="{}::text", order="{}", readable="", refusals=())
    if isinstance(dtype, pl.Decimal):
        return _found_decimal(kind, dtype)
    if dtype.is_integer():
        return _typed(dtype)  # its own type, all of whose values fit
    return _found_moment(kind, _scalar(dtype))


def _to(kind: SqlType) -> str:
    return "{}::" + kind.cast.replace("{", "{{").replace("}", "}}")


def _found_text(kind: SqlType) -> Codec:
    base, dtype = kind.base, pl.String()
    text = Codec("", dtype, stage=_to(kind), read="{}::text", refusals=(_NUL,))
    if not kind.array:
        if base in ("text", "character varying"):
            return Codec("", dtype, refusals=(_NUL,))
        if base in ("character", "bpchar"):
            padded = Refusal(
                "ends in a blank, which the type character does not keep", lambda x: x.str.ends_with(" ")
            )
            return replace(text, refusals=(_NUL, padded))
        if base == "name":
            long = Refusal(
                f"is longer than {_LONGEST_NAME} bytes", lambda x: x.str.len_bytes() > _LONGEST_NAME
            )
            return replace(text, refusals=(_NUL, long))
        if base == "uuid":
            return replace(text, refusals=())
        if base.endswith('."citext"'):
            return replace(text, compare="{}::text", folds=True)
        if base == "jsonb":
            return replace(text, fallible=True)
        if base == "inet":  # whose cast to text adds /32, which it does not show otherwise
            return replace(text, read="pg_catalog.abbrev({})", fallible=True)
    # As text, any two values can be told apart; not every type has an equality, or an order.
    return replace(text, compare="{}::text", order="{}::text" if base == "json" else "{}", fallible=True)


def _found_decimal(kind: SqlType, dtype: pl.Decimal) -> Codec:
    """Read a numeric where it fits the dtype: not NaN, not infinite, not longer."""
    form = _scalar(dtype)
    read = f"{{0}}::numeric({dtype.precision or _WIDEST}, {dtype.scale})"
    encode = form.encode
    if not kind.args:  # it keeps as many decimals as are written, and 1.1 does not have the dtype's 18
        read, encode = f"pg_catalog.trim_scale({read})", lambda x: _trimmed(form.encode(x))
    refusals = (*decimal_refusals(dtype), *_coarse(kind))
    return replace(form, stage="{}::numeric", encode=encode, read=f"{read}::text", refusals=refusals)


def _trimmed(text: pl.Expr) -> pl.Expr:
    """Leave out the zeros at the end of decimals that have a point."""
    short = text.str.strip_chars_end("0").str.strip_chars_end(".")
    return pl.when(text.str.contains(".", literal=True)).then(short).otherwise(text)


def _coarse(kind: SqlType) -> tuple[Refusal, ...]:
    if len(kind.args) < 2 or kind.args[1] >= 0:
        return ()
    step = 10 ** -kind.args[1]
    return (
        Refusal(f"is no multiple of {step}, to which numeric{kind.args} rounds", lambda x: x % step != 0),
    )


def _found_moment(kind: SqlType, form: Codec) -> Codec:
    """Refuse what is finer than the type keeps."""
    dtype, refusals = form.wire, form.refusals
    digits = kind.args[0] if kind.args else _MICROSECONDS
    if digits < _MICROSECONDS and dtype.is_temporal():
        step = 10 ** ((9 if isinstance(dtype, pl.Time) else _MICROSECONDS) - digits)
        reason = f"is finer than the {digits} digits of a second that {kind.base}({digits}) keeps"
        refusals = (*refusals, Refusal(reason, lambda x: x.to_physical() % step != 0))
    return replace(form, refusals=refusals)


def _found_list(kind: SqlType, dtype: pl.List) -> Codec:
    inner = inner_dtype(dtype)
    element = _found(replace(kind, array=False), inner)
    native = not isinstance(inner, pl.String | pl.Enum | pl.Decimal | pl.Time)
    form = element if native else text_form(inner) or Codec("", pl.String())
    if isinstance(inner, pl.Decimal):
        form = replace(form, encode=element.encode)
    found = Codec(
        "",
        pl.List(form.wire),
        lambda x: x.list.eval(form.encode(pl.element())),
        lambda x: x.list.eval(form.decode(pl.element())),
        stage=_to(kind),
        read="{0}" if native else "{0}::text[]",
        compare=_to(kind) if element.compare == "{}" else "{}::text[]",  # there may be domains inside
        refusals=_in_elements(any_bad(element.refusals)),
        fallible=element.fallible,
    )
    return _limited(found, *_list_limits(element))


def _list_limits(element: Codec) -> tuple[str, str]:
    """Say which arrays are lists: of one dimension, which is counted from 1, and of what a frame can hold."""
    flat = "coalesce(pg_catalog.array_ndims({0}) [=] 1 AND pg_catalog.array_lower({0}, 1) [=] 1, true)"
    if element.readable:
        flat += f" AND NOT EXISTS (SELECT FROM pg_catalog.unnest({{0}}) AS u (v) WHERE ({element.readable.format('u.v')}) IS FALSE)"
    why = " has more than one dimension, is not counted from 1, or holds an element that a frame cannot"
    return flat, why


# -- every value that a column can hold, for the journal ------------------------------------------------

_ANY_VALUE = ("smallint", "integer", "bigint", "real", "double precision", "boolean", "bytea")
_TEXTS = ("text", "character varying")
_YEARS = sql.pinned("({{0}} [>=] '0001-01-01{0}' AND {{0}} [<=] '9999-12-31 23:59:59.999999{0}')")
# A duration has months, days and microseconds, and equals another whose sum is the same.
_ONLY_MICROSECONDS = sql.pinned(
    "(pg_catalog.isfinite({0}) AND EXTRACT(YEAR FROM {0}) [=] 0 AND EXTRACT(MONTH FROM {0}) [=] 0 "
    "AND EXTRACT(DAY FROM {0}) [=] 0)"
)
_CLEAN = {
    "date": sql.pinned("({0} [>=] '0001-01-01' AND {0} [<=] '9999-12-31')"),
    "timestamp without time zone": _YEARS.format(""),
    "timestamp with time zone": _YEARS.format("+00"),
    "time without time zone": sql.pinned("{0} [<] '24:00'"),
    "interval": _ONLY_MICROSECONDS,
}
# The driver takes an array of several dimensions for a flat one, and cannot read one that begins elsewhere.
_ONE_DIMENSION = sql.pinned(
    "(coalesce(pg_catalog.array_ndims({0}), 1) [=] 1 AND coalesce(pg_catalog.array_lower({0}, 1), 1) [=] 1)"
)


def form(column: Column) -> Form:
    """Choose how every value travels that a column of the database can hold.

    Args:
        column: a column that was found in the database.

    Returns:
        Its form: native if that is exact, else as PostgreSQL writes the value itself.

    Example:
        >>> from crave_bulk.backends.catalog import plain_column
        >>> found = {"filled": False, "generated": False, "identity_always": False}
        >>> form(plain_column("at", "time without time zone", pl.Time(), found)).clean
        "{0} OPERATOR(pg_catalog.<) '24:00'"
    """
    kind = parse_type(column.sql_type or "")
    native = _DTYPES.get(kind.base, pl.String())
    raw = _raw(kind)
    if kind.array:
        if kind.base not in (*_ANY_VALUE, *_TEXTS):
            return always(raw)
        read = f"CASE WHEN {_ONE_DIMENSION} THEN {{0}} END"
        plain = Codec("", pl.List(native), stage=_to(kind), read=read)
        return Form(replace(plain, collate=_collate(kind, plain)), raw, _ONE_DIMENSION)
    if kind.base in (*_ANY_VALUE, *_TEXTS):
        plain = Codec("", native)
        return always(replace(plain, collate=_collate(kind, plain)))
    clean = _CLEAN.get(kind.base)
    if clean is None:
        return always(raw)
    read = "{}"
    if kind.base == "interval":  # the others give something, if not themselves
        read = f"CASE WHEN {clean} THEN {sql.pinned('(EXTRACT(EPOCH FROM {0}) [*] 1000000)::bigint')} END"
    return Form(Codec("", native, read=read), raw, clean)


def _raw(kind: SqlType) -> Codec:
    """Let PostgreSQL write and read the value; a moment with a zone in one zone."""
    read, stage = "{}::text", _to(kind)
    if kind.base == "timestamp with time zone" and not kind.array:
        read, stage = "({} AT TIME ZONE 'UTC')::text", "({}::timestamp AT TIME ZONE 'UTC')"
    form = Codec("", pl.String(), stage=stage, read=read, compare="{}::text")
    return replace(form, collate=_collate(kind, form))
