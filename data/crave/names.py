"""Names of restaurants from a grammar: templates whose slots are filled from pools of words."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

from data.crave.dice import Dice
from data.crave.words import pool

Templates = Sequence[tuple[float, str]]
ROUNDS = 5  # of drawing names that are not there yet


def fill(template: str, dice: Dice) -> pl.Series:
    """Fill a template's slots, once per row.

    Args:
        template: Text with names of pools in braces.
        dice: The draws.

    Returns:
        The texts.

    Example:
        >>> fill("Chez {fr_first}", Dice(7, "names", 2)).to_list()
        ['Chez Claude', 'Chez Étienne']
    """
    parts = re.split(r"\{(\w+)\}", template)
    drawn = [
        pl.lit(dice.sub(str(place)).pick(pool(part))) if place % 2 else pl.lit(part)
        for place, part in enumerate(parts)
    ]
    return pl.select(pl.concat_str(drawn).alias("name")).to_series()


def compose(templates: Templates, dice: Dice) -> pl.Series:
    """Make a name per row, each of a template that is drawn by its weight.

    Args:
        templates: Weights and templates.
        dice: The draws.

    Returns:
        The names.
    """
    chosen = dice.weighted([weight for weight, _ in templates])
    counts = np.bincount(chosen, minlength=len(templates))
    filled = [
        fill(template, dice.sub(template, int(count)))
        for (_, template), count in zip(templates, counts, strict=True)
        if count
    ]
    places = np.argsort(np.argsort(chosen, kind="stable"), kind="stable")
    return pl.concat(filled)[places]


def _distinct(names: pl.Series) -> pl.Series:
    """Keep the first of names that differ in case alone.

    Args:
        names: The names.

    Returns:
        Those that stay, in their order.
    """
    return names.filter(names.str.to_lowercase().is_first_distinct())


def distinct(templates: Templates, dice: Dice) -> pl.Series:
    """Make names of which no two are alike, as far as the templates reach.

    Args:
        templates: Weights and templates.
        dice: The draws; their size is the number of names.

    Returns:
        The names; they repeat once the grammar has run dry.
    """
    names = pl.Series("name", [], dtype=pl.String)
    for turn in range(ROUNDS):
        wanted = int(1.4 * (dice.size - len(names))) + 64
        names = _distinct(pl.concat([names, compose(templates, dice.sub(str(turn), wanted))]))
        if len(names) >= dice.size:
            break
    return names[np.arange(dice.size) % len(names)]
