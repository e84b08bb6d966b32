"""English and French as tokens, and back; pairs of sentences from a tab-separated file."""

import re
import unicodedata
from collections.abc import Iterable

from helpers.data import Sentence

ELIDED = r"\b(?:[cdjlmnst]|qu|lorsqu|puisqu|jusqu)'(?=\w)"  # l' in l'homme: a token of its own
WORD = r"\w+(?:['-]\w+)*"  # with what is inside it: don't, peut-être, aujourd'hui
TOKEN = re.compile(rf"{ELIDED}|{WORD}|[^\w\s]")


def tokenize(text: str) -> Sentence:
    """Words in lower case, elided words and punctuation marks, each a token of its own."""
    text = (
        unicodedata.normalize("NFC", text).lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    )
    return tuple(TOKEN.findall(text))


def detokenize(tokens: Iterable[str]) -> str:
    """Tokens as a French sentence: "l'" is joined to its word, a full stop to what it ends."""
    text = re.sub(r" ([.,)…])|(\() ", r"\1\2", " ".join(tokens))
    text = re.sub(r"(?<![^\s(])(\w+') ", r"\1", text)
    return text[:1].upper() + text[1:]


def read_pairs(lines: Iterable[str], name: str) -> list[tuple[str, str]]:
    """Pairs of texts from lines `english<tab>french`, as the Anki files of manythings.org have
    them; whatever follows a second tab, such as an attribution, is ignored, and so are blank lines.
    Of several translations of the same tokens the first is taken.

    Raises ValueError for a line without two texts; it says that the file is called `name`.
    """
    found: dict[Sentence, tuple[str, str]] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source, _, rest = line.strip("\r\n").partition("\t")
        target = rest.partition("\t")[0]
        if not (source.strip() and target.strip()):
            raise ValueError(f"{name}: line {number} is not english<tab>french")
        found.setdefault(tokenize(source), (source.strip(), target.strip()))
    return list(found.values())
