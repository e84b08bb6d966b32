"""The same model, faster: each loop over time as one operation, its gradient derived by hand.

Autograd notes down every small operation of every step and later walks back through all of them.
Here a whole loop is one operation. Its backward pass goes through the steps for what has to flow
from one to the next, and adds up the gradients of keys and score on the way; those of the large
matrices are single products over all steps.

Whatever the gradient is multiplied by within the cell of a step is known after the forward pass,
and is computed for all steps together.

What `model.py` computes remains the definition. `Fused` compares itself with it, and where the two
differ, because somebody had changed the model before its first batch, it calls the model.

Shapes: B batch, S source length, T target length, E embedding, H hidden, A attention, V vocabulary.
What begins with d_ is the gradient of the loss with respect to the rest of the name.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from helpers.data import PAD, Batch
from helpers.model import Seq2Seq
from helpers.runs.losses import LargeOutput, smoothed_cross_entropy

sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input  # (d, s) -> d * s * (1 - s)
tanh_backward = torch.ops.aten.tanh_backward.grad_input  # (d, n) -> d * (1 - n * n)
softmax_backward = torch.ops.aten._softmax_backward_data.default  # -> p * (d - sum of d * p)


def gru_cell(x: Tensor, h: Tensor, state: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
    """One step of a GRU, as in `nn.GRU`, from s, the old `state` (..., H). The input's share of the
    gates is `x` (..., 3H), in the order n, r, z; that of the state is `h` (..., 3H), in the order
    r, z, n. Both come with their biases.

        r = sigmoid(x_r + h_r)    z = sigmoid(x_z + h_z)    n = tanh(x_n + r h_n)
        s' = (1 - z) n + z s

    Returns s' and what the backward pass needs: r and z (..., 2H), n and h_n (..., H).
    """
    size = state.size(-1)
    (x_n, x_gates), (h_gates, h_n) = x.tensor_split([size], -1), h.tensor_split([2 * size], -1)
    gates = (x_gates + h_gates).sigmoid_()
    r, z = gates.split(size, dim=-1)
    # tanh(y) = 2 sigmoid(2y) - 1, which is faster for large tensors
    n = torch.addcmul(x_n, r, h_n).mul_(2).sigmoid_().mul_(2).sub_(1)
    return torch.lerp(n, state, z), (gates, n, h_n)


def gru_slopes(state: Tensor, gates: Tensor, n: Tensor, h_n: Tensor, out: Tensor) -> None:
    """Writes to `out` (..., 5H) the factors of d_s' in the gradients of a step, or of all steps at
    once: z, for the part that reaches s directly, and those of a_n, a_r, a_z and h_n, where tanh
    and sigmoid are taken of a_n, a_r and a_z. The first three of these four are those of `x`, the
    last three those of `h`.

        d_a_n = d_s' (1 - z) (1 - n^2)    d_a_r = d_a_n h_n r (1 - r)
        d_h_n = d_a_n r                   d_a_z = d_s' (s - n) z (1 - z)
    """
    (r, z), (keep, of_n, of_r, of_z, of_h_n) = gates.chunk(2, dim=-1), out.chunk(5, dim=-1)
    keep.copy_(z)
    tanh_backward(1 - z, n, grad_input=of_n)
    torch.mul(of_n, r, out=of_h_n)
    sigmoid_backward(of_n * h_n, r, grad_input=of_r)
    sigmoid_backward(state - n, z, grad_input=of_z)


def last_first(*parts: Tensor, dim: int = 0) -> Iterator[tuple[Tensor, ...]]:
    """What each step needs of all `parts`, which have their steps in `dim`, the last step first."""
    return zip(*(reversed(part.unbind(dim)) for part in parts), strict=True)


class GRULoop(torch.autograd.Function):
    """The steps of a GRU that looks at nothing but words: of the encoder, its D = 2 directions side
    by side, or of a decoder without attention, D = 1. On padding the state is 0.

    Takes the words' share of the gates (D, S, B, 3H), for n, r and z, the first state (D, B, H),
    the matrices (D, 3H, H) and biases (D, 1, 3H) of the state's share, for r, z and n, and 1 for
    each word, 0 for padding (D, S, B, 1). Returns the states after each token (D, S, B, H). All
    that has an S begins with the first place in one direction, and with the last in the other.
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, words, state, weight, bias, real):
        states, kept = [state], []
        for x, is_word in zip(words.unbind(1), real.unbind(1), strict=True):
            h = torch.baddbmm(bias, states[-1], weight.transpose(1, 2))  # (D, B, 3H)
            state, kept_of_step = gru_cell(x, h, states[-1])
            states.append(state.mul_(is_word))
            kept.append(kept_of_step)
        states, *kept = (torch.stack(part, 1) for part in (states, *zip(*kept, strict=True)))
        ctx.save_for_backward(weight, real, states, *kept)
        return states[:, 1:]

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, d_states):
        weight, real, states, *kept = ctx.saved_tensors
        size, before = states.size(3), states[:, :-1]
        d = states.new_empty(*before.shape[:3], 5 * size)  # at first, factors
        gru_slopes(before, *kept, out=d)
        d_x, d_h = d[..., size : 4 * size], d[..., 2 * size :]  # they overlap
        parts = d_states, real, d.unflatten(3, (5, size)), d[..., :size], d_h
        d_state = torch.zeros_like(states[:, 0])
        for d_new, is_word, factors, d_old, d_of_h in last_first(*parts, dim=1):
            factors.mul_((d_state + d_new).mul_(is_word).unsqueeze(2))  # now they are gradients
            d_state = torch.baddbmm(d_old, d_of_h, weight)
        d_h = d_h.flatten(1, 2)  # (D, S * B, 3H)
        d_weight, d_bias = d_h.transpose(1, 2) @ before.flatten(1, 2), d_h.sum(dim=1, keepdim=True)
        return d_x, d_state, d_weight, d_bias, None


