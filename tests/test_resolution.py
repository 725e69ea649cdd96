"""What `resolve` does, one property a test."""

from __future__ import annotations

import polars as pl
import pytest

import crave_bulk as cb
from crave_bulk.crave import Index, resolve
from data.crave.generate import guides, restaurants

ENTITIES = pl.DataFrame(
    {
        "entity_id": ["a", "b", "c"],
        "name": ["The Palm", "Joe's Café", "Golden Dragon"],
        "type": "restaurant",
        "aliases": [["Palm Steaks"], [], ["Dragon House", "Golden Drake"]],
        "city": ["Miami", "Reno", "Boise"],
    }
)
COLUMNS = [
    "row",
    "name",
    "decision",
    "entity_id",
    "entity_name",
    "confidence",
    "tier",
    "with_row",
    "evidence",
]
PLACES = ["address", "city", "phone"]
MERGED = ["exact", "alias", "merge"]

SAME = [
    ("Café Müller", "cafe muller"),
    ("CRÈME BRÛLÉE", "Creme Brulee"),
    ("The Palm", "Palm, The"),
    ("The Palm", "Palm"),
    ("Bar & Grill", "Bar and Grill"),
    ("Salt + Rye", "Salt & Rye"),
    ("Joe's", "Joes"),
    ("Joe\u2019s Diner", "Joe`s Diner"),
    ("Hotel Bel-Air", "Bel-Air Hotel"),
    ("Jo Jo", "JoJo"),
    ("McDonald's", "Mc Donalds"),
    ("Golden  Dragon", " golden dragon "),
    ("Katz's Delicatessen", "Katz's Deli"),
    ("Stubb's Bar-B-Q", "Stubbs Bar B Q"),
    ("Caffè Roma", "Cafe Roma"),
    ("Golden Dragon Palace", "Golden Dragn Palace"),
    ("Shake Shack", "Shake Shack - Madison Square"),
    ("Golden Dragon Palace", "Golden Dragon Palace (Las Vegas)"),
    ("St. Anthony's Tavern", "Saint Anthony's Tavern"),
    ("寿司 大", "寿司大"),
    ("Straße Neun", "strasse neun"),
    ("Q", "q"),
]
HERE = {"address": "12 Main Street", "city": "New York", "phone": "212-555-1234"}
THERE = {"address": "990 Broadway", "city": "New York", "phone": "212-555-9876"}
TWO = {
    "a chain in two cities": (
        {"name": "Golden Dragon Palace", "city": "Seattle"},
        {"name": "Golden Dragon Palace", "city": "Boston"},
    ),
    "a chain at two addresses of one city": (
        {"name": "Golden Dragon", **HERE},
        {"name": "Golden Dragon", **THERE},
    ),
    "bar and lounge of one hotel": ({"name": "Ritz Bar", **HERE}, {"name": "Ritz Lounge", **HERE}),
    "dining room and cafe of one hotel": (
        {"name": "Hotel Savoy Dining Room", **HERE},
        {"name": "Hotel Savoy Cafe", **HERE},
    ),
    "names a letter apart at other addresses": (
        {"name": "Ray's Pizza", **HERE},
        {"name": "Roy's Pizza", **THERE},
    ),
    "names a letter apart": ({"name": "Ray's Pizza"}, {"name": "Roy's Pizza"}),
    "one word in common": ({"name": "Golden Dragon"}, {"name": "Golden Palace"}),
    "two numbers": ({"name": "Pier 39"}, {"name": "Pier 93"}),
    "neighbours": ({"name": "Katz", **HERE}, {"name": "Blue Bottle", **HERE, "phone": "212-555-0001"}),
    "two place ids": (
        {"name": "Golden Dragon", "google_place_id": "x1"},
        {"name": "Golden Dragon", "google_place_id": "x2"},
    ),
    "far apart": (
        {"name": "Golden Dragon", "latitude": 40.7, "longitude": -74.0},
        {"name": "Golden Dragon", "latitude": 34.0, "longitude": -118.2},
    ),
    "two of another script": ({"name": "すし大"}, {"name": "すし太"}),
}


def entity(**known: object) -> pl.DataFrame:
    return pl.DataFrame([{"entity_id": "e", **known}])


# -- names --


@pytest.mark.parametrize(("there", "name"), SAME)
def test_two_spellings_of_a_name_are_one(there: str, name: str) -> None:
    assert resolve([name], entity(name=there))["decision"].to_list()[0] in MERGED
    assert resolve([there], entity(name=name))["decision"].to_list()[0] in MERGED
    assert resolve([there, name])["entity_id"].n_unique() == 1


