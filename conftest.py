"""What `pytest --nbval` needs to know. It runs the notebooks and the tests in helpers/tests."""

import os
from pathlib import Path

import pytest

# A progress bar is for people: it shows times, and a stored output must not.
os.environ["TQDM_DISABLE"] = "1"


def pytest_configure(config):
    """Where a table shows how long something took, the time alone is not compared."""
    if hasattr(config.option, "nbval_sanitize_with"):
        config.option.nbval_sanitize_with = str(Path(__file__).with_name(".nbval-sanitize"))


def pytest_collection_modifyitems(items):
    """Two processes share the work. Notebooks 4 and 5 need the files of notebook 3: one process
    runs all three, in their order; every other file goes to whichever process is free.
    """
    for item in items:
        chained = item.path.name.startswith(("03_", "04_", "05_"))
        item.add_marker(pytest.mark.xdist_group("03 to 05" if chained else item.path.name))
