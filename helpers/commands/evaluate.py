"""`python -m helpers evaluate`"""

import argparse
from pathlib import Path

from tqdm import tqdm

from helpers.commands.answering import add_checkpoint, answer, load_model
from helpers.commands.shell import Parser
from helpers.metrics import exact_match, matches, token_accuracy, wilson_interval
from helpers.runs.checkpoint import digest
from helpers.runs.settings import Settings


def run(args: argparse.Namespace) -> None:
    """Measure a model on its held-out test set, or on the lines of a file."""
    loaded = load_model(args.checkpoint or Settings.of().folder() / "best.pt")
    task = loaded.settings.task
    if args.input:
        sentences, references, texts = task.examples(args.input)
    else:
        data = task.load(loaded.settings.run.seed, loaded.corpus)
        if digest(data) != loaded.digest:
            source = loaded.corpus or "the generated data"
            raise ValueError(f"{source} has changed since the training: give the test as --input")
        sentences, references = data.sentences.test, data.references.test
        texts = data.texts.test if data.texts else list(map(task.join, references))
    answers = answer(loaded, sentences, args.beam)
    hypotheses = list(tqdm(answers, "evaluate", len(sentences), leave=False))
    low, high = wilson_interval(sum(matches(hypotheses, references)), len(references))
    print(f"sentences: {len(references)}")
    print(f"exact match: {exact_match(hypotheses, references):.6f}")
    print(f"exact match 95% low: {low:.6f}")
    print(f"exact match 95% high: {high:.6f}")
    print(f"token accuracy: {token_accuracy(hypotheses, references):.6f}")
    print(f"exact match as text: {exact_match(list(map(task.join, hypotheses)), texts):.6f}")


def add_arguments(parser: Parser) -> None:
    parser.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="test on this text, one sentence (or english<tab>french) a line",
    )
    add_checkpoint(parser, "words")
