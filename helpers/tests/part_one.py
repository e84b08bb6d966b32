"""Is the assignment complete by itself? Runs Part 1 of the notebooks, with Part 2 deleted, and then
the pages of the student edition, beside helpers that hold the solution.

    python -m helpers.tests.part_one

takes a new folder for each, with nothing but `helpers`, and runs the five one after the other.
Prints the code cells and the seconds of each; the exit status is 1 if a cell fails.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import nbformat
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor

from helpers.course.pages import part_one, student_page

ROOT = Path(__file__).parents[2]
TIMEOUT = 900  # seconds for a cell


def without_part_two(name: str, page: dict) -> dict:
    return {**page, "cells": part_one(page)}


EDITIONS = {"Part 1": without_part_two, "student edition": student_page}


def execute(page: dict, path: Path) -> tuple[int, float]:
    """Runs all cells in the folder of `path`, from a fresh kernel, and writes the page there with
    its outputs, which a later one may read. Returns how many cells are code, and the seconds.
    Raises CellExecutionError for a cell that fails.
    """
    started = perf_counter()
    runner = ExecutePreprocessor(timeout=TIMEOUT, kernel_name="python3")
    executed = nbformat.reads(json.dumps(page), as_version=4)
    runner.preprocess(executed, {"metadata": {"path": str(path.parent)}})
    nbformat.write(executed, path)
    count = sum(cell.cell_type == "code" for cell in executed.cells)
    return count, perf_counter() - started


def run(root: Path = ROOT) -> int:
    """Runs both editions of a project's notebooks; returns the exit status."""
    os.environ["TQDM_DISABLE"] = "1"
    for edition, change in EDITIONS.items():
        total, seconds = 0, 0.0
        with TemporaryDirectory() as place:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(root / "helpers", Path(place, "helpers"), ignore=ignored)
            for path in sorted(root.glob("*.ipynb")):
                page = change(path.stem, json.loads(path.read_text(encoding="utf-8")))
                try:
                    count, taken = execute(page, Path(place, path.name))
                except CellExecutionError as error:
                    print(f"{edition}, {path.stem}: failed", flush=True)
                    print(error, file=sys.stderr)
                    return 1
                print(f"{edition}, {path.stem}: {count} code cells, {taken:.0f} s", flush=True)
                total, seconds = total + count, seconds + taken
        print(f"{edition}: {total} code cells, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run())
