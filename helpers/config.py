"""Every hyperparameter, defined once: notebooks, command line and checkpoints all use `Config`."""

from dataclasses import dataclass, field, fields


def number(default: float, low: float, high: float, help: str):
    """A field of `Config`: its default, the range it may lie in, and what `--help` says of it."""
    return field(default=default, metadata={"low": low, "high": high, "help": help})


def choice(default, options: tuple, help: str):
    """A field of `Config` that has one of a few values, the `options`."""
    return field(default=default, metadata={"options": options, "help": help})


@dataclass(frozen=True)
class Config:
    """All that decides the result of a run. Raises ValueError for a value that is not possible, and
    TypeError for one that is no number where there must be one.
    """

    # data
    task: str = choice(
        "words", ("words", "integers", "patterns", "translate"), "what is to be learned"
    )
    max_length: int = number(12, 3, 200, "tokens in the longest source (translate: or target)")
    per_length: int = number(
        2400, 1, 100_000, "generated sources for each length (words: and as many shuffled)"
    )
    unk_rate: float = number(0.2, 0, 1, "words: share of training sentences masked with <unk>")
    vocab_size: int = number(53, 4, 100_000, "integers: they run from 3 to one less than this")
    # model
    model: str = choice(
        "bahdanau",
        ("bahdanau", "luong", "luong-dot", "location", "lstm", "transformer"),
        "the architecture",
    )
    emb_size: int = number(64, 1, 4096, "size of an embedding")
    hidden_size: int = number(64, 1, 4096, "size of a state; transformer: of a feed-forward layer")
    attn_size: int = number(
        64, 1, 4096, "bahdanau, location: size of the hidden layer of the attention"
    )
    dropout: float = number(
        0.0, 0, 0.9, "location: share of embeddings, annotations and queries that are set to 0"
    )
    heads: int = number(4, 1, 64, "transformer: attention heads; they must divide emb_size")
    layers: int = number(2, 1, 64, "transformer: layers of the encoder, and of the decoder")
    # training
    seed: int = number(1, 0, 2**32 - 1, "seed of data, initial weights and batch order")
    device: str = choice("cpu", ("cpu", "cuda"), "cpu computes in float64, cuda in float32")
    amp: bool = choice(False, (False, True), "automatic mixed precision")
    epochs: int = number(5, 1, 10_000, "passes over the training data, at most")
    patience: int = number(
        0, 0, 10_000, "stop after so many epochs without a better exact match; 0: never"
    )
    batch_size: int = number(32, 1, 65_536, "sources in a training step, over all processes")
    accumulate: int = number(1, 1, 65_536, "parts of a batch whose gradients are added up")
    label_smoothing: float = number(
        0.0, 0, 0.999, "share of the target that is spread over all symbols, in training"
    )
    optimizer: str = choice("adam", ("adam", "sgd"), "adam by hand, or torch's sgd with momentum")
    lr: float = number(2e-3, 1e-5, 1, "learning rate at the start")
    schedule: str = choice("cosine", ("cosine", "plateau"), "how the learning rate falls")
    lr_floor: float = number(0.02, 0, 1, "the learning rate falls no lower than this share of lr")
    plateau_factor: float = number(0.5, 0, 0.999, "plateau: factor of the learning rate")
    plateau_patience: int = number(1, 0, 10_000, "plateau: bad epochs (validation loss) to wait")
    beta1: float = number(0.9, 0, 0.999999, "share of the mean kept in each step; sgd: momentum")
    beta2: float = number(0.98, 0, 0.999999, "Adam: share of the mean square kept in each step")
    eps: float = number(1e-8, 1e-16, 1, "Adam: added to the root of the mean square")
    weight_decay: float = number(0.0, 0, 100, "decoupled weight decay (AdamW); sgd: L2 penalty")
    max_norm: float = number(1.0, 1e-9, 1e9, "global norm that the gradient is clipped to")
    teacher_forcing: float = number(1.0, 0, 1, "share of previous words that are the true ones")
    teacher_forcing_end: float = number(None, 0, 1, "moves on a line to this share; None: it stays")

    def __post_init__(self):
        for spec in fields(self):
            value, limits = getattr(self, spec.name), spec.metadata
            if value is None and spec.default is None:
                continue
            if "options" in limits:
                if type(value) is not spec.type or value not in limits["options"]:
                    options = " or ".join(str(option) for option in limits["options"])
                    raise ValueError(f"{spec.name} must be {options}, not {value!r}")
            elif isinstance(value, bool) or not isinstance(value, (int, spec.type)):
                kind = {int: "an integer", float: "a number"}[spec.type]
                raise TypeError(f"{spec.name} must be {kind}, not {value!r}")
            elif not limits["low"] <= value <= limits["high"]:  # also refuses NaN
                low, high = limits["low"], limits["high"]
                raise ValueError(f"{spec.name} must lie between {low} and {high}, not {value}")
        if self.model == "transformer" and (self.emb_size % self.heads or self.emb_size % 2):
            raise ValueError(
                f"emb_size must be even and divisible by heads: {self.emb_size} and {self.heads}"
            )
        if self.model == "location" and self.task not in ("words", "integers"):
            raise ValueError(f"the model location copies: it cannot learn {self.task}")
        if self.dropout and self.model != "location":
            raise ValueError(f"dropout is for the model location, not for {self.model}")
        forced = self.teacher_forcing == 1 and self.teacher_forcing_end in (None, 1)
        if self.model in ("location", "lstm", "transformer") and not forced:
            raise ValueError(f"teacher_forcing must be 1 for the model {self.model}")

    def check_same(self, other: "Config") -> None:
        """Raises ValueError, naming the differences, unless `other` has the same settings."""
        pairs = zip(vars(self).items(), vars(other).values(), strict=True)
        differences = [
            f"{name} {mine}, not {theirs}" for (name, mine), theirs in pairs if mine != theirs
        ]
        if differences:
            raise ValueError(f"the run to resume has {', '.join(differences)}")