@pytest.mark.parametrize("what", TWO)
def test_two_things_stay_two(what: str) -> None:
    first, second = TWO[what]
    for one, other in ((first, second), (second, first)):
        assert resolve(pl.DataFrame([one]), entity(**other))["decision"].to_list()[0] not in MERGED
    found = resolve(pl.DataFrame([first, second]))
    assert found.filter(pl.col("decision").is_in(["create", "review"])).height == 2


def test_branches_of_a_chain_stay_as_many_as_there_are_cities() -> None:
    towns = [f"{letter}{ending}" for letter in "BCDFGHKLMNPRSTVWZ" for ending in ("arstow", "oolum", "emizk")]
    chain = pl.DataFrame({"entity_id": towns, "name": "Burger Star", "city": towns})
    again = resolve(chain.select("name", "city"), chain)
    assert again["entity_id"].to_list() == towns
    new = resolve(pl.DataFrame({"name": ["Burger Star"], "city": ["Xanadu"]}), chain)
    assert new["decision"].to_list() == ["create"]
    assert resolve(chain.select("name", "city"))["entity_id"].n_unique() == len(towns)


def test_more_branches_than_are_compared_by_name_are_found_by_city() -> None:
    towns = [f"Town{number}x" for number in range(900)]
    chain = pl.DataFrame({"entity_id": towns, "name": "Burger Star", "city": towns})
    asked = pl.DataFrame({"name": "burger star", "city": [towns[3], towns[450], towns[899]]})
    found = resolve(asked, chain)
    assert found["entity_id"].to_list() == [towns[3], towns[450], towns[899]]
    assert set(found["decision"]) <= set(MERGED)


# -- tiers and decisions --


def test_tiers_are_told() -> None:
    found = resolve(["the palm", "palm steaks", "golden dragn", "wholly else"], ENTITIES)
    assert found["decision"].to_list() == ["exact", "alias", "merge", "create"]
    assert found["tier"].to_list() == ["exact", "alias", "fuzzy", None]
    assert found["entity_name"].to_list() == ["The Palm", "The Palm", "Golden Dragon", "wholly else"]


def test_one_row_per_name_in_order_with_columns_of_fixed_types() -> None:
    found = resolve(["b", "the palm", None], ENTITIES)
    assert found.columns == [*COLUMNS, "runners_up"]
    assert found["row"].to_list() == [0, 1, 2]
    assert isinstance(found.schema["decision"], pl.Enum)
    for column in ("evidence", "runners_up"):
        assert found[column].null_count() == 0


def test_exact_holds_within_a_type_only() -> None:
    both = pl.concat(
        [ENTITIES, ENTITIES.with_columns(type=pl.lit("food"), entity_id=pl.col("entity_id") + "2")]
    )
    asked = pl.DataFrame(
        {"name": ["the palm", "the palm", "the palm"], "type": ["food", "restaurant", "drink"]}
    )
    found = resolve(asked, both)
    assert found["entity_id"].to_list()[:2] == ["a2", "a"]
    assert found["decision"].to_list() == ["exact", "exact", "create"]


@pytest.mark.parametrize(
    ("names", "there"),
    [
        (pl.DataFrame({"name": ["palm"], "type": ["food"]}), ENTITIES.drop("type")),
        (pl.DataFrame({"name": ["palm"]}), ENTITIES),
        (pl.DataFrame({"name": ["palm"], "type": [None]}), ENTITIES),
    ],
)
def test_types_on_one_side_tell_nothing(names: pl.DataFrame, there: pl.DataFrame) -> None:
    assert resolve(names, there)["entity_id"].to_list() == ["a"]
    assert resolve(names, Index(there))["entity_id"].to_list() == ["a"]


def test_types_of_new_names_count_where_entities_have_none() -> None:
    names = pl.DataFrame({"name": ["Apple", "Apple"], "type": ["food", "restaurant"]})
    assert resolve(names)["entity_id"].n_unique() == 2
    assert resolve(names, ENTITIES.drop("type"))["entity_id"].n_unique() == 2


@pytest.mark.parametrize(
    ("tiers", "decisions"),
    [
        (["exact"], ["exact", "create", "create"]),
        (["alias"], ["create", "alias", "create"]),
        (["fuzzy"], ["merge", "merge", "merge"]),
        (["exact", "alias"], ["exact", "alias", "create"]),
    ],
)
def test_only_the_tiers_that_are_asked_for_are_tried(tiers: list[str], decisions: list[str]) -> None:
    found = resolve(["golden dragon", "golden drake", "golden dragn"], ENTITIES, tiers=tiers)
    entities = found["entity_id"].is_in(["a", "b", "c"])
    assert [d if e else "create" for d, e in zip(found["decision"], entities, strict=True)] == decisions


