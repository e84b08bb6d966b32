"""What a model of pieces cannot know is copied: rare names, numbers and addresses."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from helpers.tasks.subwords import SPACE, Subwords
from helpers.tasks.tokens import ADDRESS, TOKEN

LEAST = 0.5  # of the weight of a word of the answer, for a source word to be copied there
TITLES = {"Mr", "Mrs", "Ms", "Dr", "St", "Prof"}  # whose full stop ends no sentence
CLOCK = re.compile(r"\d\s*h(eures?)?\b")  # a time as French has it
ROUND = re.compile(r"\bmilli(on|ard)")  # 1,5 million


class Word(NamedTuple):
    """A word, number, address or mark in a line."""

    text: str
    start: int  # of its characters in the line
    end: int
    pieces: list[int]  # the places of those that it is made of


def words_of(pieces: Sequence[str], vocab: Subwords) -> list[Word]:
    """The words of a line of pieces. A word stands without marks around it, as in `tokenize`, and
    without "'s".
    """
    line, spans = vocab.join(pieces).replace("’", "'"), vocab.spans(pieces)
    words = []
    for match in TOKEN.finditer(line):
        text, start = match.group().removesuffix("'s"), match.start()
        end = start + len(text)
        places = [i for i, (first, last) in enumerate(spans) if first < end and last > start]
        words.append(Word(text, start, end, places))
    return words


def is_number(text: str) -> bool:
    """Whether it is one of three digits or more, and nothing else."""
    return bool(re.fullmatch(r"\d[\d.,:]*\d", text)) and sum(map(str.isdigit, text)) >= 3


def is_address(text: str) -> bool:
    return bool(re.fullmatch(ADDRESS, text, re.IGNORECASE))


def rare(pieces: Sequence[str], vocab: Subwords) -> list[Word]:
    """The words of a source that are to stay as they are: numbers, addresses, and names, which have
    a capital inside a sentence, and are rare if a letter or a byte of them is a piece by itself. Of
    numbers, those of at least three digits: a smaller one may have been converted, with its unit.
    """
    chosen, begins, before = [], True, ""
    for word in words_of(pieces, vocab):
        parts = [pieces[i].removeprefix(SPACE) for i in word.pieces]
        spelled = len(parts) > 1 and any(len(part) == 1 or part[:3] == "<0x" for part in parts)
        name = spelled and not begins and len(word.text) > 1 and word.text[0].isupper()
        if name or is_number(word.text) or is_address(word.text):
            chosen.append(word)
        ends = word.text[0] in ".!?…" and before not in TITLES
        begins, before = ends or begins and not word.text[0].isalnum(), word.text
    return chosen


def is_written(text: str, line: str, words: list[Word]) -> bool:
    """Whether a source word is in an answer: the same, the digits of a number in their order, as in
    1 000 for 1,000, any time for a time, which may be 14 h 30 for 2:30, or any millions.
    """
    digits = [] if is_address(text) else [char for char in text if char.isdigit()]
    same = r"(?<!\d)" + r"\D{,3}".join(digits) + r"(?!\d)"
    other = CLOCK if ":" in text else ROUND
    number = digits and (re.search(same, line) or other.search(line))
    return bool(number) or text in (word.text for word in words)


def takes(word: Word, text: str) -> bool:
    """Whether a word of an answer may be a failed attempt at a rare one: at a number another, at a
    name or an address a word of several pieces.
    """
    if is_number(text):
        return any(map(str.isdigit, word.text))
    return len(word.pieces) > 1 and word.text[0].isalnum() and word.text[-1] != "'"


def spell_rare(
    src: Sequence[str], pieces: list[str], weights: Tensor, vocab: Subwords, trg_vocab: Subwords
) -> list[str]:
    """The `pieces` of an answer, in which each rare word of the source pieces `src` that is not
    there takes the place of the word that looks at it most, by the `weights` (steps, S), if that
    may be its translation and has more than half of its weight there; as Luong et al. 2015
    (arXiv:1410.8206) and Jean et al. 2015 (arXiv:1412.2007) do it with unknown words.
    """
    chosen = rare(src, vocab)
    if not (chosen and pieces):
        return pieces
    line, words, copied = trg_vocab.join(pieces), words_of(pieces, trg_vocab), {}
    for text, _, _, places in chosen:
        if is_written(text, line, words):
            continue
        shares = {
            word.start: float(weights[word.pieces][:, places].sum(dim=1).mean())
            for word in words
            if word.start not in copied and takes(word, text)
        }
        most = max(shares, key=shares.__getitem__, default=None)
        if most is not None and shares[most] > LEAST:
            copied[most] = text
    for word in reversed(words):
        if word.start in copied:
            line = line[: word.start] + copied[word.start] + line[word.end :]
    return list(trg_vocab.tokenize(line)) if copied else pieces