class DecoderLoop(torch.autograd.Function):
    """The steps of the decoder, with additive attention, or with that of Luong: without a vector of
    the score the energies are the products of query and keys.

    tanh(y) = 2 sigmoid(2y) - 1, and a constant leaves a softmax as it is: so the energies of
    additive attention are here those of a sigmoid, which is computed faster, and its query, keys
    and score come doubled. The values come multiplied by their matrix of the gates: one product for
    each source, not for each step. In the products of batches (`bmm`) a vector stands on the left,
    as a row: on the right, as a column, they take several times as long.

    Takes the words' share of the gates (T, B, 3H), keys (B, S, A), values (B, S, 3H), the gates of
    both in the order n, r, z (see `gru_cell`), the first state (B, H), matrix (3H + A, H) and
    biases (3H + A,) of the state's share, for r, z and n, and of the query, the vector of the score
    (A,), or None, a penalty for each place (B, S): 0, or -inf where there is no word, and the
    factors of dropout in the query (T, B, H), or None. Returns the states (T, B, H) and the
    attention weights (T, B, S).
    """

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(ctx, words, keys, values, state, weight, bias, score, penalty, dropped):
        states, all_alpha, all_hidden, kept = [state], [], [], []
        penalties, gates = penalty.flatten(), words.size(2)
        for t, word in enumerate(words.unsqueeze(2).unbind(0)):  # (B, 1, 3H)
            if dropped is None:
                h_and_query = torch.addmm(bias, states[-1], weight.t())  # (B, 3H + A)
                h, query = h_and_query.tensor_split([gates], dim=1)
            else:
                h = torch.addmm(bias[:gates], states[-1], weight[:gates].t())
                given = states[-1] * dropped[t]
                query = torch.addmm(bias[gates:], given, weight[gates:].t())
            query = query.unsqueeze(1)  # (B, 1, A)
            if score is None:
                hidden = query
                energy = torch.baddbmm(penalty.unsqueeze(1), query, keys.transpose(1, 2))
            else:
                hidden = (query + keys).sigmoid_()  # (B, S, A)
                energy = torch.addmv(penalties, hidden.flatten(0, 1), score)  # (B * S,)
            alpha = energy.view_as(penalty).softmax(dim=1).unsqueeze(1)  # (B, 1, S)
            x = torch.baddbmm(word, alpha, values).squeeze(1)  # (B, 3H)
            state, kept_of_step = gru_cell(x, h, states[-1])
            states.append(state)
            all_alpha.append(alpha)
            all_hidden.append(hidden)  # the largest: it is not stacked, that would double it
            kept.append(kept_of_step)
        parts = states, all_alpha, *zip(*kept, strict=True)
        states, all_alpha, *kept = (torch.stack(part) for part in parts)
        saved = keys, values, weight, score, dropped, states, all_alpha, *kept, *all_hidden
        ctx.save_for_backward(*saved)
        return states[1:], all_alpha.squeeze(2)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx, d_states, d_all_alpha):
        keys, values, weight, score, dropped, states, all_alpha, *kept = ctx.saved_tensors
        kept, all_hidden = kept[:3], kept[3:]
        size, before, turned = states.size(2), states[:-1], values.transpose(1, 2)  # (B, 3H, S)
        gates, masks = 3 * size, before if dropped is None else dropped  # any, if not used
        d = keys.new_empty(*before.shape[:2], 5 * size + keys.size(2))  # (T, B, 5H + A)
        d_cell, d_query = d.tensor_split([5 * size], dim=2)
        gru_slopes(before, *kept, out=d_cell)  # at first, factors
        d_words, d_h_and_query = d[..., size : 4 * size], d[..., 2 * size :]  # they overlap
        rows = (part.unsqueeze(2) for part in (d_all_alpha, d_words, d_query))  # (T, B, 1, ...)
        d_cell = d_cell.unflatten(2, (5, size))
        parts = all_alpha, *rows, d_states, d_cell, d[..., :size], d_h_and_query, masks
        steps = zip(reversed(all_hidden), last_first(*parts), strict=True)
        d_state, d_keys = torch.zeros_like(states[0]), torch.zeros_like(keys)
        d_score = keys.new_zeros(len(keys), 1, keys.size(2))
        for hidden, (alpha, d_alpha, d_x, d_q, d_new, factors, d_old, d_of_h, kept) in steps:
            factors.mul_((d_state + d_new).unsqueeze(1))  # now they are gradients
            d_alpha = torch.baddbmm(d_alpha, d_x, turned)  # (B, 1, S)
            d_energy = softmax_backward(d_alpha, alpha, -1, alpha.dtype)  # (B, 1, S)
            if score is None:  # what is hidden is the query (B, 1, A)
                torch.bmm(d_energy, keys, out=d_q)
                d_keys.addcmul_(hidden, d_energy.transpose(1, 2))
            else:
                d_score.baddbmm_(d_energy, hidden)
                slope = torch.addcmul(hidden, hidden, hidden, value=-1)  # of the sigmoid (B, S, A)
                d_keys.addcmul_(slope, d_energy.transpose(1, 2))  # times the score, see below
                torch.mul(torch.bmm(d_energy, slope), score, out=d_q)
            if dropped is None:
                d_state = torch.addmm(d_old, d_of_h, weight)
            else:
                d_state = torch.addmm(d_old, d_of_h[:, :gates], weight[:gates])
                d_state.addcmul_(d_q.squeeze(1) @ weight[gates:], kept)
        d_values = torch.bmm(all_alpha.squeeze(2).permute(1, 2, 0), d_words.transpose(0, 1))
        d_h_and_query = d_h_and_query.flatten(0, 1)  # (T * B, 3H + A)
        d_weight, d_bias = d_h_and_query.t() @ before.flatten(0, 1), d_h_and_query.sum(dim=0)
        if dropped is not None:
            d_weight[gates:] = d_query.flatten(0, 1).t() @ (before * dropped).flatten(0, 1)
        d_score = None if score is None else d_score.sum(dim=(0, 1))
        d_keys = d_keys if score is None else d_keys * score
        return d_words, d_keys, d_values, d_state, d_weight, d_bias, d_score, None, None