def test_thresholds_move_decisions() -> None:
    asked = ["Golden Dragon Palace Inn"]
    confidence = resolve(asked, ENTITIES, create=False, review_at=0.01)["confidence"].item()
    assert 0.01 < confidence < 0.99
    for merge_at, review_at, decision in (
        (confidence - 0.005, 0.001, "merge"),
        (confidence + 0.005, confidence - 0.005, "review"),
        (1.0, confidence + 0.005, "create"),
    ):
        found = resolve(asked, ENTITIES, merge_at=merge_at, review_at=review_at)
        assert found["decision"].to_list() == [decision]
    assert resolve(["the palm"], ENTITIES, merge_at=1.0)["decision"].to_list() == ["review"]


def test_two_equally_good_candidates_are_a_question() -> None:
    twins = pl.DataFrame({"entity_id": ["x", "y"], "name": ["Golden Dragon", "Golden Dragon"]})
    found = resolve(["golden dragon"], twins).row(0, named=True)
    assert found["decision"] == "review"
    assert 0.4 < found["confidence"] < 0.5
    assert {found["entity_id"], found["runners_up"][0]["entity_id"]} == {"x", "y"}


def test_what_is_known_of_the_place_tells_twins_apart() -> None:
    twins = pl.DataFrame(
        {"entity_id": ["x", "y"], "name": "Golden Dragon", "phone": ["212-555-1234", "310-555-9876"]}
    )
    for phone, there in (("(212) 555 1234", "x"), ("+1 310.555.9876", "y")):
        asked = pl.DataFrame({"name": ["golden dragon"], "phone": [phone]})
        found = resolve(asked, twins).row(0, named=True)
        assert (found["decision"], found["entity_id"]) == ("exact", there)
        assert "same phone" in found["evidence"]


def test_evidence_says_what_agrees_and_what_does_not() -> None:
    there = entity(name="Katz's Deli", address="205 E. Houston St.", city="New York", phone="212-254-2246")
    asked = {
        "name": "Katz Deli",
        "address": "205 East Houston Street",
        "city": "New York City",
        "phone": "212-555-0000",
    }
    found = resolve(pl.DataFrame([asked]), there).row(0, named=True)
    assert found["decision"] == "merge"
    assert found["evidence"][1:] == ["other phone", "same address", "same city"]


def test_runners_up_are_the_other_candidates_best_first() -> None:
    there = pl.DataFrame(
        {
            "entity_id": list("wxyz"),
            "name": ["Golden Dragon", "Golden Dragon Inn", "Golden Dragon Palace", "Else"],
        }
    )
    found = resolve(["golden dragon"], there, create=False).row(0, named=True)
    assert found["entity_id"] == "w"
    others = found["runners_up"]
    assert {other["entity_id"] for other in others} == {"x", "y"}
    assert [o["confidence"] for o in others] == sorted((o["confidence"] for o in others), reverse=True)
    assert resolve(["golden dragon"], there, create=False, candidates=2)["runners_up"].list.len().item() == 1
    assert resolve(["golden dragon"], there, create=False, candidates=1)["runners_up"].list.len().item() == 0


def test_what_is_not_chosen_is_among_the_runners_up() -> None:
    found = resolve(["Golden Palace"], ENTITIES).row(0, named=True)
    assert found["decision"] == "create"
    assert found["entity_id"] not in ("a", "b", "c")
    assert [other["entity_id"] for other in found["runners_up"]] == ["c"]
    assert found["confidence"] + found["runners_up"][0]["confidence"] == pytest.approx(1)


# -- looking up --


def test_looking_up_creates_nothing() -> None:
    found = resolve(["the palm", "wholly else", "Golden Palace"], ENTITIES, create=False)
    assert found["decision"].to_list() == ["exact", "none", "none"]
    assert found["entity_id"].to_list() == ["a", None, None]
    assert found["with_row"].null_count() == 3


def test_looking_up_asks_sooner() -> None:
    asked = pl.DataFrame({"name": ["Golden Dragon"], "city": ["Xanadu"]})
    assert resolve(asked, ENTITIES)["decision"].to_list() == ["create"]
    found = resolve(asked, ENTITIES, create=False).row(0, named=True)
    assert (found["decision"], found["entity_id"]) == ("review", "c")


