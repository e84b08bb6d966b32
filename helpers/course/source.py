"""Python source as a tree: functions are taken out of a file, and a student's are put in."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

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


def graft(given: str, own: str, names: Sequence[str]) -> str:
    """The `given` source with the functions called `names` from a student's `own`, and with what
    these need of it: the statements that name something which `given` does not have, in the order
    of the student's file. All else in `own` is left out; a function that it lacks stays as given.
    Raises ValueError for a file with none of the functions, and SyntaxError.
    """
    tree, theirs = ast.parse(given), ast.parse(own)
    written, places = definitions(theirs), definitions(tree)
    there = [name for name in names if isinstance(written.get(name), ast.FunctionDef)]
    if not there:
        raise ValueError(f"there is no function {' or '.join(names)}")
    for name in there:
        vars(places[name]).update(vars(written[name]))
    known = dict(named(tree))
    new: dict[str, list[ast.AST]] = defaultdict(list)
    for name, node in named(theirs):
        if name not in known:
            new[name].append(node)
    for owner in {name.split(".")[0] for name in there if "." in name}:
        for name, node in written.items():
            if name.startswith(f"{owner}.") and name not in places:
                new[name.partition(".")[2]].append(node)
    everywhere = [node for node in theirs.body if is_for_all(node)]
    taken, seen = {id(node) for node in everywhere}, set()
    wanted = [written[name] for name in there]
    while wanted:
        used = words(wanted.pop()) - seen
        seen |= used
        for node in (node for name in used & new.keys() for node in new[name]):
            if id(node) not in taken:
                taken.add(id(node))
                wanted.append(node)
    for name, node in written.items():
        if "." in name and id(node) in taken:
            places[name.split(".")[0]].body.append(node)
    place = len(tree.body)
    for node in reversed(theirs.body):  # each before what followed it in the student's file
        if id(node) in taken:
            tree.body.insert(1 if is_future(node) else place, node)
            continue
        same = [known[name] for name, _ in named(ast.Module([node], [])) if name in known]
        if same:
            place = next(i for i, other in enumerate(tree.body) if other is same[0])
    return ast.unparse(ast.fix_missing_locations(tree))


def is_future(node: ast.AST) -> bool:
    return isinstance(node, ast.ImportFrom) and node.module == "__future__"


def is_for_all(node: ast.AST) -> bool:
    """An import that gives no names, or does not tell which."""
    return is_future(node) or (isinstance(node, ast.ImportFrom) and node.names[0].name == "*")


def named(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """What the statements of a module give names to: imports, definitions, variables, also those
    that are changed, or given in one of several cases.
    """
    cases = ast.Assign | ast.AnnAssign | ast.AugAssign | ast.Try | ast.If
    for node in tree.body:
        if isinstance(node, Definition):
            yield node.name, node
        elif isinstance(node, cases | ast.Import | ast.ImportFrom):
            for part in ast.walk(node):
                if isinstance(part, ast.Import | ast.ImportFrom):
                    for alias in part.names:
                        yield alias.asname or alias.name.split(".")[0], node
                elif isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id, node
                elif isinstance(part, ast.Subscript | ast.Attribute):
                    changed = isinstance(part.ctx, ast.Store) and isinstance(part.value, ast.Name)
                    if changed:
                        yield part.value.id, node


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
