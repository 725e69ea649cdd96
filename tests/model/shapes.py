"""Random small tables: what they are like, and the `cb.Table` and the rows that go with it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import polars as pl
from hypothesis import strategies as st

import crave_bulk as cb

Row = dict[str, Any]
Key = tuple[Any, ...]

DTYPES: dict[str, Any] = {
    "int": pl.Int64,
    "str": pl.String,
    "strs": pl.List(pl.String),
    "ints": pl.List(pl.Int64),
    "bool": pl.Boolean,
}
RULES = {
    "int": ["replace", "keep", "add", "max", "min", "coalesce"],
    "str": ["replace", "keep", "max", "min", "coalesce"],
    "strs": ["replace", "union", "append", "coalesce"],
    "ints": ["union", "append", "keep"],
}
# Small domains, so that rows meet.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(1, 4),
    "str": st.sampled_from("abc"),
    "strs": st.lists(st.sampled_from("pq"), max_size=2),
    "ints": st.lists(st.integers(1, 2), max_size=2),
}


class Brief:
    """A dataclass that is shown without what is as usual."""

    def __repr__(self) -> str:
        told = [
            f"{f.name}={getattr(self, f.name)!r}"
            for f in fields(self)  # type: ignore[arg-type]
            if getattr(self, f.name) not in (f.default, {})
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


@dataclass(frozen=True, repr=False)
class Column(Brief):
    """A column; `least` is a contract rule, `target` the number of the table that it points at."""

    name: str
    kind: str
    nullable: bool = False
    rule: str = "replace"
    default: Any = None
    least: int | None = None
    target: int | None = None

    @property
    def may_be_left_out(self) -> bool:
        """A row without it takes the default, or null."""
        return self.nullable or self.default is not None

    def values(self) -> st.SearchStrategy[Any]:
        """Draw a value that may well be one of another row, or break the contract."""
        one = VALUES[self.kind]
        if self.least is not None:
            one |= st.integers(-1, 0)
        return st.one_of(st.none(), one, one, one) if self.nullable else one

    def breaks(self, value: Any) -> bool:
        """Whether the contract refuses a value."""
        if value is None:
            return not self.nullable
        return self.least is not None and value < self.least


@dataclass(frozen=True)
class Shape:
    """A table of a world, which is known by its number."""

    number: int
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...]
    marked: bool  # there is a column `gone` which marks rows as deleted
    made: bool  # the database makes the key

    def __getitem__(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def names(self) -> tuple[str, ...]:
        """All columns that a frame may have."""
        return tuple(column.name for column in self.columns)

    def key_of(self, row: Row) -> Key:
        """Return the key of a row."""
        return tuple(row[name] for name in self.key)

    def table(self, world: str) -> type[cb.Table]:
        """Declare the table; the tables of a world have names of their own."""
        declared: dict[str, tuple[Any, Any]] = {}
        for column in self.columns:
            options: Row = {"merge": column.rule, "key": column.name in self.key}
            annotation: Any = {"int": int, "str": str}.get(column.kind, DTYPES[column.kind])
            if column.target is not None:
                options["references"] = f"{world}_{column.target}.k"
            if column.least is not None:
                options["ge"] = column.least
            if column.default is not None:
                options["default"] = column.default
            if column.nullable and isinstance(annotation, type):
                annotation = annotation | None
            elif column.nullable:
                options["nullable"] = True
            declared[column.name] = annotation, cb.field(**options)
        if self.marked:
            declared["gone"] = bool, cb.field(soft_delete=True, default=False)
        unique = [list(names) for names in self.unique]
        config = type("Config", (), {"name": f"{world}_{self.number}", "unique": unique})
        body = {
            "__module__": __name__,
            "__annotations__": {name: annotation for name, (annotation, _) in declared.items()},
            "Config": config,
            **{name: field for name, (_, field) in declared.items()},
        }
        return type(f"T{self.number}", (cb.Table,), body)

    def frame(self, rows: list[Row], names: list[str]) -> pl.DataFrame:
        """Put rows into a frame of these columns."""
        schema = {name: DTYPES[self[name].kind] for name in names}
        return pl.DataFrame([{name: row[name] for name in names} for row in rows], schema=schema)


@st.composite
def shapes(draw: st.DrawFn, earlier: tuple[Shape, ...] = ()) -> Shape:
    """Draw a table that may point at itself and at earlier ones."""
    number = len(earlier)
    # What is pointed at is a key of one column, which is called k.
    targets = {shape.number: shape["k"].kind for shape in earlier if shape.key == ("k",)}
    key = draw(st.sampled_from([("k",), ("k",), ("k",), ("k", "l"), ("m", "k")]))
    made = key == ("k",) and draw(st.sampled_from([False, False, False, True]))
    kinds = {name: "int" if made else draw(st.sampled_from(["int", "str"])) for name in key}
    columns = [Column(name, kind) for name, kind in kinds.items()]
    if len(key) == 2 and targets and draw(st.booleans()):
        target, kind = draw(st.sampled_from(sorted(targets.items())))
        columns[0] = Column(key[0], kind, target=target)
    if key == ("k",):
        targets[number] = kinds["k"]
    for name in "abcde"[: draw(st.integers(1, 5))]:
        columns.append(draw(plain(name)))
    for name in "rs"[: draw(st.integers(0, 2)) if targets else 0]:
        target, kind = draw(st.sampled_from(sorted(targets.items())))
        nullable = target == number or draw(st.booleans())
        columns.append(
            Column(
                name,
                kind,
                nullable,
                draw(st.sampled_from(["replace", "replace", "keep", "coalesce", "max"])),
                target=target,
            )
        )
    scalars = [c.name for c in columns if c.kind in ("int", "str")]
    sets = st.lists(st.sampled_from(scalars), min_size=1, max_size=2, unique=True).map(sorted).map(tuple)
    unique = draw(st.lists(sets, max_size=2, unique=True))
    unique = [names for names in unique if names != tuple(sorted(key))]
    order = draw(st.permutations(columns)) if draw(st.booleans()) else columns
    return Shape(number, key, tuple(order), tuple(unique), draw(st.booleans()), made)


@st.composite
def plain(draw: st.DrawFn, name: str) -> Column:
    """Draw a column that points nowhere."""
    kind = draw(st.sampled_from(["int", "int", "int", "str", "str", "strs", "ints"]))
    rule = draw(st.sampled_from(["replace", *RULES[kind]]))
    nullable = draw(st.booleans())
    least = draw(st.sampled_from([None, None, 0])) if kind == "int" else None
    default = draw(st.sampled_from([None, {"int": 2, "str": "b", "strs": ["p"], "ints": [1]}[kind]]))
    return Column(name, kind, nullable, rule, default, least)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Shape, ...]:
    """Draw one to three tables."""
    made: tuple[Shape, ...] = ()
    for _ in range(draw(st.integers(1, 3))):
        made = (*made, draw(shapes(made)))
    return made