# -- the batch --


def test_names_of_a_batch_are_resolved_against_each_other() -> None:
    names = ["New Place", "new place", "The New Place", "Brand New Kitchen", "Brand New Kitchn"]
    found = resolve(names, ENTITIES)
    assert found["decision"].to_list() == ["create", "exact", "exact", "create", "merge"]
    assert found["with_row"].to_list() == [0, 0, 0, 3, 3]
    assert found["entity_id"].n_unique() == 2
    assert set(found["entity_name"]) == {"New Place", "Brand New Kitchen"}


def test_every_new_entity_has_one_row_that_founds_it() -> None:
    first, second = guides(200, 0.5, 71)
    found = resolve(second.select("name", *PLACES), first.select("entity_id", "name", *PLACES))
    new = found.filter(pl.col("with_row") == pl.col("row"))
    assert (new["decision"] == "create").all()
    assert new["entity_id"].n_unique() == new.height == found.filter(pl.col("decision") == "create").height
    assert not new["entity_id"].is_in(first["entity_id"].implode()).any()


def test_rows_that_are_the_same_mean_the_same() -> None:
    found = resolve(["golden dragn"] * 3 + ["nowhere"] * 2, ENTITIES)
    assert found["decision"].to_list() == ["merge"] * 3 + ["create", "exact"]
    assert found["confidence"].n_unique() == 2
    assert found["entity_id"].to_list()[:3] == ["c"] * 3


def test_no_name_means_nothing() -> None:
    found = resolve([None, "", "  ", "'", "the palm"], ENTITIES)
    assert found["decision"].to_list() == ["none"] * 4 + ["exact"]
    assert found["entity_id"].to_list() == [None] * 4 + ["a"]


def test_a_name_of_signs_is_a_name() -> None:
    found = resolve(["???", "!!", "???"])
    assert found["with_row"].to_list() == [0, 1, 0]
    assert resolve(["?!"], entity(name="?!"))["decision"].to_list() == ["exact"]


# -- properties --


def test_the_order_of_the_entities_plays_no_part() -> None:
    first, second = guides(300, 0.5, 72)
    asked = second.select("name", *PLACES)
    there = first.select("entity_id", "name", "aliases", *PLACES)
    here = resolve(asked, there)
    told = ["decision", "tier", "evidence"]
    for seed in (1, 2):
        again = resolve(asked, there.sample(fraction=1, shuffle=True, seed=seed))
        assert again.select(told).equals(here.select(told))
        assert (again["confidence"] - here["confidence"]).abs().max() < 1e-9
        old = here["with_row"].is_null()
        assert again.filter(old)["entity_id"].equals(here.filter(old)["entity_id"])


def test_an_entity_means_itself() -> None:
    every = restaurants(400, 73)
    known = ["name", *PLACES, "google_place_id", "latitude", "longitude"]
    found = resolve(every.select(known), every.select("entity_id", *known))
    assert found["entity_id"].to_list() == every["entity_id"].to_list()
    assert found["confidence"].min() > 0.85


def test_two_entities_are_never_merged() -> None:
    twins = pl.DataFrame(
        {"entity_id": ["x", "y"], "name": ["Golden Dragon", "Golden Dragon"], "phone": "2125551234"}
    )
    found = resolve(pl.DataFrame({"name": ["golden dragon"] * 2, "phone": "2125551234"}), twins)
    assert found["decision"].to_list() == ["review", "review"]
    first, second = guides(200, 0.5, 74)
    there = pl.concat([first, first.with_columns(entity_id=pl.col("entity_id") + "+")])
    again = resolve(second.select("name", *PLACES), there.select("entity_id", "name", *PLACES))
    twice = again.filter(pl.col("with_row").is_null())
    assert twice.height >= 90
    assert not twice["decision"].is_in(MERGED).any()


def test_one_batch_gives_the_clusters_of_two_halves() -> None:
    batch = restaurants(150, 75).select("name", *PLACES)
    again = batch.with_columns(pl.col("name").str.to_uppercase())
    every = pl.concat([batch, again])
    whole = resolve(every)["entity_id"].to_list()
    first = resolve(batch)
    there = batch.with_columns(first["entity_id"]).unique("entity_id", keep="first")
    second = resolve(again, there.select("entity_id", "name", *PLACES))
    halves = [*first["entity_id"], *second["entity_id"]]
    assert len(set(whole)) == len(set(halves)) == len({(w, h) for w, h in zip(whole, halves, strict=True)})


