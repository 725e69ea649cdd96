"""How a value of each dtype travels: what is sent, what is stored, what comes back.

A `Codec` belongs to one column on one database. Encoding never loses anything: whatever a database
cannot hold exactly is named by a `Refusal`, which the validation turns into a reject before a single
byte is sent. What both databases do alike (text forms, JSON) is here; the rest is in their modules.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from crave_bulk.backends.spelling import Same, same_json
from crave_bulk.errors import ContractError
from crave_bulk.sql import literal

Step = Callable[[pl.Expr], pl.Expr]


def same(value: pl.Expr) -> pl.Expr:
    """Return the expression as it is.

    Args:
        value: any expression.

    Returns:
        The same expression.
    """
    return value


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a database cannot hold: where `bad` is true, the row is refused for this `reason`."""

    reason: str
    bad: Step


@dataclass(frozen=True, slots=True)
class Codec:
    """How the values of one column travel to a database and back.

    Attributes:
        sql_type: the type in ``CREATE TABLE``.
        wire: the dtype that is sent, and that a read is brought to first.
        encode: from the contract's dtype to the wire's.
        decode: from the wire's dtype to the contract's.
        stage: SQL from the staging table's column to the target's; ``{}`` stands for the column.
        read: SQL from the target's column to the wire.
        compare: SQL that brings a target's column to a form in which values that say the same are equal.
        folds: conditions compare its texts whatever their case, as the database does.
        collate: SQL behind `compare` that tells any two texts apart, whatever the collation of the column.
        order: SQL over a target's column that sorts as its values do.
        readable: SQL over a target's column that is false if a frame cannot hold its value exactly, as another
            program wrote it; nothing if it always can.
        fetchable: SQL over a target's column that is false if the driver cannot fetch what `read` makes of its value;
            nothing if that is `readable`.
        text: SQL over a target's column that writes its value as text, whatever it is.
        why: as `text`, with the reason for which a frame cannot hold the value; nothing if `text` says enough.
        ordered: SQL over a target's column that is false if its value is neither above nor below those of a frame;
            nothing if each is.
        refusals: the values that the database cannot hold exactly.
        kept: SQL over the staging table's column that is false if the column's type would change the value that is
            written, and the database say nothing; nothing if it never does.
        casts: `kept` may fail for a value that the type cannot have at all.
        spellings: SQL over the staging table's column, the forms in which others may have written the same value of a
            key, separated by commas; nothing if there is one form.
        spelt: from the text of any such form to the contract's dtype.
        fallible: `stage` may fail for a value that validation let pass, such as text that is no ``inet``.
        same: tells whether a text and what `encode` writes of the value that was read from it say the same, where
            `decode` may lose something; nothing if it never does.
    """

    sql_type: str
    wire: pl.DataType
    encode: Step = same
    decode: Step = same
    stage: str = "{}"
    read: str = "{}"
    compare: str = "{}"
    folds: bool = False
    collate: str = ""
    order: str = "{}"
    readable: str = ""
    fetchable: str = ""
    text: str = "{}"
    why: str = ""
    ordered: str = ""
    refusals: tuple[Refusal, ...] = ()
    kept: str = ""
    casts: bool = False
    spellings: str = ""
    spelt: Step = same
    fallible: bool = False
    same: Same | None = None

    @property
    def exact(self) -> str:
        """SQL over a target's column, in a form in which ``IS DISTINCT FROM`` is exact."""
        return self.compare + self.collate


@dataclass(frozen=True, slots=True)
class Form:
    """How every value that a column can hold travels for the journal, also one that no frame can hold.

    Attributes:
        plain: as a rule; exact for the values that meet `clean`.
        raw: as text, exact for any value.
        clean: a condition in SQL over the column; empty if `plain` is exact for any value.
        written: a pattern of what `raw` writes; empty if the database itself refuses anything else.
    """

    plain: Codec
    raw: Codec
    clean: str = ""
    written: str = ""


def always(codec: Codec, written: str = "") -> Form:
    """Build the form of a column for which one codec is exact, whatever it holds.

    Args:
        codec: the codec.
        written: as of a form.

    Returns:
        The form.
    """
    return Form(codec, codec, written=written)


# -- text forms, which both databases share ------------------------------------------------------------


