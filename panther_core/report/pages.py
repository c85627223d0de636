"""The few pieces of HTML the page is made of. Every word that comes from data goes through `escape` here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

STYLE = """
:root { color-scheme: light; --ink: #22272e; --soft: #59616b; --line: #e3e6ea; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 48rem; padding: 1.5rem 1rem 4rem; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; padding-top: .75rem; border-top: 1px solid var(--line); }
p { margin: .5rem 0; overflow-wrap: break-word; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
nav a { color: inherit; margin-right: .75rem; }
figure { margin: 1rem 0; }
figure img { display: block; width: 100%; max-width: 40rem; height: auto; }
figure.wide { overflow-x: auto; }
figure.wide img { min-width: 36rem; max-width: 48rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .75rem; margin: 1.25rem 0; }
.tile { flex: 1 1 7rem; border: 1px solid var(--line); border-radius: 6px; padding: .6rem .75rem; }
.tile b { display: block; font-size: 1.35rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { color: var(--soft); font-size: .8rem; display: block; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .9rem .25rem 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; min-width: 6rem; }
th { font-weight: 600; color: var(--soft); }
.words th, .words td { text-align: left; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; } nav { display: none; }
  figure, .tile, table { break-inside: avoid; } h2 { break-after: avoid; } figure.wide, .table { overflow: visible; }
  figure.wide img { min-width: 0; } }
"""


def paragraph(text: str, soft: bool = False) -> str:
    """A paragraph of plain text."""
    kind = ' class="soft"' if soft else ""
    return f"<p{kind}>{escape(text)}</p>"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """A table of plain text; the first column names the rows. `words`: all columns to the left."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = ' class="words"' if words else ""
    return f'<div class="table"><table{kind}><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure(uri: str, what: str, reading: str, wide: bool = False) -> str:
    """A figure (data URI), what it shows for those who cannot see it, and one sentence saying how to read it."""
    kind = ' class="wide"' if wide else ""
    image = f'<img alt="{escape(what)}" src="{escape(uri)}">'
    return f"<figure{kind}>{image}<figcaption>{escape(reading)}</figcaption></figure>"


def tiles(facts: Iterable[tuple[str, str, str]]) -> str:
    """Headline figures: (name, figure, what it is to be compared with)."""
    cells = (
        f"<div class=tile><span>{escape(n)}</span><b>{escape(f)}</b><span>{escape(c)}</span></div>" for n, f, c in facts
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def section(name: str, title: str, parts: Iterable[str]) -> str:
    """A section with an anchor."""
    return f'<section id="{escape(name)}"><h2>{escape(title)}</h2>{"".join(parts)}</section>'


def document(title: str, body: str) -> str:
    """The whole page: nothing in it is fetched from anywhere, and nothing in it runs."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{body}</body></html>\n"
    )
