"""The verbs that make tables."""

from __future__ import annotations

from crave_bulk import evolve as evolution
from crave_bulk.connections import Connections
from crave_bulk.schema import in_dependency_order
from crave_bulk.table import Table, contract_of


class SchemaVerbs(Connections):
    """Create tables, and let them follow their declarations."""

    def create(self, *tables: type[Table]) -> None:
        """Create tables in dependency order, all or none; those that exist are left as they are.

        Args:
            tables: the tables.

        Raises:
            ContractError: a table cannot be created as declared, references go in a circle, or a table
                exists and lacks columns of the declaration, or has them with other types.
            BulkError: the database refused; no table was created.

        Example:
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     db.read(Foods).shape
            (0, 2)
        """
        contracts = in_dependency_order([contract_of(table) for table in tables])
        self.completely(lambda session: evolution.create(session, contracts))

    def evolve(self, *tables: type[Table], plan: bool = False) -> list[str]:
        """Add to the database what declared tables have and it lacks, all or nothing.

        Tables, columns, unique keys and references are added; rows that exist get the default of a new
        column. Nothing is dropped or narrowed: what nobody declared is left as it is.

        Args:
            tables: the tables.
            plan: write the statements, and run none.

        Returns:
            The statements that were run, or would be; none where nothing is missing.

        Raises:
            ContractError: a difference cannot be settled by adding something, such as a column of another
                type; nothing was changed.
            ConstraintViolated: rows break a new constraint; nothing was changed.
            BulkError: the database refused; nothing was changed.

        Example:
            >>> import crave_bulk as cb
            >>> from crave_bulk.examples import Foods
            >>> class More(Foods):
            ...     rating: int = cb.field(default=0)
            ...     class Config:
            ...         name = "foods"
            >>> with cb.connect() as db:
            ...     db.create(Foods)
            ...     for statement in db.evolve(More):
            ...         print(statement)
            ...     db.evolve(More)
            ALTER TABLE "foods" ADD COLUMN "rating" INTEGER NOT NULL DEFAULT 0
            []
        """
        contracts = in_dependency_order([contract_of(table) for table in tables])
        return self.completely(lambda session: evolution.evolve(session, contracts, plan=plan))