def text_form(dtype: pl.DataType) -> Codec | None:
    """Choose the text form of a scalar that JSON or SQLite has no type for.

    Args:
        dtype: any dtype.

    Returns:
        A codec to text (to an integer for a Duration) with no SQL of its own, or None where the
        dtype needs none.

    Example:
        >>> import datetime as dt
        >>> form = text_form(pl.Datetime("us", "UTC"))
        >>> moment = pl.Series("t", [dt.datetime(2024, 5, 1, 12)]).dt.replace_time_zone("UTC")
        >>> pl.select(form.encode(pl.lit(moment))).item()
        '2024-05-01 12:00:00.000000+00:00'
    """
    match dtype:
        case pl.Decimal():
            return Codec("", pl.String(), lambda x: x.cast(pl.String), lambda x: x.cast(dtype))
        case pl.Enum() | pl.Categorical():
            order = _by_category(dtype) if isinstance(dtype, pl.Enum) else "{}"
            return Codec("", pl.String(), lambda x: x.cast(pl.String), lambda x: x.cast(dtype), order=order)
        case pl.Date():
            return Codec(
                "",
                pl.String(),
                lambda x: x.cast(pl.String),
                lambda x: x.str.to_date("%Y-%m-%d"),
                refusals=outside_years(dtype),
            )
        case pl.Time():
            # A cast to text would drop the microseconds.
            return Codec(
                "",
                pl.String(),
                lambda x: x.dt.strftime("%H:%M:%S%.6f"),
                lambda x: x.str.to_time("%H:%M:%S%.f"),
                refusals=sub_microsecond(dtype),
            )
        case pl.Datetime():
            return replace(_datetime_text(dtype), refusals=(*sub_microsecond(dtype), *outside_years(dtype)))
        case pl.Duration():
            return Codec(
                "",
                pl.Int64(),
                lambda x: x.dt.total_microseconds(),
                lambda x: x.cast(pl.Duration("us")).cast(dtype),
                refusals=sub_microsecond(dtype),
            )
    return None


def _by_category(dtype: pl.Enum) -> str:
    """Write the place of a value among its categories, which is how an Enum sorts."""
    places = " ".join(f"WHEN {literal(name)} THEN {place}" for place, name in enumerate(dtype.categories))
    return "CASE {} " + places.replace("{", "{{").replace("}", "}}") + " END" if places else "{}"


def _datetime_text(dtype: pl.Datetime) -> Codec:
    """Write a moment as ISO text of fixed width, so that text order is time order; a zone as UTC."""
    zone, unit = dtype.time_zone, dtype.time_unit

    def encode(x: pl.Expr) -> pl.Expr:
        moment = x.cast(pl.Datetime("us", zone))
        return (moment.dt.convert_time_zone("UTC") if zone else moment).cast(pl.String)

    def decode(x: pl.Expr) -> pl.Expr:
        moment = x.str.head(26).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us")
        if zone:
            moment = moment.dt.replace_time_zone("UTC").dt.convert_time_zone(zone)
        return moment.cast(pl.Datetime(unit, zone))

    return Codec("", pl.String(), encode, decode)


def sub_microsecond(dtype: pl.DataType) -> tuple[Refusal, ...]:
    """Refuse what is finer than a microsecond, which neither database keeps.

    Args:
        dtype: a Time, Datetime or Duration.

    Returns:
        One refusal where the dtype counts nanoseconds, else none.
    """
    if isinstance(dtype, pl.Time) or getattr(dtype, "time_unit", None) == "ns":
        return (Refusal("is finer than a microsecond", lambda x: x.to_physical() % 1_000 != 0),)
    return ()


_FIRST_DAY, _LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days since 1970-01-01
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}


def within_years(dtype: pl.DataType) -> Step:
    """Test for the years 1 to 9999, in which text dates sort as dates and both databases agree.

    Args:
        dtype: a Date or Datetime; the test counts its units, as Polars panics on years far outside.

    Returns:
        A step that is true inside.
    """
    per_day = _PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
    first, last = _FIRST_DAY * per_day, (_LAST_DAY + 1) * per_day - 1
    return lambda x: x.to_physical().cast(pl.Int128).is_between(first, last)


def outside_years(dtype: pl.DataType) -> tuple[Refusal, ...]:
    """Refuse what lies outside the years 1 to 9999.

    Args:
        dtype: a Date or Datetime.

    Returns:
        The refusal.
    """
    inside = within_years(dtype)
    return (Refusal("is outside the years 1 to 9999", lambda x: ~inside(x)),)


def decimal_refusals(dtype: pl.Decimal) -> tuple[Refusal, ...]:
    """Refuse a decimal that has more digits than its column.

    Args:
        dtype: the column's dtype.

    Returns:
        The refusal; it also judges frames whose own decimal dtype is wider.
    """

    def too_long(x: pl.Expr) -> pl.Expr:
        # A cast gives NULL where digits before the point do not fit, and rounds those after it.
        return x.cast(dtype, strict=False).eq_missing(x).not_() & x.is_not_null()

    return (Refusal(f"does not fit decimal({dtype.precision}, {dtype.scale}) exactly", too_long),)


# -- JSON, for lists and structs -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Json:
    """How one dtype is written inside a JSON document."""

    dtype: pl.DataType
    encode: Step
    decode: Step
    bad: Step | None = None


