"""No text gets into a statement: not by a value, a column, a lookup, a table's name or a condition."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

import crave_bulk as cb

ATTACKS = [
    "'; DROP TABLE victims; --",
    "' OR '1'='1",
    "' OR 1=1 --",
    "x' UNION SELECT id, secret FROM neighbours --",
    "'); DELETE FROM victims; --",
    "\\'; DROP TABLE victims; --",
    "''; DROP TABLE victims; --",
    '"; DROP TABLE victims; --',
    '" = "" OR ""="',
    'id" = 1 OR "id" IS NOT NULL --',
    "1; DROP TABLE victims",
    "1 OR 1=1",
    "1) OR (1=1",
    "1 = 1",
    "id = id; DELETE FROM victims",
    "id = 1; DROP TABLE victims; --",
    "id = 1 -- and owner = 'me'",
    "id = 1 /* hidden */",
    "/*!50000 id = 1 */",
    "id = 1 # comment'",
    "id IN (SELECT id FROM neighbours)",
    "id = (SELECT max(id) FROM neighbours)",
    "EXISTS (SELECT 1 FROM neighbours)",
    "id = 1 UNION SELECT 1",
    "id = 1 ORDER BY (SELECT 1)",
    "id = 1 LIMIT 1",
    "id = 1 RETURNING *",
    "id = 1 FOR UPDATE",
    "pg_sleep(10) IS NULL",
    "pg_read_file('/etc/passwd') = 'x'",
    "load_extension('evil') IS NULL",
    "randomblob(1000000000) IS NULL",
    "lo_import('/etc/passwd') > 0",
    "dblink_exec('DROP TABLE victims') = 'x'",
    "current_setting('x') = 'y'",
    "version() LIKE '%'",
    "current_user = 'postgres'",
    "session_user = 'postgres'",
    "sqlite_version() = '3'",
    "victims.id = 1",
    "neighbours.id = 1",
    "pg_catalog.pg_class.oid = 1",
    "t.id = 1",
    "oid = 1",
    "rowid = 1",
    "ctid = '(0,1)'",
    "* = 1",
    "count(*) > 0",
    "sum(id) OVER () > 0",
    "CASE WHEN id = 1 THEN true ELSE false END",
    "'victims'::regclass = 1",
    "CAST('victims' AS regclass) = 1",
    "id::text = '1'",
    "name = E'\\x27; DROP TABLE victims; --'",
    "name = $$x$$",
    "name = U&'\\0027'",
    "name = x'27'",
    "name || '' = 'x'",
    "name ~ '(a+)+$'",
    "name SIMILAR TO '%'",
    "name LIKE 'x' ESCAPE 'y'",
    "name LIKE ANY (ARRAY['%'])",
    "id = ANY (ARRAY[1])",
    "id = $1",
    "id = ?",
    "id = ?1",
    "id = :id",
    "id = @id",
    "(id, name) = (1, 'a')",
    "ROW(id) = ROW(1)",
    "name COLLATE \"C\" = 'a'",
    "name -> 'a' = 'b'",
    "lower(DISTINCT name) = 'a'",
    "trim(BOTH 'a' FROM name) = 'b'",
    "DROP TABLE victims",
    "DELETE FROM victims",
    "SELECT 1",
    "TRUE; SELECT 1",
    "COPY victims TO PROGRAM 'id'",
    "ATTACH DATABASE 'x' AS y",
    "PRAGMA writable_schema = 1",
    "SET ROLE postgres",
    "DO $$ BEGIN END $$",
    "id = 1\0; DROP TABLE victims",
    "\u0131d = 1",
    "id \uff1d 1",
    "name = \u2018a\u2019",
    "%s {} %(x)s",
    "{0} {1} {{}}",
]


def table_named(name: str) -> type[cb.Table]:
    namespace = {
        "__annotations__": {"id": int, "name": str},
        "id": cb.field(key=True),
        "name": cb.field(),
        "Config": type("Config", (), {"name": name}),
    }
    return type("Victims", (cb.Table,), namespace)


VICTIMS, NEIGHBOURS = table_named("victims"), table_named("neighbours")
ROWS = pl.DataFrame({"id": [1, 2, 3], "name": ["a", "b", "c"]})


@pytest.fixture
def victims(db: cb.Database) -> cb.Database:
    for table in (VICTIMS, NEIGHBOURS):
        db.create(table)
        db.insert(table, ROWS)
    return db


def intact(db: cb.Database) -> None:
    for table in (VICTIMS, NEIGHBOURS):
        assert db.read(table, order_by="id").equals(ROWS)


def every_verb(db: cb.Database, where: Any) -> list[Any]:
    return [
        lambda: db.read(VICTIMS, where=where),
        lambda: db.update_where(VICTIMS, {"name": "hacked"}, where),
        lambda: db.delete_where(VICTIMS, where),
    ]


def test_through_the_text(victims: cb.Database) -> None:
    for attack in ATTACKS:
        for call in every_verb(victims, attack):
            with pytest.raises(cb.ContractError):
                call()
        intact(victims)


@pytest.mark.thorough_on_postgres
def test_through_a_value(victims: cb.Database) -> None:
    lookups = ("", "__contains", "__startswith", "__endswith")
    for number, attack in enumerate(ATTACKS):
        for place, lookup in enumerate(lookups):
            calls = every_verb(victims, {f"name{lookup}": attack})
            # Every lookup is read with every attack; those that write share the attacks.
            for call in calls if place == number % len(lookups) else calls[:1]:
                if "\0" in attack and victims.backend.name == "postgresql":
                    with pytest.raises(cb.ContractError, match="NUL"):
                        call()
                else:
                    found = call()
                    assert (found.height if isinstance(found, pl.DataFrame) else found.counts["input"]) == 0
        with pytest.raises(cb.ContractError):
            victims.read(VICTIMS, where={"id": attack})
        with pytest.raises(cb.ContractError):
            victims.read(VICTIMS, where={"id__in": [1, attack]})
    intact(victims)


def test_a_value_is_found_to_the_letter(victims: cb.Database) -> None:
    attacks = [a for a in ATTACKS if "\0" not in a]
    victims.insert(VICTIMS, pl.DataFrame({"id": range(100, 100 + len(attacks)), "name": attacks}))
    for number, attack in enumerate(attacks, 100):
        text = "name = '" + attack.replace("'", "''") + "'"
        assert victims.read(VICTIMS, where=text)["id"].to_list() == [number]
        assert victims.read(VICTIMS, where={"name": attack})["id"].to_list() == [number]
    assert victims.read(VICTIMS, where={"name__in": attacks}).height == len(attacks)
    assert victims.delete_where(VICTIMS, {"name__in": attacks}).counts["deleted"] == len(attacks)
    intact(victims)


@pytest.mark.thorough
def test_a_value_is_written_to_the_letter(victims: cb.Database) -> None:
    for attack in ATTACKS:
        if "\0" not in attack:
            victims.update_where(VICTIMS, {"name": attack}, "id = 1")
            assert victims.read(VICTIMS, where="id = 1")["name"].to_list() == [attack]
    victims.update_where(VICTIMS, {"name": "a"}, "id = 1")
    intact(victims)


@pytest.mark.thorough
def test_through_a_column_or_a_lookup(victims: cb.Database) -> None:
    for attack in ATTACKS:
        for where in ({attack: 1}, {f"id__{attack}": 1}, {f"{attack}__lt": 1}):
            for call in every_verb(victims, where):
                with pytest.raises(cb.ContractError):
                    call()
        quoted = '"' + attack.replace('"', '""') + '" = 1'
        with pytest.raises(cb.ContractError):
            victims.read(VICTIMS, where=quoted)
        for options in ({"columns": [attack]}, {"order_by": attack}, {"order_by": f"-{attack}"}):
            with pytest.raises(cb.ContractError):
                victims.read(VICTIMS, **options)
        with pytest.raises(cb.ContractError):
            victims.update_where(VICTIMS, {attack: "x"}, "true")
    with pytest.raises(cb.ContractError):
        victims.read(VICTIMS, limit="1; DROP TABLE victims")  # type: ignore[arg-type]
    intact(victims)


def test_through_the_name_of_a_table(victims: cb.Database) -> None:
    for attack in ATTACKS:
        with pytest.raises(cb.BulkError):  # there is no such table, or it cannot be a name
            victims.delete_where(table_named(attack), "true")
        with pytest.raises(cb.BulkError):
            victims.read(table_named(attack), where={"id": 1})
    intact(victims)
