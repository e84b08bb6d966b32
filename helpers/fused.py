"""The same model, faster: each loop over time as one operation, its gradient derived by hand.

Autograd notes down every small operation of every step and later walks back through all of them.
Here a whole loop is one operation. Its backward pass goes through the steps only for what has to
flow from one to the next; the gradients of the weights are single products over all steps. What
`model.py` computes remains the definition: tests compare values and gradients.

Shapes: B batch, S source length, T target length, H hidden, A attention, V vocabulary.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.model import AdditiveAttention, Decoder, Encoder, Seq2Seq

sigmoid_backward = torch.ops.aten.sigmoid_backward  # (gradient, s) -> gradient * s * (1 - s)
tanh_backward = torch.ops.aten.tanh_backward  # (gradient, y) -> gradient * (1 - y * y)
softmax_backward = torch.ops.aten._softmax_backward_data  # (gradient, p, dim, dtype)


def gru_cell(x: Tensor, h: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One step of a GRU, as in `nn.GRU`: from what input and state contribute to the gates, `x` and
    `h` (..., 3H), both with their bias, to the new state (..., H) and what the way back needs.
    """
    size = state.size(-1)
    gates = (x[..., : 2 * size] + h[..., : 2 * size]).sigmoid_()
    reset, update = gates.split(size, dim=-1)
    past = h[..., 2 * size :]
    new = torch.addcmul(x[..., 2 * size :], reset, past).tanh_()
    return torch.lerp(new, state, update), (gates, new, past)


def gru_cell_backward(d_state: Tensor, state: Tensor, kept: tuple, d_x: Tensor, d_h: Tensor):
    """From the gradient of the new state (..., H), and the old `state`, to those of `x` and `h`,
    which are written into `d_x` and `d_h` (..., 3H). Returns that of the old state, as far as it
    does not come by way of `h`.
    """
    gates, new, past = kept
    size = state.size(-1)
    reset, update = gates.split(size, dim=-1)
    d_kept = d_state * update
    d_new = tanh_backward(d_state - d_kept, new)
    d_gates = torch.cat([d_new * past, d_state * (state - new)], dim=-1)
    d_gates = sigmoid_backward(d_gates, gates)
    d_x[..., : 2 * size] = d_h[..., : 2 * size] = d_gates
    d_x[..., 2 * size :] = d_new
    torch.mul(d_new, reset, out=d_h[..., 2 * size :])
    return d_kept


