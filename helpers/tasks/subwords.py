"""Pieces of words: a vocabulary that also cuts a text into its tokens, and joins them again."""

import io
import unicodedata
from collections.abc import Iterable
from itertools import accumulate

from sentencepiece import SentencePieceProcessor, SentencePieceTrainer

from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Sentence, Vocab

SPACE = "▁"  # (U+2581) in a piece: the space before it


class Subwords(Vocab):
    """The pieces that byte-pair encoding (Sennrich, Haddow and Birch 2016, arXiv:1508.07909) finds
    in a text, by SentencePiece (Kudo and Richardson 2018, arXiv:1808.06226): a frequent word is one
    piece, a rare one is several, and a character that the text did not have is its bytes. So no
    word is unknown, and a line comes back as it was (see `normal`).
    """

    def __init__(self, model: bytes):
        """`model` is what `learn` has learned. Raises RuntimeError for other bytes."""
        self.model, self.processor = model, SentencePieceProcessor(model_proto=model)
        super().__init__(map(self.processor.id_to_piece, range(len(self.processor))), exact=True)

    @classmethod
    def learn(cls, lines: Iterable[str], size: int) -> "Subwords":
        """At most `size` pieces, fewer if the lines have no more. The same lines, the same pieces.
        Raises ValueError if there is nothing to learn from, or if `size` is less than `least`.
        """
        model = io.BytesIO()
        try:
            SentencePieceTrainer.train(
                sentence_iterator=(normal(line) for line in lines),
                model_writer=model,
                model_type="bpe",
                vocab_size=size,
                hard_vocab_limit=False,
                character_coverage=1.0,
                byte_fallback=True,
                normalization_rule_name="identity",
                remove_extra_whitespaces=False,
                num_threads=1,
                minloglevel=2,
                max_sentence_length=1_000_000,  # bytes; longer lines are not learned from
                pad_id=PAD,
                bos_id=BOS,
                eos_id=EOS,
                unk_id=UNK,
                pad_piece=SPECIALS[PAD],
                bos_piece=SPECIALS[BOS],
                eos_piece=SPECIALS[EOS],
                unk_piece=SPECIALS[UNK],
            )
        except RuntimeError as error:
            raise ValueError(f"{size} subwords cannot be learned from this text") from error
        return cls(model.getvalue())

    @staticmethod
    def least(lines: Iterable[str]) -> int:
        """The smallest size: `SPECIALS`, the 256 bytes and the characters of the lines."""
        return len(SPECIALS) + 256 + len({SPACE}.union(*map(normal, lines)) - {" "})

    def tokenize(self, line: str) -> Sentence:
        """The pieces of a line."""
        return tuple(self.processor.encode(normal(line), out_type=str))

    def join(self, pieces: Iterable[str]) -> str:
        """The line that the pieces make; bytes that are no character become "\ufffd"."""
        return self.processor.decode(list(pieces))

    def spans(self, pieces: Iterable[str]) -> list[tuple[int, int]]:
        """Where each piece begins and ends in the line that `join` makes of them, in characters; a
        byte stands where its character does.
        """
        parts = self.processor.decode(list(pieces), return_type="proto").pieces
        starts = accumulate((len(part.surface) for part in parts), initial=0)
        sizes = (max(len(part.surface), 1) for part in parts)
        return [(start, start + size) for start, size in zip(starts, sizes, strict=False)]


def normal(line: str) -> str:
    """What comes back of a line: letters and accents composed (NFC), no space around it, and a
    space in the place of each "▁".
    """
    return unicodedata.normalize("NFC", line.replace(SPACE, " ").strip())


def labels(vocab: Vocab, tokens: Iterable[str]) -> list[str]:
    """The tokens of a vocabulary as they are to be read in a picture."""
    return readable(tokens) if isinstance(vocab, Subwords) else list(tokens)


def readable(pieces: Iterable[str]) -> list[str]:
    """Pieces as the labels of a map: without the mark of a space, and with a hyphen before one that
    goes on with a word.
    """
    shown, before = [], ""
    for piece in pieces:
        goes_on = piece[:1].isalnum() and before[-1:].isalnum()
        shown.append(f"-{piece}" if goes_on else piece.removeprefix(SPACE) or SPACE)
        before = piece
    return shown
