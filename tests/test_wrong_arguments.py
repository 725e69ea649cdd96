"""Wrong values for every public argument: each is one clear error of crave_bulk's own, at the earliest place."""

from __future__ import annotations

import copy
import inspect
import pickle
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, Union

import pandera.polars as pa
import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.examples import Foods
from crave_bulk.table import contract_of


class Things(cb.Table):
    id: int = cb.field(key=True)
    n: int = cb.field(default=0)
    s: str | None

    class Config:
        name = "things"


FRAME = pl.DataFrame({"id": [1], "n": [1], "s": ["a"]})
WRONG: list[Any] = [
    None, 5, -1, 1.5, "", " ", "(", "\0", b"x", True, object(), int, float("nan"), float("inf"), 10**400,
    [], [5], [None], ["", ""], {}, {5: 5}, {"a": object()}, (), set(),
]  # fmt: skip
CALLS: dict[str, tuple[Any, ...]] = {
    "insert": (Things, FRAME),
    "upsert": (Things, FRAME),
    "update": (Things, FRAME),
    "delete": (Things, [7]),
    "sync": (Things, FRAME),
    "update_where": (Things, {"n": 1}, {"id": 1}),
    "delete_where": (Things, {"id": 99}),
    "restore_where": (Things, {"id": 99}),
    "read": (Things,),
    "undo": ("x",),
    "batches": (),
    "create": (Things,),
    "evolve": (Things,),
    "run": ([],),
    "transaction": (),
    "atomically": (lambda: 1,),
}


def refused_or_done(call: Any) -> None:
    """Anything but an error of crave_bulk's own is a fault."""
    try:
        result = call()
        if hasattr(result, "__enter__") and not isinstance(result, cb.Database):
            with result:
                pass
    except cb.BulkError:
        pass


@pytest.mark.thorough_on_postgres
@pytest.mark.parametrize("verb", CALLS)
def test_every_argument_of_every_verb(verb: str) -> None:
    with cb.connect() as db:
        db.create(Things)
        db.insert(Things, FRAME)
        call, arguments = getattr(db, verb), CALLS[verb]
        for wrong in WRONG:
            for place in range(len(arguments)):
                passed = [*arguments[:place], wrong, *arguments[place + 1 :]]
                refused_or_done(lambda passed=passed: call(*passed))
            for parameter in inspect.signature(call).parameters.values():
                if parameter.default is not parameter.empty:
                    refused_or_done(
                        lambda name=parameter.name, wrong=wrong: call(*arguments, **{name: wrong})
                    )
            assert not db.in_transaction
        db.read(Things)


def declared(annotation: Any, field: Any, **config: Any) -> type[cb.Table]:
    names = {"name": "q", **config}
    return type(
        "Q",
        (cb.Table,),
        {
            "__annotations__": {"id": int, "x": annotation},
            "id": cb.field(key=True),
            "x": field,
            "Config": type("Config", (), names),
        },
    )


