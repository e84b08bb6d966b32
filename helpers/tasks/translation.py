"""English to French, the fourth task: tokens, and back; pairs from a tab-separated file."""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from helpers.data import Sentence, Splits, TaskData, Vocab, split
from helpers.runs.fields import number
from helpers.tasks import french
from helpers.tasks.task import LONGEST, PER_LENGTH, Examples, Task, encoded, read_lines, too_few

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


@dataclass(frozen=True)
class Translation(Task):
    """English sentences are to be translated to French."""

    name = "translate"
    reads_corpus = True

    max_length: int = number(12, 3, 200, LONGEST)
    per_length: int = number(2400, 1, 100_000, PER_LENGTH)

    def load(self, seed: int, corpus: str | None = None) -> TaskData:
        """Pairs from our grammar or, if `corpus` names one, from a tab-separated file (see
        `read_pairs`); the parts share no source sentence. Raises OSError or ValueError if the file
        cannot be used.
        """
        if corpus is None:
            count = self.per_length * self.max_length
            if count > french.MAX_PAIRS:
                times = f"per_length {self.per_length} times max_length {self.max_length}"
                raise ValueError(
                    f"{times} is more than the {french.MAX_PAIRS} pairs that there are"
                )
            texts = french.pairs(count, seed)
        else:
            lines = read_lines(corpus)
            texts = read_pairs(lines, corpus)
            count = sum(bool(line.strip()) for line in lines)
        rows = [(self.tokenize(source), tokenize(text), plain(text)) for source, text in texts]
        short = [row for row in rows if max(map(len, row[:2])) <= self.max_length]
        left_out = len(rows) - len(short)
        try:
            parts = split(short, seed, group=lambda row: row[0])
        except ValueError as error:
            rest = corpus or "the grammar", count, left_out, self.max_length, count - len(rows)
            raise too_few(error, *rest) from None
        columns = (Splits(*([row[i] for row in part] for part in parts)) for i in range(3))
        sentences, references, written = columns
        vocab, trg_vocab = (Vocab.build(side.train, exact=True) for side in (sentences, references))
        data = encoded(sentences, references, vocab, trg_vocab)
        return data._replace(left_out=left_out, texts=written)

    def tokenize(self, line: str) -> Sentence:
        """The tokens of an English line, in lower case: they need not become a text again."""
        return tokenize(line.lower())

    def join(self, tokens: Iterable[str]) -> str:
        return detokenize(tokens)

    def examples(self, path: str | Path) -> Examples:
        pairs = read_pairs(read_lines(path), str(path))
        if not pairs:
            raise ValueError(f"{path} holds no sentence")
        rows = [(self.tokenize(english), tokenize(text), plain(text)) for english, text in pairs]
        return Examples(*map(list, zip(*rows, strict=True)))


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


def read_pairs(lines: Iterable[str], name: str) -> list[tuple[str, str]]:
    """Pairs of texts from lines `english<tab>french`, as the Anki files of manythings.org have
    them; whatever follows a second tab, such as an attribution, is ignored, and so are blank lines.
    Of several translations of the same tokens the first is taken.

    Raises ValueError for a line without two texts; it says that the file is called `name`.
    """
    pairs: dict[Sentence, tuple[str, str]] = {}
    for i, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        source, _, rest = line.strip("\r\n").partition("\t")
        target = rest.partition("\t")[0]
        if not (source.strip() and target.strip()):
            raise ValueError(f"{name}: line {i} is not english<tab>french")
        pairs.setdefault(tokenize(source.lower()), (source.strip(), target.strip()))
    return list(pairs.values())
