"""Python source as a tree: functions are taken out of a file, and a student's are put in."""

import ast
from collections.abc import Iterable, Iterator

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(tree: ast.Module) -> dict[str, Definition]:
    """Functions, classes and methods by their names, a method as "Class.method"."""
    known = {}
    for node in tree.body:
        if isinstance(node, Definition):
            known[node.name] = node
        if isinstance(node, ast.ClassDef):
            methods = (part for part in node.body if isinstance(part, Definition))
            known |= {f"{node.name}.{method.name}": method for method in methods}
    return known


def functions(source: str) -> set[str]:
    """The names of all functions and methods."""
    known = definitions(ast.parse(source))
    return {name for name, node in known.items() if not isinstance(node, ast.ClassDef)}


def body_of(node: Definition) -> list[ast.stmt]:
    """The statements of a function after its docstring."""
    return node.body[1:] if ast.get_docstring(node) is not None else node.body


def blank(source: str, bodies: dict[str, str]) -> str:
    """The source with other `bodies` for some functions; signature and docstring stay, and so does
    every other character. Raises ValueError for a function that is not there.
    """
    lines, known = source.splitlines(keepends=True), definitions(ast.parse(source))
    for name in bodies:
        if name not in known:
            raise ValueError(f"no function {name}")
    for name in sorted(bodies, key=lambda name: -known[name].lineno):  # the last one first
        first, *_ = body = body_of(known[name])
        indent = " " * first.col_offset
        new = [indent + line + "\n" for line in bodies[name].splitlines()]
        lines[first.lineno - 1 : body[-1].end_lineno] = new
    return "".join(lines)


def graft(given: str, own: str, names: Iterable[str]) -> str:
    """The `given` source with the functions called `names` from a student's `own`, and with what
    these need of it: imports, functions, methods and variables that `given` does not have. All else
    in `own`, statements among it that do something at once, is left out. Raises ValueError for a
    function that `own` does not have, and SyntaxError.
    """
    tree, theirs = ast.parse(given), ast.parse(own)
    written, places = definitions(theirs), definitions(tree)
    new = {name: node for name, node in named(theirs) if name not in dict(named(tree))}
    for name in names:
        if name not in written:
            raise ValueError(f"there is no function {name}")
        vars(places[name]).update(vars(written[name]))
    taken, wanted = {}, [written[name] for name in names]
    owners = {name.split(".")[0] for name in names if "." in name}
    while wanted:
        used = words(wanted.pop())
        for name, node in new.items():
            if name not in taken and name in used:
                taken[name] = node
                wanted.append(node)
        for owner in owners:
            for name, node in written.items():
                method = name.removeprefix(f"{owner}.")
                if method != name and name not in places and name not in taken and method in used:
                    taken[name] = node
                    places[owner].body.append(node)
                    wanted.append(node)
    start = 1 if ast.get_docstring(tree) is not None else 0
    order = [node for node in theirs.body if any(node is other for other in taken.values())]
    imports = [node for node in order if isinstance(node, ast.Import | ast.ImportFrom)]
    tree.body[start:start] = imports
    first = next(i for i, node in enumerate(tree.body) if isinstance(node, Definition))
    tree.body[first:first] = [node for node in order if node not in imports]
    return ast.unparse(ast.fix_missing_locations(tree))


def named(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """What the statements of a module give names to: imports, definitions, variables."""
    for node in tree.body:
        if isinstance(node, Definition):
            yield node.name, node
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for alias in node.names:
                yield alias.asname or alias.name.split(".")[0], node
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from ((part.id, node) for part in ast.walk(target)
                            if isinstance(part, ast.Name))  # fmt: skip


def words(node: ast.AST) -> set[str]:
    """All names and attributes that occur in a piece of source, and what it imports."""
    known = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Name):
            known.add(part.id)
        elif isinstance(part, ast.Attribute):
            known.add(part.attr)
        elif isinstance(part, ast.Import | ast.ImportFrom):
            names = [getattr(part, "module", None) or "", *(alias.name for alias in part.names)]
            known.update(".".join(names).split("."))
    return known


def long_lines(source: str, names: Iterable[str], least: int = 25) -> set[str]:
    """The lines of the bodies of some functions that have so many characters at least."""
    lines, known = source.splitlines(), definitions(ast.parse(source))
    bodies = (body_of(known[name]) for name in names)
    whole = (line.strip() for first, *rest in bodies
             for line in lines[first.lineno - 1 : (rest or [first])[-1].end_lineno])  # fmt: skip
    return {line for line in whole if len(line) >= least}