class Read(torch.autograd.Function):
    """The loop of the encoder, both directions side by side: from `x` (S, 2, B, 3H), `weight`
    (2, 3H, H) and `bias` (2, 1, 3H) to the states after each token (S, 2, B, H).
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        states, kept = [x.new_zeros(*x.shape[1:3], weight.size(2))], []
        for step in x.unbind(0):
            h = torch.baddbmm(bias, states[-1], weight.transpose(1, 2))
            state, values = gru_cell(step, h, states[-1])
            states.append(state)
            kept.append(values)
        ctx.kept, states = kept, torch.stack(states)
        ctx.save_for_backward(states, weight)
        return states[1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states):
        states, weight = ctx.saved_tensors
        d_x = torch.empty_like(d_states).repeat(1, 1, 1, 3)
        d_h, d_state = torch.empty_like(d_x), torch.zeros_like(states[0])
        for t in reversed(range(len(d_x))):
            d_state = d_state + d_states[t]
            d_state = gru_cell_backward(d_state, states[t], ctx.kept[t], d_x[t], d_h[t])
            d_state = torch.baddbmm(d_state, d_h[t], weight)
        of_all = d_h.transpose(0, 1).flatten(1, 2)  # (2, S * B, 3H)
        d_weight = of_all.transpose(1, 2) @ states[:-1].transpose(0, 1).flatten(1, 2)
        return d_x, d_weight, of_all.sum(dim=1, keepdim=True)


class Write(torch.autograd.Function):
    """The loop of the decoder, with additive attention: from the words' share of the gates (T, B,
    3H), keys (B, S, A), values, already multiplied by the weights of the gates (B, S, 3H), first
    state (B, H), weights of query and gates (A + 3H, H), their bias (A + 3H,), weights of the score
    (A,) and what is added to the energies (B, S), to the states (T, B, H) and weights (T, B, S).

    tanh(y) = 2 sigmoid(2y) - 1, and a constant leaves a softmax as it is. So the energies are here
    those of a sigmoid, which is computed faster: query, keys and score must come doubled.
    """

    @staticmethod
    def forward(ctx, words, keys, values, state, weight, bias, score, closed):
        states, all_weights, kept, attn_size = [state], [], [], keys.size(2)
        for word in words.unbind(0):
            query_and_h = torch.addmm(bias, states[-1], weight.t())
            hidden = (query_and_h[:, None, :attn_size] + keys).sigmoid_()  # (B, S, A)
            weights = (hidden @ score).add_(closed).softmax(dim=-1)
            x = torch.baddbmm(word.unsqueeze(1), weights.unsqueeze(1), values).squeeze(1)
            state, of_cell = gru_cell(x, query_and_h[:, attn_size:], states[-1])
            states.append(state)
            all_weights.append(weights)
            kept.append((hidden, of_cell))
        ctx.kept, states, all_weights = kept, torch.stack(states), torch.stack(all_weights)
        ctx.save_for_backward(keys, values, weight, score, states, all_weights)
        return states[1:].clone(), all_weights

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states, d_weights):
        keys, values, weight, score, states, all_weights = ctx.saved_tensors
        attn_size, d_state = keys.size(2), torch.zeros_like(states[0])
        d_words = torch.empty_like(d_states).repeat(1, 1, 3)
        d_query_and_h = d_words.new_empty(*d_words.shape[:2], len(weight))
        d_keys, d_score = torch.zeros_like(keys), torch.zeros_like(score)
        for t in reversed(range(len(d_words))):
            hidden, of_cell = ctx.kept[t]
            d_x, d_query, d_h = d_words[t], *d_query_and_h[t].tensor_split([attn_size], dim=1)
            d_state = gru_cell_backward(d_state + d_states[t], states[t], of_cell, d_x, d_h)
            d_weight = d_weights[t].unsqueeze(1).baddbmm(d_x.unsqueeze(1), values.transpose(1, 2))
            p = all_weights[t]
            d_energy = softmax_backward(d_weight.squeeze(1), p, -1, p.dtype)  # (B, S)
            d_score.addmv_(hidden.flatten(0, 1).t(), d_energy.flatten())
            d_hidden = sigmoid_backward(d_energy.unsqueeze(2) * score, hidden)  # (B, S, A)
            d_keys += d_hidden
            torch.sum(d_hidden, dim=1, out=d_query)
            d_state = d_state.addmm(d_query_and_h[t], weight)
        d_values = torch.bmm(all_weights.permute(1, 2, 0), d_words.transpose(0, 1))
        of_all = d_query_and_h.flatten(0, 1)  # (T * B, A + 3H)
        d_weight = of_all.t() @ states[:-1].flatten(0, 1)
        return d_words, d_keys, d_values, d_state, d_weight, of_all.sum(dim=0), d_score, None


def read(encoder: Encoder, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """What `Encoder.forward` returns. No packing is needed: a source is read from its first word
    on, and turned round from its last word on, so that the padding always comes afterwards.
    """
    places = torch.arange(src.size(1))
    mask = places < src_lens.unsqueeze(1)
    turned = torch.where(mask, src_lens.unsqueeze(1) - 1 - places, places).t()  # (S, B)
    both = torch.stack([src.t(), src.t().gather(0, turned)])  # (2, S, B)
    forth, back = encoder.gru.all_weights  # of one direction and of the other
    in_weight, weight, in_bias, bias = (torch.stack(pair) for pair in zip(forth, back, strict=True))
    emb = encoder.embedding(both).flatten(1, 2)  # (2, S * B, E)
    x = torch.baddbmm(in_bias.unsqueeze(1), emb, in_weight.transpose(1, 2))
    x = x.unflatten(1, both.shape[1:]).transpose(0, 1)  # (S, 2, B, 3H)
    states = Read.apply(x, weight, bias.unsqueeze(1))
    final = states[src_lens - 1, :, torch.arange(len(src))]  # (B, 2, H)
    forth, back = states.unbind(1)
    back = back.gather(0, turned.unsqueeze(2).expand_as(back))
    enc_outputs = torch.cat([forth, back], dim=2).transpose(0, 1) * mask.unsqueeze(2)
    return enc_outputs, torch.tanh(encoder.bridge(final.flatten(1)))


def write(
    decoder: Decoder, trg_in: Tensor, state: Tensor, enc_outputs: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """What `Decoder.forward` returns, with an `AdditiveAttention`."""
    attention, cell = decoder.attention, decoder.cell
    emb_size = decoder.embedding.embedding_dim
    of_word, of_context = cell.weight_ih.tensor_split([emb_size], dim=1)
    words = F.linear(decoder.embedding(trg_in.t()), of_word, cell.bias_ih)  # (T, B, 3H)
    keys, values = 2 * attention.project_keys(enc_outputs), F.linear(enc_outputs, of_context)
    weight = torch.cat([2 * attention.project_query.weight, cell.weight_hh])
    bias = F.pad(cell.bias_hh, (keys.size(2), 0))
    closed = torch.zeros_like(mask, dtype=keys.dtype).masked_fill_(~mask, -torch.inf)
    score = 2 * attention.score.weight.squeeze(0)
    states, weights = Write.apply(words, keys, values, state, weight, bias, score, closed)
    weights = weights.transpose(0, 1)
    features = torch.cat([states.transpose(0, 1), weights @ enc_outputs], dim=2)
    return decoder.output(features), weights


class Fused(nn.Module):
    """A module to call in place of a model in training. It is faster for the encoder and decoder of
    `model.py` with additive attention, on a CPU; in all other cases the model itself is called.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(
        self, src: Tensor, src_lens: Tensor, trg_in: Tensor, *forced: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and weights (B, T, S), as the model returns them."""
        model = self.model
        plain = isinstance(model, Seq2Seq) and type(model.decoder.attention) is AdditiveAttention
        if not plain or forced or src.is_cuda or torch.is_autocast_enabled("cpu"):
            return model(src, src_lens, trg_in, *forced)
        reader = partial(read, model.encoder) if model.encoder.pack else model.encoder
        enc_outputs, state = reader(src, src_lens)
        return write(model.decoder, trg_in, state, enc_outputs, model.visible(src, src_lens))
