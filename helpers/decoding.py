"""From a trained model to words: greedy decoding in batches, and words copied from the source."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from helpers.data import BOS, EOS, PAD, SPECIALS, Sentence, Vocab, pad, tokenize
from helpers.model import Seq2Seq


class Decoded(NamedTuple):
    """What the model wrote for one source."""

    ids: list[int]  # without <eos>
    weights: Tensor  # (steps, S): where each step looked, that of <eos> included


def max_steps(src_lens):
    """After how many steps a sentence (or each of a batch) is cut off if no <eos> has come."""
    return 2 * src_lens + 2


@torch.no_grad()
def greedy(model: Seq2Seq, src: Tensor, src_lens: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the likeliest word at each step until <eos>, for all sources of a batch together.

    `src` (B, S) holds `src_lens` (B,) real tokens a row. Returns the ids (B, T), `PAD`
    after the end, and the attention weights (B, T, S).
    """
    enc_outputs, state, mask = model.encode(src, src_lens)
    decoder = model.decoder
    keys = decoder.attention.project_keys(enc_outputs)
    ids = torch.full_like(src_lens, BOS)
    limits = max_steps(src_lens)
    done = torch.zeros_like(src_lens, dtype=torch.bool)
    all_ids, all_weights = [], []
    while not done.all():
        emb = decoder.embedding(ids)
        features, state, weights = decoder.step(emb, state, keys, enc_outputs, mask)
        ids = decoder.output(features).argmax(dim=-1).masked_fill(done, PAD)
        all_ids.append(ids)
        all_weights.append(weights)
        done = done | (ids == EOS) | (len(all_ids) >= limits)
    return torch.stack(all_ids, dim=1), torch.stack(all_weights, dim=1)


BATCH_TOKENS = 20_000  # at most, padding included, so that long sentences do not exhaust memory


def decode(model: Seq2Seq, sources: Sequence[list[int]], batch_size: int = 500) -> list[Decoded]:
    """Greedy decoding of any number of sources, lists of ids; the answers come in their order.

    Sources of similar length are decoded together. Raises ValueError for a source without a token.
    """
    if not all(sources):
        raise ValueError("cannot decode a source without a token")
    device = next(model.parameters()).device
    order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
    answers: dict[int, Decoded] = {}
    while order:
        longest = len(sources[order[-1]])
        size = min(batch_size, max(1, BATCH_TOKENS // longest))
        chosen, order = order[-size:], order[:-size]
        lens = [len(sources[i]) for i in chosen]
        src, src_lens = pad(sources[i] for i in chosen).to(device), torch.tensor(lens).to(device)
        all_ids, all_weights = (rows.cpu() for rows in greedy(model, src, src_lens))
        for i, n, row, weights in zip(chosen, lens, all_ids.tolist(), all_weights, strict=True):
            steps = row.index(EOS) + 1 if EOS in row else max_steps(n)
            ids = [id_ for id_ in row[:steps] if id_ != EOS]
            answers[i] = Decoded(ids, weights[:steps, :n])
    return [answers[i] for i in range(len(sources))]


def spell(tokens: Sentence, src: list[int], answer: Decoded, vocab: Vocab) -> list[str]:
    """The words of an answer in the spelling of its source `tokens`, whose ids are `src`.

    Each predicted word takes the spelling of the source token of the same id on which the strongest
    weight lies, <unk> therefore that of an unknown word (Jean et al. 2015, arXiv:1412.2007, after
    Luong et al. 2015, arXiv:1410.8206). A word that the source does not have is written as in the
    vocabulary, a special symbol as the source token with the strongest weight of all.
    """
    words = []
    for id_, weights in zip(answer.ids, answer.weights.tolist(), strict=False):
        places = [i for i, src_id in enumerate(src) if src_id == id_]
        if not places and vocab.words[id_] in SPECIALS:
            places = list(range(len(src)))
        words.append(tokens[max(places, key=weights.__getitem__)] if places else vocab.words[id_])
    return words


def reverse_lines(
    model: Seq2Seq, vocab: Vocab, lines: Iterable[str], chunk: int = 500
) -> Iterator[str]:
    """What the model makes of each line, one answer a line. It is empty for an empty line, and for
    one with words that the vocabulary does not know, if there is no "<unk>" to stand for them.
    """
    lines = iter(lines)
    while block := [tokenize(line) for line in islice(lines, chunk)]:
        sources = [vocab.encode(tokens) if vocab.knows(tokens) else [] for tokens in block]
        answers = iter(decode(model, [src for src in sources if src]))
        for tokens, src in zip(block, sources, strict=True):
            yield " ".join(spell(tokens, src, next(answers), vocab)) if src else ""
