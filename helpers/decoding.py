"""From a trained model to words: greedy and beam search in batches; unknown words are copied."""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from helpers import translation
from helpers.build import Model
from helpers.data import BOS, EOS, PAD, SPECIALS, Sentence, Vocab, pad, tokenize


class Decoded(NamedTuple):
    """What the model wrote for one source."""

    ids: list[int]  # without <eos>
    weights: Tensor  # (steps, S): where each step looked, that of <eos> included


def max_steps(src_lens):
    """After how many steps a sentence (or each of a batch) is cut off if no <eos> has come."""
    return 2 * src_lens + 2


@torch.no_grad()
def greedy(model: Model, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the likeliest word at each step until <eos>, for all sources of a batch together.

    `src` (B, S) holds `src_lens` (B,) real tokens a row. Returns the ids (B, T), `PAD`
    after the end, and the attention weights (B, T, S).
    """
    state = model.start(src, src_lens)
    ids = torch.full_like(src_lens, BOS)
    limits = max_steps(src_lens)
    done = torch.zeros_like(src_lens, dtype=torch.bool)
    all_ids, all_weights = [], []
    while not done.all():
        logits, weights, state = model.next_word(ids, state)
        ids = logits.argmax(dim=-1).masked_fill(done, PAD)
        all_ids.append(ids)
        all_weights.append(weights)
        done = done | (ids == EOS) | (len(all_ids) >= limits)
    return torch.stack(all_ids, dim=1), torch.stack(all_weights, dim=1)


@torch.no_grad()
def beam_search(
    model: Model, src: Tensor, src_lens: Tensor, width: int, penalty: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Keeps the `width` best beginnings of each sentence at every step; answers as `greedy` does.

    An answer of n tokens, <eos> included, is rated by its log probability divided by
    ((5 + n) / 6) ** `penalty` (Wu et al. 2016, arXiv:1609.08144, equation 14).
    """
    limits = max_steps(src_lens).repeat_interleave(width)
    state = tuple(rows.repeat_interleave(width, dim=0) for rows in model.start(src, src_lens))
    firsts = width * torch.arange(len(src), device=src.device).unsqueeze(1)
    ids = torch.full_like(limits, BOS)  # (B * K,), K for the width; so are the rows of all others
    all_ids = ids.new_zeros(len(ids), 0)
    all_weights = torch.zeros(len(ids), 0, src.size(1), device=src.device)
    lengths, done = torch.zeros_like(ids), torch.zeros_like(ids, dtype=torch.bool)
    scores = torch.full((len(src), width), -torch.inf, device=src.device)
    scores[:, 0] = 0.0  # all beginnings are the same at first: only one of them counts
    scores = scores.flatten()
    while not done.all():
        logits, weights, state = model.next_word(ids, state)
        log_probs = logits.log_softmax(dim=-1).masked_fill(done.unsqueeze(1), -torch.inf)
        log_probs[:, PAD].masked_fill_(done, 0.0)  # what is done goes on with padding, at no cost
        totals, lengths = scores.unsqueeze(1) + log_probs, lengths + ~done
        ratings = totals / ((5 + lengths.unsqueeze(1)) / 6) ** penalty  # (B * K, V)
        best = ratings.view(len(src), -1).topk(width).indices  # (B, K)
        chosen, ids = (firsts + best // logits.size(1)).flatten(), (best % logits.size(1)).flatten()
        scores = totals[chosen, ids]
        all_ids = torch.cat([all_ids[chosen], ids.unsqueeze(1)], dim=1)
        all_weights = torch.cat([all_weights, weights.unsqueeze(1)], dim=1)[chosen]
        state = tuple(rows[chosen] for rows in state)
        lengths = lengths[chosen]
        done = done[chosen] | (ids == EOS) | (all_ids.size(1) >= limits)
    return all_ids[::width], all_weights[::width]


BATCH_TOKENS = 20_000  # at most, padding included, so that long sentences do not exhaust memory


def decode(
    model: Model,
    sources: Sequence[list[int]],
    batch_size: int = 500,
    beam: int = 1,
    penalty: float = 1.0,
) -> list[Decoded]:
    """Decodes any number of sources, lists of ids; the answers come in their order. The search is
    greedy, or a beam search of the width `beam`.

    Sources of similar length are decoded together. Raises ValueError for a source without a token
    and a beam of less than 1.
    """
    if not all(sources):
        raise ValueError("cannot decode a source without a token")
    if beam < 1:
        raise ValueError(f"a beam has a width of at least 1, not {beam}")
    search = greedy if beam == 1 else partial(beam_search, width=beam, penalty=penalty)
    device = next(model.parameters()).device
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers: dict[int, Decoded] = {}
    while order:
        longest = len(sources[order[-1]])
        size = min(batch_size, max(1, BATCH_TOKENS // (beam * longest)))
        chosen, order = order[-size:], order[:-size]
        lens = [len(sources[i]) for i in chosen]
        src, src_lens = pad(sources[i] for i in chosen).to(device), torch.tensor(lens).to(device)
        all_ids, all_weights = (rows.cpu() for rows in search(model, src, src_lens))
        for i, n, row, weights in zip(chosen, lens, all_ids.tolist(), all_weights, strict=True):
            steps = row.index(EOS) + 1 if EOS in row else max_steps(n)
            ids = [id_ for id_ in row[:steps] if id_ != EOS]
            answers[i] = Decoded(ids, weights[:steps, :n])
    return [answers[i] for i in range(len(sources))]


def spell(tokens: Sentence, src: list[int], answer: Decoded, vocab: Vocab) -> list[str]:
    """The words of an answer in the spelling of its source `tokens`, whose ids are `src` (no ids if
    source and answer have different vocabularies).

    Each predicted word takes the spelling of the source token of the same id on which the strongest
    weight lies, <unk> therefore that of an unknown word (Jean et al. 2015, arXiv:1412.2007, after
    Luong et al. 2015, arXiv:1410.8206). A word that the source does not have is written as in the
    vocabulary, a special symbol as the source token with the strongest weight of all. Without
    attention (weights of 0) only what is unambiguous is copied.
    """
    words = []
    for id_, weights in zip(answer.ids, answer.weights.tolist(), strict=False):
        places = [i for i, src_id in enumerate(src) if src_id == id_]
        if not places and vocab.words[id_] in SPECIALS:
            places = list(range(len(tokens)))
        if len(places) > 1 and not any(weights):  # without attention nothing tells which
            places = []
        words.append(tokens[max(places, key=weights.__getitem__)] if places else vocab.words[id_])
    return words


def predict(
    model: Model,
    vocab: Vocab,
    trg_vocab: Vocab,
    sentences: Iterable[Sentence],
    chunk: int = 500,
    beam: int = 1,
) -> Iterator[list[str]]:
    """What the model writes for each sentence of tokens. That is nothing for an empty one, and for
    one with words that the vocabulary does not know, if there is no "<unk>" to stand for them.
    """
    sentences, same = iter(sentences), vocab.words == trg_vocab.words
    while block := list(islice(sentences, chunk)):
        sources = [vocab.encode(tokens) if vocab.knows(tokens) else [] for tokens in block]
        answers = iter(decode(model, [src for src in sources if src], beam=beam))
        for tokens, src in zip(block, sources, strict=True):
            yield spell(tokens, src if same else [], next(answers), trg_vocab) if src else []


def reverse_lines(
    model: Model, vocab: Vocab, lines: Iterable[str], chunk: int = 500
) -> Iterator[str]:
    """What a model that reverses makes of each line, one answer a line."""
    for words in predict(model, vocab, vocab, map(tokenize, lines), chunk):
        yield " ".join(words)


def translate_lines(
    model: Model,
    vocab: Vocab,
    trg_vocab: Vocab,
    lines: Iterable[str],
    chunk: int = 500,
    beam: int = 1,
) -> Iterator[str]:
    """What a model that translates makes of each line, one answer a line."""
    sentences = map(translation.tokenize, lines)
    for words in predict(model, vocab, trg_vocab, sentences, chunk, beam):
        yield translation.detokenize(words)
