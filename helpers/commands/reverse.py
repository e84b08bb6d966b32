"""`python -m helpers reverse`"""

import argparse

from helpers.commands.answering import answer_command


def run(args: argparse.Namespace) -> None:
    """Answers sentences with a model of words or integers."""
    answer_command(args, ("words", "integers"))