def json_form(dtype: pl.DataType) -> Codec:
    """Build the codec of a list or a struct as one JSON text.

    Args:
        dtype: a List or Struct of whatever can be written as JSON or as text.

    Returns:
        A codec to JSON text, without SQL of its own.

    Raises:
        ContractError: the dtype holds something that has no exact form.

    Example:
        >>> form = json_form(pl.List(pl.String()))
        >>> pl.select(form.encode(pl.lit(pl.Series([["a", None], None])))).to_series().to_list()
        ['["a",null]', None]
    """
    inner = _json(dtype)

    def encode(x: pl.Expr) -> pl.Expr:
        # Polars writes structs only, so the value travels as {"v":…} and the wrapping is cut off.
        text = pl.struct(inner.encode(x).alias("v")).struct.json_encode()
        return pl.when(x.is_not_null()).then(text.str.slice(5).str.head(-1))

    def decode(x: pl.Expr) -> pl.Expr:
        wrapped = pl.concat_str(pl.lit('{"v":'), x, pl.lit("}"))
        return inner.decode(wrapped.str.json_decode(pl.Struct({"v": inner.dtype})).struct.field("v"))

    refusals = (Refusal("holds a value that JSON cannot write exactly", inner.bad),) if inner.bad else ()
    return Codec("", pl.String(), encode, decode, refusals=refusals, same=same_json(dtype))


def _json(dtype: pl.DataType) -> _Json:
    if isinstance(dtype, pl.List):
        return _json_list(_json(inner_dtype(dtype)))
    if isinstance(dtype, pl.Struct):
        return _json_struct({f.name: _json(instance(f.dtype)) for f in dtype.fields})
    if isinstance(dtype, pl.Binary):
        return _Json(pl.String(), lambda x: x.bin.encode("hex"), lambda x: x.str.decode("hex"))
    if dtype.is_float():
        return _Json(dtype, same, same, lambda x: ~x.is_finite())
    if form := text_form(dtype):
        return _Json(form.wire, form.encode, form.decode, any_bad(form.refusals))
    if dtype.is_integer() and not isinstance(dtype, pl.Int128 | pl.UInt128):
        return _Json(dtype, same, same)
    if isinstance(dtype, pl.String | pl.Boolean):
        return _Json(dtype, same, same)
    raise unsupported(dtype)


def _json_list(inner: _Json) -> _Json:
    bad = inner.bad
    return _Json(
        pl.List(inner.dtype),
        lambda x: x.list.eval(inner.encode(pl.element())),
        lambda x: x.list.eval(inner.decode(pl.element())),
        bad and (lambda x: x.list.eval(bad(pl.element())).list.any()),
    )


def _json_struct(fields: dict[str, _Json]) -> _Json:
    def rebuild(x: pl.Expr, step: Callable[[_Json], Step]) -> pl.Expr:
        parts = [step(form)(x.struct.field(name)).alias(name) for name, form in fields.items()]
        return pl.when(x.is_not_null()).then(pl.struct(parts))

    bads = {name: form.bad for name, form in fields.items() if form.bad}
    return _Json(
        pl.Struct({name: form.dtype for name, form in fields.items()}),
        lambda x: rebuild(x, lambda form: form.encode),
        lambda x: rebuild(x, lambda form: form.decode),
        (lambda x: pl.any_horizontal(bad(x.struct.field(name)) for name, bad in bads.items()))
        if bads
        else None,
    )


def any_bad(refusals: tuple[Refusal, ...]) -> Step | None:
    """Join refusals into one test.

    Args:
        refusals: any number of them.

    Returns:
        A step that is true where any refusal holds, or None where there is none.
    """
    if not refusals:
        return None
    return lambda x: pl.any_horizontal(refusal.bad(x) for refusal in refusals)


def inner_dtype(dtype: pl.List) -> pl.DataType:
    """Return the dtype of a list's elements.

    Args:
        dtype: a List.

    Returns:
        An instance of the element's dtype.
    """
    return instance(dtype.inner)


def instance(dtype: Any) -> pl.DataType:
    """Bring a dtype, given as class or as instance, to an instance.

    Args:
        dtype: such as ``pl.Int64`` or ``pl.Int64()``.

    Returns:
        The instance.
    """
    made: pl.DataType = dtype() if isinstance(dtype, type) else dtype
    return made


def unsupported(dtype: pl.DataType) -> ContractError:
    """Build the error for a dtype that has no exact form in any database.

    Args:
        dtype: the dtype.

    Returns:
        The error.
    """
    return ContractError(
        f"a column of type {dtype} has no exact form in a database: cast it, for example to "
        "Decimal(38, 0) for 128-bit integers or to List for arrays"
    )
