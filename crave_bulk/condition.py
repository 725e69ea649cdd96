"""SQL conditions: parsed by sqlglot, checked node by node, and written anew.

Nothing of the text reaches the database as text: names pass through `quote`, values are bound, and
the rest comes from the templates below. Whatever is not listed here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import polars as pl
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from crave_bulk.backends.base import Decimals
from crave_bulk.compare import Comparer, Operand, synthetic, unknown_column
from crave_bulk.errors import ContractError
from crave_bulk.scalar import to_scalar
from crave_bulk.sql import FALSE, TRUE, literal

_ALLOWED = (
    "allowed are columns, literals, AND OR NOT, = <> < <= > >=, IS [NOT] NULL, IS [NOT] DISTINCT FROM, "
    "[NOT] IN (values), [NOT] BETWEEN, [NOT] LIKE and ILIKE, + - * / %, and the functions lower, upper, "
    "length, abs, coalesce and trim"
)
_LONGEST = 100_000  # characters


@dataclass(frozen=True, slots=True)
class _Constant:
    """A literal: a Python value."""

    value: Any


_Term = Operand | _Constant


def compile_text(comparer: Comparer, table: str, columns: Mapping[str, Operand], text: str) -> str:
    """Compile a SQL condition.

    Args:
        comparer: binds its values.
        table: the table's name, for messages.
        columns: what the text may name.
        text: one boolean expression.

    Returns:
        SQL written from scratch.

    Raises:
        ContractError: the text cannot be parsed, or holds what is not allowed.

    Example:
        >>> import crave_bulk as cb
        >>> from crave_bulk.examples import Foods
        >>> with cb.connect() as db:
        ...     db.create(Foods)
        ...     db.read(Foods, where="pg_sleep(10) IS NULL")
        Traceback (most recent call last):
        crave_bulk.errors.ContractError: the condition 'pg_sleep(10) IS NULL' ... function PG_SLEEP is not allowed...
    """
    try:
        return _Reader(comparer, table, columns).condition(_parse(text))
    except RecursionError:
        raise _wrong(text, "is nested too deeply: write it flatter") from None
    except _NotAllowed as error:
        raise _wrong(text, f"cannot be used: {error}") from None


class _NotAllowed(Exception):
    pass


def _wrong(text: str, why: str) -> ContractError:
    shown = text if len(text) <= 120 else f"{text[:117]}..."
    return ContractError(f"the condition {shown!r} {why}")


def _parse(text: str) -> exp.Expr:
    if len(text) > _LONGEST:
        raise _wrong(text, f"is longer than {_LONGEST:,} characters: give long lists by a mapping")
    if not text.strip():
        raise _wrong(text, "is empty: say 'true' if every row is meant")
    try:
        tokens = sqlglot.tokenize(text, dialect="postgres")
        if any(token.comments for token in tokens) or not tokens:
            raise _NotAllowed("a comment is not allowed in a condition: take it out")
        if any(token.token_type == sqlglot.TokenType.SEMICOLON for token in tokens):
            raise _NotAllowed("a semicolon is not allowed: write one condition")
        return sqlglot.parse_one(text, into=exp.Condition, dialect="postgres")
    except SqlglotError as error:
        details = getattr(error, "errors", None) or [{}]
        why = details[0].get("description") or re.sub(r"\x1b\[\d*m", "", str(error)).partition("\n")[0]
        why = "an operand is missing" if why.startswith("Required keyword") else why
        near = details[0].get("highlight")
        raise _wrong(
            text, f"is not one SQL condition: {why}{f' at {near!r}' if near else ''}; {_ALLOWED}"
        ) from error


class _Reader:
    """Walks one tree; a node that has no rule is refused, and so is an argument that a rule does not know."""

    def __init__(self, comparer: Comparer, table: str, columns: Mapping[str, Operand]) -> None:
        self.comparer, self.table, self.columns = comparer, table, columns
        self.backend, self.spelling = comparer.backend, comparer.backend.spelling

    def condition(self, node: exp.Expr) -> str:
        """Write a boolean expression."""
        term = self.term(node)
        if isinstance(term, _Constant):
            if isinstance(term.value, bool):
                return TRUE if term.value else FALSE
            raise _NotAllowed(f"{term.value!r} is not true or false: compare it with a column")
        if not isinstance(term.column.dtype, pl.Boolean):
            raise _NotAllowed(f"{term.column.name!r} ({term.column.dtype}) is not true or false: compare it")
        # On SQLite any number but 0 would be true.
        return f"({term.sql} = {TRUE})" if term.codec.readable and isinstance(node, exp.Column) else term.sql

    def term(self, node: exp.Expr) -> _Term:
        """Read any expression."""
        known = _RULES.get(type(node))
        if known is None:
            raise _NotAllowed(f"{_what(node)} is not allowed: {_ALLOWED}")
        rule, arguments = known
        if extra := [name for name, value in node.args.items() if value and name not in arguments]:
            if extra[0] == "query":
                raise _NotAllowed(
                    'a sub-query is not allowed: read the values first, and pass {"column__in": values}'
                )
            raise _NotAllowed(f"{extra[0]} of {_what(node)} is not allowed: {_ALLOWED}")
        term = rule(self, node)
        if node.args.get("negate"):
            return self.boolean(f"NOT {self.operand(term).sql}")
        return term

    def operand(self, term: _Term) -> Operand:
        """Require a term that is no literal."""
        if isinstance(term, _Constant):
            raise _NotAllowed(f"the literal {term.value!r} stands where a column is needed: turn it around")
        return term

    def boolean(self, sql: str) -> Operand:
        """Type a boolean expression."""
        return synthetic(self.backend, pl.Boolean(), f"({sql})", "the expression")

    # -- leaves --

    def column(self, node: exp.Column) -> _Term:
        """Find a column: to the letter, or where it is not quoted, the only one that differs by case."""
        identifier = node.this
        if not isinstance(identifier, exp.Identifier):
            raise _NotAllowed(f"{_what(identifier)} is not allowed: {_ALLOWED}")
        name = identifier.name
        if name in self.columns:
            return self.columns[name]
        alike = [column for column in self.columns if column.casefold() == name.casefold()]
        if len(alike) == 1 and not identifier.quoted:
            return self.columns[alike[0]]
        error = unknown_column(self.table, self.columns, name)
        raise ContractError(f"{error}; text stands in single quotes: {literal(name)}")

    def literal(self, node: exp.Literal) -> _Term:
        """Read text as text and a number as one."""
        if node.is_string:
            return _Constant(node.this)
        try:
            return _Constant(int(node.this) if node.this.isdecimal() else Decimal(node.this))
        except (ValueError, ArithmeticError):
            raise _NotAllowed(f"{str(node.this)[:40]!r} is not a number") from None

    def moment(self, node: exp.Cast) -> _Term:
        """Read a date or a time that stands as DATE '…' or '…'::date."""
        dtype = _MOMENTS.get(getattr(node.args["to"], "this", None))
        text = node.this
        if dtype is None or not (isinstance(text, exp.Literal) and text.is_string):
            raise _NotAllowed(
                "a cast is not allowed, other than of a literal to DATE, TIME, TIMESTAMP or TIMESTAMPTZ"
            )
        try:
            return _Constant(to_scalar(text.this, dtype))
        except ValueError as error:
            raise _NotAllowed(f"{text.this!r} is no {dtype}: {error}") from None

    def negative(self, node: exp.Neg) -> _Term:
        """Read a sign."""
        term = self.term(node.this)
        if isinstance(term, _Constant):
            if isinstance(term.value, bool) or not isinstance(term.value, int | Decimal):
                raise _NotAllowed(f"-{term.value!r} is not a number")
            value = term.value
            # A minus would round a Decimal to 28 digits.
            return _Constant(value.copy_negate() if isinstance(value, Decimal) else -value)
        if _is_decimal(term):
            return self.exact("-", [_Constant(0), term])
        number = self.number(term)
        real = number.column.dtype.is_float()
        negative = f"({self.spelling.op('-')} {number.sql})"
        computed = negative if real else self.backend.computed("-", "0", number.sql, real=False)
        return Operand(computed, number.column, number.codec)

    # -- boolean expressions --

    def connect(self, node: exp.Connector) -> _Term:
        """Join by AND or OR; a long chain is flat."""
        word = " AND " if isinstance(node, exp.And) else " OR "
        return self.boolean(word.join(self.condition(part) for part in node.flatten()))

    def negate(self, node: exp.Not) -> _Term:
        """Write NOT."""
        return self.boolean(f"NOT {self.condition(node.this)}")

    def compare(self, node: exp.Binary) -> _Term:
        """Compare two terms."""
        operator = _OPERATORS[type(node)]
        return self.boolean(self.two(self.term(node.this), operator, self.term(node.expression)))

    def two(self, left: _Term, operator: str, right: _Term) -> str:
        """Compare two terms, a literal as a value of the other's type."""
        if isinstance(left, _Constant) and isinstance(right, _Constant):
            raise _NotAllowed(
                f"{left.value!r} {operator} {right.value!r} compares no column: say true or false"
            )
        if isinstance(left, _Constant):
            left, operator, right = right, _MIRROR.get(operator, operator), left
        left = self.operand(left)
        if isinstance(right, _Constant):
            return self.with_constant(left, operator, right.value)
        if _same_form(left, right):
            return self.comparer.compare_two(left, operator, right)
        first, second = self.alike([left, right])
        return self.comparer.compare_two(first, operator, second)

    def with_constant(self, left: Operand, operator: str, value: Any) -> str:
        """Compare with a literal; of NULL nothing can be asked but whether it is."""
        if value is None:
            if operator.startswith("IS"):
                return f"{left.sql} IS {'NOT ' if operator == 'IS DISTINCT FROM' else ''}NULL"
            raise _NotAllowed(f"{operator} NULL is never true: write IS NULL or IS NOT NULL")
        return self.comparer.compare(left, operator, value)

    def is_(self, node: exp.Is) -> _Term:
        """Test for NULL, or a boolean for its value."""
        operand, right = self.operand(self.term(node.this)), node.expression
        if isinstance(right, exp.Null):
            return self.boolean(f"{operand.sql} IS NULL")
        if isinstance(right, exp.Boolean) and isinstance(operand.column.dtype, pl.Boolean):
            if operand.codec.readable:  # on SQLite any number but 0 would be true
                return self.boolean(f"coalesce({operand.sql} = {TRUE if right.this else FALSE}, {FALSE})")
            return self.boolean(f"{operand.sql} IS {'TRUE' if right.this else 'FALSE'}")
        raise _NotAllowed("IS is for NULL, and for TRUE or FALSE of a boolean")

    def in_(self, node: exp.In) -> _Term:
        """Test for being one of several literals."""
        operand = self.operand(self.term(node.this))
        values = [self.value(item, "IN") for item in node.expressions]
        if not values:
            raise _NotAllowed("IN () holds no value: give at least one")
        return self.boolean(self.comparer.member(operand, "IN", values)[0])

    def value(self, node: exp.Expr, place: str) -> Any:
        """Require a literal that is not NULL."""
        term = self.term(node)
        if not isinstance(term, _Constant) or term.value is None:
            raise _NotAllowed(f"{place} takes literals other than NULL: write IS NULL, or OR, for the rest")
        return term.value

    def between(self, node: exp.Between) -> _Term:
        """Compare with both ends, which are included."""
        middle = self.term(node.this)
        low = self.two(middle, ">=", self.term(node.args["low"]))
        return self.boolean(f"{low} AND {self.two(middle, '<=', self.term(node.args['high']))}")

    def like(self, node: exp.Binary) -> _Term:
        """Match a pattern, which is a literal."""
        operand = self.operand(self.term(node.this))
        text, folds = self.text(operand), operand.codec.folds
        pattern = self.value(node.expression, "LIKE")
        if not isinstance(pattern, str) or re.fullmatch(r"(?:[^\\]|\\.)*", pattern, re.DOTALL) is None:
            raise _NotAllowed(
                f"{pattern!r} is no pattern: it is text, in which a backslash stands before a character"
            )
        if "\0" in pattern:
            raise _NotAllowed(f"{pattern!r} holds a NUL character, which no pattern can")
        template, bound = self.backend.like(pattern, fold=isinstance(node, exp.ILike) or folds)
        return self.boolean(template.format(text.sql, self.comparer.constant(text, "LIKE", bound)))

    # -- values --

    def arithmetic(self, node: exp.Binary) -> _Term:
        """Compute with numbers of 64 bits; what is divided by zero is NULL."""
        terms, operator = [self.term(part) for part in (node.this, node.expression)], _ARITHMETIC[type(node)]
        if _are_decimals(terms):
            return self.exact(operator, terms)
        left, right = map(self.number, terms)
        real = any(part.column.dtype.is_float() for part in (left, right))
        if operator == "%" and real:
            raise _NotAllowed("% is for whole numbers")
        divisor = self.not_zero(right.sql) if operator in "/%" else right.sql
        dtype = pl.Float64() if real else pl.Int64()
        if real:
            left, right = self.alike([left, right])
            divisor = self.not_zero(right.sql) if operator in "/%" else right.sql
        computed = self.backend.computed(operator, left.sql, divisor, real=real)
        return synthetic(self.backend, dtype, computed, "the expression")

    def exact(self, operator: str, terms: list[_Term]) -> _Term:
        """Compute with decimals and whole numbers, exactly."""
        decimals = next(term for term in terms if _is_decimal(term))
        if operator in "/%":
            raise self.inexact(decimals)
        left, right = map(self.as_decimals, terms)
        scale = left.scale + right.scale if operator == "*" else max(left.scale, right.scale)
        computed = self.backend.decimal(operator, left, right, scale) if scale < _WIDEST else None
        if computed is None:
            raise self.inexact(decimals)
        dtype = pl.Decimal(min(_WIDEST, _DIGITS + scale), scale)
        return synthetic(self.backend, dtype, computed, "the expression")

    def as_decimals(self, term: _Term) -> Decimals:
        """Bring a term to decimals, or a whole number."""
        if not isinstance(term, _Constant):
            dtype = term.column.dtype
            if isinstance(dtype, pl.Decimal):
                return Decimals(term.sql, term.codec, dtype.scale, whole=False)
            whole = self.number(term)
            return Decimals(whole.sql, whole.codec, 0, whole=True)
        exponent = term.value.as_tuple().exponent if isinstance(term.value, Decimal) else 0
        scale = max(0, -exponent) if isinstance(exponent, int) else 0
        fits = isinstance(term.value, Decimal) and scale < _WIDEST
        dtype = pl.Decimal(_WIDEST, scale) if fits else pl.Int64()
        typed = synthetic(self.backend, dtype, "", "the expression")
        return Decimals(
            self.comparer.constant(typed, "a number", term.value), typed.codec, scale, whole=not fits
        )

    def inexact(self, term: _Term) -> _NotAllowed:
        """Refuse to compute with a decimal."""
        what = term.value if isinstance(term, _Constant) else f"{term.column.name!r} ({term.column.dtype})"
        return _NotAllowed(
            f"{what} is a decimal, which cannot be computed with like this exactly: compare the column itself, or filter the "
            "frame that db.read gives"
        )

    def not_zero(self, number: str) -> str:
        """Turn zero into NULL; NULLIF would look for an operator."""
        return f"CASE WHEN {self.spelling.equal(number, '0')} THEN NULL ELSE {number} END"

    def number(self, term: _Term) -> Operand:
        """Bring a term to a number of 64 bits, whole where it is."""
        if isinstance(term, _Constant):
            whole = isinstance(term.value, int) and not isinstance(term.value, bool)
            typed = synthetic(self.backend, pl.Int64() if whole else pl.Float64(), "", "the expression")
            return Operand(self.comparer.constant(typed, "a number", term.value), typed.column, typed.codec)
        dtype = term.column.dtype
        if not dtype.is_numeric():
            raise _NotAllowed(f"{term.column.name!r} ({dtype}) is no number, so it cannot be computed with")
        if dtype.is_integer():
            sql, to = self.backend.phrases.integer.format(term.sql), pl.Int64()
            return synthetic(self.backend, to, sql, term.column.name)
        return synthetic(
            self.backend, pl.Float64(), self.backend.phrases.real.format(term.sql), term.column.name
        )

    def text(self, term: _Term) -> Operand:
        """Bring a term to plain text."""
        if isinstance(term, _Constant):
            typed = synthetic(self.backend, pl.String(), "", "the expression")
            sql = self.comparer.constant(typed, "text", term.value)
            return Operand(self.backend.phrases.text.format(sql), typed.column, typed.codec)
        if not isinstance(term.column.dtype, pl.String | pl.Enum | pl.Categorical):
            raise _NotAllowed(f"{term.column.name!r} ({term.column.dtype}) is no text")
        return synthetic(self.backend, pl.String(), self.comparer.as_text(term), term.column.name)

    def text_function(self, node: exp.Func) -> _Term:
        """Call lower, upper, trim or length."""
        function, dtype = _TEXT_FUNCTIONS[type(node)]
        text = self.text(self.operand(self.term(node.this)))
        name = function if function == "trim" else self.spelling.fn(function)  # TRIM is a word of the grammar
        return synthetic(self.backend, dtype, f"{name}({text.sql})", "the expression")

    def absolute(self, node: exp.Abs) -> _Term:
        """Call abs."""
        term = self.operand(self.term(node.this))
        if isinstance(term.column.dtype, pl.Decimal):
            negative = self.operand(self.exact("-", [_Constant(0), term]))
            positive = self.operand(self.exact("-", [_Constant(0), negative]))
            below = self.comparer.compare(positive, "<", 0)
            return replace(positive, sql=f"CASE WHEN {below} THEN {negative.sql} ELSE {positive.sql} END")
        number = self.number(term)
        return Operand(f"{self.spelling.fn('abs')}({number.sql})", number.column, number.codec)

    def coalesce(self, node: exp.Coalesce) -> _Term:
        """Call coalesce; literals are values of the first column's type."""
        terms = [self.term(part) for part in (node.this, *node.expressions)]
        given = [term for term in terms if isinstance(term, Operand)]
        if not given:
            raise _NotAllowed("coalesce without a column never varies: write its first literal")
        alike = iter(given if all(_same_form(given[0], other) for other in given) else self.alike(given))
        parts = [next(alike) if isinstance(term, Operand) else term for term in terms]
        base = next(part for part in parts if isinstance(part, Operand))
        if any(isinstance(part, _Constant) and part.value is None for part in parts):
            raise _NotAllowed("NULL in coalesce does nothing: leave it out")
        written = [
            part.sql if isinstance(part, Operand) else self.comparer.constant(base, "coalesce", part.value)
            for part in parts
        ]
        return Operand(f"coalesce({', '.join(written)})", base.column, base.codec)

    def alike(self, operands: list[Operand]) -> list[Operand]:
        """Bring operands of unlike types to one: all numbers, or all text."""
        if _are_decimals(operands):
            return self.decimals(operands)
        if all(operand.column.dtype.is_numeric() for operand in operands):
            numbers = [self.number(operand) for operand in operands]
            if any(number.column.dtype.is_float() for number in numbers):
                return [
                    synthetic(
                        self.backend, pl.Float64(), self.backend.phrases.real.format(n.sql), n.column.name
                    )
                    for n in numbers
                ]
            return numbers
        texts = pl.String | pl.Enum | pl.Categorical
        if all(isinstance(operand.column.dtype, texts) for operand in operands):
            return [self.text(operand) for operand in operands]
        kinds = ", ".join(f"{o.column.name!r} ({o.column.dtype})" for o in operands)
        raise _NotAllowed(f"{kinds} are of types that cannot be compared with each other")

    def decimals(self, operands: list[Operand]) -> list[Operand]:
        """Bring decimals, and whole numbers beside them, to as many decimals as the longest has, exactly."""
        kinds = ", ".join(f"{o.column.name!r} ({o.column.dtype})" for o in operands)
        dtypes = [operand.column.dtype for operand in operands]
        exact = all(dtype.is_numeric() for dtype in dtypes)
        scale = max(dtype.scale for dtype in dtypes if isinstance(dtype, pl.Decimal))
        widths = [
            (d.precision or _WIDEST) - d.scale if isinstance(d, pl.Decimal) else _DIGITS for d in dtypes
        ]
        written = [self.backend.rescaled(o.codec, o.column.dtype, scale) for o in operands]
        if not exact or max(widths) + scale > _WIDEST or None in written:
            raise _NotAllowed(
                f"{kinds} cannot be compared with each other exactly: filter the frame that db.read gives"
            )
        wide = pl.Decimal(_WIDEST, scale)
        return [
            synthetic(self.backend, wide, str(form).format(operand.sql), operand.column.name)
            for form, operand in zip(written, operands, strict=True)
        ]


