"""The door to a single command, in places where the others are missing."""

import argparse
import sys
from types import ModuleType


def main(name: str, command: ModuleType) -> int:
    """`python -m helpers NAME ...`; returns the exit status. A mistake becomes one line."""
    parser = argparse.ArgumentParser("python -m helpers", allow_abbrev=False)
    parsers = parser.add_subparsers(required=True, metavar="COMMAND")
    help = " ".join(command.run.__doc__.split())
    command.add_arguments(parsers.add_parser(name, help=help, description=help))
    args = parser.parse_args()
    try:
        command.run(args)
    except (OSError, ValueError) as error:
        print(f"python -m helpers {name}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    return 0
