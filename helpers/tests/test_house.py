"""What stands where: the assignment on the top level, which knows nothing of the folders."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import helpers
from helpers.training import train

HOUSE = Path(helpers.__file__).parent
FOLDERS = {path.name for path in HOUSE.iterdir() if path.is_dir() and path.name != "__pycache__"}
TOP = sorted(path.stem for path in HOUSE.glob("*.py") if not path.stem.startswith("__"))
ORDER = [["data", "grammar"], ["model"], ["optim", "training"], ["decoding", "metrics"]]
ORDER += [["plotting", "notebook"]]  # as the notebooks go
SOURCES = {
    path.relative_to(HOUSE).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(HOUSE.rglob("*.py"))
    if path.relative_to(HOUSE).parts[0] != "tests"
}


def imports(source):
    """The names below `helpers` that are imported, also within functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1:] for name in names if name.split(".")[0] == "helpers")


def test_the_top_level_is_the_assignment():
    assert TOP == sorted(name for names in ORDER for name in names)
    assert FOLDERS == {"tasks", "models", "search", "runs", "course", "commands", "tests"}
    says = helpers.__doc__
    listed = [line.split("  ")[0].split(", ") for line in says.strip().splitlines()[2:]]
    assert listed[: len(ORDER)] == ORDER, "it is read in this order"
    assert {name.rstrip("/") for names in listed[len(ORDER) :] for name in names} == FOLDERS


def test_the_top_level_is_short():
    lines = [line.strip() for name, text in SOURCES.items() if "/" not in name
             for line in text.splitlines()]  # fmt: skip
    assert sum(bool(line) and not line.startswith("#") for line in lines) <= 900


@pytest.mark.parametrize("name", TOP)
def test_a_file_of_the_top_level_needs_only_what_was_read_before(name):
    before = []
    for names in ORDER:
        before += names
        if name in names:
            break
    used = {first for first, *_ in imports(SOURCES[f"{name}.py"])}
    assert used <= set(before) - {name}


def test_no_import_goes_in_a_circle():
    needs = {}
    for file, source in SOURCES.items():
        module = file.removesuffix(".py").removesuffix("/__init__")
        needs[module] = set()
        for first, *rest in imports(source):
            longer = "/".join([first, *rest[:1]])
            needs[module].add(longer if f"{longer}.py" in SOURCES else first)
    while free := {module for module, others in needs.items() if not others & set(needs)}:
        for module in free:
            del needs[module]
    assert not needs, "each of these needs another of them"


def is_kind(node):
    """Whether it is a model, a task, or the name of one."""
    name = getattr(node, "attr", getattr(node, "id", None))
    of_one = isinstance(node, ast.Attribute) and name == "name"
    return is_kind(node.value) if of_one else name in ("model", "task")


def test_nobody_asks_for_the_kind_of_a_model_or_a_task():
    """A model answers for itself; names are looked up in a registry, and compared nowhere."""
    literal = ast.Constant, ast.Tuple, ast.List, ast.Set, ast.Dict
    for file, source in SOURCES.items():
        assert "isinstance(model" not in source and "type(model" not in source, file
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Compare):
                sides = [node.left, *node.comparators]
                asked = any(map(is_kind, sides)) and any(isinstance(x, literal) for x in sides)
                assert not asked, f"{file}, line {node.lineno}"


def test_the_loop_takes_six_things():
    assert len(inspect.signature(train).parameters) <= 6


def test_grep_finds_none_of_it_either():
    """The same as text, whatever it is compared with, be it a variable."""
    asked = re.compile(
        r"isinstance\(\s*(self\.)?model|type\((self\.)?model\)|\.model\s*[!=]="
        r"|\b(task|model|settings\.model|settings\.task|kind)\.name\s*([!=]=|in \()"
    )
    for file, source in SOURCES.items():
        if file not in ("models/__init__.py", "tasks/__init__.py"):  # the registries
            assert not asked.search(source), f"{file}: {asked.search(source)[0]}"


def identifiers(source):
    """All that the source gives a name to or calls by one: variables, parameters, attributes,
    functions, classes, what is imported.
    """
    for node in ast.walk(ast.parse(source)):
        for name in ("id", "arg", "attr", "name", "asname"):
            given = getattr(node, name, None)
            if isinstance(given, str):
                yield given, getattr(node, "lineno", "?")


def test_names_are_nouns_of_the_field():
    tests = {path.name: path.read_text(encoding="utf-8") for path in HOUSE.glob("tests/*.py")}
    for file, source in (SOURCES | tests).items():
        for name, line in identifiers(source):
            assert name not in ("how", "near", "made", "found", "fetch"), f"{file}, line {line}"
