"""`python -m helpers translate`"""

import argparse

from helpers.commands.answering import answer_command


def run(args: argparse.Namespace) -> None:
    """Answers sentences with a model of translation."""
    answer_command(args, ("translate",))
