"""A line as tokens, and back: words, numbers, addresses and marks, as French is written."""

import re
import unicodedata
from collections.abc import Iterable

from helpers.data import Sentence

# Marks (accents, vowel signs, what joins two signs to one) belong to the letter before them.
MARKS = "".join(chr(i) for i in range(0x300, 0x20000) if unicodedata.category(chr(i))[0] == "M")
MARKS += "\U000e0100-\U000e01ef"  # variants of a letter
LETTER = rf"\w[{MARKS}\u200c\u200d]*"
ELIDED = r"\b(?:[cdjlmnst]|qu|lorsqu|puisqu|quoiqu|jusqu)'(?=[\w\"«“])"  # l' in l'homme
HOST = r"(?:[\w-]+\.)+(?:com|org|net|edu|gov|io|eu|fr|be|ch|ca|de|es|it|uk)\b(?:/\S*[\w/])?"
ADDRESS = rf"[\w.+-]+@[\w-]+(?:\.[\w-]+)*|(?:https?://|www\.)\S*[\w/]|{HOST}"
KEY = r"[\d#*]\ufe0f?\u20e3"  # on a keyboard
SIGNED = r"(?:(?<!\S)[-+±−])?[$€£#]?\d|(?<!\S)[.,]\d"
NUMBER = rf"(?:{SIGNED})(?:\w|[.,:/-](?=\d)|–(?=\w))*[%°€$£]?\w*"  # 7:30, -3,5, 20°C, 9h–18h
SHORT = r"(?:[^\W\d_]\.-?){2,}(?:[^\W\d_]\b)?"  # U.S.A., J.-C.
WORD = rf"(?:{LETTER})+(?:['/&-](?:{LETTER})+|\.\d+)*°?"  # don't, peut-être, km/h, v1.2, n°
PICTURE = r"[\U0001f1e6-\U0001f1ff]{2}"  # a flag
SIGN = rf"\.{{2,}}|[!?]+|°\w+|[^\w\s](?:[{MARKS}\U0001f3fb-\U0001f3ff]|\u200d[^\w\s])*"
KINDS = ADDRESS, KEY, NUMBER, SHORT, ELIDED, WORD, PICTURE, SIGN
TOKEN = re.compile("|".join(KINDS), re.IGNORECASE)

OPENING, CLOSING, QUOTES = {*"([{“‘¿¡"}, {*")]}”,."}, {*"\"'"}
BEFORE_A_SENTENCE = OPENING | QUOTES | {*"«-–—"}


def plain(text: str) -> str:
    """A text without what the tokens do not keep: composed letters (NFC), single spaces, straight
    apostrophes, and no characters that cannot be seen.
    """
    text = " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split())
    text = re.sub(r"(?<!\S)[\u200c\u200d]+|[\u200c\u200d]+(?!\S)", "", text)  # they join nothing
    joins = "\u200c\u200d"
    return "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc") or c in joins)


def tokenize(text: str) -> Sentence:
    """Words, elided words, numbers, addresses and punctuation marks, each a token of its own. The
    first word of the sentence loses its capital.

    `detokenize` gives back the text, but for what `plain` takes away, if it is written as French
    is: a capital letter first, a space before ; : ! ? » and after «, and quotes in pairs.
    """
    tokens = TOKEN.findall(plain(text))
    i = first_word(tokens)
    return tuple(small(token) if i == place else token for place, token in enumerate(tokens))


def detokenize(tokens: Iterable[str]) -> str:
    """Tokens as a French sentence: "l'" is joined to its word, a full stop to what it ends."""
    tokens, text, quoted, joined = list(tokens), "", dict.fromkeys(QUOTES, False), True
    i = first_word(tokens)
    for place, token in enumerate(tokens):
        if place == i and small(capital(token)) == token:
            token = capital(token)
        closes = token[0] in CLOSING or token == "…" or quoted.get(token, False)
        text += token if joined or closes else f" {token}"
        if token in QUOTES:
            quoted[token] = not quoted[token]
        joined = token in OPENING or quoted.get(token) or len(token) > 1 and token[-1] == "'"
    return text


def first_word(tokens: list[str]) -> int | None:
    """The place of the first token that is no quote, bracket or dash."""
    return next((i for i, token in enumerate(tokens) if token not in BEFORE_A_SENTENCE), None)


def capital(word: str) -> str:
    """A word, unless it is an address, with a capital."""
    if re.fullmatch(ADDRESS, word):
        return word
    return unicodedata.normalize("NFC", word[:1].upper() + word[1:])


def small(word: str) -> str:
    """A word without its capital, unless it has others, or the capital would not come back."""
    lower = word[:1].lower() + word[1:]
    return lower if word[1:] == word[1:].lower() and capital(lower) == word else word
