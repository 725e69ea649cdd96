"""Make restaurants, guides, foods and mentions of any size: ``python data/crave/generate.py --help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl

if __name__ == "__main__":  # run as a script, the checkout is not where Python looks
    sys.path.insert(0, str(Path(__file__).parents[2]))

from data.crave.catalog import attributes, foods, rewrite_names
from data.crave.mentions import extractions
from data.crave.places import restaurants
from data.crave.rewriting import guides, rewrite

__all__ = [
    "attributes",
    "everything",
    "extractions",
    "foods",
    "guides",
    "restaurants",
    "rewrite",
    "rewrite_names",
]


def everything(
    places: int,
    mentions: int,
    seed: int,
    *,
    listed: int | None = None,
    overlap: float = 0.5,
    aliases: float = 4.4,
) -> dict[str, pl.DataFrame]:
    """Make every frame that there is.

    Args:
        places: How many restaurants.
        mentions: How many mentions of them.
        seed: What the draws depend on.
        listed: How many restaurants are in each guide; as many as there are restaurants, if not given.
        overlap: The share of them that are in both guides.
        aliases: Other names of each restaurant, on average.

    Returns:
        The frames by name.

    Example:
        >>> {name: len(frame) for name, frame in everything(20, 30, 7, listed=10).items()}  # doctest: +NORMALIZE_WHITESPACE
        {'restaurants': 20, 'foods': 2479, 'attributes': 128, 'extraction': 30, 'truth': 30,
         'guide_first': 10, 'guide_second': 10}
    """
    frames = {
        "restaurants": restaurants(places, seed, aliases=aliases),
        "foods": foods(),
        "attributes": attributes(),
    }
    known = frames["restaurants"], frames["foods"], frames["attributes"]
    frames["extraction"], frames["truth"] = extractions(mentions, *known, seed)
    first, second = guides(places if listed is None else listed, overlap, seed)
    return frames | {"guide_first": first, "guide_second": second}


def _arguments() -> argparse.ArgumentParser:
    """Say what can be asked for.

    Returns:
        The parser.
    """
    parser = argparse.ArgumentParser(description="Make restaurants, guides, foods and mentions of any size.")
    parser.add_argument("--restaurants", type=int, default=1_000, help="how many restaurants")
    parser.add_argument("--mentions", type=int, default=10_000, help="how many mentions")
    parser.add_argument(
        "--listed", type=int, help="how many restaurants are in each guide; else as many as there are"
    )
    parser.add_argument(
        "--overlap", type=float, default=0.5, help="the share of them that are in both guides"
    )
    parser.add_argument(
        "--aliases", type=float, default=4.4, help="other names of each restaurant, on average"
    )
    parser.add_argument("--seed", type=int, default=7, help="another seed gives other data")
    parser.add_argument("--out", type=Path, required=True, help="the folder to write to")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    """Write every frame into a folder, and say so.

    Args:
        words: The command line's words.
    """
    asked = _arguments().parse_args(words)
    asked.out.mkdir(parents=True, exist_ok=True)
    sizes = {"listed": asked.listed, "overlap": asked.overlap, "aliases": asked.aliases}
    for name, frame in everything(asked.restaurants, asked.mentions, asked.seed, **sizes).items():
        frame.write_parquet(asked.out / f"{name}.parquet")
        print(f"{name}: {frame.height:,} rows")


if __name__ == "__main__":
    main()