def _is_decimal(term: _Term) -> bool:
    if isinstance(term, _Constant):
        return isinstance(term.value, Decimal)
    return isinstance(term.column.dtype, pl.Decimal)


def _are_decimals(terms: Sequence[_Term]) -> bool:
    """Tell whether numbers are taken as decimals: one is, and none is a float, beside which all are, as in PostgreSQL."""
    floats = any(isinstance(term, Operand) and term.column.dtype.is_float() for term in terms)
    return any(map(_is_decimal, terms)) and not floats


def _same_form(left: Operand, right: Operand) -> bool:
    one, two = left.codec, right.codec
    same = (one.sql_type, one.wire, one.stage, one.read) == (two.sql_type, two.wire, two.stage, two.read)
    return same and left.column.dtype == right.column.dtype


def _what(node: exp.Expr) -> str:
    """Name a node for people."""
    if isinstance(node, exp.Query | exp.Exists | exp.Subquery):
        return "a sub-query"
    if isinstance(node, exp.Placeholder | exp.Parameter):
        return "a placeholder (write the value itself)"
    if isinstance(node, exp.Func) and not isinstance(node, exp.Connector):
        name = node.name if isinstance(node, exp.Anonymous) else node.sql_name()
        return f"the function {name.upper()[:60]}"
    if isinstance(node, exp.Column):
        return "a column with the name of a table before it"
    return f"{re.sub(r'(?<=[a-z])(?=[A-Z])', ' ', type(node).__name__).lower()!r}"


