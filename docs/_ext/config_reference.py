"""The directive ``config-reference``: tables of all keys, made from the code that reads them."""

from __future__ import annotations

from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from labnet.reference import describe_options

HEAD = ("key", "type", "default", "meaning")


class ConfigReference(SphinxDirective):
    """One section with a table for each kind of section of a configuration file."""

    def run(self) -> list[nodes.Node]:
        """The sections; a title each, so that they can be linked to."""
        rows = describe_options()
        return [
            self._section(title, list(keys)) for title, keys in groupby(rows, lambda r: r.section)
        ]

    def _section(self, title: str, keys: list[Any]) -> nodes.section:
        section = nodes.section(ids=[nodes.make_id(title)])
        section += nodes.title(text=f"[{title}]")
        table = nodes.table()
        group = nodes.tgroup(cols=len(HEAD))
        for width in (20, 18, 16, 60):
            group += nodes.colspec(colwidth=width)
        head, body = nodes.thead(), nodes.tbody()
        head += _row(HEAD)
        for key in keys:
            unit = f" ({key.unit})" if key.unit else ""
            body += _row((key.key, key.type, key.default, key.help + unit))
        group += [head, body]
        table += group
        section += table
        return section


def _row(cells: tuple[str, ...]) -> nodes.row:
    row = nodes.row()
    for cell in cells:
        entry = nodes.entry()
        entry += nodes.paragraph(text=cell)
        row += entry
    return row


def setup(app: Any) -> dict[str, Any]:
    """Registers the directive."""
    app.add_directive("config-reference", ConfigReference)
    return {"parallel_read_safe": True}
