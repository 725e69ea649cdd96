"""What people do to names, addresses, cities and phones: small pure functions from text to text.

Each takes the text's expression and dice of as many rows, and returns the changed text; the first line of its
docstring is what the README's table says of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import polars as pl

from data.crave.dice import Dice
from data.crave.words import cities, pool

Change = Callable[[pl.Expr, Dice], pl.Expr]

CURLED = "\u2019"  # the apostrophe of printers
KINDS = (
    "restaurants?|ristorante|restaurante|trattoria|osteria|caf[eé]|caff[eè]|diner|bar & grill|bar and grill|grill|bistro|"
    "brasserie|eatery|tavern|pub|lounge|bar|kitchen|house|steakhouse|pizzeria|taquer[ií]a|sushi bar|cantina|inn|club"
)
CUISINES = "|".join(pool("cuisine"))
ABBREVIATIONS = {
    "Delicatessen": "Deli", "Restaurant": "Rest.", "Saint": "St.", "Brothers": "Bros.", "Company": "Co.",
    "Barbecue": "BBQ", "Bar-B-Q": "BBQ", "Mount": "Mt.", "Fort": "Ft.", "Coffee": "Coffe", "Mister": "Mr.",
    "Bar & Grill": "B & G", "New York": "NY", "Los Angeles": "LA", "Ristorante": "Rist.", "International": "Int'l",
    "Pizzeria": "Pizza", "Street": "St.", "Avenue": "Ave.", "Market": "Mkt.", "House": "Hse", "Hotel": "Htl.",
}  # fmt: skip
EXPANSIONS = {
    "Deli": "Delicatessen", "BBQ": "Barbecue", "St.": "Saint", "Bros.": "Brothers", "Co.": "Company", "Mt.": "Mount",
    "BBQ & Grill": "Barbecue and Grill", "Mr.": "Mister", "&": "And", "Pho": "Phở", "Cafe": "Café", "Pizza": "Pizzeria",
}  # fmt: skip
COMPOUNDS = {
    "Steakhouse": "Steak House", "Smokehouse": "Smoke House", "Roadhouse": "Road House", "Chophouse": "Chop House",
    "Alehouse": "Ale House", "Taproom": "Tap Room", "Cookhouse": "Cook House", "Coffee House": "Coffeehouse",
    "Fish House": "Fishhouse", "Drive-In": "Drive In", "Tea House": "Teahouse", "Noodle House": "Noodlehouse",
    "Pancake House": "Pancakehouse", "Riverside": "River Side", "Lakeside": "Lake Side", "Seaside": "Sea Side",
    "Blue Ridge": "Blueridge", "Sandwich Shop": "Sandwichshop", "Dragonfly": "Dragon Fly", "Bumblebee": "Bumble Bee",
}  # fmt: skip
SUFFIXES = {
    "Street": "St.", "Avenue": "Ave.", "Boulevard": "Blvd.", "Road": "Rd.", "Drive": "Dr.", "Lane": "Ln.",
    "Place": "Pl.", "Court": "Ct.", "Parkway": "Pkwy.", "Square": "Sq.", "Terrace": "Ter.", "Suite": "Ste.",
}  # fmt: skip
DIRECTIONS = {
    "Northwest": "N.W.", "Northeast": "N.E.", "Southwest": "S.W.", "Southeast": "S.E.",
    "North": "N.", "South": "S.", "East": "E.", "West": "W.",
}  # fmt: skip
ORDINALS = {
    "1st": "First", "2nd": "Second", "3rd": "Third", "4th": "Fourth", "5th": "Fifth", "6th": "Sixth",
    "7th": "Seventh", "8th": "Eighth", "9th": "Ninth", "10th": "Tenth", "11th": "Eleventh", "12th": "Twelfth",
}  # fmt: skip
CITY_NAMES = {
    "New York": "New York City", "Washington": "Washington D.C.", "St. Louis": "Saint Louis", "Saint Paul": "St. Paul",
    "St. Petersburg": "Saint Petersburg", "Las Vegas": "Vegas", "Los Angeles": "LA", "San Francisco": "SF",
    "Philadelphia": "Philly", "Fort Worth": "Ft. Worth", "Fort Lauderdale": "Ft. Lauderdale", "New Orleans": "NOLA",
}  # fmt: skip
NEIGHBOURS = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl", "p": "ol",
    "a": "qsz", "s": "adwx", "d": "sfec", "f": "dgrv", "g": "fhtb", "h": "gjyn", "j": "hkum", "k": "jlio", "l": "kop",
    "z": "xas", "x": "zcs", "c": "xvd", "v": "cbf", "b": "vng", "n": "bmh", "m": "nj",
}  # fmt: skip
PHONES = ("$1/$2-$3", "$1-$2-$3", "($1) $2-$3", "+1 $1 $2 $3", "$1.$2.$3", "$1$2$3", "$1 $2 $3")


def draws(values: np.ndarray | pl.Series) -> pl.Expr:
    """Put one drawn value per row into an expression.

    Args:
        values: The values.

    Returns:
        The expression.
    """
    return pl.lit(pl.Series("", values))


def one_of(choices: Sequence[pl.Expr], dice: Dice) -> pl.Expr:
    """Take one of several expressions per row.

    Args:
        choices: The expressions.
        dice: The draws.

    Returns:
        The one that was drawn.
    """
    which, taken = draws(dice.below(len(choices))), choices[0]
    for number, choice in enumerate(choices[1:], 1):
        taken = pl.when(which == number).then(choice).otherwise(taken)
    return taken


def _swap(text: pl.Expr, words: dict[str, str]) -> pl.Expr:
    """Replace whole words, whatever their case.

    Args:
        text: The text.
        words: What replaces what.

    Returns:
        The text.
    """
    for old, new in words.items():
        escaped = old.replace(".", r"\.").replace("&", r"\&")
        text = text.str.replace_all(rf"(?i)(^|\s){escaped}($|[\s,])", f"${{1}}{new}${{2}}")
    return text


def lower(text: pl.Expr, _: Dice) -> pl.Expr:
    """Lower case: "The Palm" -> "the palm"."""
    return text.str.to_lowercase()


def upper(text: pl.Expr, _: Dice) -> pl.Expr:
    """Capitals: "The Palm" -> "THE PALM"."""
    return text.str.to_uppercase()


def drop_accents(text: pl.Expr, _: Dice) -> pl.Expr:
    """Accents dropped: "Café Zoé" -> "Cafe Zoe"."""
    plain = text.str.normalize("NFKD").str.replace_all(r"\p{M}", "")
    return plain.str.replace_many(["ø", "Ø", "\u0131", "ß"], ["o", "O", "i", "ss"])


def drop_apostrophes(text: pl.Expr, _: Dice) -> pl.Expr:
    """Apostrophes dropped: "Joe's" -> "Joes"."""
    return text.str.replace_all(f"['{CURLED}]", "")


def change_apostrophes(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Apostrophes changed: "Joe's" -> "Joe`s", "Joe s", or curled."""
    return one_of([text.str.replace_all("'", new, literal=True) for new in (CURLED, "`", " ")], dice)


