"""Is the assignment complete by itself? Runs Part 1 of the notebooks, with Part 2 deleted.

    python -m helpers.tests.part_one

takes a new folder that holds nothing but `helpers`, and runs the five in it, one after the other.
Prints the code cells and the seconds of each; the exit status is 1 if a cell fails.
"""

import copy
import os
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import nbformat
from nbconvert.preprocessors import CellExecutionError, ExecutePreprocessor
from nbformat import NotebookNode

from helpers.course import pages

ROOT = Path(__file__).parents[2]
PART_ONE, PART_TWO = "Part 1: The assignment", "Part 2: Beyond the assignment"
TIMEOUT = 900  # seconds for a cell


def part_one(notebook: NotebookNode) -> NotebookNode:
    """The notebook without Part 2, which begins with a cell of its own. Raises ValueError if there
    is none.
    """
    shorter = copy.copy(notebook)
    shorter.cells = pages.part_one(notebook)
    return shorter


def execute(notebook: NotebookNode, path: Path) -> tuple[int, float]:
    """Runs all cells in the folder of `path`, from a fresh kernel, and writes the notebook there
    with its outputs, which a later one may read. Returns how many cells are code, and the seconds.
    Raises CellExecutionError for a cell that fails.
    """
    started = perf_counter()
    runner = ExecutePreprocessor(timeout=TIMEOUT, kernel_name="python3")
    executed = copy.deepcopy(notebook)
    runner.preprocess(executed, {"metadata": {"path": str(path.parent)}})
    nbformat.write(executed, path)
    count = sum(cell.cell_type == "code" for cell in notebook.cells)
    return count, perf_counter() - started


def run(root: Path = ROOT) -> int:
    """Runs the notebooks of a project; returns the exit status."""
    os.environ["TQDM_DISABLE"] = "1"
    total, seconds = 0, 0.0
    with TemporaryDirectory() as place:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / "helpers", Path(place, "helpers"), ignore=ignored)
        for path in sorted(root.glob("*.ipynb")):
            notebook = part_one(nbformat.read(path, as_version=4))
            try:
                count, taken = execute(notebook, Path(place, path.name))
            except CellExecutionError as error:
                print(f"{path.stem}: failed", flush=True)
                print(error, file=sys.stderr)
                return 1
            print(f"{path.stem}: {count} code cells, {taken:.0f} s", flush=True)
            total, seconds = total + count, seconds + taken
    print(f"Part 1 of all: {total} code cells, {seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run())
