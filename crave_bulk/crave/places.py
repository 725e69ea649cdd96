"""Places: addresses, cities, telephone numbers and coordinates in the form in which two of them compare."""

from __future__ import annotations

from functools import reduce

import polars as pl

from crave_bulk.crave.names import folded

# What follows in an address only says how to find it.
_HINT = (
    r"\b(?:between|btwn|bet|near|nr|off|at|corner|cor|opp|opposite|inside|ste|suite|unit|floor|level|bldg)\b"
    r"|[,;#(]"
)
_ORDINALS = {
    "first": "1", "second": "2", "third": "3", "fourth": "4", "fifth": "5", "sixth": "6", "seventh": "7",
    "eighth": "8", "ninth": "9", "tenth": "10", "eleventh": "11", "twelfth": "12",
}  # fmt: skip
# The kind of a street and its direction are written in many ways, or left out.
_KINDS = [
    "street", "st", "avenue", "ave", "av", "avenues", "aves", "boulevard", "blvd", "blv", "bl", "road",
    "rd", "drive", "dr", "lane", "ln", "place", "pl", "court", "ct", "highway", "hwy", "square", "sq",
    "parkway", "pkwy", "pky", "plaza", "plz", "terrace", "ter", "circle", "cir", "way", "wy", "alley",
    "aly", "pike", "sts", "north", "south", "east", "west", "northeast", "northwest", "southeast",
    "southwest", "n", "s", "e", "w", "ne", "nw", "se", "sw", "no", "so",
]  # fmt: skip
_WAYS = ("west", "east", "north", "south")


def address_words(address: pl.Expr) -> pl.Expr:
    """Split an address into its words, without cross streets, suites, kinds of street and directions.

    Args:
        address: as written.

    Returns:
        A list of words; ordinals are bare numbers.

    Example:
        >>> pl.select(address_words(pl.lit("155 W. 51st St., between 6th & 7th Aves."))).item().to_list()
        ['155', '51']
        >>> pl.select(address_words(pl.lit("12 S. Fifth Ave. (near 3rd)"))).item().to_list()
        ['12', '5']
    """
    # What stands in front of the hint must have a number, else the hint is all that there is.
    plain = folded(address).str.replace(rf"^(.*?\d.*?)\s*(?:{_HINT}).*$", "$1")
    bare = plain.str.replace_all(r"['’.]", "").str.replace(r"^(\d+)\s*[-–/]\s*\d+", "$1")
    split = bare.str.replace_all(r"[^\p{L}\p{N}]+", " ").str.strip_chars().str.split(" ")
    number = pl.element().replace(_ORDINALS).str.replace(r"^(\d+)(?:st|nd|rd|th)$", "$1")
    return split.list.eval(number.filter(~number.is_in([*_KINDS, ""])))


def house(words: pl.Expr) -> pl.Expr:
    """Find the number of the house among the words of an address.

    Args:
        words: what `address_words` gives.

    Returns:
        Digits; null where there is no number, or where the number is the street's.

    Example:
        >>> words = pl.DataFrame({"words": [["12", "5"], ["5"], ["12a", "main"], ["ritz", "hotel", "12", "main"]]})
        >>> words.select(house(pl.col("words"))).to_series().to_list()
        ['12', None, '12', '12']
    """
    number = words.list.eval(pl.element().filter(_is_house())).list.first()
    return pl.when(words.list.len() > 1).then(number.str.extract(r"^(\d+)", 1))


def street(words: pl.Expr) -> pl.Expr:
    """Find the street among the words of an address.

    Args:
        words: what `address_words` gives.

    Returns:
        The words but for the number of the house; null where there are none.

    Example:
        >>> pl.select(street(pl.lit(pl.Series([["435", "la", "cienega"]])).first())).item()
        'la cienega'
    """
    several = pl.when(words.list.len() > 1).then(words.list.eval(pl.element().filter(~_is_house())))
    rest = several.otherwise(words).list.join(" ")
    return pl.when(rest != "").then(rest)


def _is_house() -> pl.Expr:
    """Pick the first number in a list of words, which need not be the first word: "Ritz Hotel, 12 Main Street"."""
    number = pl.element().str.contains(r"^\d+[a-z]?$")
    return number & (number.cum_sum() == 1)


def phone(number: pl.Expr) -> pl.Expr:
    """Reduce a telephone number to its last ten digits, without the country's prefix of North America.

    Args:
        number: as written.

    Returns:
        Digits; null where there are fewer than seven.

    Example:
        >>> [pl.select(phone(pl.lit(text))).item() for text in ("+1 (310) 246-1501", "310/246-1501 or -1502", "911")]
        ['3102461501', '3102461501', None]
    """
    first = number.str.extract(r"((?:[\d(+][\d\s().+/\-]*)?\d{4})", 1)
    digits = first.str.replace_all(r"\D", "").str.replace(r"^1(\d{10})", "$1")
    return pl.when(digits.str.len_chars() >= 7).then(digits.str.head(10))


def city(name: pl.Expr) -> pl.Expr:
    """Fold the name of a city.

    Args:
        name: as written.

    Returns:
        Lower-case words; null where there are none.

    Example:
        >>> [pl.select(city(pl.lit(text))).item() for text in ("New York City, NY", "W. Hollywood", "St. Louis")]
        ['new york', 'west hollywood', 'saint louis']
    """
    own = folded(name).str.replace(r"[,(/].*$", "").str.replace_all(r"['’.]", "")
    head = own.str.replace_all(r"[^\p{L}\p{N}]+", " ")
    long = reduce(lambda text, way: text.str.replace(f"^{way[0]} ", f"{way} "), _WAYS, head)
    saint = long.str.replace(r"^st ", "saint ").str.replace(r" city$", "").str.strip_chars()
    return pl.when(saint != "").then(saint)
