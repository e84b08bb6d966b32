"""What `pytest --nbval` needs to know. It runs the notebooks and the tests in helpers/tests."""

import os
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

# A progress bar is for people: it shows times, and a stored output must not.
os.environ["TQDM_DISABLE"] = "1"


def pytest_configure(config):
    """Where a table shows how long something took, the time alone is not compared."""
    config.option.nbval_sanitize_with = str(Path(__file__).with_name(".nbval-sanitize"))


class ByFile(LoadScopeScheduling):
    """Gives whole files to the processes that share the work. Notebooks 4 and 5 need the files of
    notebook 3, so that one process runs all three, in their order.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        return "notebooks 3 to 5" if file.startswith(("03_", "04_", "05_")) else file


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)