def test_every_option_of_a_field() -> None:
    ours = [name for name in inspect.signature(cb.field).parameters if name != "pandera_options"]
    theirs = [name for name in inspect.signature(pa.Field).parameters if name != "kwargs"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pandera's, about values that it has no use for
        for name in dict.fromkeys([*ours, *theirs]):
            for wrong in WRONG:
                for annotation in (int, str):
                    refused_or_done(
                        lambda a=annotation, n=name, w=wrong: contract_of(declared(a, cb.field(**{n: w})))
                    )


@pytest.mark.parametrize(
    "option", ["name", "unique", "indexes", "coerce", "strict", "dtype", "title", "uniqe"]
)
def test_every_option_of_a_config(option: str) -> None:
    for wrong in WRONG:
        refused_or_done(lambda w=wrong: contract_of(declared(int, cb.field(), **{option: w})))


@pytest.mark.parametrize("option", ["url", "ledger", "keep_undo"])
def test_every_option_of_a_connection(option: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for wrong in WRONG:
        refused_or_done(lambda w=wrong: cb.connect(**{option: w}).close())


@pytest.mark.parametrize("option", ["verb", "table", "arguments", "options", "name"])
def test_every_option_of_an_operation(option: str) -> None:
    with cb.connect() as db:
        db.create(Things)
        for wrong in WRONG:
            options = {"verb": "insert", "table": Things, "arguments": (FRAME,), option: wrong}
            python_judges = (option == "arguments" and isinstance(wrong, tuple | list)) or (
                isinstance(wrong, dict) and "a" in wrong
            )
            if not python_judges:  # how many arguments there are, and what they are called
                refused_or_done(lambda o=options: db.run([cb.Operation(**o)], recovery="partial"))


# -- what each kind says -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "options"),
    [
        ("references=5", {"references": 5}),
        ("references=", {"references": Things}),
        ("missing \\)", {"str_matches": "("}),
        ("merge=", {"merge": []}),
    ],
)
def test_a_field_says_what_is_wrong(said: str, options: dict[str, Any]) -> None:
    with pytest.raises(cb.ContractError, match=said):
        cb.field(**options)


@pytest.mark.parametrize(
    ("said", "annotation", "options", "config"),
    [
        ("did you mean 'unique'", int, {}, {"uniqe": ["x"]}),
        ("did you mean 'indexes'", int, {}, {"indexs": ["x"]}),
        (r"Config\.name=5", int, {}, {"name": 5}),
        (r"Config\.unique=5", int, {}, {"unique": 5}),
        ("one type", Union[int, str], {}, {}),  # noqa: UP007
        ("one type", int | str | None, {}, {}),
        ("without fields", pl.Struct({}), {}, {}),
        ("without fields", pl.List(pl.Struct({"a": pl.Struct({})})), {}, {}),
        ("a key never changes", bool, {"key": True, "soft_delete": True}, {}),
        ("default=-1 .* breaks a rule", int, {"ge": 0, "default": -1}, {}),
        ("default='c' .* breaks a rule", str, {"isin": ["a", "b"], "default": "c"}, {}),
        ("default='abc' .* breaks a rule", str, {"str_length": {"max_value": 2}, "default": "abc"}, {}),
        ("default='x' .* is no Int64", int, {"default": "x"}, {}),
        ("default=300 .* is no Int8", pl.Int8, {"default": 300}, {}),
        ("rounded", pl.Decimal(8, 2), {"default": 1.999}, {}),
        ("default=nan .* breaks", float, {"default": float("nan")}, {}),
        ("no UUID", str, {"uuid": True, "default": "x"}, {}),
        ("not JSON", str, {"json": True, "default": "{"}, {}),
        ("is no Enum", pl.Enum(["a"]), {"default": "b"}, {}),
    ],
)
def test_a_declaration_that_cannot_work_is_refused(
    said: str, annotation: Any, options: dict[str, Any], config: dict[str, Any]
) -> None:
    with pytest.raises(cb.ContractError, match=said):
        contract_of(declared(annotation, cb.field(**options), **config))


@pytest.mark.parametrize(
    ("annotation", "options"),
    [
        (int, {"ge": 0, "default": 0}),
        (int | None, {"default": 3}),
        (int | None, {}),
        (float, {"nullable": True, "default": float("nan")}),
        (pl.Decimal(8, 2), {"default": 1}),
        (pl.List(pl.Int64), {"default": []}),
        (str, {"json": True, "default": "{}"}),
        (str, {"str_length": {"max_value": 2}, "default": "ab"}),
    ],
)
def test_a_declaration_that_works(annotation: Any, options: dict[str, Any]) -> None:
    assert contract_of(declared(annotation, cb.field(**options))).column("x")


def test_a_frame_that_cannot_be_collected(db: cb.Database) -> None:
    db.create(Things)

    def fails(_: pl.DataFrame) -> pl.DataFrame:
        raise OSError("the source is gone")

    for lazy in (FRAME.lazy().with_columns(pl.col("nowhere")), FRAME.lazy().map_batches(fails)):
        for verb in ("insert", "upsert", "update", "delete", "sync"):
            with pytest.raises(cb.ContractError, match="LazyFrame cannot be collected"):
                getattr(db, verb)(Things, lazy)


@pytest.mark.parametrize("timeout", [10**400, 10**18, 1e308, float("nan"), float("inf"), 0, -1, "1", True])
def test_a_timeout_that_is_no_time(db: cb.Database, timeout: Any) -> None:
    db.create(Things)
    with pytest.raises(cb.ContractError, match="is no time"):
        db.insert(Things, FRAME, timeout=timeout)


@pytest.mark.parametrize(
    "options",
    [
        {"columns": 5}, {"columns": [5]}, {"columns": []}, {"order_by": [5]}, {"order_by": 5}, {"order_by": b"x"},
        {"limit": -1}, {"limit": 1.5}, {"limit": True}, {"limit": "1"},
    ],
)  # fmt: skip
def test_a_read_that_is_not_understood(db: cb.Database, options: dict[str, Any]) -> None:
    db.create(Things)
    with pytest.raises(cb.ContractError, match=next(iter(options))):
        db.read(Things, **options)


class Counters(cb.Table):
    id: int = cb.field(key=True)
    name: str = cb.field(unique=True, merge="max")
    n: pl.UInt64 = cb.field(merge="add", default=0)
    at: int = cb.field(merge="max", default=0)


@pytest.mark.parametrize("newer", ["at", "n", "", 5, [5], "id", "nowhere"])
def test_newer_by_a_column_that_cannot_decide(db: cb.Database, newer: Any) -> None:
    db.create(Counters)
    frame = pl.DataFrame({"id": [1], "name": ["a"], "at": [1]})
    with pytest.raises(cb.ContractError, match="newer="):
        db.upsert(Counters, frame, newer=newer, once=False)


@pytest.mark.parametrize("on", ["name", ["name"], 5, "", [], [5], b"name", ["", ""]])
def test_on_a_column_that_cannot_match(db: cb.Database, on: Any) -> None:
    db.create(Counters)
    with pytest.raises(cb.ContractError, match="on="):
        db.upsert(Counters, pl.DataFrame({"id": [1], "name": ["a"]}), on=on)


HALF = 2**63 - 1


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        (pl.UInt64, HALF),
        (pl.Int64, HALF),
        (pl.UInt32, 2**32 - 1),
        (pl.Int32, 2**31 - 1),
        (pl.UInt8, 255),
        (pl.Int8, 127),
    ],
)
def test_a_sum_that_is_too_large_refuses_its_row(
    db: cb.Database, dtype: Any, most: int, stored: bool
) -> None:
    table = type(
        "Sums",
        (cb.Table,),
        {"__annotations__": {"id": int, "n": dtype}, "id": cb.field(key=True), "n": cb.field(merge="add")},
    )
    db.create(table)
    rows = pl.DataFrame({"id": [1, 1, 2], "n": pl.Series([most, 1, 1], dtype=dtype)})
    if stored:
        db.upsert(table, rows.head(1))
        rows = rows.tail(2)
    report = db.upsert(table, rows, on_reject="keep")
    assert report.counts["rejected"] == 1
    assert report.failures["rule"].to_list() == ["merge(add)"]
    assert sorted(db.read(table).rows()) == [(1, most), (2, 1)]


