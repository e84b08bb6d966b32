"""A task and a model that train in a second: what most tests of training share."""

from helpers.runs.settings import Settings
from helpers.training import set_up

TINY = Settings.of(
    task="integers",
    vocab_size=23,
    max_length=6,
    per_length=60,
    emb_size=8,
    hidden_size=8,
    attn_size=8,
    epochs=3,
    batch_size=16,
)


def tiny_data(settings=TINY):
    """The data of the settings' task, with seed and precision set."""
    set_up(settings.run.seed, settings.run.dtype)
    return settings.task.load(settings.run.seed)


def fresh_model(data, settings=TINY):
    """An untrained model for the data, the same each time."""
    set_up(settings.run.seed, settings.run.dtype)
    return settings.model.build(len(data.vocab), len(data.trg_vocab))


def silent(line):
    pass


def largest_difference(some, others):
    """Between two lists of tensors."""
    return max((a - b).abs().max().item() for a, b in zip(some, others, strict=True))
