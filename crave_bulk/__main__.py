"""The main job on real data: ``python -m crave_bulk`` loads WordNet's foods, and runs again unchanged."""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from crave_bulk.chart import plot_timings
from crave_bulk.database import connect
from crave_bulk.errors import BulkError
from crave_bulk.report import Report
from crave_bulk.table import Table, field


class Foods(Table):
    """One row per food; two foods of the same name are one too many."""

    food_id: str = field(key=True, str_matches=r"\d{8}-n$")
    name: str = field(unique=True, str_length={"min_value": 1, "max_value": 255})
    gloss: str

    class Config:
        """The table's name."""

        name = "foods"


class FoodNames(Table):
    """One row per name of a food, ranked."""

    food_id: str = field(key=True, references="foods.food_id")
    alias: str = field(key=True, str_length={"min_value": 1, "max_value": 255})
    rank: int = field(ge=1)

    class Config:
        """The table's name."""

        name = "food_names"


class FoodKinds(Table):
    """One row per is-a link between two foods."""

    food_id: str = field(key=True, references="foods.food_id")
    category_id: str = field(key=True, references="foods.food_id")

    class Config:
        """The table's name."""

        name = "food_kinds"


FILES: dict[type[Table], str] = {Foods: "foods.csv", FoodNames: "aliases.csv", FoodKinds: "is_a.csv"}


def data_folder() -> Path:
    """Find the foods: inside an installed package, or beside it in a checkout.

    Returns:
        The folder of the CSV files.

    Raises:
        BulkError: there is none.

    Example:
        >>> sorted(path.name for path in data_folder().glob("*.csv"))
        ['aliases.csv', 'foods.csv', 'is_a.csv']
    """
    package = Path(__file__).parent
    for folder in (package / "data" / "foods", package.parent / "data" / "foods"):
        if folder.is_dir():
            return folder
    raise BulkError("the food data is not here: install the package again, as in pip install .")


def load(url: str) -> list[Report]:
    """Load foods, names and links; whatever breaks a rule is kept out and reported.

    Args:
        url: the database.

    Returns:
        One report per table.
    """
    with connect(url) as db:
        db.create(*FILES)
        return [
            db.upsert(table, pl.read_csv(data_folder() / name), on_reject="keep")
            for table, name in FILES.items()
        ]


def main(arguments: list[str] | None = None) -> None:
    """Run the job, print the report of each table, and draw the timings.

    Args:
        arguments: those of the command line.
    """
    parser = argparse.ArgumentParser(prog="python -m crave_bulk", description=__doc__)
    parser.add_argument(
        "--to", metavar="URL", default="sqlite:///crave.db", help="the database (%(default)s)"
    )
    parser.add_argument(
        "--chart", metavar="FILE", default="crave_timings.png", help="the chart (%(default)s)"
    )
    options = parser.parse_args(arguments)
    try:
        reports = load(options.to)
    except BulkError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error
    for report in reports:
        print(report, end="\n\n")
        for row in report.failures.head(2).iter_rows(named=True):
            print(f"    e.g. row {row['row']}: {row['column']} = {row['value']!r}: {row['message']}")
        if report.failures.height:
            print()
    print(
        "The rejects are meant: names that repeat, and links to what they left out. Run it again: all unchanged."
    )
    try:
        plot_timings(reports).savefig(options.chart, dpi=150)
    except (OSError, ValueError) as error:
        raise SystemExit(
            f"the data is loaded, but the chart cannot be written to {options.chart}: {error}"
        ) from error
    print(f"{sum(report.counts['input'] for report in reports):,} rows; timings drawn in {options.chart}")


if __name__ == "__main__":
    main()
