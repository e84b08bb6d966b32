"""A task and a model that train in a second: what most tests of training share."""

from helpers.build import build_model
from helpers.config import Config
from helpers.device import set_up
from helpers.tasks import load_task

TINY = Config(
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


def tiny_task(config=TINY):
    set_up(config.seed)
    return load_task(config)


def fresh_model(task, config=TINY):
    set_up(config.seed)
    return build_model(config, len(task.vocab), len(task.trg_vocab))


def silent(line):
    pass


def largest_difference(some, others):
    """Between two lists of tensors."""
    return max((a - b).abs().max().item() for a, b in zip(some, others, strict=True))
