"""The command line: train a model, evaluate it, and reverse or translate sentences with it.

Results go to stdout, progress and warnings to stderr. A mistake in the input ends with exit status
2 and one line on stderr. What may be typed stands in `flags`; each command is a module with `run`,
which is imported when it is asked for.
"""

import threading
from collections.abc import Callable
from functools import partial
from importlib import import_module

from helpers.commands.flags import COMMANDS
from helpers.commands.shell import guarded, quiet
from helpers.course.flags import Parser


def build_parser() -> Parser:
    """All commands with their flags."""
    parser = Parser(
        "python -m helpers",
        description="Reverse the word order of sentences, or translate them.",
        allow_abbrev=False,
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")
    for name, add_flags in COMMANDS.items():
        help = " ".join(add_flags.__doc__.split())
        add_flags(parsers.add_parser(name, help=help, description=help, allow_abbrev=False))
    return parser


def main(argv: list[str] | None = None, ready: Callable[[], object] = lambda: None) -> int:
    """Runs a command; returns the exit status. Calls `ready` when all that it needs is imported."""
    threading.excepthook = quiet
    args = build_parser().parse_args(argv)
    run = import_module(f"helpers.commands.{args.command}").run
    ready()
    way_on = "; the same command with --resume goes on" if args.command == "train" else ""
    return guarded(partial(run, args), "python -m helpers", way_on)
