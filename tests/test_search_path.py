"""Whoever may create functions and operators in a schema of the search path cannot have others run them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import product
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import polars as pl
import pytest
from conftest import _statements, empty_database
from qualified import unqualified
from reflecting import ask, run

import crave_bulk as cb
from crave_bulk.backends.postgres_url import with_option

_TYPES = """smallint integer bigint oid xid regproc regclass numeric real float8 boolean text varchar bpchar
    "char" name uuid bytea date timestamp timestamptz time interval json jsonb inet int2vector oidvector
    mood word code small int2[] int4[] int8[] oid[] text[] varchar[] name[] mood[] uuid[]"""
TYPES = _TYPES.split()
MIXED = [*product(("smallint", "integer", "bigint", "oid", "numeric", "xid", "small"), repeat=2)]
MIXED += [
    ("regproc", "integer"),
    ("varchar", "text"),
    ("text", "varchar"),
    ("mood", "text"),
    ("name", "text"),
]
MIXED += [("word", "text"), ("text", "word"), ("code", "text"), ("bpchar", "text"), ("varchar", "word")]
_OPERATORS = "= <> < <= > >= + - * / % || ~~ ~~* !~ & && @> <@ -> ->>"
OPERATORS = _OPERATORS.split()
ONE = "count min max sum length lower upper btrim abs round isfinite abbrev array_ndims unnest json_agg to_jsonb"
ONE += " cardinality to_regclass nextval substr pg_table_is_visible pg_advisory_xact_lock pg_partition_tree"
TWO = "strpos starts_with right substr generate_series format format_type pg_get_expr pg_get_serial_sequence round"
TWO += " array_position json_object_agg json_build_object"

SETUP = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE DOMAIN word AS varchar(20)",
    "CREATE DOMAIN code AS text CHECK (VALUE <> 'no')",
    "CREATE DOMAIN small AS smallint",
    """CREATE TABLE shops (id serial PRIMARY KEY, name varchar(40) UNIQUE, kind mood, tag word, code code, n smallint,
    big bigint, price numeric(8, 2), open boolean, days int2[], tags varchar(9)[], moods mood[], address inet,
    doc jsonb, flag "char", title name, at timestamptz, span interval, ratio real, deleted_at timestamptz,
    CHECK (n < 1000))""",
    "CREATE TABLE kinds (kind mood, tag varchar(9), PRIMARY KEY (kind, tag))",
    """CREATE TABLE visits (id uuid PRIMARY KEY, shop int REFERENCES shops ON DELETE CASCADE, kind mood, tag varchar(9),
    FOREIGN KEY (kind, tag) REFERENCES kinds ON DELETE SET NULL)""",
    "CREATE TABLE audit (id int, what text)",
    """CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN INSERT INTO audit VALUES (coalesce(NEW.id, OLD.id), TG_OP); RETURN NULL; END $$""",
    "CREATE TRIGGER noted AFTER INSERT OR UPDATE OR DELETE ON shops FOR EACH ROW EXECUTE FUNCTION noted()",
)


class Labels(cb.Table):
    id: str = cb.field(key=True, uuid=True, default="uuid")
    name: str = cb.field(unique=True)
    kind: pl.Enum(["a", "it's {}"]) = cb.field(default="a")  # type: ignore[valid-type]
    tags: pl.List(pl.String) = cb.field(merge="union", default=[])  # type: ignore[valid-type]
    count: int = cb.field(merge="add", default=0, ge=0)
    parent: str = cb.field(uuid=True, nullable=True, references="labels.id")
    price: pl.Decimal(8, 2) = cb.field(nullable=True)  # type: ignore[valid-type]
    updated_at: pl.Datetime("us", "UTC") = cb.field(default="now", on_update="now")  # type: ignore[valid-type]
    deleted: bool = cb.field(soft_delete=True, default=False)

    class Config:
        name = "labels"


class More(Labels):
    born: pl.Date = cb.field(nullable=True)
    rank: int = cb.field(default=1)

    class Config:
        name = "labels"


class Lists(cb.Table):
    id: int = cb.field(key=True)
    label: pl.List(pl.String) = cb.field(  # type: ignore[valid-type]
        uuid=True, default=[], references="labels.id", references_where={"kind": "a", "count": 0}
    )


IDS = [f"00000000-0000-7000-8000-00000000000{n}" for n in range(6)]
KIND = pl.lit("it's {}", pl.Enum(["a", "it's {}"]))
LABELS = pl.DataFrame(
    {
        "id": IDS[:3],
        "name": ["x", "y", "z"],
        "tags": [["a"], [], ["b"]],
        "price": [Decimal("1.50"), None, Decimal(2)],
    }
)
SHOPS = pl.DataFrame(
    {
        "name": ["one", "two", "three"],
        "kind": ["sad", "ok", None],
        "tag": ["a", "b", "c"],
        "code": ["x", "y", None],
        "n": [1, 2, 3],
        "big": [10, 20, None],
        "price": ["1.50", "2.00", None],
        "open": [True, False, None],
        "days": [[1, 2], [], None],
        "tags": [["a", "b"], [], None],
        "moods": [["ok"], [], None],
        "address": ["10.0.0.1", "::1", None],
        "doc": ['{"a": 1}', "[]", None],
        "flag": ["a", "b", None],
        "title": ["t", "u", None],
        "at": [dt.datetime(2024, 5, 1, tzinfo=dt.UTC)] * 3,
        "span": [dt.timedelta(hours=3)] * 3,
        "ratio": [0.5, 1.5, None],
    }
)


def traps() -> Iterator[str]:
    """Make what matches the types of our statements better than what PostgreSQL has."""
    yield "CREATE FUNCTION sprung() RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE 'trap: %', current_user; END $$"
    body = "RETURNS boolean LANGUAGE plpgsql AS $q$ BEGIN RETURN sprung(); END $q$"
    for left, right in dict.fromkeys([*((name, name) for name in TYPES), *MIXED]):
        yield f"CREATE FUNCTION sprung({left}, {right}) {body}"
        for operator in OPERATORS:
            yield f"CREATE OPERATOR {operator} (FUNCTION = sprung, LEFTARG = {left}, RIGHTARG = {right})"
    for name, kind in product(ONE.split(), TYPES):
        yield f"CREATE FUNCTION {name}({kind}) {body}"
    for name, (left, right) in product(
        TWO.split(), dict.fromkeys([*((name, name) for name in TYPES), *MIXED])
    ):
        yield f"CREATE FUNCTION {name}({left}, {right}) {body}"
    for name in ("json_build_object", "format", "coalesce"):
        yield f'CREATE FUNCTION "{name}"(VARIADIC text[]) {body}'
    yield f"CREATE FUNCTION set_config(text, text, boolean) {body}"
    yield f"CREATE FUNCTION current_setting(text) {body}"
    yield f"CREATE FUNCTION now() {body}"
    yield f"CREATE FUNCTION gen_random_uuid() {body}"
    yield "CREATE TABLE crave_bulk_stage (_row int)"
    yield "CREATE TABLE crave_bulk_along (_row int)"
    yield 'CREATE COLLATION "C" FROM "POSIX"'
    for name in ("text", "uuid", "int8", "bytea", "timestamptz", "regclass"):
        yield f"CREATE DOMAIN public.{name} AS pg_catalog.{name} CHECK (public.sprung())"


def set_traps(url: str) -> None:
    statements = "\n".join(f"$t${trap}$t$," for trap in traps())
    with _statements(url) as cursor:
        cursor.execute(
            f"""DO $do$ DECLARE made int := 0; trap text; BEGIN
            FOREACH trap IN ARRAY ARRAY[{statements} 'SELECT 1'] LOOP
                BEGIN EXECUTE trap; made := made + 1; EXCEPTION WHEN others THEN NULL; END;
            END LOOP; IF made < 2000 THEN RAISE 'only % traps', made; END IF; END $do$"""
        )


def attempts(db: cb.Database) -> list[Callable[[], Any]]:
    """Every verb, option and lookup that writes SQL of its own."""
    shops = SHOPS.with_columns(deleted_at=pl.lit(None, pl.Datetime("us", "UTC")))
    changed = shops.with_columns(pl.col("n") + 1, kind=pl.lit("happy"), days=pl.lit([7]), doc=pl.lit("{}"))
    kinds = pl.DataFrame({"kind": ["ok", "sad"], "tag": ["a", "b"]})
    visits = pl.DataFrame(
        {"id": IDS[:3], "shop": [1, 1, 2], "kind": ["ok", "ok", "sad"], "tag": ["a", "a", "b"]}
    )
    wheres: list[Any] = [
        {
            "name": "one",
            "kind": "sad",
            "tag": "a",
            "code": "x",
            "n": 1,
            "price": "1.50",
            "open": True,
            "flag": "a",
        },
        {
            "days": [1, 2],
            "tags": ["a", "b"],
            "moods": ["ok"],
            "address": "10.0.0.1",
            "doc": '{"a": 1}',
            "title": "t",
        },
        {"at": dt.datetime(2024, 5, 1, tzinfo=dt.UTC), "span": dt.timedelta(hours=3), "ratio": 0.5},
        {
            f"{column}__in": SHOPS[column].to_list()[:2]
            for column in ("name", "kind", "tag", "code", "n", "price")
        },
        {
            f"{column}__notin": SHOPS[column].to_list()[:2]
            for column in ("name", "kind", "tag", "flag", "big", "title")
        },
        {
            f"{column}__ne": SHOPS[column].to_list()[0]
            for column in ("name", "kind", "tag", "code", "n", "days", "doc")
        },
        {
            "n__lt": 5,
            "n__lte": 5,
            "n__gt": 0,
            "n__gte": 0,
            "n__between": (0, 9),
            "name__lt": "z",
            "kind__lt": "happy",
        },
        {
            "tag__between": ("a", "z"),
            "code__gt": "a",
            "at__lt": dt.datetime(2030, 1, 1, tzinfo=dt.UTC),
            "price__lt": 5,
        },
        {
            "name__contains": "n",
            "tag__startswith": "a",
            "code__endswith": "x",
            "kind__contains": "a",
            "days__contains": 1,
        },
        {"big__isnull": False, "tags__contains": "a", "flag__contains": "a", "title__startswith": "t"},
        "n + big * 2 - 1 > n / 2 OR -n % 3 = 1 OR abs(n) = n OR ratio * 2 > price OR coalesce(n, 3) = 4",
        "name LIKE 'o%' OR tag ILIKE 'A' OR lower(code) = 'x' OR upper(name) <> 'ONE' OR length(trim(tag)) >= 1",
        "n IN (1, 2) AND n BETWEEN 0 AND 9 AND kind IN ('sad') AND NOT (tag NOT IN ('z') AND name IS DISTINCT FROM code)",
        "kind IS NOT DISTINCT FROM 'sad' OR open IS TRUE OR at > TIMESTAMPTZ '2020-01-01 00:00Z' OR title = name",
    ]

    def refused() -> None:
        report = db.insert(
            "shops",
            shops.with_columns(
                id=pl.Series([80, 81, 82], dtype=pl.Int32),
                name=pl.Series(["p", "q", "r"]),
                n=pl.Series([1, 5000, 1]),
                address=pl.Series(["::1", "::2", "none"]),
            ),
            on_reject="keep",
        )
        assert report.counts["rejected"] == 2
        report.undo()
        for bad in (
            visits.with_columns(shop=pl.lit(999), id=pl.Series(IDS[3:])),
            visits.with_columns(tag=pl.lit("?")),
        ):
            assert db.upsert("visits", bad, on_reject="keep").counts["rejected"] >= 1

    def labels() -> None:
        db.create(Labels, Lists)
        db.insert(Labels, LABELS)
        db.upsert(Labels, LABELS.with_columns(tags=pl.lit(["c"]), count=pl.lit(2, pl.Int64)))
        db.upsert(Labels, LABELS.drop("id").with_columns(kind=KIND), on="name")
        db.upsert(
            Labels,
            LABELS.with_columns(updated_at=pl.lit(dt.datetime(2040, 1, 1, tzinfo=dt.UTC))),
            newer="updated_at",
        )
        db.insert(Labels, pl.DataFrame({"name": ["new"]}))
        db.insert(Labels, LABELS, on_conflict="ignore")
        db.update_where(Labels, {"kind": "a", "parent": IDS[0]}, {"name__in": ["y", "z"]})
        db.upsert(Lists, pl.DataFrame({"id": [1, 2], "label": [[IDS[1]], [IDS[5]]]}), on_reject="keep")
        db.read(
            Labels,
            order_by=["kind", "-name", "price", "deleted"],
            where={"kind__lt": "it's {}", "price__gt": 1},
        )
        db.delete(Labels, [IDS[1]])
        db.restore_where(Labels, "name = 'y'")
        db.delete_where(Labels, {"name": "z"}, hard=True)
        db.evolve(More)
        db.sync(More, LABELS.head(1), within={"name__ne": "new"})

    def undone() -> None:
        numbered = changed.with_columns(id=pl.Series([1, 2, 3], dtype=pl.Int32))
        changes = {"n": 9, "kind": "ok", "doc": "{}", "days": [3]}
        for call in (
            lambda: db.upsert("shops", numbered),
            lambda: db.delete("shops", [1, 2]),
            lambda: db.update_where("shops", changes, {"kind": "happy"}),
            lambda: db.delete("kinds", kinds),
        ):
            report = call()
            report.undo().undo()
            db.undo(report.batch_id)

    def planned() -> None:
        plan = db.upsert("shops", changed.with_columns(id=pl.Series([1, 2, 3], dtype=pl.Int32)), plan=True)
        assert plan.changes.height
        plan.apply()

    def together() -> None:
        with db.transaction(turn="one"):
            db.update("kinds", kinds)
            with db.transaction():
                db.upsert("shops", shops.with_columns(id=pl.Series([1, 2, 3], dtype=pl.Int32)), once="once")
        db.upsert("shops", shops.with_columns(id=pl.Series([1, 2, 3], dtype=pl.Int32)), once="once")
        db.batches()

    def unknown() -> None:
        with pytest.raises(cb.TableNotFound):
            db.read("no_such_table")

    return [
        lambda: db.insert("kinds", kinds),
        lambda: db.insert("shops", shops),
        lambda: db.upsert("visits", visits),
        lambda: db.upsert("visits", visits),
        lambda: db.upsert("shops", changed, on="name"),
        lambda: db.upsert("shops", shops, on="name"),
        *(
            lambda where=where: db.read("shops", where=where, order_by=["name", "-kind", "tag", "at"])
            for where in wheres
        ),
        *(
            lambda where=where: db.update_where("shops", {"big": 11, "tag": "a"}, where, plan=True)
            for where in wheres
        ),
        refused,
        labels,
        undone,
        planned,
        together,
        unknown,
        lambda: db.sync("visits", visits.head(2), within={"kind": "ok"}),
        lambda: db.delete_where("shops", "name = 'three'"),
        lambda: db.delete("shops", [1]),
    ]


@pytest.fixture(params=["as it comes", pytest.param("public first", marks=pytest.mark.thorough)])
def trapped(request: pytest.FixtureRequest, databases: dict[str, str]) -> Iterator[str]:
    """The URL of a superuser's login to a database in which somebody else has set traps."""
    url = databases["postgres"]
    name, careful = urlsplit(url).path[1:], with_option(url, "-c search_path=pg_catalog")
    with _statements(url) as cursor:
        for statement in SETUP:
            cursor.execute(statement)
        cursor.execute("CREATE ROLE eve LOGIN")
        cursor.execute("GRANT ALL ON SCHEMA public TO eve")
    parts = urlsplit(url)
    set_traps(urlunsplit(parts._replace(query=f"{parts.query}&user=eve" if parts.query else "user=eve")))
    if request.param == "public first":
        with _statements(careful) as cursor:
            cursor.execute(f"ALTER DATABASE {name} SET search_path = '$user', public, pg_catalog, pg_temp")
    yield url
    with _statements(careful) as cursor:
        cursor.execute(f"ALTER DATABASE {name} RESET ALL")
    empty_database(careful)
    with _statements(url) as cursor:
        cursor.execute("DROP OWNED BY eve")
        cursor.execute("DROP ROLE eve")


