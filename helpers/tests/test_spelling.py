"""Rare names, numbers and addresses come through a model of pieces as they are."""

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers.decoding import Decoded
from helpers.search.answers import predict
from helpers.search.spelling import rare, spell_rare, words_of
from helpers.tasks.subwords import SPACE, Subwords
from helpers.tests.test_models import build
from helpers.tests.test_subwords import LINES, ODD, VOCAB


def groups(pieces):
    """The number of the space-separated group that each piece is in."""
    return [sum(piece.startswith(SPACE) for piece in pieces[1 : i + 1]) for i in range(len(pieces))]


def weights_of(src, pieces, looks, share=1.0):
    """The weights with which group i of the answer, piece by piece, looks at group `looks[i]` of
    the source: a `share` of them on the pieces there that are no marks, the rest on the last piece.
    """
    weights, src_groups = torch.zeros(len(pieces), len(src)), groups(src)
    for row, group in zip(weights, groups(pieces), strict=True):
        if group in looks:
            inside = (i for i, other in enumerate(src_groups) if other == looks[group])
            places = [i for i in inside if src[i].strip(f"{SPACE}.,'")]
            row[places] = share / len(places)
            row[-1] += 1 - share
    return weights


def copied(source, answer, looks, share=1.0, vocab=VOCAB):
    src, pieces = vocab.tokenize(source), list(vocab.tokenize(answer))
    weights = weights_of(src, pieces, looks, share)
    return vocab.join(spell_rare(src, pieces, weights, vocab, vocab))


@pytest.mark.parametrize(
    "source, answer, looks, expected",
    [
        ("Turn to page 394.", "À la page 329.", {3: 3}, "À la page 394."),
        ("I met Zbigniew there.", "J'y ai vu Sbinje.", {3: 2}, "J'y ai vu Zbigniew."),
        ("Ask Dr. Okonkwo now.", "Demande à Oksaka.", {2: 2}, "Demande à Okonkwo."),
        ("A friend of Quenby's came.", "Un ami de Kwamby.", {3: 3}, "Un ami de Quenby."),
        ("I know 漢字屋 and Siobhan.", "Je sais que Shum.", {3: 4}, "Je sais que Siobhan."),
        ("It is in Obihiro.", "C'est à l'humhiwi.", {2: 3}, "C'est à l'Obihiro."),
        ("Write to anna.k@example.org.", "Écris à l'ampouzi !", {2: 2},
         "Écris à l'anna.k@example.org !"),
        ("Write to q7@b.org by 7.", "Écris à ampouzi, 7.", {2: 2}, "Écris à q7@b.org, 7."),
        ("See https://a.org/b?c=1 first.", "Vois déxorgue.", {1: 1}, "Vois https://a.org/b?c=1."),
        ("It costs 37.50 francs.", "Ça coûte 170 francs.", {2: 2}, "Ça coûte 37.50 francs."),
    ],
)  # fmt: skip
def test_it_is_written_where_it_is_looked_at(source, answer, looks, expected):
    assert copied(source, answer, looks) == expected
    assert copied(source, answer, looks, share=0.7) == expected
    assert copied(source, answer, looks, share=0.4) == answer, "not by more than half"
    assert copied(source, answer, {}) == answer, "without attention"


@pytest.mark.parametrize(
    "source, answer, looks",
    [
        ("We leave at 7:30.", "On part à 7 h 30.", {3: 3, 4: 3, 5: 3}),
        ("We leave at 2:30.", "On part à 14 h 30.", {3: 3, 4: 3, 5: 3}),
        ("We leave at 9:00.", "On part à 9 heures.", {3: 3, 4: 3}),
        ("It has 1,000 pages.", "Il a 1 000 pages.", {2: 2, 3: 2}),
        ("The 3rd of May.", "Le 3e mai.", {1: 1}),
        ("It is 1.5 long.", "Il fait 1,5 de long.", {2: 2}),
        ("In the 1980s.", "Dans les années 80.", {3: 2}),
        ("It is 10 pm.", "Il est 22 heures.", {2: 2}),
        ("It is 7pm.", "Il est 19 heures.", {2: 2}),
        ("It costs $1,500,000.", "Ça coûte 1,5 million.", {2: 2}),
        ("It costs 1,500,000.", "Ça coûte 1,5 million.", {2: 2}),
        ("It weighs 5 pounds.", "Il pèse 2 kilos.", {2: 2}),
        ("The 2nd of May.", "Le 1er mai.", {1: 1}),
        ("Two or 3 cats.", "Deux ou trois chats.", {2: 2}),
        ("I met Siobhan.", "J'ai vu Siobhan Shum.", {3: 2}),
        ("Xanthe met us.", "Shum nous a vus.", {0: 0}),
        ("He left. “Xanthe did, too.", "Il part. « Shumba aussi.", {3: 2}),
        ("I met xanthe.", "J'ai vu Shumba.", {2: 2}),
        ("I see.", "Shumba voit.", {0: 0}),
        ("I see Siobhan.", "Je le vois .", {1: 2, 3: 2}),
    ],
)
def test_what_is_right_or_no_attempt_at_it_stays(source, answer, looks):
    assert copied(source, answer, looks) == answer