def run_encoder(encoder: nn.Module, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """The hidden states (B, S, 2H) and the decoder's first state (B, H), as `Encoder` returns them.
    No packing is needed: on padding, after the last word in one direction and before it in the
    other, the state is 0.
    """
    if src_lens.min() < 1:
        raise RuntimeError("a source without a token")
    dropout, gru = dropout_of(encoder), getattr(encoder, "rnn", None) or encoder.gru
    mask = torch.arange(src.size(1)) < src_lens.unsqueeze(1)  # (B, S)
    emb = dropout(encoder.embedding(src.t()))  # (S, B, E)
    emb, real = (torch.stack([part, part.flip(0)]) for part in (emb, mask.t()))  # (2, S, B, ...)
    forth, back = gru.all_weights  # of each direction: (3H, E), (3H, H), (3H,), (3H,)
    in_weight, weight, in_bias, bias = (torch.stack(pair) for pair in zip(forth, back, strict=True))
    # r, z, n become n, r, z: so the gradients of `x` and `h` can share those of r and z
    in_weight, in_bias = (rows.roll(weight.size(2), dims=1) for rows in (in_weight, in_bias))
    words = torch.baddbmm(in_bias.unsqueeze(1), emb.flatten(1, 2), in_weight.transpose(1, 2))
    words, real = words.unflatten(1, real.shape[1:]), real.unsqueeze(3).to(words.dtype)
    first = words.new_zeros(2, len(src), weight.size(2))
    forth, back = GRULoop.apply(words, first, weight, bias.unsqueeze(1), real)  # (S, B, H) each
    enc_outputs = torch.cat([forth, back.flip(0)], dim=2).transpose(0, 1)  # (B, S, 2H)
    final = torch.cat([forth[src_lens - 1, torch.arange(len(src))], back[-1]], dim=1)
    return dropout(enc_outputs), torch.tanh(encoder.bridge(final))


def run_decoder(
    decoder: nn.Module, trg_in: Tensor, state: Tensor, enc_outputs: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    """The features (B, T, ...) from which the output layer of a decoder predicts the next words,
    and the weights (B, T, S), which are 0 without an attention.
    """
    dropout, keys = dropout_of(decoder), decoder.attention.project_keys(enc_outputs)  # (B, S, A)
    cell = decoder.cell if hasattr(decoder, "cell") else decoder.cells[0]
    in_weight, in_bias = (rows.roll(cell.hidden_size, 0) for rows in (cell.weight_ih, cell.bias_ih))
    of_word, of_context = in_weight.tensor_split([decoder.embedding.embedding_dim], dim=1)
    emb = dropout(decoder.embedding(trg_in.t()))  # (T, B, E)
    words = F.linear(emb, of_word, in_bias)  # (T, B, 3H)
    if keys.size(2) == 0:  # nothing to look at
        real = torch.ones_like(words[..., :1])
        given = words, state, cell.weight_hh, cell.bias_hh.unsqueeze(0), real
        (states,) = GRULoop.apply(*(part.unsqueeze(0) for part in given))
        weights = words.new_zeros(*trg_in.shape, mask.size(1))
        features = [states.transpose(0, 1)]
    else:
        keys, query_weight, score = scorer(decoder.attention, keys)
        values = F.linear(enc_outputs, of_context)  # (B, S, 3H)
        weight = torch.cat([cell.weight_hh, query_weight])  # (3H + A, H)
        bias = F.pad(cell.bias_hh, (0, keys.size(2)))  # (3H + A,), zeros for the query
        penalty = torch.zeros_like(values[..., 0]).masked_fill(~mask, -torch.inf)  # (B, S)
        dropped = None
        if dropout.training and dropout.p:  # 0 for what is dropped of each query (T, B, H)
            dropped = dropout(emb.new_ones(*emb.shape[:2], cell.hidden_size))
        given = words, keys, values, state, weight, bias, score, penalty, dropped
        states, weights = (steps.transpose(0, 1) for steps in DecoderLoop.apply(*given))
        features = [states, weights @ enc_outputs]  # (B, T, H) and (B, T, 2H)
    if has_readout(decoder):  # which reads the word before as well
        features.append(emb.transpose(0, 1))
    return torch.cat(features, dim=2), weights


def scorer(attention: nn.Module, keys: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """What `DecoderLoop` takes of an attention: the keys (B, S, A), the matrix of the query (A, H)
    and the vector of the score (A,). The query of Luong's attention is the state itself: a product
    with 1, so that dropout and gradients are those of the others.
    """
    if not hasattr(attention, "score"):
        return keys, torch.eye(keys.size(2), dtype=keys.dtype), None
    query_weight, score = attention.project_query.weight, attention.score.weight.squeeze(0)
    return 2 * keys, 2 * query_weight, 2 * score


def has_readout(decoder: nn.Module | None) -> bool:
    """Whether there is a layer before that of the words (see `models.recurrent.Readout`)."""
    return hasattr(getattr(decoder, "output", None), "before_words")


NO_DROPOUT = nn.Dropout(0).eval()


def dropout_of(module: nn.Module) -> nn.Dropout:
    """Its dropout; the model of the assignment has none."""
    return getattr(module, "dropout", NO_DROPOUT)


class Fused(nn.Module):
    """A module to call in place of a model in training: that of the assignment, or one with dropout
    or a readout besides, with Luong's attention or none. It is faster on a CPU, if the two agree on
    a few words of the first batch. In all other cases, and in half precision without a readout, the
    model itself is called. A model that is changed later needs a new `Fused`; of its parts, those
    in the loops call no hooks.
    """

    def __init__(self, model: Seq2Seq):
        super().__init__()
        self.model, self.agrees = model, None  # not known yet
        self.has_readout = has_readout(getattr(model, "decoder", None))

    def forward(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, T, V) and weights (B, T, S), as the model returns them for sources (B, S) of
        `src_lens` (B,) real tokens and the true previous words `trg_in` (B, T).
        """
        given = src, src_lens, trg_in
        return self.run(*given) if self.is_fast(*given) else self.model(*given)

    def is_fast(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> bool:
        """Whether a batch can be computed in the fast way."""
        half = torch.is_autocast_enabled("cpu")  # pays where the output layer is the largest part
        if src.device.type != "cpu" or half and not self.has_readout:
            return False
        if self.agrees is None and src.numel() and trg_in.numel():
            with torch.autocast("cpu", enabled=False):
                self.agrees = self.compare(src, trg_in)
        return bool(self.agrees)

    def run(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """As `forward`, in the fast way."""
        features, weights = self.features(src, src_lens, trg_in)
        return self.model.decoder.output(features), weights

    def features(self, src: Tensor, src_lens: Tensor, trg_in: Tensor) -> tuple[Tensor, Tensor]:
        """What the output layer reads, and the weights."""
        enc_outputs, state = run_encoder(self.model.encoder, src, src_lens)
        mask = torch.arange(src.size(1)) < src_lens.unsqueeze(1)
        return run_decoder(self.model.decoder, trg_in, state, enc_outputs, mask)

    def loss(self, batch: Batch, smoothing: float) -> Tensor | None:
        """The smoothed cross-entropy, summed over the words of a batch, without all its logits
        at once, where that is the faster way: on a CPU, with a readout. Else None.
        """
        given = batch.src, batch.src_lens, batch.trg_in
        if not (self.has_readout and self.is_fast(*given)):
            return None
        features, _ = self.features(*given)
        return self.large_loss(features, batch.trg_out, smoothing)

    def large_loss(self, features: Tensor, trg_out: Tensor, smoothing: float) -> Tensor:
        """The loss from the features (B, T, ...) of a readout."""
        output, real = self.model.decoder.output, trg_out != PAD
        hidden, low = output.before_words(features[real]), torch.is_autocast_enabled("cpu")
        weight, bias = output.words.weight, output.words.bias
        return LargeOutput.apply(hidden, weight, bias, trg_out[real], smoothing, low)

    @torch.inference_mode(False)  # in which there would be no gradients
    @torch.enable_grad()
    def compare(self, src: Tensor, trg_in: Tensor) -> bool:
        """Whether the fast way has the values and the gradients of the model, up to rounding, for
        four sources of 16 places, from 1 to 16 of them words, that are made of the words given.
        """
        few = [ids.flatten()[torch.arange(64) % ids.numel()].view(4, 16) for ids in (src, trg_in)]
        given = few[0], torch.tensor([16, 9, 4, 1]), few[1]
        params = [param for param in self.model.parameters() if param.requires_grad]

        def results(run, loss) -> list[Tensor]:
            values = run(*given)
            values = [*values, loss(values[0])] if self.has_readout else values
            total = sum(value.square().sum() for value in values)
            grads = torch.autograd.grad(total, params, materialize_grads=True) if params else []
            return [*values, *grads]

        def slow_loss(logits: Tensor) -> Tensor:
            return smoothed_cross_entropy(logits, few[1], 0.1)

        def fast_loss(_: Tensor) -> Tensor:
            return self.large_loss(self.features(*given)[0], few[1], 0.1)

        def close(some: Tensor, other: Tensor) -> bool:
            if some.shape != other.shape or some.dtype != other.dtype:
                return False
            rtol, largest = torch.finfo(some.dtype).eps ** 0.5, some.abs().max().item()
            return torch.allclose(some, other, rtol=rtol, atol=rtol * max(1, largest))

        training = self.model.training
        self.model.eval()  # without dropout, which is never twice the same
        try:
            expected = results(self.model, slow_loss)
            try:
                return all(map(close, expected, results(self.run, fast_loss)))
            except Exception:  # the model has other parts than `run` expects
                return False
        finally:
            self.model.train(training)
