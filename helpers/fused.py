"""The same model, faster: each loop over time as one operation, its gradient derived by hand.

Autograd notes down every small operation of every step and later walks back through all of them.
Here a whole loop is one operation. Its backward pass goes through the steps for what has to flow
from one to the next, and adds up the gradients of keys and score on the way; those of the large
matrices are single products over all steps.

What `model.py` computes remains the definition. `Fused` compares itself with it, and where the two
differ, because somebody has changed the model, it calls the model.

Shapes: B batch, S source length, T target length, H hidden, A attention, V vocabulary. What begins
with d_ is the gradient of the loss with respect to the rest of the name.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helpers.data import PAD
from helpers.model import AdditiveAttention, Decoder, Encoder, Seq2Seq

sigmoid_backward = torch.ops.aten.sigmoid_backward  # (d, s) -> d * s * (1 - s)
tanh_backward = torch.ops.aten.tanh_backward  # (d, n) -> d * (1 - n * n)
softmax_backward = torch.ops.aten._softmax_backward_data  # (d, p, ...) -> p * (d - sum of d * p)


def gru_cell(x: Tensor, h: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """One step of a GRU, as in `nn.GRU`. What input and state contribute to the gates, with their
    biases, is `x` (..., 3H), for n, r and z in this order, and `h` (..., 3H), for r, z and n. From
    s, the old `state` (..., H):

        r = sigmoid(x_r + h_r)    z = sigmoid(x_z + h_z)    n = tanh(x_n + r h_n)
        s' = (1 - z) n + z s

    Returns s' and what the backward pass needs: r and z (..., 2H), n and h_n (..., H).
    """
    size = state.size(-1)
    (x_n, x_gates), (h_gates, h_n) = x.tensor_split([size], -1), h.tensor_split([2 * size], -1)
    gates = (x_gates + h_gates).sigmoid_()
    r, z = gates.split(size, dim=-1)
    n = torch.addcmul(x_n, r, h_n).tanh_()
    return torch.lerp(n, state, z), (gates, n, h_n)


def gru_cell_backward(
    d_new: Tensor, state: Tensor, kept: tuple[Tensor, Tensor, Tensor], d: Tensor
) -> Tensor:
    """From the gradient of s' (..., H) to those of `x`, the first 3H of `d` (..., 4H), and of `h`,
    the last 3H: what they share lies in the middle. With a_r, a_z and a_n for what sigmoid and tanh
    are taken of, they are those of a_n, a_r, a_z and h_n:

        d_a_n = d_s' (1 - z) (1 - n^2)    d_a_z = d_s' (s - n) z (1 - z)
        d_a_r = d_a_n h_n r (1 - r)       d_h_n = d_a_n r

    Returns d_s' z, the gradient of s as far as it does not come by way of `h`.
    """
    gates, n, h_n = kept
    size = state.size(-1)
    r, z = gates.split(size, dim=-1)
    d_a_n, d_r, d_z, d_h_n = d.split(size, dim=-1)
    d_state = d_new * z
    tanh_backward(d_new - d_state, n, grad_input=d_a_n)
    torch.mul(d_a_n, h_n, out=d_r)
    torch.mul(d_new, state - n, out=d_z)
    d_gates = d[..., size : 3 * size]
    sigmoid_backward(d_gates, gates, grad_input=d_gates)  # now they are those of a_r and a_z
    torch.mul(d_a_n, r, out=d_h_n)
    return d_state


class EncoderLoop(torch.autograd.Function):
    """The steps of the encoder, both directions side by side.

    Takes the words' share of the gates (S, 2, B, 3H), for n, r and z, the weights (2, 3H, H) and
    biases (2, 1, 3H) of the state's share, for r, z and n. Returns the states after each word
    (S, 2, B, H).
    """

    @staticmethod
    def forward(ctx, x, weight, bias):
        states, kept = [x.new_zeros(*x.shape[1:3], weight.size(2))], []
        for word in x.unbind(0):
            h = torch.baddbmm(bias, states[-1], weight.transpose(1, 2))  # (2, B, 3H)
            state, of_step = gru_cell(word, h, states[-1])
            states.append(state)
            kept.extend(of_step)
        states = torch.stack(states)  # (S + 1, 2, B, H)
        ctx.save_for_backward(states, weight, *kept)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states):
        states, weight, *kept = ctx.saved_tensors
        size, d_state = states.size(-1), torch.zeros_like(states[0])
        d = d_states.new_empty(*d_states.shape[:-1], 4 * size)  # (S, 2, B, 4H)
        for t in reversed(range(len(d))):
            d_new, of_step = d_state + d_states[t], kept[3 * t : 3 * t + 3]
            d_state = gru_cell_backward(d_new, states[t], of_step, d[t])
            d_state = torch.baddbmm(d_state, d[t, ..., size:], weight)
        d_h = d[..., size:].transpose(0, 1).flatten(1, 2)  # (2, S * B, 3H)
        before = states[:-1].transpose(0, 1).flatten(1, 2)  # (2, S * B, H)
        return d[..., : 3 * size], d_h.transpose(1, 2) @ before, d_h.sum(dim=1, keepdim=True)


class DecoderLoop(torch.autograd.Function):
    """The steps of the decoder, with additive attention.

    tanh(y) = 2 sigmoid(2y) - 1, and a constant leaves a softmax as it is: so the energies are here
    those of a sigmoid, which is computed faster, and query, keys and score come doubled. The values
    come multiplied by their weights in the gates: one product for each source, not for each step.
    In the products of batches (`bmm`) a vector stands on the left, as a row: on the right, as a
    column, they take several times as long.

    Takes the words' share of the gates (T, B, 3H), keys (B, S, A), values (B, S, 3H), the gates of
    both in the order n, r, z (see `gru_cell`), the first state (B, H), weights (3H + A, H) and
    biases (3H + A,) of the state's share, for r, z and n, and of the query, weights of the score
    (A,), and a penalty for each place (B, S): 0, or -inf where there is no word. Returns the states
    (T, B, H) and the attention weights (T, B, S).
    """

    @staticmethod
    def forward(ctx, words, keys, values, state, weight, bias, score, penalty):
        states, all_alpha, kept = [state], [], []
        for word in words.unbind(0):
            h_and_query = torch.addmm(bias, states[-1], weight.t())  # (B, 3H + A)
            h, query = h_and_query.tensor_split([word.size(1)], dim=1)
            hidden = (query.unsqueeze(1) + keys).sigmoid_()  # (B, S, A)
            alpha = (hidden @ score).add_(penalty).softmax(dim=-1)  # (B, S)
            x = torch.baddbmm(word.unsqueeze(1), alpha.unsqueeze(1), values).squeeze(1)  # (B, 3H)
            state, of_step = gru_cell(x, h, states[-1])
            states.append(state)
            all_alpha.append(alpha)
            kept.extend((hidden, *of_step))
        states, all_alpha = torch.stack(states), torch.stack(all_alpha)
        ctx.save_for_backward(keys, values, weight, score, states, all_alpha, *kept)
        return states[1:], all_alpha

    @staticmethod
    @once_differentiable
    def backward(ctx, d_states, d_all_alpha):
        keys, values, weight, score, states, all_alpha, *kept = ctx.saved_tensors
        size, turned = states.size(2), values.transpose(1, 2)  # (B, 3H, S)
        d = d_states.new_empty(*d_states.shape[:-1], size + len(weight))  # (T, B, 4H + A)
        d_words, d_h_and_query = d[..., : 3 * size], d[..., size:]  # they overlap
        d_state, d_keys = torch.zeros_like(states[0]), torch.zeros_like(keys)
        d_score = keys.new_zeros(len(keys), 1, len(score))
        for t in reversed(range(len(d))):
            d_new, (hidden, *of_step) = d_state + d_states[t], kept[4 * t : 4 * t + 4]
            d_state = gru_cell_backward(d_new, states[t], of_step, d[t, :, : 4 * size])
            d_x, alpha = d_words[t].unsqueeze(1), all_alpha[t].unsqueeze(1)  # rows: (B, 1, ...)
            d_alpha = torch.baddbmm(d_all_alpha[t].unsqueeze(1), d_x, turned)  # (B, 1, S)
            d_energy = softmax_backward(d_alpha, alpha, -1, alpha.dtype)  # (B, 1, S)
            d_score.baddbmm_(d_energy, hidden)
            slope = torch.addcmul(hidden, hidden, hidden, value=-1)  # of the sigmoid (B, S, A)
            d_keys.addcmul_(slope, d_energy.transpose(1, 2))  # times the score, see below
            torch.mul(torch.bmm(d_energy, slope).squeeze(1), score, out=d[t, :, 4 * size :])
            d_state = d_state.addmm(d_h_and_query[t], weight)
        d_values = torch.bmm(all_alpha.permute(1, 2, 0), d_words.transpose(0, 1))
        d_h_and_query = d_h_and_query.flatten(0, 1)  # (T * B, 3H + A)
        d_weight, d_bias = d_h_and_query.t() @ states[:-1].flatten(0, 1), d_h_and_query.sum(dim=0)
        d_score = d_score.sum(dim=(0, 1))
        return d_words, d_keys * score, d_values, d_state, d_weight, d_bias, d_score, None


def run_encoder(encoder: Encoder, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """What `Encoder.forward` returns. No packing is needed: a source is read from its first word
    on, and turned round from its last word on, so that the padding always comes afterwards.
    """
    if src_lens.min() < 1:
        raise RuntimeError("a source without a token")
    places = torch.arange(src.size(1))  # (S,)
    mask = places < src_lens.unsqueeze(1)  # (B, S)
    turned = torch.where(mask, src_lens.unsqueeze(1) - 1 - places, places).t()  # (S, B)
    both = torch.stack([src.t(), src.t().gather(0, turned)])  # (2, S, B)
    emb = encoder.embedding(both).flatten(1, 2)  # (2, S * B, E)
    forth, back = encoder.gru.all_weights  # of each direction: (3H, E), (3H, H), (3H,), (3H,)
    in_weight, weight, in_bias, bias = (torch.stack(pair) for pair in zip(forth, back, strict=True))
    # r, z, n become n, r, z: so the gradients of `x` and `h` can share those of r and z
    in_weight, in_bias = (rows.roll(weight.size(2), dims=1) for rows in (in_weight, in_bias))
    x = torch.baddbmm(in_bias.unsqueeze(1), emb, in_weight.transpose(1, 2))  # (2, S * B, 3H)
    x = x.unflatten(1, both.shape[1:]).transpose(0, 1)  # (S, 2, B, 3H)
    states = EncoderLoop.apply(x, weight, bias.unsqueeze(1))  # (S, 2, B, H)
    final = states[src_lens - 1, :, torch.arange(len(src))]  # (B, 2, H)
    forth, back = states.unbind(1)  # (S, B, H) each
    back = back.gather(0, turned.unsqueeze(2).expand_as(back))
    enc_outputs = torch.cat([forth, back], dim=2).transpose(0, 1) * mask.unsqueeze(2)  # (B, S, 2H)
    return enc_outputs, torch.tanh(encoder.bridge(final.flatten(1)))


def run_decoder(
    decoder: Decoder, trg_in: Tensor, state: Tensor, enc_outputs: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """What `Decoder.forward` returns, with an `AdditiveAttention`."""
    attention, cell = decoder.attention, decoder.cell
    in_weight, in_bias = (rows.roll(cell.hidden_size, 0) for rows in (cell.weight_ih, cell.bias_ih))
    of_word, of_context = in_weight.tensor_split([decoder.embedding.embedding_dim], dim=1)
    words = F.linear(decoder.embedding(trg_in.t()), of_word, in_bias)  # (T, B, 3H)
    keys = 2 * attention.project_keys(enc_outputs)  # (B, S, A)
    values = F.linear(enc_outputs, of_context)  # (B, S, 3H)
    weight = torch.cat([cell.weight_hh, 2 * attention.project_query.weight])  # (3H + A, H)
    bias = F.pad(cell.bias_hh, (0, keys.size(2)))  # (3H + A,), zeros for the query
    score = 2 * attention.score.weight.squeeze(0)  # (A,)
    penalty = torch.zeros_like(values[..., 0]).masked_fill(~mask, -torch.inf)  # (B, S)
    given = (words, keys, values, state, weight, bias, score, penalty)
    states, weights = (steps.transpose(0, 1) for steps in DecoderLoop.apply(*given))
    features = torch.cat([states, weights @ enc_outputs], dim=2)  # (B, T, 3H)
    return decoder.output(features), weights


class Fused(nn.Module):
    """A module to call in place of a model in training. It is faster for a `Seq2Seq` with additive
    attention, on a CPU and in full precision, if the two agree on the first batch. In all other
    cases, and for steps that read own words, the model itself is called.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model, self.agrees = model, None  # not known yet

    def forward(
        self, src: Tensor, src_lens: Tensor, trg_in: Tensor, forced: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and weights (B, T, S), as the model returns them for sources (B, S) of
        `src_lens` (B,) real tokens, the true previous words `trg_in` (B, T) and `forced` (B, T).
        """
        model, given = self.model, (src, src_lens, trg_in)
        if forced is not None:
            return model(*given, forced)
        additive = isinstance(model, Seq2Seq) and isinstance(
            model.decoder.attention, AdditiveAttention
        )
        if not additive or src.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
            return model(*given)
        if self.agrees is None:
            self.agrees = self.compare(F.pad(src, (0, 1), value=PAD), src_lens, trg_in)
        return self.run(*given) if self.agrees else model(*given)

    def run(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, in the fast way."""
        encoder, decoder = self.model.encoder, self.model.decoder
        enc_outputs, state = (
            run_encoder(encoder, src, src_lens) if encoder.pack else encoder(src, src_lens)
        )
        return run_decoder(decoder, trg_in, state, enc_outputs, self.model.visible(src, src_lens))

    @torch.no_grad()
    def compare(self, *given: Tensor) -> bool:
        """Whether the fast way leads where the model leads, up to rounding."""
        expected = self.model(*given)
        try:
            pairs = list(zip(expected, self.run(*given), strict=True))
        except Exception:  # the model has other parts than `run` expects
            return False
        tolerance = torch.finfo(expected[0].dtype).eps ** 0.5
        return all(torch.allclose(a, b, rtol=tolerance, atol=tolerance) for a, b in pairs)
