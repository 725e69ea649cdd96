"""No part of a password shows in an error, its causes, its repr or a label, however malformed the URL is."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples

import crave_bulk as cb
from crave_bulk.backends.postgres_url import without_password

SECRET = "S3cr3t"
MALFORMED = [
    f"postgresql://bob:{SECRET}%ZZ!pw@localhost:1/x",
    f"postgresql://bob:{SECRET}%00@localhost:1/x",
    f"postgresql://bob:{SECRET}@[::1/x",
    f"postgresql://bob:{SECRET}@::1]:1/x",
    f"postgresql://bob:50%{SECRET}@localhost:1/x",
    f"postgresql://bob:{SECRET}%@localhost:1/x",
    f"postgresql://bob:{SECRET}",
    f"postgresql://bob:{SECRET}/x",
    f"postgresql://bob:{SECRET}:1/x",
    f"postgresql://bob:{SECRET}@localhost:{SECRET}/x",
    f"postgresql://bob/{SECRET}@localhost:1/x",
    f"postgresql://bob:1/{SECRET}@localhost:1/x",
    f"postgresql://bob:pa&{SECRET}@localhost:1/x?{SECRET}",
    f"postgresql://localhost:1/x?user=bob&password=pa&{SECRET}",
    f"postgresql://localhost:1/x?user=bob&password={SECRET}={SECRET}",
    f"postgresql://localhost:1/x?user=bob&password=%{SECRET}",
    f"postgresql://localhost:1/x?user=bob&pasword={SECRET}",
    f"postgresql://localhost:1/x?user=bob&{SECRET}=1",
    f"postgresql://localhost:1/x?user=bob={SECRET}",
    f"postgresql://localhost:1/x?sslmode=disable={SECRET}",
    f"postgresql://localhost:1/x?sslcert=/none&sslkey=/none&sslpassword={SECRET}",
    f"postgresql://localhost:1/x?sslrootcert={SECRET}&sslmode=verify-ca",
    f"postgresql://localhost:1/x?target_session_attrs={SECRET}",
    f"postgresql://localhost:1/x?keepalives={SECRET}",
    f"postgresql://localhost:1/x?passfile=/{SECRET}",
    f"postgresql://localhost:1/x?service={SECRET}",
    f"postgresql://bob:{SECRET}@%2Fnowhere/x",
    f"postgresql://bob:{SECRET}@/x?host=/nowhere",
    f"postgresql://bob:{SECRET}@/x?host=/nowhere,localhost&port=1",
    f"postgresql://bob:pa\0{SECRET}@localhost:1/x",
    f"postgresql+psycopg://bob:{SECRET}@localhost:1/x",
    f"host=localhost user=bob password={SECRET}",
    f"host=localhost user=bob password='{SECRET}",
    f"postgresql:/bob:{SECRET}@localhost/x",
    f"bob:{SECRET}@localhost/x",
]


def texts(error: BaseException | None) -> Iterator[str]:
    """All that is said by an error, its causes and its contexts."""
    while error is not None:
        yield from (str(error), repr(error), *map(repr, error.args), *getattr(error, "__notes__", ()))
        yield from map(repr, getattr(error, "details", None) or ())
        if error.__cause__ is not None:
            yield from texts(error.__cause__)
        error = error.__context__


def refusal(url: str) -> cb.BulkError:
    with pytest.raises(cb.BulkError) as caught:
        cb.connect(url)
    assert [text for text in texts(caught.value) if SECRET in text] == []
    return caught.value


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_does_not_show_its_password(url: str) -> None:
    refusal(url)
    if url.startswith("postgresql://"):
        assert SECRET not in without_password(url)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (f"postgresql://bob:{SECRET}%ZZ@localhost:1/x", "a % is not followed by two hexadecimal digits"),
        (f"postgresql://bob:{SECRET}@[::1/x", "the host, the port or the database is not written as in"),
        (f"postgresql://localhost/x?pasword={SECRET}", "not a list of libpq's options"),
        (f"postgresql://bob:{SECRET}@127.0.0.1:1/x", "bob:\\*\\*\\*@127.0.0.1:1/x: .*Connection refused"),
    ],
)
def test_a_malformed_url_is_told_what_is_wrong(url: str, says: str) -> None:
    error = refusal(url)
    assert isinstance(error, cb.ConnectionFailed)
    assert error.__cause__ is None
    assert error.__context__ is None
    with pytest.raises(cb.ConnectionFailed, match=says):
        raise error


PIECES = st.sampled_from([*"@:/?#[]%&=, '\"\\+.1", "%00", "%ZZ", "%41", "%25", "é", "pw"])
PASSWORDS = st.tuples(st.lists(PIECES, max_size=3), st.lists(PIECES, max_size=3)).map(
    lambda parts: "".join(parts[0]) + SECRET + "".join(parts[1])
)
SHAPES = st.sampled_from(
    [
        "postgresql://bob:{}@127.0.0.1:1/x",
        "postgresql://bob:{}@127.0.0.1:1",
        "postgresql://bob:{}@[::1]:1/x?sslmode=disable",
        "postgresql://bob:{}@[::1:1/x",
        "postgresql://bob:{}@/x?host=/nowhere",
        "postgresql://:{}@127.0.0.1:1/x",
        "postgresql://127.0.0.1:1/x?user=bob&password={}",
        "postgresql://127.0.0.1:1/x?password={}&connect_timeout=1",
        "postgresql://127.0.0.1:1/x?options={}",
        "postgresql://127.0.0.1:1/x?options=-c a.b={}&sslmode=disable",
        "postgresql://127.0.0.1:1/x?passfile={}",
        "postgresql://127.0.0.1:1/x?sslcert=/n&sslkey=/n&sslpassword={}",
        "postgresql+asyncpg://bob:{}@127.0.0.1:1/x",
        "host=127.0.0.1 port=1 password={}",
    ]
)


@examples(300)
@given(shape=SHAPES, password=PASSWORDS)
@example("postgresql://bob:{}@127.0.0.1:1/x", f"p%{SECRET}")
@example("postgresql://127.0.0.1:1/x?user=bob&password={}", f"@{SECRET}")
def test_no_password_of_any_form_shows(shape: str, password: str) -> None:
    url = shape.format(password)
    refusal(url)
    if url.startswith("postgresql://"):
        assert SECRET not in without_password(url)


def with_options(url: str, **options: str) -> str:
    parts = urlsplit(url)
    more = "&".join(f"{name}={quote(value, safe='')}" for name, value in options.items())
    return urlunsplit(parts._replace(query=f"{parts.query}&{more}" if parts.query else more))


def test_the_server_is_not_quoted_where_it_quotes_an_option(databases: dict[str, str]) -> None:
    url = with_options(databases["postgres"], options=f"-c work_mem={SECRET}")
    error = refusal(url)
    assert "the reason is not shown, as it quotes an option of the URL" in str(error)


def test_the_server_is_quoted_otherwise(databases: dict[str, str]) -> None:
    url = with_options(databases["postgres"], options="-c work_mem=1MB", user="nobody_of_that_name")
    assert 'role "nobody_of_that_name" does not exist' in str(refusal(url))


@pytest.mark.thorough
def test_a_connection_that_is_opened_later_does_not_show_it(databases: dict[str, str]) -> None:
    url = with_options(databases["postgres"], options=f"-c a.b={SECRET}", user="late_guest")
    with cb.connect(databases["postgres"]) as db:
        with db.session() as session:
            session.execute("CREATE ROLE late_guest LOGIN")
        try:
            with cb.connect(url) as late:
                assert SECRET not in repr(late)
                with db.session() as session:
                    session.execute("ALTER ROLE late_guest NOLOGIN")
                with pytest.raises(cb.ConnectionFailed, match="not permitted to log in") as caught:
                    late.read("pg_catalog.pg_type", limit=1)
                assert [text for text in texts(caught.value) if SECRET in text] == []
        finally:
            with db.session() as session:
                session.execute("DROP ROLE late_guest")


def test_a_file_whose_name_holds_a_nul() -> None:
    with pytest.raises(cb.ConnectionFailed, match="cannot hold a NUL: take %00 out"):
        cb.connect("sqlite:///a%00b.db")
