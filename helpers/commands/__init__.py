"""The command line: train a model, evaluate it, and reverse or translate sentences with it.

Results go to stdout, progress and warnings to stderr. A mistake in the input ends with exit status
2 and one line on stderr. Each command is a module with `run` and `add_arguments`.
"""

import threading
from functools import partial

from helpers.commands import (
    benchmark,
    check,
    evaluate,
    grade,
    handout,
    reverse,
    seeds,
    train,
    translate,
)
from helpers.commands.shell import Parser, guarded, quiet

COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "reverse": reverse,
    "translate": translate,
    "benchmark": benchmark,
    "seeds": seeds,
    "handout": handout,
    "check": check,
    "grade": grade,
}


def build_parser() -> Parser:
    """All commands with their flags."""
    parser = Parser(
        "python -m helpers",
        description="Reverse the word order of sentences, or translate them.",
        allow_abbrev=False,
    )
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        help = " ".join(command.run.__doc__.split())
        sub = parsers.add_parser(name, help=help, description=help, allow_abbrev=False)
        sub.set_defaults(command=command)
        command.add_arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; returns the exit status."""
    threading.excepthook = quiet
    args = build_parser().parse_args(argv)
    way_on = "; the same command with --resume goes on" if args.command is train else ""
    return guarded(partial(args.command.run, args), "python -m helpers", way_on)