# -- to another process --------------------------------------------------------------------------------


def errors() -> list[cb.BulkError]:
    with cb.connect() as db:
        db.create(Things)
        report = db.insert(Things, FRAME)
        with pytest.raises(cb.RejectedRows) as refused:
            db.insert(Things, FRAME)
    assert report.committed
    noted = cb.ContractError("noted")
    noted.add_note("a note")
    return [
        refused.value,
        cb.UndoRefused("no", rows=pl.DataFrame({"table": ["t"]})),
        cb.CommitUnknown("lost", ("a", "b")),
        cb.ConstraintViolated("no", sqlstate="23505", constraint="c", said="s", columns=("x",)),
        cb.DatabaseBusy("busy"),
        noted,
    ]


@pytest.mark.parametrize("error", errors(), ids=lambda error: type(error).__name__)
def test_an_error_goes_to_another_process_and_back(error: cb.BulkError) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert set(vars(again)) == set(vars(error))
        assert getattr(again, "__notes__", None) == getattr(error, "__notes__", None)


def test_a_report_in_an_error_keeps_all_but_its_database() -> None:
    with cb.connect() as db:
        db.create(Things)
        report = db.insert(Things, FRAME)
        again = pickle.loads(pickle.dumps(report))
        assert again.counts == report.counts
        with pytest.raises(cb.UndoRefused, match=rf"db\.undo\('{report.batch_id}'\)"):
            again.undo()
        with pytest.raises(cb.RejectedRows) as refused:
            db.insert(Things, FRAME)
    error = pickle.loads(pickle.dumps(refused.value))
    assert error.report.counts == {"input": 1, "rejected": 1}
    assert error.report.failures.equals(refused.value.report.failures)
    assert error.report.rejected.equals(refused.value.report.rejected)


def write_twice(path: str) -> None:
    with cb.connect(f"sqlite:///{path}") as db:
        db.create(Things)
        db.insert(Things, FRAME)
        db.insert(Things, FRAME)


@pytest.mark.thorough
def test_a_pool_of_processes_hands_the_error_on(tmp_path: Any) -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        done = pool.submit(write_twice, f"{tmp_path}/pool.db")
    with pytest.raises(cb.RejectedRows) as refused:
        done.result()
    assert refused.value.report.counts == {"input": 1, "rejected": 1}


@pytest.mark.parametrize("limit", [2**63, 10**30, pytest.param(10**5000, id="long"), -1, 1.5, True])
def test_a_limit_that_no_database_can_count(limit: Any, db: cb.Database) -> None:
    db.create(Things)
    with pytest.raises(cb.ContractError, match="limit by 0 to 9223372036854775807"):
        db.read(Things, limit=limit)
    assert db.read(Things, limit=2**63 - 1).height == 0


def test_a_column_twice_and_half_a_character_are_refused(db: cb.Database) -> None:
    db.create(Foods)
    with pytest.raises(cb.ContractError, match="names a column twice"):
        db.upsert(Foods, pl.DataFrame({"food_id": [1], "name": ["a"]}), on=["food_id", "food_id"])
    with pytest.raises(cb.ContractError, match="is not a table name"):
        db.read("\ud800")
