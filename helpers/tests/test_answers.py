"""What any model answers to sentences: words, a line for each line."""

import pytest

from helpers.data import SPECIALS, UNK, Vocab
from helpers.decoding import Decoded, decode, spell
from helpers.search.answers import answer_ids, blocks, predict
from helpers.search.beam import decode_with_beam
from helpers.search.copying import decode_by_copying
from helpers.tasks import Translation, Words
from helpers.tests.test_decoding import CAT, SOURCES, VOCAB, look_at
from helpers.tests.test_models import build


def answers_to(model, lines, vocab=VOCAB, trg_vocab=VOCAB, task=None, **options):
    """As the command line does it: a line becomes tokens, and the answer a line."""
    task = task or Words()
    sentences = (task.tokenize(line) for line in lines)
    answers = predict(model, vocab, trg_vocab, sentences, **options)
    return [task.join(answer.words) for answer in answers]


@pytest.mark.parametrize("kind", ["gru bahdanau 1", "gru location 1", "lstm none 2", "transformer"])
def test_one_answer_a_line_whatever_the_line(kind):
    model = build(kind, len(VOCAB), len(VOCAB))
    lines = ["the cat", "", "  \t", "<pad> <unk> <eos>", "the cat sat"]
    answers = answers_to(model, lines, chunk=2)
    assert len(answers) == 5 and answers[1] == answers[2] == ""
    assert answers == answers_to(model, iter(lines))


ENGLISH = Vocab([*SPECIALS, "a", "cat", "man", "the"], exact=True)
FRENCH = Vocab([*SPECIALS, "le", "l'", "homme", "chat", "."], exact=True)


WRITER = build("gru none 1")  # whatever: see `translator`


@pytest.fixture
def translator(monkeypatch):
    """Stands in for a search: every source becomes "l' homme <unk> .", looking at its last word."""

    def write(model, sources, beam):
        assert all(sources) and beam == 2
        return [
            Decoded([5, 6, UNK, 8], look_at(*4 * [len(src) - 1], n=len(src))) for src in sources
        ]

    monkeypatch.setattr("helpers.search.answers.decode_with_beam", write)


def test_a_translation_copies_what_it_does_not_know(translator):
    """From where it looks; that an id means "man" in English and "homme" in French is no matter."""
    sentences = [("the", "man", "Zoé"), (), ("Zoé", "MAN", "man")]
    written = predict(WRITER, ENGLISH, FRENCH, sentences, chunk=2, beam=2)
    expected = [["l'", "homme", "Zoé", "."], [], ["l'", "homme", "man", "."]]
    assert [answer.words for answer in written] == expected


def test_lines_are_translated_one_by_one(translator):
    lines = ["The man , Zoé\n", "\n", "", "L’homme!"]
    answers = answers_to(WRITER, lines, ENGLISH, FRENCH, Translation(), chunk=3, beam=2)
    assert answers == ["L'homme zoé.", "", "", "L'homme !."]


def test_a_model_with_two_vocabularies_answers_each_line():
    model = build("lstm none 1", len(ENGLISH), len(FRENCH))
    lines = ["the man", "", "a cat, a dog"]
    for beam in (1, 3):
        options = {"task": Translation(), "beam": beam}
        answers = answers_to(model, lines, ENGLISH, FRENCH, chunk=2, **options)
        assert answers == answers_to(model, iter(lines), ENGLISH, FRENCH, **options)
        assert [bool(answer) for answer in answers][1:2] == [False] and len(answers) == 3


def test_what_has_no_unk_for_it_stays_empty():
    vocab = Vocab(["<pad>", "<bos>", "<eos>", "3", "4", "5"])
    model = build("gru bahdanau 1", len(vocab), len(vocab))
    answers = answers_to(model, ["3 4", "3 7 4", "", "5"], vocab, vocab)
    assert answers[1] == answers[2] == "" and len(answers) == 4
    assert [answers[0], answers[3]] == answers_to(model, ["3 4", "5"], vocab, vocab)


def test_only_as_many_sentences_are_read_as_are_answered_at_once():
    model, read = build("gru bahdanau 1", len(VOCAB), len(VOCAB)), []
    answers = predict(model, VOCAB, VOCAB, (read.append(i) or ("cat",) for i in range(9)), chunk=3)
    assert not read and next(answers) is not None and read == [0, 1, 2]
    assert len([*answers]) == 8 and read == [*range(9)]


def test_long_sentences_are_read_in_smaller_blocks(monkeypatch):
    monkeypatch.setattr("helpers.search.answers.BLOCK_WORDS", 10)
    lines = [("cat",) * n for n in (4, 4, 4, 11, 1, 1)]
    assert [len(block) for block in blocks(iter(lines), 500)] == [3, 1, 2]


def test_the_ids_of_a_model_that_writes_and_of_one_that_points():
    writer, pointer = (build(kind, 8, 8) for kind in ("gru luong 1", "lstm location 1"))
    assert answer_ids(writer, SOURCES) == [answer.ids for answer in decode(writer, SOURCES)]
    places = decode_by_copying(pointer, SOURCES)
    expected = [[src[i - 1] for i in row] for src, row in zip(SOURCES, places, strict=True)]
    assert answer_ids(pointer, SOURCES) == expected
    for model in (writer, pointer):
        assert answer_ids(model, []) == []
        with pytest.raises(ValueError, match="without a token"):
            answer_ids(model, [[CAT], []])


def test_the_beam_decides_what_is_written():
    """In the spelling of the source, whatever the width."""
    model, seen = build("gru bahdanau 2", len(VOCAB), len(VOCAB)), set()
    sentences = [tuple(VOCAB.decode(src)) for src in SOURCES]
    sources = [VOCAB.encode(tokens) for tokens in sentences]
    for width in (1, 2, 8):
        trios = zip(sentences, sources, decode_with_beam(model, sources, width), strict=True)
        expected = [spell(*trio, VOCAB) for trio in trios]
        answers = predict(model, VOCAB, VOCAB, sentences, beam=width)
        assert [answer.words for answer in answers] == expected
        seen.add(str(expected))
    assert len(seen) > 1, "the width matters"
