"""A connection that is lost at any statement costs a retry, or an error that says so; never half a batch, nor two."""

from __future__ import annotations

import pytest

from faults import cutting

pytestmark = pytest.mark.parametrize("server_db", ["postgres"], indirect=True)


@pytest.mark.parametrize("lost", [False, True], ids=["cut", "answer lost"])
class TestAt:
    @pytest.mark.thorough
    def test_each_statement_of_a_batch(self, server_url: str, lost: bool) -> None:
        figures = cutting.cuts(server_url, lost=lost, every=1 if lost else 2)
        assert figures.complaints == [], figures
        assert figures.errors == {}
        assert figures.faults > 8
        assert figures.notes["settled by the ledger"] == lost
        assert figures.retries == figures.faults - lost

    def test_statements_of_the_first_batch(self, server_url: str, lost: bool) -> None:
        figures = cutting.cuts(server_url, lost=lost, first=True, every=4)
        assert figures.complaints == [], figures
        assert figures.errors == {}

    @pytest.mark.thorough
    def test_statements_of_a_transaction(self, server_url: str, lost: bool) -> None:
        figures = cutting.cuts_in_a_block(server_url, lost=lost, every=14)
        assert figures.complaints == [], figures
        assert figures.notes["settled by the ledger"] == lost
        # A transaction that is lost at its BEGIN is begun again.
        assert figures.errors == {"ConnectionFailed": figures.faults - 1 - lost}


def test_connections_that_are_cut_under_several_threads(server_url: str) -> None:
    figures = cutting.flaky(server_url, seed=3, count=20, threads=3)
    assert figures.complaints == [], figures
    assert figures.faults == 20
    assert figures.retries > 0
