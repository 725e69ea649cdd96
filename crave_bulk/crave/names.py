"""Names: what varies when two people write the same name, taken out step by step.

`simplified` is the form in which two names are the same name (the exact tier and the alias tier compare it);
`words` and `skeleton` are what is left to compare where they are not.
"""

from __future__ import annotations

import polars as pl

# The accents of Latin, Greek and Cyrillic letters alone: what other scripts write with marks are vowels.
_ACCENTS = r"[\x{300}-\x{36F}]+"
# Letters that Unicode does not take apart into a letter and an accent.
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "ı": "i", "þ": "th"}
_MARKS = {
    "'": "",
    "’": "",
    "‘": "",
    "ʼ": "",
    "`": "",
    "´": "",
    "&": " and ",
    "+": " and ",
    "$": "s",
}
# Words that name a kind of place rather than this one; on their own they tell little.
GENERIC = [
    "bakery", "bar", "barbecue", "bistro", "brasserie", "brewery", "buffet", "cafe", "cantina", "chophouse",
    "co", "company", "cuisine", "deli", "diner", "dining", "eatery", "express", "food", "grill", "grille",
    "house", "inc", "inn", "kitchen", "llc", "lounge", "market", "original", "osteria", "pizzeria", "place",
    "pub", "restaurant", "ristorante", "room", "saloon", "shop", "steakhouse", "sushi", "taqueria",
    "tavern", "trattoria",
]  # fmt: skip
# Articles and the like, which people leave out.
SMALL = [
    "a", "an", "and", "at", "by", "chez", "da", "de", "del", "des", "di", "du", "el", "il", "in", "la",
    "las", "le", "les", "lo", "los", "no", "of", "on",
]  # fmt: skip
# What the parts of one hotel are called: a bar and a lounge under one roof are two.
OUTLETS = [
    "bar", "bistro", "brasserie", "buffet", "cafe", "club", "coffee", "court", "deli", "diner", "dining",
    "garden", "grill", "lobby", "lounge", "patio", "pool", "pub", "restaurant", "rooftop", "room",
    "rotunda", "steakhouse", "sushi", "tavern", "terrace",
]  # fmt: skip
# Two spellings of one word, or two languages for it.
_SAME_WORD = {
    "barbeque": "barbecue",
    "bbq": "barbecue",
    "caffe": "cafe",
    "coffeehouse": "cafe",
    "coffeeshop": "cafe",
    "company": "co",
    "delicatessen": "deli",
    "grille": "grill",
    "mt": "mount",
    "n": "and",
    "restaurante": "restaurant",
    "ristorante": "restaurant",
    "rest": "restaurant",
    "rm": "room",
    "saint": "st",
    "sainte": "st",
    "ste": "st",
}

_CONSONANTS = "bcdfgjklmnpqrstvxz"


def folded(text: pl.Expr) -> pl.Expr:
    """Fold case and accents.

    Args:
        text: any text.

    Returns:
        Lower-case letters without accents.

    Example:
        >>> pl.select(folded(pl.lit("Crème BRÛLÉE, Straße"))).item()
        'creme brulee, strasse'
    """
    # In this order, as what Unicode takes apart may be capitals: "№" is "No".
    plain = text.str.normalize("NFKD").str.replace_all(_ACCENTS, "").str.to_lowercase()
    return plain.str.replace_many(list(_LETTERS), list(_LETTERS.values()))


def simplified(name: pl.Expr) -> pl.Expr:
    """Take out what varies in one and the same name: case, accents, punctuation, apostrophes, "the", "&", spaces.

    Args:
        name: names as written.

    Returns:
        The names in their simplest form; one of which nothing would be left is only folded, and may be empty.

    Example:
        >>> [pl.select(simplified(pl.lit(name))).item() for name in ("The  Café & Bar", "Joe's", "Palm, The")]
        ['cafe and bar', 'joes', 'palm']
        >>> pl.select(simplified(pl.lit("The ?"))).item()
        'the ?'
    """
    # First the marks, as Unicode takes an acute that stands alone for a space.
    plain = folded(name.str.replace_many(list(_MARKS), list(_MARKS.values())))
    spaced = plain.str.replace_all(r"[^\p{L}\p{M}\p{N}]+", " ")
    short = spaced.str.replace_all(r"\bthe\b", "").str.replace_all("  ", " ", literal=True).str.strip_chars()
    return pl.when(short == "").then(plain.str.strip_chars()).otherwise(short)


def words(simple: pl.Expr) -> pl.Expr:
    """Split a simplified name into words, each in one spelling and in the singular.

    Args:
        simple: what `simplified` gives.

    Returns:
        The words, in order.

    Example:
        >>> pl.select(words(pl.lit("joes delicatessen and steak house"))).item().to_list()
        ['joe', 'deli', 'and', 'steakhouse']
    """
    whole = simple.str.replace_all(r"\b(steak|chop|coffee|smoke|ale|road) house\b", "${1}house")
    return whole.str.split(" ").list.eval(word(pl.element()))


def word(text: pl.Expr) -> pl.Expr:
    """Bring a word to one spelling and to the singular.

    Args:
        text: one word of a simplified name.

    Returns:
        The word as it is compared.

    Example:
        >>> [pl.select(word(pl.lit(text))).item() for text in ("bbq", "pies", "grass", "gas")]
        ['barbecue', 'pie', 'grass', 'gas']
    """
    plural = text.str.ends_with("s") & ~text.str.ends_with("ss") & (text.str.len_bytes() > 3)
    return pl.when(plural).then(text.str.head(-1)).otherwise(text).replace(_SAME_WORD)


def skeleton(word: pl.Expr) -> pl.Expr:
    """Reduce a word to its first letter and its consonants, each once in a row, so that most typos fall away.

    Args:
        word: one word.

    Returns:
        Its skeleton.

    Example:
        >>> [pl.select(skeleton(pl.lit(word))).item() for word in ("cappuccino", "capucino", "iou")]
        ['cpcn', 'cpcn', 'i']
    """
    head, tail = word.str.head(1), word.str.slice(1).str.replace_all(r"[aeiouyhw]", "")
    return head + tail.str.replace_many([2 * letter for letter in _CONSONANTS], list(_CONSONANTS))