def test_the_same_entity_listed_twice_is_one() -> None:
    twice = pl.concat([ENTITIES, ENTITIES.with_columns(name=pl.col("name") + " Restaurant")])
    found = resolve(["the palm", "the palm restaurant"], twice)
    assert found["decision"].to_list() == ["exact", "exact"]
    assert found["entity_id"].to_list() == ["a", "a"]


# -- what goes in --


def test_an_index_gives_what_its_frame_gives() -> None:
    first, second = guides(200, 0.5, 76)
    asked = second.select("name", *PLACES).with_columns(type=pl.lit("restaurant"))
    there = first.select("entity_id", "name", "type", "aliases", *PLACES)
    index = Index(there)
    plain = resolve(asked, there, create=False)
    for _ in range(2):
        assert resolve(asked, index, create=False).equals(plain)
    untyped = asked.drop("type")
    assert resolve(untyped, index, create=False).equals(resolve(untyped, there, create=False))
    assert repr(index) == "Index(200 entities)"
    assert len(index) == 200


@pytest.mark.parametrize("against", [None, ENTITIES.clear(), Index(), Index(ENTITIES.clear())])
def test_without_entities_every_name_is_new(against: object) -> None:
    found = resolve(["the palm", "The Palm", "b"], against)
    assert found["decision"].to_list() == ["create", "exact", "create"]


@pytest.mark.parametrize("names", [[], pl.DataFrame(schema={"name": pl.String})])
@pytest.mark.parametrize("against", [None, ENTITIES])
@pytest.mark.parametrize("create", [True, False])
def test_no_names_give_no_rows(names: object, against: object, create: bool) -> None:
    found = resolve(names, against, create=create)
    assert found.height == 0
    assert found.schema == resolve(["palm"], against, create=create).schema


def test_ids_may_be_numbers_and_then_new_entities_have_none() -> None:
    found = resolve(["the palm", "new", "New"], ENTITIES.with_columns(entity_id=pl.Series([1, 2, 3])))
    assert found["entity_id"].to_list() == [1, None, None]
    assert found["with_row"].to_list() == [None, 1, 1]


def test_lazy_frames_series_and_lists_are_taken() -> None:
    expected = resolve(["palm"], ENTITIES)
    for names in (
        pl.LazyFrame({"name": ["palm"]}),
        pl.Series(["palm"]),
        ("palm",),
        pl.DataFrame({"name": ["palm"]}),
    ):
        assert resolve(names, ENTITIES.lazy()).equals(expected)


def test_other_columns_are_left_out() -> None:
    names = pl.DataFrame({"name": ["palm"], "id": [1], "row": [2], "left": [3], "words": [4], "aliases": [5]})
    there = ENTITIES.with_columns(id=1, right=2, row=3, key=4, names=5)
    assert resolve(names, there).equals(resolve(["palm"], ENTITIES))


def test_blank_and_impossible_facts_are_not_known() -> None:
    blank = {
        "google_place_id": "",
        "phone": "",
        "address": " ",
        "city": "?",
        "latitude": float("nan"),
        "longitude": 1.0,
    }
    found = resolve(pl.DataFrame([{"name": "palm", **blank}]), entity(name="Palm", **blank)).row(
        0, named=True
    )
    assert found["evidence"] == ["same name"]


@pytest.mark.parametrize(
    ("names", "against", "options", "message"),
    [
        (pl.DataFrame({"x": [1]}), None, {}, "no column 'name'"),
        ({"name": ["a"]}, None, {}, "builtins.dict"),
        ([1, 2], None, {}, "no texts"),
        (["a"], pl.DataFrame({"name": ["a"]}), {}, "no column 'entity_id'"),
        (
            ["a"],
            pl.DataFrame({"entity_id": [None, "x"], "name": ["a", "b"]}),
            {},
            "1 of the entities have no entity_id",
        ),
        (["a"], pl.DataFrame({"entity_id": ["x"], "name": ["a"], "aliases": [5]}), {}, "wrong type"),
        (["a"], None, {"merge_at": 0.5, "review_at": 0.7}, "review_at <= merge_at"),
        (["a"], None, {"merge_at": float("nan")}, "review_at <= merge_at"),
        (["a"], None, {"candidates": 0}, "name 1 or more"),
        (["a"], None, {"tiers": ["sure"]}, "choose from"),
        (["a"], None, {"tiers": []}, "choose from"),
    ],
)
def test_what_makes_no_sense_is_refused(
    names: object, against: object, options: dict[str, object], message: str
) -> None:
    with pytest.raises(cb.ContractError, match=message):
        resolve(names, against, **options)
