"""`python -m helpers reverse`"""

import argparse

from helpers.commands.answering import add_checkpoint, add_sentences, answer_command
from helpers.commands.heatmap import add_heatmap
from helpers.commands.shell import Parser


def run(args: argparse.Namespace) -> None:
    """Reverse sentences: the arguments, or else the lines of standard input, 500 at a time."""
    answer_command(args, ("words", "integers"))


def add_arguments(parser: Parser) -> None:
    add_sentences(parser)
    add_checkpoint(parser, "words-location, or else words")
    add_heatmap(parser)
