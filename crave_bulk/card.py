"""The report card: a batch at a glance, as HTML for a notebook and as words for a terminal."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    from crave_bulk.plan import Plan
    from crave_bulk.report import Report

# Okabe and Ito's palette, which people with any kind of colour vision can tell apart.
OUTCOME_COLOURS = {
    "inserted": "#009e73",
    "updated": "#0072b2",
    "unchanged": "#8a8f98",
    "deleted": "#cc79a7",
    "duplicate": "#e69f00",
    "ignored": "#b0a060",
    "stale": "#b0a060",
    "missing": "#b0a060",
    "review": "#56b4e9",
    "rejected": "#d55e00",
}
# An ingestion reads, resolves and works out metrics as well: those three differ from the others in lightness too.
PHASE_COLOURS = {
    "validate": "#56b4e9",
    "read": "#8a8f98",
    "resolve": "#d55e00",
    "metrics": "#882255",
    "dedupe": "#009e73",
    "stage": "#e69f00",
    "merge": "#0072b2",
    "ledger": "#f0e442",
    "report": "#cc79a7",
}
OTHER = "#8a8f98"

# Colours with alpha and currentColor only, so that the card reads on light and dark themes alike; the
# rules marked important undo what notebooks do to every table.
_STYLE = """
.cb-card{font:13px/1.45 system-ui,sans-serif;max-width:46rem;border:1px solid #8884;border-radius:10px;padding:14px 18px;margin:6px 0}
.cb-card .cb-head{display:flex;justify-content:space-between;align-items:baseline;gap:1rem;flex-wrap:wrap}
.cb-card .cb-title{font-size:16px;font-weight:650}.cb-card .cb-dim{opacity:.65;font-size:12px}
.cb-card .cb-tiles{display:flex;flex-wrap:wrap;gap:8px;margin:12px 0}
.cb-card .cb-tile{border-radius:8px;background:#8881;padding:6px 12px;border-left:4px solid}
.cb-card .cb-tile b{display:block;font-size:18px;font-variant-numeric:tabular-nums}
.cb-card .cb-bar{display:flex;height:10px;border-radius:5px;overflow:hidden;background:#8882}
.cb-card .cb-legend{display:flex;flex-wrap:wrap;gap:4px 14px;margin-top:6px;font-size:12px}
.cb-card .cb-dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:5px}
.cb-card .cb-warn{border-left:4px solid #d55e00;background:#d55e0018;border-radius:6px;padding:6px 12px;margin-top:10px}
.cb-card .cb-note{border-left:4px solid #0072b2;background:#0072b218;border-radius:6px;padding:6px 12px;margin-top:10px}
.cb-card table{border-collapse:collapse;margin:10px 0 0!important;font-size:12px;width:100%;table-layout:auto!important}
.cb-card caption{text-align:left;font-weight:600;padding-bottom:3px}
.cb-card tr{background:none!important}
.cb-card th,.cb-card td{text-align:left!important;padding:3px 10px 3px 0!important;border-bottom:1px solid #8883!important;vertical-align:top;max-width:none!important}
"""


def shorten(text: str, width: int = 60) -> str:
    """Cut a text to a width.

    Args:
        text: any text.
        width: characters at most, 1 or more.

    Returns:
        The text, with an ellipsis where something was cut off.

    Example:
        >>> shorten("a long explanation", 8)
        'a long …'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def sentence(counts: dict[str, int]) -> str:
    """Say the counts in words.

    Args:
        counts: as in `Report.counts`.

    Returns:
        Such as "2,575 rows -> 2,480 inserted, 95 rejected".

    Example:
        >>> sentence({"input": 3, "inserted": 2, "rejected": 1})
        '3 rows -> 2 inserted, 1 rejected'
    """
    parts = [f"{rows:,} {name}" for name, rows in counts.items() if name != "input"]
    return f"{counts['input']:,} row{'s' * (counts['input'] != 1)} -> {', '.join(parts) or 'nothing to do'}"


def phases(timings: pl.DataFrame) -> str:
    """Say the time per phase in words.

    Args:
        timings: as in `Report.timings`.

    Returns:
        Such as "validate 12 ms, merge 130 ms".
    """
    spent = timings.group_by("phase", maintain_order=True).agg(pl.col("seconds").sum())
    return ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in spent.iter_rows())


def duration(seconds: float) -> str:
    """Write a time for people.

    Args:
        seconds: 0 or more.

    Returns:
        Milliseconds below one second, else seconds.

    Example:
        >>> duration(0.0123), duration(2.5)
        ('12 ms', '2.5 s')
    """
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.0f} ms"


def html(report: Report) -> str:
    """Draw a report as a card.

    Args:
        report: what became of the rows.

    Returns:
        HTML that needs nothing from outside; every value is escaped.
    """
    title = f"{report.verb} (written before)" if report.replayed else report.verb
    parts = [_head(report, title), _tiles(report.counts), _phase_bar(report.timings)]
    if report.fate is not None and report.fate.state != "committed":
        said = (
            "<b>Rolled back</b> with its transaction: nothing of this is in the database."
            if report.fate.state == "rolled back"
            else "<b>Pending</b> until its transaction is committed."
        )
        parts.append(f'<div class="cb-warn">{said}</div>')
    if not report.written:
        parts.append(
            '<div class="cb-warn"><b>Nothing was written.</b> The counts say what each row would have '
            "become without the rejected ones.</div>"
        )
    parts += [f'<div class="cb-note">{escape(note)}</div>' for note in report.notes]
    return _card(parts + _failures(report))


def plan_html(plan: Plan) -> str:
    """Draw a plan as a card.

    Args:
        plan: what would become of the rows.

    Returns:
        HTML that needs nothing from outside; every value is escaped.
    """
    report = plan.report
    parts = [_head(report, f"plan: {report.verb}"), _tiles(report.counts), _phase_bar(report.timings)]
    ready = (
        "<b>Nothing was written.</b> <code>.apply()</code> writes just this, if nothing has changed by then."
    )
    parts.append(f'<div class="cb-note">{ready}</div>')
    parts += [f'<div class="cb-note">{escape(note)}</div>' for note in report.notes]
    first = plan.changes.head(8)
    if first.height:
        more = plan.changes.height - first.height
        title = "What changes" + (f" ({more:,} more in .changes)" if more else "")
        parts.append(_table(title, ["row", "key", "column", "old", "new"], first.iter_rows()))
    return _card(parts + _failures(report))


def _card(parts: list[str]) -> str:
    return f'<div class="cb-card"><style>{_STYLE}</style>{"".join(parts)}</div>'


def _failures(report: Report) -> list[str]:
    return [_reasons(report), _first_rejected(report)] if report.failures.height else []


def _head(report: Report, title: str) -> str:
    speed = f"{duration(report.seconds)} · {report.rows_per_second:,.0f} rows/s"
    tries = f" · {report.retries} retries" if report.retries else ""
    return (
        f'<div class="cb-head"><span class="cb-title">{escape(title)} → {escape(report.table)}</span>'
        f"<span>{speed}</span></div>"
        f'<div class="cb-dim">batch {escape(report.batch_id)}{tries}</div>'
    )


def _tiles(counts: dict[str, int]) -> str:
    tiles = "".join(
        f'<div class="cb-tile" style="border-color:{OUTCOME_COLOURS.get(name, "#8888")}">'
        f"<b>{rows:,}</b>{'rows in' if name == 'input' else name}</div>"
        for name, rows in counts.items()
    )
    return f'<div class="cb-tiles">{tiles}</div>'


def _phase_bar(timings: pl.DataFrame) -> str:
    spent = timings.group_by("phase", maintain_order=True).agg(pl.col("seconds").sum())
    total = spent["seconds"].sum() or 1.0
    bars, legend = "", ""
    for phase, seconds in spent.iter_rows():
        colour = PHASE_COLOURS.get(phase, OTHER)
        bars += f'<span style="width:{100 * seconds / total:.2f}%;background:{colour}"></span>'
        legend += f'<span><i class="cb-dot" style="background:{colour}"></i>{escape(phase)} {duration(seconds)}</span>'
    return f'<div class="cb-bar">{bars}</div><div class="cb-legend">{legend}</div>'


def _reasons(report: Report) -> str:
    rows = report.top_reasons().select("rows", "stage", "rule", "column").iter_rows()
    return _table("Why rows were rejected", ["rows", "stage", "rule", "column"], rows)


def _first_rejected(report: Report) -> str:
    first = report.failures.head(5)
    rows = first.select("row", "column", "value", "message").iter_rows()
    more = report.failures.height - first.height
    title = "First rejected rows" + (f" ({more:,} more in .failures)" if more else "")
    return _table(title, ["row", "column", "value", "message"], rows)


def _table(title: str, names: list[str], rows: Any) -> str:
    head = "".join(f"<th>{name}</th>" for name in names)
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>" for row in rows)
    return f"<table><caption>{title}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    if value is None:
        return '<span class="cb-dim">null</span>'
    return f"{value:,}" if isinstance(value, int) else escape(shorten(str(value), 80))