def drop_possessive(text: pl.Expr, _: Dice) -> pl.Expr:
    """The first possessive dropped: "Joe's Diner" -> "Joe Diner"."""
    return text.str.replace(rf"['{CURLED}]s\b", "")


def drop_punctuation(text: pl.Expr, _: Dice) -> pl.Expr:
    """Punctuation dropped: "Bar-B-Q & Co." -> "Bar B Q Co"."""
    return text.str.replace_all(r"[^\w\s]", " ").str.replace_all(r"\s+", " ").str.strip_chars()


def drop_the(text: pl.Expr, _: Dice) -> pl.Expr:
    """A leading article dropped: "The Palm" -> "Palm"."""
    return text.str.replace(r"^(?i:the|la|le|el|il) (\S)", "$1")


def the_last(text: pl.Expr, _: Dice) -> pl.Expr:
    """The article moved to the end: "The Palm" -> "Palm, The"."""
    return text.str.replace(r"^(?i:the) (\S.*)$", "$1, The")


def add_the(text: pl.Expr, _: Dice) -> pl.Expr:
    """An article added: "Palm" -> "The Palm"."""
    return pl.when(text.str.contains("^(?i:the|la|le|el|il) ")).then(text).otherwise("The " + text)


def ampersand(text: pl.Expr, _: Dice) -> pl.Expr:
    """Ampersands swapped: "Salt & Rye" -> "Salt and Rye", and back."""
    spelled, signed = text.str.replace_all(" & ", " and "), text.str.replace_all(" (?i:and) ", " & ")
    return pl.when(text.str.contains(" & ")).then(spelled).otherwise(signed)


