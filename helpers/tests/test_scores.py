"""BLEU, chrF and the paired bootstrap, against sacreBLEU called by hand and cases one can count."""

import pytest
import sacrebleu

from helpers.tasks.scores import bleu, columns, compare, scores

HYPOTHESES = ["Le chat dort sur la table.", "Un chien court.", "Elle lit un livre ici."]
REFERENCES = [
    ("Le chat dort sur une table.", "Le chat dort sur la table."),
    ("Un chien court dans le parc.",),
    ("Elle lit un livre.", "Elle lit.", "Elle lit le livre ici."),
]


def test_references_in_columns():
    assert columns([("a", "b"), ("c",)]) == [["a", "c"], ["b", None]]
    assert columns([("a",), ("b",)]) == [["a", "b"]]


def test_bleu_is_that_of_sacrebleu():
    one = [row[:1] for row in REFERENCES]
    expected = sacrebleu.corpus_bleu(HYPOTHESES, [[row[0] for row in one]]).score
    assert bleu(HYPOTHESES, one) == pytest.approx(expected) and 0 < expected < 100
    assert bleu([row[-1] for row in REFERENCES], REFERENCES) == pytest.approx(100)
    assert bleu(["", "", ""], REFERENCES) == 0


def test_more_references_cannot_lower_the_precision():
    assert bleu(HYPOTHESES, REFERENCES) > bleu(HYPOTHESES, [row[:1] for row in REFERENCES])


def test_case_and_marks_count():
    lower = [text.lower() for text in HYPOTHESES]
    assert bleu(lower, REFERENCES) < bleu(HYPOTHESES, REFERENCES)


def test_scores_have_signatures():
    table = scores(HYPOTHESES, REFERENCES)
    assert [*table] == ["BLEU", "BLEU signature", "chrF2", "chrF2 signature"]
    assert (
        "nrefs:var|case:mixed" in table["BLEU signature"] and "tok:13a" in table["BLEU signature"]
    )
    assert float(table["BLEU"]) == pytest.approx(bleu(HYPOTHESES, REFERENCES), abs=0.005)


def test_two_systems_on_the_same_sentences():
    texts = [(f"Le chat numéro {i} dort.",) for i in range(60)]
    good = [text for (text,) in texts]
    worse = [text.replace("dort", "court") if i % 2 else text for i, (text,) in enumerate(texts)]
    table = compare({"a.pt": good, "b.pt": worse}, texts)
    assert table["BLEU of a.pt"].startswith("100.00 ±")
    assert float(table["BLEU of b.pt"].split("p = ")[1]) < 0.01
    same = compare({"a.pt": good, "b.pt": [*good[:-1], "Le chat dort."]}, texts)
    assert float(same["BLEU of b.pt"].split("p = ")[1]) > 0.1
    spaced = compare({"a.pt": worse, "b.pt": [f"{text} " for text in worse]}, texts)
    assert spaced["BLEU of b.pt"].endswith("p = 1.0000"), "BLEU does not see the space"
