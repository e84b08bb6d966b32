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
from helpers.location import LocationSeq2Seq, frame


class Decoded(NamedTuple):
    """What the model wrote for one source."""

    ids: list[int]  # without <eos>
    weights: Tensor  # (steps, S): where each step looked, that of <eos> included


def max_steps(src_lens):
    """After how many steps a sentence (or each of a batch) is cut off if it has not ended."""
    return 2 * src_lens + 2


@torch.no_grad()
def greedy(model: Model, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the likeliest word at each step until <eos>, for all sources of a batch together; what
    has ended leaves the batch.

    `src` (B, S) holds `src_lens` (B,) real tokens a row. Returns the ids (B, T) and the attention
    weights (B, T, S), `PAD` and 0 after the end.
    """
    state = model.start(src, src_lens)
    ids, limits = torch.full_like(src_lens, BOS), max_steps(src_lens)
    rows = torch.arange(len(src), device=src.device)  # of the batch that have not ended
    steps = []
    while len(rows):
        logits, weights, state = model.next_word(ids, state)
        ids = logits.argmax(dim=-1)
        steps.append((rows, ids, weights))
        going = (ids != EOS) & (len(steps) < limits[rows])
        if not going.all():
            rows, ids = rows[going], ids[going]
            state = tuple(part[going] for part in state)
    all_ids = src.new_full((len(src), len(steps)), PAD)
    all_weights = steps[0][2].new_zeros(*all_ids.shape, src.size(1))
    for t, (rows, ids, weights) in enumerate(steps):
        all_ids[rows, t], all_weights[rows, t] = ids, weights
    return all_ids, all_weights


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
    dtype = next(model.parameters()).dtype
    all_weights = torch.zeros(len(ids), 0, src.size(1), dtype=dtype, device=src.device)
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


@torch.no_grad()
def copy_search(model: LocationSeq2Seq, src: Tensor, src_lens: Tensor) -> Tensor:
    """Writes by pointing: at each step the source word with the strongest weight, until that is the
    sentinel before the first word.

    What is fed back is the word pointed at, and a weight of 1 on its place instead of the weights:
    small errors of position cannot add up, however long the source is. A search that points at
    the other sentinel is lost and ends, too, and so does one of `max_steps`.

    `src` (B, S) holds `src_lens` (B,) real tokens a row, of the vocabulary that source and target
    share. Returns the places (B, T), counted from 1; 0 after the end.
    """
    framed, _ = frame(src, src_lens)
    state, limits = model.start(src, src_lens), max_steps(src_lens)
    ids, all_places = torch.full_like(src_lens, BOS), []
    done = torch.zeros_like(src_lens, dtype=torch.bool)
    while not done.all():
        _, _, (hidden, weights, *source) = model.next_word(ids, state)
        places = weights.argmax(dim=-1)
        state = hidden, torch.zeros_like(weights).scatter(1, places.unsqueeze(1), 1.0), *source
        ids = framed.gather(1, places.unsqueeze(1)).squeeze(1)
        done = done | (places == 0) | (places > src_lens)  # the other sentinel: it is lost
        all_places.append(places.masked_fill(done, 0))
        done = done | (len(all_places) >= limits)
    return torch.stack(all_places, dim=1)


BATCH_SIZE = 250  # sources; 500 took longer where we tried
BATCH_TOKENS = 20_000  # at most, padding included, so that long sentences do not exhaust memory


def decode(
    model: Model,
    sources: Sequence[list[int]],
    batch_size: int = BATCH_SIZE,
    beam: int = 1,
    penalty: float = 1.0,
) -> list[Decoded]:
    """Decodes any number of sources, lists of ids; the answers come in their order. The search is
    greedy, or a beam search of the width `beam`.

    Sources of similar length are decoded together. Raises ValueError for a source without a token
    and for a `batch_size` or `beam` of less than 1.
    """
    if beam < 1:
        raise ValueError(f"a beam has a width of at least 1, not {beam}")
    search = greedy if beam == 1 else partial(beam_search, width=beam, penalty=penalty)
    answers: dict[int, Decoded] = {}
    for chosen, src, src_lens in in_batches(model, sources, batch_size, beam):
        all_ids, all_weights = (rows.cpu() for rows in search(model, src, src_lens))
        for i, row, weights in zip(chosen, all_ids.tolist(), all_weights, strict=True):
            n = len(sources[i])
            steps = row.index(EOS) + 1 if EOS in row else max_steps(n)
            ids = [id_ for id_ in row[:steps] if id_ != EOS]
            answers[i] = Decoded(ids, weights[:steps, :n])
    return [answers[i] for i in range(len(sources))]


def decode_by_copying(model: LocationSeq2Seq, sources: Sequence[list[int]]) -> list[list[int]]:
    """The places (see `copy_search`) that the model points at for any number of sources, lists of
    ids. Raises ValueError for a source without a token.
    """
    answers: dict[int, list[int]] = {}
    for chosen, src, src_lens in in_batches(model, sources):
        for i, row in zip(chosen, copy_search(model, src, src_lens).tolist(), strict=True):
            answers[i] = [place for place in row if place]
    return [answers[i] for i in range(len(sources))]


def in_batches(
    model: Model, sources: Sequence[list[int]], batch_size: int = BATCH_SIZE, beam: int = 1
) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """Sources of similar length together: the numbers of B of them, the sources (B, S), padded, and
    their lengths (B,), on the device of the model. Each occupies the memory of `beam` sources.
    Raises ValueError for a source without a token and a `batch_size` of less than 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if not all(sources):
        raise ValueError("cannot decode a source without a token")
    device = next(model.parameters()).device
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    while order:
        longest = len(sources[order[-1]])
        size = min(batch_size, max(1, BATCH_TOKENS // (beam * longest)))
        chosen, order = order[-size:], order[:-size]
        lens = torch.tensor([len(sources[i]) for i in chosen])
        yield chosen, pad(sources[i] for i in chosen).to(device), lens.to(device)


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
    """What the model writes for each sentence of tokens; a `LocationSeq2Seq` copies those that it
    points at. That is nothing for an empty sentence, and for one with words that the vocabulary
    does not know, if there is no "<unk>" to stand for them.

    Raises ValueError for a `chunk` of less than 1, and for a `beam` of another width than 1 with a
    model that copies.
    """
    if isinstance(model, LocationSeq2Seq) and beam != 1:
        raise ValueError(f"a model that copies has no use for a beam: it must be 1, not {beam}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    sentences = iter(sentences)
    while block := list(islice(sentences, chunk)):
        sources = [vocab.encode(tokens) if vocab.knows(tokens) else [] for tokens in block]
        given = [src for src in sources if src]
        tokens_of = [tokens for tokens, src in zip(block, sources, strict=True) if src]
        if isinstance(model, LocationSeq2Seq):
            pairs = zip(tokens_of, decode_by_copying(model, given), strict=True)
            written = ([tokens[i - 1] for i in row] for tokens, row in pairs)
        else:
            same = vocab.words == trg_vocab.words
            answers = decode(model, given, beam=beam)
            trios = zip(tokens_of, given if same else [[]] * len(given), answers, strict=True)
            written = (spell(tokens, src, answer, trg_vocab) for tokens, src, answer in trios)
        for src in sources:
            yield next(written) if src else []


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
