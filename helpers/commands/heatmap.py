"""`--heatmap`: where the model looked in a sentence, as a picture."""

import warnings
from pathlib import Path

import torch

from helpers.data import EOS, SPECIALS, Sentence, collate
from helpers.runs.checkpoint import Checkpoint
from helpers.tasks.subwords import labels

DRAWN = 100  # words or pieces in a sentence, at most: more cannot be read in a picture


@torch.no_grad()
def draw(loaded: Checkpoint, tokens: Sentence, words: Sentence, path: Path) -> None:
    """Saves the attention weights of a sentence of `tokens` that was answered with `words`. Raises
    ValueError for a model without attention, and OSError if the picture cannot be written.
    """
    from helpers.plotting import plot_attention  # here, since it takes a second

    batch = collate([(loaded.vocab.encode(tokens), loaded.trg_vocab.encode(words))])
    batch = batch.to(next(loaded.model.parameters()).device)
    logits, weights = loaded.model(batch.src, batch.src_lens, batch.trg_in)
    if not weights.any():
        raise ValueError(f"the model has no attention to draw in {path}")
    src, output = labels(loaded.vocab, tokens), labels(loaded.trg_vocab, words)
    if logits[0, -1].argmax() == EOS:  # else it was cut off, or answers by pointing
        output.append(SPECIALS[EOS])
    with warnings.catch_warnings(action="ignore"):  # of each character that no font has
        weights = weights[0, : len(output)].cpu()
        plot_attention(weights, src, output, "Attention weights", str(path))