_WIDEST = 38  # digits of a Decimal
_DIGITS = 19  # of a whole number of 64 bits
_MOMENTS: dict[Any, pl.DataType] = {
    exp.DType.DATE: pl.Date(),
    exp.DType.TIME: pl.Time(),
    exp.DType.TIMESTAMP: pl.Datetime("us"),
    exp.DType.TIMESTAMPTZ: pl.Datetime("us", "UTC"),
}
_OPERATORS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
    exp.NullSafeEQ: "IS NOT DISTINCT FROM",
    exp.NullSafeNEQ: "IS DISTINCT FROM",
}
_MIRROR = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
_TEXT_FUNCTIONS: dict[type[exp.Expr], tuple[str, pl.DataType]] = {
    exp.Lower: ("lower", pl.String()),
    exp.Upper: ("upper", pl.String()),
    exp.Trim: ("trim", pl.String()),
    exp.Length: ("length", pl.Int64()),
}
_TWO = ("this", "expression")
_NEGATED = (*_TWO, "negate")
# Each node that is allowed, its rule, and the arguments that it may have.
_RULES: dict[type[exp.Expr], tuple[Callable[[_Reader, Any], _Term], tuple[str, ...]]] = {
    exp.Column: (_Reader.column, ("this",)),
    exp.Literal: (_Reader.literal, ("this", "is_string")),
    exp.Boolean: (lambda _, node: _Constant(bool(node.this)), ("this",)),
    exp.Null: (lambda _reader, _node: _Constant(None), ()),
    exp.Cast: (_Reader.moment, ("this", "to")),
    exp.Paren: (lambda reader, node: reader.term(node.this), ("this",)),
    exp.Neg: (_Reader.negative, ("this",)),
    exp.And: (_Reader.connect, _TWO),
    exp.Or: (_Reader.connect, _TWO),
    exp.Not: (_Reader.negate, ("this",)),
    exp.Is: (_Reader.is_, _NEGATED),
    exp.In: (_Reader.in_, ("this", "expressions", "negate")),
    exp.Between: (_Reader.between, ("this", "low", "high", "negate")),
    exp.Like: (_Reader.like, _NEGATED),
    exp.ILike: (_Reader.like, _NEGATED),
    exp.Abs: (_Reader.absolute, ("this",)),
    exp.Coalesce: (_Reader.coalesce, ("this", "expressions")),
    **dict.fromkeys(_OPERATORS, (_Reader.compare, _TWO)),
    **dict.fromkeys(_ARITHMETIC, (_Reader.arithmetic, (*_TWO, "typed", "safe"))),
    **dict.fromkeys(_TEXT_FUNCTIONS, (_Reader.text_function, ("this",))),
}
