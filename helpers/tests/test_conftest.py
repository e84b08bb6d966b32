"""The order in which the processes of the test command take files: with files that do nothing."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NOTE = """
import pathlib, time, pytest
@pytest.mark.parametrize("i", range(4))
def test_note(i):
    time.sleep(0.1)
    with open("log.txt", "a") as log:
        print(pathlib.Path(__file__).name, file=log)
"""
FILES = ["01_data.py", "03_training.py", "05_analysis.py", "test_a.py"]


def test_all_is_run_and_beside_notebook_3_only_the_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    shutil.copy(ROOT / "conftest.py", tmp_path)
    for name in FILES:
        (tmp_path / name).write_text(NOTE)
    command = [sys.executable, *"-m pytest -p xdist -n 3 --no-loadscope-reorder".split(), *FILES]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    log = (tmp_path / "log.txt").read_text().split()
    assert sorted(log) == sorted(FILES * 4)
    last = max(i for i, name in enumerate(log) if name == FILES[1])
    assert log.index(FILES[0]) < last < min(map(log.index, FILES[2:]))
