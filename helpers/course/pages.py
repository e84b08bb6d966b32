"""From a notebook of the solution to the page that a student is given.

The page is Part 1, without outputs and without the answers of the exercises. Where a cell holds a
solution, or speaks of one, the table in `pages.md` has other words for it.
"""

import re
from copy import deepcopy
from pathlib import Path

TABLE = Path(__file__).with_suffix(".md")
PART_TWO = "# Part 2"
BLANK = "*Write your answer here.*"  # where the student writes
LEFT_OUT = (
    r"\n*^ *<details>.*?</details>$",  # an answer to an exercise
    r"\n*^To run this part alone in JupyterLab:.*?Run All Above Selected Cell\*\.$",
    r"(?<=^# )Part 1: (?=The assignment$)",
)


def read_table() -> dict[str, dict[str, list]]:
    """For each notebook, by the id of a cell, what stands in its place, a list of texts, or what is
    changed in it, a list of pairs of the old and the new text.
    """
    table: dict[str, dict[str, list]] = {}
    _, *entries = re.split(r"^=== ", TABLE.read_text(encoding="utf-8"), flags=re.M)
    for entry in entries:
        head, _, body = entry.partition("\n")
        name, id_, *edit = head.split()
        changes = table.setdefault(name, {}).setdefault(id_, [])
        if edit:
            old, new = re.split(r"^=>$", body, flags=re.M)
            changes.append((old.strip("\n"), new.strip("\n")))
        elif body.strip():
            changes += [text.strip("\n") for text in re.split(r"^\+\+\+$", body, flags=re.M)]
    return table


def student_page(name: str, page: dict) -> dict:
    """The page of the student edition that is made of `page`, a notebook as JSON, whose name is
    `name` ("02_model"). Raises ValueError if it has no Part 2, or if the table changes a cell that
    it does not have, or a text that its cell does not have exactly once.
    """
    table = read_table().get(name, {})
    cells = [cell for old in part_one(page) for cell in changed(old, table.pop(old["id"], None))]
    if table:
        raise ValueError(f"{name} has no cell {', '.join(table)}")
    return {**deepcopy(page), "cells": [cleared(cell) for cell in cells]}


def part_one(page: dict) -> list[dict]:
    """The cells before the heading of Part 2."""
    for i, cell in enumerate(page["cells"]):
        if cell["cell_type"] == "markdown" and text_of(cell).startswith(PART_TWO):
            return page["cells"][:i]
    raise ValueError("a notebook with no Part 2")


def text_of(cell: dict) -> str:
    return "".join(cell["source"])


def changed(cell: dict, changes: list | None) -> list[dict]:
    """The cells that take the place of one."""
    if changes is None:
        return [cell]
    if not changes or isinstance(changes[0], str):
        ids = [cell["id"], *(f"{cell['id']}-{i}" for i in range(2, len(changes) + 1))]
        return [new_cell(id_, text) for id_, text in zip(ids, changes, strict=False)]
    source = text_of(cell)
    for old, new in changes:
        if source.count(old) != 1:
            raise ValueError(f"not once in the cell {cell['id']}: {old}")
        source = source.replace(old, new)
    return [{**cell, "source": source}]


def new_cell(id_: str, text: str) -> dict:
    """A cell of code, if the text is a fence of it, or of Markdown."""
    code = re.fullmatch(r"```python\n(.*)\n```", text, flags=re.S)
    kind, source = ("code", code[1]) if code else ("markdown", text)
    return {"cell_type": kind, "id": id_, "metadata": {}, "source": source}


def cleared(cell: dict) -> dict:
    """The cell with no output and no answer to an exercise; its text in lines, as it is stored."""
    cell, source = deepcopy(cell), text_of(cell)
    if cell["cell_type"] == "code":
        cell |= {"execution_count": None, "outputs": []}
    else:
        for pattern in LEFT_OUT:
            source = re.sub(pattern, "", source, flags=re.M | re.S)
    return {**cell, "source": source.rstrip().splitlines(keepends=True)}
