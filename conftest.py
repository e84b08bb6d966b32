"""What `pytest --nbval` needs to know. It runs the notebooks and the tests in helpers/tests."""

import os

from xdist.scheduler import LoadScopeScheduling

# A progress bar is for people: it shows times, and a stored output must not.
os.environ["TQDM_DISABLE"] = "1"


def pytest_collection_modifyitems(items):
    """Notebook 1 is short, and runs beside the beginning of notebook 3. Of the others, those that
    take longest begin, so that no process is left alone with one of them at the end.
    """
    first = ["01_", "03_", "04_", "05_", "02_", "helpers/tests/test_resume"]
    items.sort(key=lambda item: [not item.nodeid.startswith(name) for name in first])


class ByFile(LoadScopeScheduling):
    """Gives whole files to the processes that share the work. While one of them has notebook 3,
    which trains in two processes of its own, and whose files 4 and 5 need, no other is given any.
    """

    def _split_scope(self, nodeid: str) -> str:
        return file_of(nodeid)

    def _assign_work_unit(self, node) -> None:
        others = (work for other, work in self.assigned_work.items() if other is not node)
        tests = (test for work in others for file in work.values() for test in file.items())
        if not any(test.startswith("03_") and not done for test, done in tests):
            super()._assign_work_unit(node)

    def mark_test_complete(self, node, item_index: int, duration: float = 0) -> None:
        super().mark_test_complete(node, item_index, duration)
        for other in self.nodes:
            if other is not node:
                self._reschedule(other)


def file_of(nodeid: str) -> str:
    return nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config, log):
    return ByFile(config, log)
