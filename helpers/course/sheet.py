"""What an examination needs: the files as a student gets them, numbers, and the right outcomes."""

import inspect
import json
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.course.checks import Dice, Numbers
from helpers.course.rows import ROWS, Row
from helpers.course.source import blank

MODULES = ("data", "model", "optim", "training", "decoding", "metrics")  # of helpers


class Sheet(NamedTuple):
    """`files` holds a module's source by its name, with all functions of the table missing; `given`
    some sets of numbers for each row; `expected` the outcome of each check of it with each set.
    """

    files: dict[str, str]
    given: dict[str, list[Numbers]]
    expected: dict[str, list[list[Numbers]]]


def missing(row: Row, hint: str) -> str:
    """What stands in the place of a function that the student is to write."""
    comment = "\n".join(f"# {line}" for line in hint.splitlines())
    return f'{comment}\nraise NotImplementedError("{row.label}, section {row.section}")'


def student_files() -> dict[str, str]:
    """The source of the modules, with all functions of the table missing."""
    bodies: dict[str, dict[str, str]] = {name: {} for name in MODULES}
    for row in ROWS:
        for function, hint in row.functions.items():
            module, _, name = function.partition(".")
            bodies[module][name] = missing(row, hint)
    return {name: blank(inspect.getsource(module), bodies[name]) for name, module in solution()}


def solution() -> list[tuple[str, ModuleType]]:
    return [(name, import_module(f"helpers.{name}")) for name in MODULES]


@contextmanager
def trial_place() -> Iterator[None]:
    """A folder to write in, float64, and modules that are what they were before, whatever a trial
    puts in the place of a function.
    """
    before = [(vars(module), dict(vars(module))) for _, module in solution()]
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        with TemporaryDirectory() as folder, chdir(folder):
            yield
    finally:
        torch.set_default_dtype(dtype)
        torch.set_num_threads(threads)
        for now, then in before:
            now.update(then)


def make_sheet(seed: int, sets: int) -> Sheet:
    """Numbers from a seed, so many sets of them, and what the solution makes of them now."""
    given, expected = {}, {}
    for row in ROWS:
        if row.give:
            with trial_place():
                given[row.label] = [row.give(Dice(sets * seed + i)) for i in range(sets)]
                expected[row.label] = [
                    [check.trial(numbers) for numbers in given[row.label]] for check in row.checks
                ]
    return Sheet(student_files(), given, expected)


def to_json(sheet: Sheet) -> str:
    return json.dumps(sheet._asdict(), default=plain)


def plain(value: Tensor) -> dict:
    dtype = str(value.dtype).removeprefix("torch.")
    return {"dtype": dtype, "shape": [*value.shape], "values": value.flatten().tolist()}


def from_json(text: str) -> Sheet:
    """Raises ValueError for text that is no sheet."""

    def revive(entry: dict):
        if entry.keys() != {"dtype", "shape", "values"}:
            return entry
        return torch.tensor(entry["values"], dtype=getattr(torch, entry["dtype"])).reshape(
            entry["shape"]
        )

    return Sheet(**json.loads(text, object_hook=revive))


STORED = Path(__file__).with_name("checks.json")  # in the student edition, which has no solution


def stored_sheet() -> Sheet:
    """That of the student edition, or here, where the solution is, a new one."""
    if STORED.exists():
        return from_json(STORED.read_text(encoding="utf-8"))
    return make_sheet(seed=0, sets=1)
