"""Food discovery: restaurants, foods and attributes, the connections between them, and the mentions they rest on.

Extracted mentions go in, names are resolved to entities, and a graph with its metrics is there::

    with cb.connect("sqlite:///crave.db") as db:
        db.create(*cb.crave.TABLES)
        report = cb.crave.ingest(db, extraction)
        questions = cb.crave.review(db)
"""

from crave_bulk.crave.attributes import assign_attributes, remove_attributes
from crave_bulk.crave.index import Index
from crave_bulk.crave.ingestion import ingest
from crave_bulk.crave.merging import Merged, merge_entities
from crave_bulk.crave.refreshing import refresh_metrics
from crave_bulk.crave.resolution import resolve
from crave_bulk.crave.review import accept, reject, review
from crave_bulk.crave.story import Ingested
from crave_bulk.crave.tables import TABLES, Connections, Entities, HeldMentions, Lookups, Mentions, Reviews

__all__ = [
    "TABLES",
    "Connections",
    "Entities",
    "HeldMentions",
    "Index",
    "Ingested",
    "Lookups",
    "Mentions",
    "Merged",
    "Reviews",
    "accept",
    "assign_attributes",
    "ingest",
    "merge_entities",
    "refresh_metrics",
    "reject",
    "remove_attributes",
    "resolve",
    "review",
]
