"""Every hyperparameter, defined once: notebooks, command line and checkpoints all use `Config`."""

from dataclasses import dataclass, field, fields


def setting(default: float, low: float, high: float, help: str):
    """A field of `Config`: its default, the range it may lie in, and what `--help` says of it."""
    return field(default=default, metadata={"low": low, "high": high, "help": help})


@dataclass(frozen=True)
class Config:
    """The hyperparameters of one run. Raises ValueError for a value outside its range."""

    seed: int = setting(1, 0, 2**32 - 1, "seed of data, initial weights and batch order")
    max_words: int = setting(12, 3, 200, "words in the longest sentence of the data")
    per_length: int = setting(2400, 1, 100_000, "generated sentences of each length")
    unk_rate: float = setting(0.2, 0, 1, "share of training sentences with words masked as <unk>")
    emb_size: int = setting(64, 1, 4096, "size of a word embedding")
    hidden_size: int = setting(64, 1, 4096, "size of a GRU state, in each direction")
    attn_size: int = setting(64, 1, 4096, "size of the hidden layer of the attention")
    epochs: int = setting(5, 1, 10_000, "passes over the training data")
    batch_size: int = setting(32, 1, 65_536, "sentences in a training step")
    lr: float = setting(2e-3, 1e-5, 1, "learning rate of the first step; it decays to 1/50 of that")
    beta2: float = setting(0.98, 0, 0.999999, "share of Adam's mean square kept in each step")
    max_norm: float = setting(1.0, 1e-9, 1e9, "global norm that the gradient is clipped to")

    def __post_init__(self):
        for spec in fields(self):
            value, low, high = getattr(self, spec.name), spec.metadata["low"], spec.metadata["high"]
            if not low <= value <= high:  # also refuses NaN
                raise ValueError(f"{spec.name} must lie between {low} and {high}, not {value}")
