"""A model by its name: what `Config.model` stands for.

Whatever its insides, a model can be called with a source and the true previous words, and answers
with logits (B, T, V) and attention weights (B, T, S); `start` and `next_word` write word by word.
"""

from helpers.config import Config
from helpers.location import LocationSeq2Seq
from helpers.lstm import LSTMSeq2Seq
from helpers.model import AdditiveAttention, Decoder, Encoder, LuongAttention, Seq2Seq
from helpers.transformer import Transformer

Model = Seq2Seq | LocationSeq2Seq | LSTMSeq2Seq | Transformer


def build_model(
    config: Config,
    src_size: int,
    trg_size: int | None = None,
    pack: bool = True,
    mask: bool = True,
) -> Model:
    """The model that `config` names, for vocabularies of `src_size` and `trg_size` symbols (by
    default one vocabulary serves for both), with fresh random weights in torch's default dtype.
    `pack` and `mask` are for the padding lab.
    """
    trg_size = src_size if trg_size is None else trg_size
    emb_size, hidden_size = config.emb_size, config.hidden_size
    if config.model == "lstm":
        return LSTMSeq2Seq(src_size, trg_size, emb_size, hidden_size)
    if config.model == "location":
        sizes = (emb_size, hidden_size, config.attn_size)
        return LocationSeq2Seq(src_size, trg_size, *sizes, config.dropout)
    if config.model == "transformer":
        sizes = (emb_size, hidden_size, config.heads, config.layers)
        return Transformer(src_size, trg_size, *sizes)
    if config.model == "bahdanau":
        attention = AdditiveAttention(hidden_size, 2 * hidden_size, config.attn_size)
    else:
        attention = LuongAttention(hidden_size, 2 * hidden_size, general=config.model == "luong")
    encoder = Encoder(src_size, emb_size, hidden_size, pack)
    decoder = Decoder(trg_size, emb_size, hidden_size, 2 * hidden_size, attention)
    return Seq2Seq(encoder, decoder, mask)