def test_a_frequent_name_is_translated():
    """It is no rare word, since no letter of it is a piece by itself."""
    vocab = Subwords.learn([*LINES, *100 * ["in London, in Italy"]], 600)
    source = vocab.tokenize("I was in London and in Zbigniew.")
    assert [word.text for word in rare(source, vocab)] == ["Zbigniew"]


def test_each_is_copied_once_and_each_place_taken_once():
    source, answer = "Ask Quenby or Obihiro there.", "Demande Kwamba, Obamba, Sunumba."
    assert copied(source, answer, {1: 1, 2: 1, 3: 3}) == "Demande Quenby, Obamba, Obihiro."
    src, pieces = VOCAB.tokenize("Ask Quenby or Obihiro."), list(VOCAB.tokenize("Demande Kwamba."))
    weights = weights_of(src, pieces, {1: 1})
    weights[:, -3:] += 0.9 * (weights.sum(dim=1, keepdim=True) > 0)
    assert VOCAB.join(spell_rare(src, pieces, weights, VOCAB, VOCAB)) == "Demande Quenby."


def test_the_strongest_of_several_places():
    src, pieces = VOCAB.tokenize("Ask Quenby."), list(VOCAB.tokenize("Kwamba, Obamba, Sunumba"))
    weights = weights_of(src, pieces, {0: 1, 1: 1, 2: 1})
    weights *= torch.tensor([{0: 0.6, 1: 0.9, 2: 0.7}[i] for i in groups(pieces)]).unsqueeze(1)
    assert VOCAB.join(spell_rare(src, pieces, weights, VOCAB, VOCAB)) == "Kwamba, Quenby, Sunumba"


@pytest.mark.parametrize("line", [*ODD, "Tom’s 漢字 (7:30)."])
def test_words_stand_where_they_say(line):
    pieces = VOCAB.tokenize(line)
    text, words = VOCAB.join(pieces), words_of(pieces, VOCAB)
    for word in words:
        assert text[word.start : word.end].replace("’", "'") == word.text
        assert word.text in VOCAB.join([pieces[i] for i in word.pieces]).replace("’", "'")
    spans = VOCAB.spans(pieces)
    assert spans[0][0] == 0 and spans[-1][1] == len(text)


WORDS = ["Tom", "7:30", "Zbigniew", "l'homme", "a@b.org", "1,000", "漢字", "\x00", "Shum", ".", "h"]


@given(*2 * [st.lists(st.sampled_from(WORDS), min_size=1, max_size=8)], st.integers(0, 99))
def test_nothing_else_changes(source, answer, seed):
    """A line is the answer with some words replaced, each by another rare word of the source."""
    src, pieces = VOCAB.tokenize(" ".join(source)), list(VOCAB.tokenize(" ".join(answer)))
    weights = 9 * torch.rand(
        len(pieces) + 1, len(src), generator=torch.Generator().manual_seed(seed)
    )
    line, result = VOCAB.join(pieces), spell_rare(src, pieces, weights.softmax(1), VOCAB, VOCAB)
    texts = [word.text for word in rare(src, VOCAB)]
    pattern, end = "", 0
    for word in words_of(pieces, VOCAB):
        options = "|".join(map(re.escape, [line[word.start : word.end], *texts]))
        pattern += f"{re.escape(line[end : word.start])}({options})"
        end = word.end
    match = re.fullmatch(pattern + re.escape(line[end:]), VOCAB.join(result), re.DOTALL)
    assert match
    new = [text for text, word in zip(match.groups(), words_of(pieces, VOCAB), strict=True)
           if text != word.text]  # fmt: skip
    assert all(new.count(text) <= texts.count(text) for text in new)
    assert result == pieces or new


@pytest.mark.parametrize("beam", [1, 3])
def test_any_answer_in_pieces_is_spelled_so(monkeypatch, beam):
    def write(model, sources, width):
        assert width == beam
        ids = VOCAB.encode(pieces)
        return [Decoded(ids, weights_of(VOCAB.decode(src), pieces, {2: 2})) for src in sources]

    monkeypatch.setattr("helpers.search.answers.decode_with_beam", write)
    pieces = VOCAB.tokenize("J'ai vu Sbinje.")
    model, lines = build("gru none 1"), ["I met Zbigniew.", "", "I met Thom."]
    answers = predict(model, VOCAB, VOCAB, map(VOCAB.tokenize, lines), beam=beam)
    expected = ["J'ai vu Zbigniew.", "", "J'ai vu Thom."]
    assert [VOCAB.join(answer.words) for answer in answers] == expected