def drop_kind(text: pl.Expr, _: Dice) -> pl.Expr:
    """The kind of place dropped: "Cafe Coco Restaurant" -> "Cafe Coco", "Osteria Roma" -> "Roma"."""
    short = text.str.replace(rf"^(.*\S) (?i:{KINDS})$", "$1")
    return (
        pl.when(short != text).then(short).otherwise(text.str.replace(rf"^(?i:{KINDS}) (\S.{{3,}})$", "$1"))
    )


def add_kind(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A kind of place added: "Coco" -> "Coco Restaurant"."""
    kinds = ["Restaurant", "Restaurant", "Cafe", "Bar & Grill", "Bistro", "Grill", "Bar", "Kitchen", "Inn"]
    return text + " " + draws(dice.pick(kinds))


def drop_tail(text: pl.Expr, _: Dice) -> pl.Expr:
    """A descriptive tail dropped: "Yujean's Gourmet Chinese Cuisine" -> "Yujean's"."""
    styles, kinds = "|".join(pool("tail_style")), "|".join(pool("tail_kind"))
    pattern = rf"^(.*\S)(?: (?i:{styles}))?(?: (?i:{CUISINES}))(?: (?i:{kinds}))?$"
    short = text.str.replace(rf"^(\S+['{CURLED}]s) \S.{{8,}}$", "$1")
    return pl.when(short != text).then(short).otherwise(text.str.replace(pattern, "$1"))


def add_tail(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A descriptive tail added: "Yujean's" -> "Yujean's Chinese Cuisine"."""
    return text + " " + draws(dice.pick(pool("cuisine"))) + " " + draws(dice.pick(pool("tail_kind")))


def branch(text: pl.Expr, dice: Dice) -> pl.Expr:
    """City or suburb added: "Palm" -> "Palm (Las Vegas)", "Palm - The Strip"."""
    city = pl.col("city")
    return one_of([text + " (" + city + ")", text + " - " + suburb(city, dice), text + " " + city], dice)


def word_order(text: pl.Expr, _: Dice) -> pl.Expr:
    """Word order changed: "Hotel Bel-Air" -> "Bel-Air Hotel", "Cafe Roma" -> "Roma Cafe", and back."""
    front = text.str.replace(
        r"^((?i:hotel|caf[eé]|bistro|sushi|taquer[ií]a|pho|bar)) (\S+(?: \S+)?)$", "$2 $1"
    )
    back = text.str.replace(
        r"^(\S+(?: \S+)?) ((?i:hotel|caf[eé]|bistro|sushi|taquer[ií]a|pho|bar))$", "$2 $1"
    )
    return pl.when(front != text).then(front).otherwise(back)


def abbreviate(text: pl.Expr, _: Dice) -> pl.Expr:
    """Words abbreviated: "Delicatessen" -> "Deli", "Saint" -> "St."."""
    return _swap(text, ABBREVIATIONS)


def expand(text: pl.Expr, _: Dice) -> pl.Expr:
    """Abbreviations spelled out: "BBQ" -> "Barbecue", "Bros." -> "Brothers"."""
    return _swap(text, EXPANSIONS)


def compounds(text: pl.Expr, _: Dice) -> pl.Expr:
    """Compounds split or joined: "Steakhouse" -> "Steak House", "Jo Jo" -> "JoJo", "Coco" -> "Co Co"."""
    word = text.str.split(" ")
    twice = word.list.get(0, null_on_oob=True) == word.list.get(1, null_on_oob=True)
    joined = pl.when(twice).then(text.str.replace(" ", "", literal=True)).otherwise(_swap(text, COMPOUNDS))
    return pl.when(joined == text).then(text.str.replace(r"^(\w{2})(\w{2})$", "$1 $2")).otherwise(joined)


def join_words(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A space lost: "Golden Dragon" -> "GoldenDragon"."""
    spaces = text.str.count_matches(" ")
    return _without(text, " ", (draws(dice.uniform()) * spaces).cast(pl.Int64))


def _without(text: pl.Expr, mark: str, which: pl.Expr) -> pl.Expr:
    """Drop one of a text's separators.

    Args:
        text: The text.
        mark: The separator.
        which: The number of the one to drop.

    Returns:
        The text.
    """
    parts = text.str.split(mark)
    head, tail = parts.list.head(which + 1).list.join(mark), parts.list.slice(which + 1).list.join(mark)
    return head + tail


def drop_word(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A word lost, if there are three: "Golden Dragon Cafe" -> "Golden Cafe"."""
    words = text.str.split(" ")
    which = (draws(dice.uniform()) * words.list.len()).cast(pl.Int64)
    short = pl.concat_list(words.list.head(which), words.list.slice(which + 1)).list.join(" ")
    return pl.when(words.list.len() > 2).then(short).otherwise(text)


def typo(text: pl.Expr, dice: Dice) -> pl.Expr:
    """One letter inserted, deleted, replaced (by a neighbour on the keyboard) or transposed."""
    at = (draws(dice.uniform()) * text.str.len_chars()).cast(pl.Int64)
    head, letter, tail = text.str.slice(0, at), text.str.slice(at, 1), text.str.slice(at + 1)
    near = letter.str.to_lowercase().replace_strict(NEIGHBOURS, default="e")
    key = near.str.slice((draws(dice.uniform()) * near.str.len_chars()).cast(pl.Int64), 1)
    swapped = head + tail.str.slice(0, 1) + letter + tail.str.slice(1)
    return one_of([head + letter + key + tail, head + tail, head + key + tail, swapped], dice)


def double_letter(text: pl.Expr, _: Dice) -> pl.Expr:
    """Double letters written once, or once written twice: "Russo" -> "Ruso", "Salami" -> "Sallami"."""
    once = text.str.replace_many(["ll", "ss", "tt", "nn", "rr", "cc"], ["l", "s", "t", "n", "r", "c"])
    return (
        pl.when(once != text)
        .then(once)
        .otherwise(text.str.replace(r"([aeiou])([lstnr])([aeiou])", "${1}${2}${2}${3}"))
    )


def by_ear(text: pl.Expr, _: Dice) -> pl.Expr:
    """Written by ear: "Philippe" -> "Filippe", "Quick" -> "Kwick", "Chez" -> "Shez"."""
    old = ["Ph", "ph", "Qu", "qu", "Ch", "ck", "ough", "ei", "ie", "ey"]
    return text.str.replace_many(old, ["F", "f", "Kw", "kw", "Sh", "k", "o", "ie", "ei", "y"])


def double_spaces(text: pl.Expr, _: Dice) -> pl.Expr:
    """Spaces doubled: "Golden Dragon" -> "Golden  Dragon"."""
    return text.str.replace(" ", "  ", literal=True)


def plural(text: pl.Expr, _: Dice) -> pl.Expr:
    """Plural and singular swapped: "taco" -> "tacos", "berries" -> "berry"."""
    more = text.str.replace(r"([^aeiou])y$", "${1}ie").str.replace(r"(ch|sh|x|s)$", "${1}e") + "s"
    one = text.str.replace(r"ies$", "y").str.replace(r"(ch|sh|x|ss)es$", "$1").str.replace(r"([^su])s$", "$1")
    return pl.when(one != text).then(one).otherwise(more)


def turned(text: pl.Expr, _: Dice) -> pl.Expr:
    """Two words turned: "chicken soup" -> "soup, chicken", "breast of lamb" -> "lamb breast"."""
    short = text.str.replace(r"^(\S+) of (\S+)$", "$2 $1")
    return pl.when(short != text).then(short).otherwise(text.str.replace(r"^(\S+) (\S+)$", "$2, $1"))


def hyphen(text: pl.Expr, _: Dice) -> pl.Expr:
    """Hyphens dropped or added: "club-sandwich" -> "club sandwich", and back."""
    without = text.str.replace_all("-", " ", literal=True)
    return pl.when(without != text).then(without).otherwise(text.str.replace(" ", "-", literal=True))


def title(text: pl.Expr, _: Dice) -> pl.Expr:
    """Title case: "chicken soup" -> "Chicken Soup"."""
    return text.str.to_titlecase()


def short_suffix(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Suffixes abbreviated: "Sunset Boulevard" -> "Sunset Blvd.", "Sunset Blvd"."""
    dotted = _swap(text, SUFFIXES)
    bare = _swap(text, {old: new.rstrip(".") for old, new in SUFFIXES.items()})
    return one_of([dotted, bare], dice)


def short_direction(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Directions abbreviated: "South" -> "S.", "S"."""
    dotted = _swap(text, DIRECTIONS)
    return one_of([dotted, _swap(text, {old: new.replace(".", "") for old, new in DIRECTIONS.items()})], dice)


def drop_direction(text: pl.Expr, _: Dice) -> pl.Expr:
    """Directions dropped: "435 South La Cienega" -> "435 La Cienega"."""
    return text.str.replace(rf"^(\d+) (?:{'|'.join(DIRECTIONS)}) ", "$1 ")


def spelled_ordinal(text: pl.Expr, _: Dice) -> pl.Expr:
    """Ordinals spelled out: "5th Avenue" -> "Fifth Avenue"."""
    return _swap(text, ORDINALS)


def ordinal(number: pl.Expr) -> pl.Expr:
    """Write a number as an ordinal.

    Args:
        number: Whole numbers.

    Returns:
        Texts like "3rd".

    Example:
        >>> pl.select(ordinal(pl.lit(pl.Series([1, 12, 23, 40])))).to_series().to_list()
        ['1st', '12th', '23rd', '40th']
    """
    teen, last = (number // 10) % 10 == 1, number % 10
    ending = last.replace_strict({1: "st", 2: "nd", 3: "rd"}, default="th", return_dtype=pl.String)
    return number.cast(pl.String) + pl.when(teen).then(pl.lit("th")).otherwise(ending)


def cross_street(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A cross-street added: "between 3rd and 4th sts.", "off Sunset", "at Main St."."""
    number, street = dice.below(90) + 1, draws(dice.pick(pool("street")))
    near, far = ordinal(draws(number)), ordinal(draws(number + 1))
    between = text + " between " + near + " and " + far + " sts."
    return one_of([between, text + " off " + street, text + " at " + street + " St."], dice)


def add_unit(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A suite number added: "Suite 210", "#12"."""
    unit = draws(dice.pick(pool("unit"))) + " " + draws(dice.below(400) + 1).cast(pl.String)
    return text + ", " + unit.str.replace("# ", "#", literal=True)


def drop_unit(text: pl.Expr, _: Dice) -> pl.Expr:
    """Suite numbers dropped: "12 Main Street, Suite 210" -> "12 Main Street"."""
    return text.str.replace(r", \S+ ?\d+$", "")


def add_hotel(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A hotel's name added: "Ritz Hotel, 12 Main Street", "12 Main Street, in the Ritz"."""
    hotel = draws(dice.pick(pool("hotel")))
    return one_of([hotel + " Hotel, " + text, text + ", in the " + hotel], dice)


def other_number(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Another number: "12 Main Street" -> "918 Main Street"."""
    return draws(dice.below(4000) + 1).cast(pl.String) + text.str.replace(r"^\d+", "")


def no_number(text: pl.Expr, _: Dice) -> pl.Expr:
    """The number missing: "12 Main Street" -> "Main Street"."""
    return text.str.replace(r"^\d+ ", "")


def suburb(text: pl.Expr, dice: Dice) -> pl.Expr:
    """A neighbourhood or suburb instead of the city: "Los Angeles" -> "Studio City"."""
    known = cities().select("city", pl.col("suburbs").list.join("|"))
    suburbs = text.replace_strict(known["city"], known["suburbs"], default=text).str.split("|")
    return suburbs.list.get((draws(dice.uniform()) * suburbs.list.len()).cast(pl.Int64))


def city_name(text: pl.Expr, _: Dice) -> pl.Expr:
    """Another name of the city: "New York" -> "New York City", "St. Louis" -> "Saint Louis"."""
    return text.replace(CITY_NAMES)


def phone_format(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Another format: "310-246-1501" -> "310/246-1501", "(310) 246-1501", "+1 310 246 1501"."""
    return one_of([text.str.replace(r"^(\d+)-(\d+)-(\d+)$", format_) for format_ in PHONES], dice)


def other_phone(text: pl.Expr, dice: Dice) -> pl.Expr:
    """Another number of the same area."""
    line = draws(dice.below(10_000)).cast(pl.String).str.zfill(4)
    return text.str.slice(0, 4) + draws(dice.below(800) + 200).cast(pl.String) + "-" + line


def missing(text: pl.Expr, _: Dice) -> pl.Expr:
    """Missing."""
    return pl.when(False).then(text)
