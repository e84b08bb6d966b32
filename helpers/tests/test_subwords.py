"""Pieces of words: a line comes back, whatever is in it."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.data import BOS, EOS, PAD, SPECIALS, UNK
from helpers.tasks import french
from helpers.tasks.subwords import Subwords, normal, readable

LINES = [side for pair in french.pairs(500, seed=3) for side in pair]
VOCAB = Subwords.learn(LINES, 500)
ODD = [
    "Il est 7:30 ; -3,5 °C, 1.234,56 € et 50 %.",
    "« Quoi\u202f?! », dit-il\u00a0: “non” — l’élève a répondu…",
    "e\u0301le\u0300ve, \u0928\u092e\u0938\u094d\u0924, 你好, 👩\u200d👧, 🇫🇷, 1\ufe0f\u20e3",
    "a.b+c@example.org https://example.org/x?y=1&z=%20#_ <pad> </s> <0x41>",
    "tabs\tand\u2009thin\u200bspaces, two  spaces, soft\u00adhyphens, \x00 and \x7f",
]


@pytest.mark.parametrize("line", [*ODD, "", " ", "a"])
def test_a_line_comes_back(line):
    pieces = VOCAB.tokenize(line)
    assert VOCAB.join(pieces) == normal(line)
    assert VOCAB.decode(VOCAB.encode(pieces)) == list(pieces)
    assert not VOCAB.unknown(pieces) and UNK not in VOCAB.encode(pieces)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_line_comes_back(line):
    assert VOCAB.join(VOCAB.tokenize(line)) == normal(line)


def test_what_does_not_come_back():
    """Only the way in which an accent is put on its letter, space around the line, and "▁"."""
    assert normal("  e\u0301t\u00e9 ") == "\u00e9t\u00e9"
    assert normal("a▁b") == "a b" and normal("▁ a") == "a"
    for line in ODD[:2] + ODD[3:]:
        assert normal(line) == unicodedata.normalize("NFC", line) == line


def test_pieces_are_a_vocabulary():
    assert tuple(VOCAB.words[:4]) == SPECIALS
    assert [VOCAB.words.index(word) for word in SPECIALS] == [PAD, BOS, EOS, UNK]
    assert len(VOCAB) == 500 and VOCAB.exact
    assert VOCAB.tokenize("le chat")[0] == "▁le"
    assert VOCAB.tokenize("dans le parc")[:2] == ("▁dans", "▁le"), "frequent words are one piece"


def test_the_same_lines_have_the_same_pieces():
    again = Subwords.learn(iter(LINES), 500)
    assert again.model == VOCAB.model and again.words == VOCAB.words
    assert Subwords.learn(LINES[:500], 500).words != VOCAB.words
    assert Subwords(VOCAB.model).words == VOCAB.words


def test_sizes():
    assert len(Subwords.learn(["the cat sat"], 4000)) < 300, "there are no more pieces"
    for lines in (["a b c"], ["abc"], ["é ü", "日本 x\ty", "e\u0301"]):
        least = Subwords.least(lines)
        assert len(Subwords.learn(lines, least)) == least
        with pytest.raises(ValueError, match=f"{least - 1} subwords cannot be learned"):
            Subwords.learn(lines, least - 1)
    with pytest.raises(ValueError, match="4000 subwords cannot be learned from this text"):
        Subwords.learn(["", " "], 4000)
    with pytest.raises(RuntimeError):
        Subwords(b"nothing that SentencePiece knows")


def test_pieces_read_well_in_a_map():
    pieces = ["▁un", "f", "ath", "om", "able", "▁(", "peut", "-", "être", ")", "▁", "<0xF0>"]
    expected = ["un", "-f", "-ath", "-om", "-able", "(", "peut", "-", "être", ")", "▁", "<0xF0>"]
    assert readable(pieces) == expected
    assert readable([]) == []


def test_bytes_that_are_no_character():
    assert VOCAB.join(["▁a", "<0xF0>"]) == "a\ufffd"
