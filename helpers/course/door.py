"""The door to a single command, in places where the others are missing."""

import sys
from importlib import import_module

from helpers.course import flags


def main(name: str, module: str) -> int:
    """`python -m helpers NAME ...`, done by `run` in a `module` of this folder; returns the
    exit status. A mistake becomes one line.
    """
    add_flags = getattr(flags, name)
    parser = flags.Parser("python -m helpers", allow_abbrev=False)
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    help = " ".join(add_flags.__doc__.split())
    add_flags(parsers.add_parser(name, help=help, description=help))
    args = parser.parse_args()
    run = import_module(f"helpers.course.{module}").run
    try:
        run(args)
    except (OSError, ValueError) as error:
        print(f"python -m helpers {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
