"""What a recurrent model is put together from, each part by its name. The names are settings; what
a name stands for is imported when it is built.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


def gru_cell(input_size: int, hidden_size: int) -> "Module":
    from torch.nn import GRUCell

    return GRUCell(input_size, hidden_size)


def lstm_cell(input_size: int, hidden_size: int) -> "Module":
    from torch.nn import LSTMCell

    return LSTMCell(input_size, hidden_size)


def additive(query_size: int, value_size: int, attn_size: int) -> "Module":
    from helpers.model import AdditiveAttention

    return AdditiveAttention(query_size, value_size, attn_size)


def luong(query_size: int, value_size: int, _: int | None) -> "Module":
    from helpers.models.attentions import LuongAttention

    return LuongAttention(query_size, value_size)


def luong_dot(query_size: int, value_size: int, _: int | None) -> "Module":
    from helpers.models.attentions import LuongAttention

    return LuongAttention(query_size, value_size, general=False)


def location(query_size: int, value_size: int, attn_size: int) -> "Module":
    from helpers.models.attentions import LocationAttention

    return LocationAttention(query_size, value_size, attn_size)


def no_attention(*_: int | None) -> "Module":
    from helpers.models.attentions import NoAttention

    return NoAttention()


CELLS = {"gru": gru_cell, "lstm": lstm_cell}
ATTENTIONS = {  # of the sizes of the query, of the values, and of the hidden layer of the attention
    "bahdanau": additive,
    "luong": luong,
    "luong-dot": luong_dot,
    "location": location,
    "none": no_attention,
}
OUTPUTS = ("linear", "readout", "tied")  # what predicts the words, see `recurrent.Readout`
