"""`python -m helpers translate`"""

import argparse

from helpers.commands.answering import add_checkpoint, add_sentences, answer_command
from helpers.commands.heatmap import add_heatmap
from helpers.commands.shell import Parser


def run(args: argparse.Namespace) -> None:
    """Translate sentences: the arguments, or else the lines of standard input, 500 at a time."""
    answer_command(args, ("translate",))


def add_arguments(parser: Parser) -> None:
    add_sentences(parser)
    add_checkpoint(parser, "translate")
    add_heatmap(parser)
