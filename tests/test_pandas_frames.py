"""What a pandas frame says by its index and its column names is taken as it is meant, or refused."""

from __future__ import annotations

from typing import Any

import pandas as pd
import polars as pl
import pytest

import crave_bulk as cb


class Sales(cb.Table):
    """A key of two columns."""

    shop: str = cb.field(key=True)
    day: int = cb.field(key=True)
    sold: int | None

    class Config:
        name = "sales"


ROWS = {"shop": ["a", "b"], "day": [1, 2], "sold": [10, 20]}


@pytest.fixture
def sales(db: cb.Database) -> cb.Database:
    db.create(Sales)
    return db


def there(db: cb.Database) -> list[tuple[Any, ...]]:
    return db.read(Sales, order_by="shop").rows()


@pytest.mark.parametrize("index", [["shop", "day"], ["day"], ["day", "shop"]])
@pytest.mark.parametrize("verb", ["insert", "upsert", "sync"])
def test_a_named_index_is_columns(sales: cb.Database, index: list[str], verb: str) -> None:
    frame = pd.DataFrame(ROWS).set_index(index)
    report = getattr(sales, verb)(Sales, frame)
    assert report.counts == {"input": 2, "inserted": 2}
    assert there(sales) == [("a", 1, 10), ("b", 2, 20)]
    assert list(frame.index.names) == index  # the caller's frame is as it was


def test_rows_are_updated_and_deleted_by_a_named_index(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS).set_index(["shop", "day"])
    sales.insert(Sales, frame)
    assert sales.update(Sales, frame + 1).counts["updated"] == 2
    assert sales.delete(Sales, frame.iloc[:1]).counts["deleted"] == 1
    assert there(sales) == [("b", 2, 21)]


def test_a_named_range_is_a_column(sales: cb.Database) -> None:
    frame = pd.DataFrame({"shop": ["a", "b"], "sold": [1, 2]}).rename_axis("day")
    sales.insert(Sales, frame)
    assert there(sales) == [("a", 0, 1), ("b", 1, 2)]


def test_numbers_without_a_name_only_count_the_rows(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS)
    assert sales.insert(Sales, frame[frame["sold"] > 10]).counts["inserted"] == 1
    assert sales.upsert(Sales, frame.sort_values("sold", ascending=False)).counts["inserted"] == 1
    assert sales.upsert(Sales, frame.iloc[:0]).counts == {"input": 0}
    assert sales.upsert(Sales, pd.concat([frame, frame])).counts["unchanged"] == 2


@pytest.mark.parametrize(
    "index",
    [
        ["x", "y"],
        pd.MultiIndex.from_tuples([("x", 0), ("y", 1)]),
        pd.to_datetime(["2026-01-01", "2026-01-02"]),
    ],
    ids=["text", "levels", "moments"],
)
def test_labels_without_a_name_are_refused(sales: cb.Database, index: Any) -> None:
    frame = pd.DataFrame(ROWS).set_axis(index, axis="index")
    with pytest.raises(cb.ContractError, match=r"index.*rename_axis.*reset_index\(drop=True\)"):
        sales.insert(Sales, frame)
    assert there(sales) == []


def test_an_index_that_is_named_like_a_column_is_refused(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS).set_index("shop", drop=False)
    with pytest.raises(cb.ContractError, match="'shop'.*both.*index.*column"):
        sales.insert(Sales, frame)
    assert there(sales) == []


def test_a_level_beside_numbers_is_a_column(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS).set_index("shop", append=True)
    sales.insert(Sales, frame)
    assert there(sales) == [("a", 1, 10), ("b", 2, 20)]


def test_a_column_that_is_there_twice_is_named(sales: cb.Database) -> None:
    frame = pd.DataFrame([["a", 1, 2, 3]], columns=["shop", "day", "sold", "sold"])
    with pytest.raises(cb.ContractError, match="'sold'.*more than once"):
        sales.insert(Sales, frame)


def test_columns_of_several_levels_are_refused(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS).set_axis(pd.MultiIndex.from_product([["x"], list(ROWS)]), axis="columns")
    with pytest.raises(cb.ContractError, match="2 levels"):
        sales.insert(Sales, frame)


def test_column_names_that_are_no_text_are_read_as_text(db: cb.Database) -> None:
    with db.session() as session:
        session.execute('CREATE TABLE t ("0" bigint PRIMARY KEY NOT NULL, "1" bigint)')
    frame = pd.DataFrame([[1, 2], [3, 4]])
    assert db.upsert("t", frame).counts["inserted"] == 2
    assert db.upsert("t", frame.set_index(0)).counts["unchanged"] == 2
    assert db.read("t", order_by="0").rows() == [(1, 2), (3, 4)]
    with pytest.raises(cb.ContractError, match="'1'.*more than once"):
        db.upsert("t", pd.DataFrame([[1, 2, 3]], columns=[0, 1, "1"]))


def test_rejected_rows_hold_what_the_index_held(sales: cb.Database) -> None:
    frame = pd.DataFrame({**ROWS, "shop": ["a", None]}).set_index(["shop", "day"])
    report = sales.insert(Sales, frame, on_reject="keep")
    assert report.rejected.select("day", "sold").rows() == [(2, 20)]


def test_the_index_belongs_to_the_content_of_once(sales: cb.Database) -> None:
    first = pd.DataFrame(ROWS).set_index(["shop", "day"])
    other = pd.DataFrame({**ROWS, "day": [3, 4]}).set_index(["shop", "day"])
    assert sales.insert(Sales, first, once=True).counts["inserted"] == 2
    assert sales.insert(Sales, other, once=True).counts["inserted"] == 2
    assert sales.insert(Sales, first, once=True).replayed


def test_index_of_categories_and_of_whole_columns(sales: cb.Database) -> None:
    frame = pd.DataFrame(ROWS).astype({"shop": "category"}).set_index("shop")
    frame = frame.set_index(frame.index.astype("str"))
    assert sales.insert(Sales, frame).counts["inserted"] == 2
    assert sales.read(Sales).schema["shop"] == pl.String
