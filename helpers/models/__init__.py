"""A model by its name, with all that is special about it: its settings, its recipe, its parts.

Whatever its insides, a model can be called with a source and the true previous words, and answers
with logits (B, T, V) and attention weights (B, T, S); `start` and `next_word` write word by word.
It says whether it `copies` (answers by pointing), and whether it takes `any_length`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from helpers.models.parts import ATTENTIONS, CELLS, OUTPUTS
from helpers.runs.fields import Group, choice, number

if TYPE_CHECKING:
    from torch import nn


class ModelSettings(Group):
    """The settings of a kind of model, as fields. Each has a `name` and makes the model."""

    name: str
    copies = False  # whether it can only learn tasks whose target mirrors the source

    @classmethod
    def recipe(cls, flags: Mapping) -> dict:
        """Defaults of its own, of settings of any group, for what is asked for by `flags`."""
        return {}

    def label(self, usual: Mapping) -> str:
        """What a folder of it is called, after the task: "" for the model of the assignment, and
        for one that is like the `usual` one of a corpus.
        """
        return self.name

    def build(self, src_size: int, trg_size: int) -> "nn.Module":
        """The model for vocabularies of so many symbols, with fresh parameters in torch's default
        dtype.
        """
        raise NotImplementedError

    def in_training(self, model: "nn.Module") -> "nn.Module":
        """What is called in the place of the model in training: the same, or something faster."""
        return model


@dataclass(frozen=True)
class RecurrentSettings(ModelSettings):
    """Recurrent encoder-decoders."""

    name = "recurrent"

    cell: str = choice("gru", CELLS, "what encoder and decoder are made of")
    attention: str = choice("bahdanau", ATTENTIONS, "how the decoder looks back")
    emb_size: int = number(64, 1, 4096, "size of an embedding")
    hidden_size: int = number(64, 1, 4096, "size of a state, or of a feed-forward layer")
    attn_size: int = number(
        64,
        1,
        4096,
        "size of the hidden layer of the attention",
        needs={"attention": ("bahdanau", "location")},
    )
    layers: int = number(1, 1, 64, "layers of the encoder, and of the decoder")
    dropout: float = number(0.0, 0, 0.9, "share of the numbers between the parts that become 0")
    output: str = choice(
        "linear",
        OUTPUTS,
        "before the words: one layer, a readout, or one tied to the target embedding",
    )

    @classmethod
    def recipe(cls, flags: Mapping) -> dict:
        if flags.get("attention") != "location":
            return {}
        sizes = {"max_length": 10, "per_length": 700, "epochs": 6}
        return sizes | {"unk_rate": 0.9, "dropout": 0.2}

    @property
    def copies(self) -> bool:
        return self.attention == "location"

    @property
    def is_of_the_assignment(self) -> bool:
        chosen = self.cell, self.attention, self.layers, self.dropout, self.output
        return chosen == ("gru", "bahdanau", 1, 0, "linear")

    def label(self, usual: Mapping) -> str:
        usual = {"dropout": 0, "output": "linear"} | usual
        usual |= self.recipe({"attention": self.attention})
        parts = [self.cell] if self.cell != "gru" else []
        parts += [self.attention] if self.attention != "bahdanau" else []
        parts += [f"{self.layers}-layers"] if self.layers > 1 else []
        parts += [self.output] if self.output != usual["output"] else []
        parts += [f"dropout-{self.dropout:g}"] if self.dropout != usual["dropout"] else []
        return "-".join(parts)

    def build(self, src_size: int, trg_size: int) -> "nn.Module":
        from helpers.model import build_model, init_parameters
        from helpers.models.location import LocationSeq2Seq
        from helpers.models.recurrent import RecurrentSeq2Seq

        if self.is_of_the_assignment:
            return build_model(src_size, trg_size, self.emb_size, self.hidden_size, self.attn_size)
        kind = LocationSeq2Seq if self.copies else RecurrentSeq2Seq
        return init_parameters(kind(src_size, trg_size, **vars(self)))

    def in_training(self, model: "nn.Module") -> "nn.Module":
        from helpers.runs.fused import Fused

        loops = (self.cell, self.layers) == ("gru", 1) and self.attention != "location"
        return Fused(model) if loops else model


@dataclass(frozen=True)
class TransformerSettings(ModelSettings):
    """The Transformer."""

    name = "transformer"

    emb_size: int = number(64, 1, 4096, "size of an embedding")
    hidden_size: int = number(64, 1, 4096, "size of a state, or of a feed-forward layer")
    heads: int = number(4, 1, 64, "attention heads; they must divide emb_size")
    layers: int = number(2, 1, 64, "layers of the encoder, and of the decoder")
    dropout: float = number(0.0, 0, 0.9, "share of the numbers between the parts that become 0")

    def __post_init__(self):
        super().__post_init__()
        if self.emb_size % self.heads or self.emb_size % 2:
            raise ValueError(
                f"emb_size must be even and divisible by heads: {self.emb_size} and {self.heads}"
            )

    def build(self, src_size: int, trg_size: int) -> "nn.Module":
        from helpers.model import init_parameters
        from helpers.models.transformer import Transformer

        return init_parameters(Transformer(src_size, trg_size, **vars(self)))


MODELS = {model.name: model for model in (RecurrentSettings, TransformerSettings)}
