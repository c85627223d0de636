"""HTML pages from jinja2 templates. A page is one file that loads nothing, readable offline, on a phone and on paper.

A package keeps its templates in its folder `templates`; panther_core.report's has what all pages share: the page around
the sections, tables, figures, the style. Every value that a template prints is escaped, so words of the data stay
words. A name that a template does not get is an error (jinja2.UndefinedError), not an empty word.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from panther_core.base.files import written_whole
from panther_core.report import words


def render(package: str, template: str, **values: object) -> str:
    """The page that a template of `package` makes of `values`; the same values give the same text."""
    return _environment(package).get_template(template).render(values)


def write_page(path: Path, text: str) -> None:
    """Write a page, its folder too if need be; after an error `path` is as it was."""
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8")


@cache
def _environment(package: str) -> Environment:
    out = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("panther_core.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    out.filters |= {"day": words.day, "minute": words.minute, "money": words.money, "fmt": words.formatted}
    out.filters |= {"named": words.named, "odds": words.odds}
    return out
