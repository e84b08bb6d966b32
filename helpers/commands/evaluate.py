"""`python -m helpers evaluate`"""

import argparse
from pathlib import Path

from tqdm import tqdm

from helpers.commands.answering import answer, as_in_training, load_model
from helpers.data import Sentence
from helpers.metrics import matches, token_accuracy, wilson_interval
from helpers.runs.checkpoint import Checkpoint, digest
from helpers.runs.device import choose_device
from helpers.runs.settings import Settings
from helpers.tasks.scores import compare, scores
from helpers.tasks.task import Examples


def run(args: argparse.Namespace) -> None:
    """Prints what each model is worth, then how they compare."""
    paths = args.checkpoint or [Settings.of().folder() / "best.pt"]
    if len({*paths}) < len(paths):
        raise ValueError("a checkpoint cannot be compared with itself")
    device = choose_device(args.device)
    models = {path: load_model(path, device) for path in paths}  # all: none is missing later
    tests = {path: examples_of(loaded, args.input) for path, loaded in models.items()}
    texts = tests[paths[0]].texts
    for path, examples in tests.items():
        if examples.texts != texts:
            raise ValueError(f"{path} has another test than {paths[0]}: give both one as --input")
    systems = {}
    for path, loaded in models.items():
        as_in_training(loaded)
        answers = answer(loaded, tests[path].sentences, args.beam)
        hypotheses = list(tqdm(answers, "evaluate", len(texts), leave=False))
        join = loaded.settings.task.join
        systems[str(path)] = [join(words, loaded.trg_vocab) for words in hypotheses]
        if len(paths) > 1:
            print(f"checkpoint: {path}")
        report(hypotheses, systems[str(path)], tests[path], loaded)
    if len(paths) > 1 and all(map(translates_files, models.values())):
        for name, value in compare(systems, texts).items():
            print(f"{name}: {value}")


def translates_files(loaded: Checkpoint) -> bool:
    """Whether a model has learned from real pairs, whose answers are right in many ways."""
    return bool(loaded.corpus) and not loaded.settings.task.mirrors


def examples_of(loaded: Checkpoint, path: Path | None) -> Examples:
    """What to test on: the lines of a file, or the test set. Raises ValueError if that is no longer
    what it was in the training.
    """
    task, vocabs = loaded.settings.task, (loaded.vocab, loaded.trg_vocab)
    if path:
        return task.examples(path, vocabs)
    data = task.load(loaded.settings.run.seed, loaded.corpus)
    if digest(data) != loaded.digest:
        source = loaded.corpus.train if loaded.corpus else "the generated data"
        raise ValueError(f"{source} has changed since the training: give the test as --input")
    references = data.references.test
    texts = data.texts.test if data.texts else [(task.join(tokens),) for tokens in references]
    return Examples(data.sentences.test, references, texts)


def report(
    hypotheses: list[Sentence], lines: list[str], examples: Examples, loaded: Checkpoint
) -> None:
    """Prints what the answers, as tokens and as lines, are worth, one `name: value` a line. Of
    translations from files an answer is right if it is one of the texts, whatever its tokens.
    """
    real, task = translates_files(loaded), loaded.settings.task
    as_text = task.right_lines(lines, examples.texts)
    right = as_text if real else matches(hypotheses, examples.references)
    low, high = wilson_interval(sum(right), len(right))
    print(f"sentences: {len(right)}")
    print(f"exact match: {sum(right) / len(right):.6f}")
    print(f"exact match 95% low: {low:.6f}")
    print(f"exact match 95% high: {high:.6f}")
    print(f"token accuracy: {token_accuracy(hypotheses, examples.references):.6f}")
    print(f"exact match as text: {sum(as_text) / len(right):.6f}")
    if real:
        for name, value in scores(lines, examples.texts).items():
            print(f"{name}: {value}")
