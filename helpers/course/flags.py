"""What may be typed after `check`, `grade` and `handout`, as in `helpers.commands.flags`, and what
reads it, in the student edition, too.
"""

import argparse
from pathlib import Path


class Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, without the usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (see {self.prog} --help)\n")

    def parse_known_args(self, args=None, namespace=None):
        """A command names its own help, too, for a flag that it does not know."""
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown


def check(parser: argparse.ArgumentParser) -> None:
    """Try what has been written so far, row by row, and say what was expected and what came."""
    parser.add_argument(
        "rows", nargs="*", type=label, metavar="ROW", help="A1 to A13 (default: all)"
    )


def grade(parser: argparse.ArgumentParser) -> None:
    """Grade each submission in a folder: a table, and for each student a report."""
    parser.add_argument(
        "submissions", type=Path, help="a folder of folders or zip files, or one of these"
    )
    parser.add_argument("--seed", type=seed, default=1, metavar="N", help="of the numbers that are "
                        "given (default: 1; students check with 0)")  # fmt: skip
    parser.add_argument("--csv", type=Path, default=Path("grades.csv"), metavar="FILE",
                        help="the table; reports go to the folder of the same name (default: "
                        "grades.csv)")  # fmt: skip


def handout(parser: argparse.ArgumentParser) -> None:
    """Make the student edition in a new folder, and beside it a zip file for Gradescope."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")


def label(text: str) -> str:
    from helpers.course.rows import BY_LABEL, ROWS

    if text.upper() not in BY_LABEL:
        raise argparse.ArgumentTypeError(f"must be A1 to A{len(ROWS)}, not {text!r}")
    return text.upper()


def seed(text: str) -> int:
    """Raises ArgumentTypeError for what is no seed."""
    if not text.isdecimal() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 4294967295, not {text}")
    return int(text)