def test_no_trap_is_sprung(trapped: str) -> None:
    with cb.connect(trapped) as db:
        for attempt in attempts(db):
            attempt()
        # A trigger of the user finds his tables as ever.
        assert {"INSERT", "UPDATE", "DELETE"} <= set(db.read("audit")["what"].to_list())


def test_the_traps_would_be_sprung(trapped: str) -> None:
    with cb.connect(trapped) as db:
        for probe in (
            "SELECT name = name AS x FROM shops",
            "SELECT kind IS DISTINCT FROM kind AS x FROM shops",
            "SELECT unnest(days) AS x FROM shops",
            "SELECT lower(name) AS x FROM shops",
            "SELECT kind IN (SELECT 'ok'::mood) AS x FROM shops",
        ):
            db.upsert("shops", SHOPS, on="name")
            with pytest.raises(cb.BulkError, match="trap: postgres"):
                ask(db, probe)


def test_every_function_and_operator_is_qualified(server_db: cb.Database) -> None:
    run(server_db, *SETUP)
    seen: list[str] = []
    server_db.trace(seen.append)
    for attempt in attempts(server_db):
        attempt()
    assert len(seen) > 300
    assert {statement: found for statement in seen if (found := unqualified(statement))} == {}
    assert [
        statement for statement in seen if "FROM crave_bulk_" in statement or "TABLE crave_bulk_" in statement
    ] == []
