"""Patterns and translation: tokens, files, splits, vocabularies; all four tasks by their names."""

import random
import unicodedata
from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations, product

import pytest

from helpers.config import Config
from helpers.data import SPECIALS, UNK
from helpers.patterns import CONTINUED, PERIOD, continuation, cycle, period, sequences
from helpers.tasks import Splits, bag, load_task, read_examples, split, translation_task
from helpers.translation import detokenize, read_pairs, tokenize

SMALL = Config(task="patterns", per_length=40, max_length=12)


@pytest.mark.parametrize(
    "digits, length, continued",
    [
        ("0000", 1, "000000000000"),
        ("1010", 2, "101010101010"),
        ("01010", 2, "101010101010"),
        ("123412341", 4, "234123412341"),
        ("112112", 3, "112112112112"),
        ("70770", 3, "770770770770"),
    ],
)
def test_a_pattern_goes_on_as_it_began(digits, length, continued):
    assert period(tuple(digits)) == length
    assert continuation(tuple(digits)) == tuple(continued[:CONTINUED])


def test_the_patterns_are_all_that_show_themselves_twice():
    """Zeros, ones, ones and zeros in turn, any digits over and over again, and nothing else."""
    for max_length in (2, 4, 5):
        digits = [row for n in range(2, max_length + 1) for row in product("0123456789", repeat=n)]
        expected = {row for row in digits if period(row) <= min(PERIOD, len(row) // 2)}
        found = sequences(100_000, max_length)
        assert len(found) == len(expected) and set(found) == expected
    longest = {"".join(row) for row in sequences(100_000, 12) if len(row) == 12}
    assert {12 * "0", 12 * "1", 6 * "01", 6 * "10", 12 * "7", 4 * "729"} <= longest
    assert {period(tuple(row)) for row in longest} == set(range(1, PERIOD + 1))


def test_patterns_are_distinct_of_all_lengths_and_repeatable():
    found = sequences(50, 10, seed=3)
    assert len(set(found)) == len(found)
    counts = Counter(map(len, found))
    assert set(counts) == set(range(2, 11)) and counts[2] == 10 and counts[10] == 50
    assert found == sequences(50, 10, seed=3) != sequences(50, 10, seed=4)
    assert found != sorted(found, key=len), "they are shuffled"


def assert_no_overlap(parts):
    assert all(parts)
    assert len({*parts.train, *parts.valid, *parts.test}) == sum(map(len, parts))


def test_the_pattern_task():
    task = load_task(SMALL)
    assert_no_overlap(task.sentences)
    assert task.vocab.words == task.trg_vocab.words == [*SPECIALS[:3], *"0123456789"]
    for sentences, references, pairs in zip(*task[:2], task.pairs, strict=True):
        assert len(sentences) == len(references) == len(pairs)
        for digits, reference, (src, trg) in zip(sentences, references, pairs, strict=True):
            assert reference == continuation(digits) and len(reference) == CONTINUED
            assert task.vocab.decode(src) == [*digits] and task.vocab.decode(trg) == [*reference]


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("L'homme n'a pas faim.", "l' homme n' a pas faim ."),
        ("J’ai dit qu’il vient d’Arles !", "j' ai dit qu' il vient d' arles !"),
        ("Aujourd'hui, d'aujourd'hui", "aujourd'hui , d' aujourd'hui"),
        ("I don't know; it's Tom's", "i don't know ; it's tom's"),
        ("Peut-être (est-ce que c'est?)", "peut-être ( est-ce que c' est ? )"),
        ("Wait... no?!", "wait . . . no ? !"),
        (unicodedata.normalize("NFD", "Été à côté"), "été à côté"),
        ("  \t ", ""),
    ],
)
def test_tokens_of_english_and_french(text, tokens):
    assert tokenize(text) == tuple(tokens.split())


@pytest.mark.parametrize(
    "tokens, text",
    [
        ("l' homme n' a pas faim .", "L'homme n'a pas faim."),
        ("j' ai dit qu' il l' aime , aujourd'hui", "J'ai dit qu'il l'aime, aujourd'hui"),
        ("est-ce que tu viens ?", "Est-ce que tu viens ?"),
        ("oui ( non ) !", "Oui (non) !"),
        ("élan …", "Élan…"),
        ("", ""),
    ],
)
def test_tokens_become_a_french_sentence(tokens, text):
    assert detokenize(tokens.split()) == text
    assert tokenize(text) == tuple(tokens.split())


ANKI = (
    "Go.\tVa !\tCC-BY 2.0 (France)\r\n\r\n \t \r\n"
    "Run!\tCours\u202f!\r\nGO .\tBouge !\r\nHi.\tSalut.\n"
)


def test_an_anki_file_is_read(tmp_path):
    """Attributions, blank lines and second translations are left out, and so is the BOM."""
    pairs = [("Go.", "Va !"), ("Run!", "Cours\u202f!"), ("Hi.", "Salut.")]
    assert read_pairs(ANKI.splitlines(keepends=True), "fra.txt") == pairs
    path = tmp_path / "fra.txt"
    path.write_bytes(b"\xef\xbb\xbf" + ANKI.encode())
    sentences, references = read_examples(path, "translate")
    assert sentences == [("go", "."), ("run", "!"), ("hi", ".")]
    assert references == [("va", "!"), ("cours", "!"), ("salut", ".")]


@pytest.mark.parametrize(
    "wrong", ["no tab\n", "nothing after it\t\n", "\tnothing before\n", "a\t \tb"]
)
def test_a_line_without_two_texts_is_named(wrong):
    with pytest.raises(ValueError, match=r"^fra\.txt: line 3 "):
        read_pairs(["Go.\tVa !\n", "\n", wrong], "fra.txt")


def test_the_references_of_a_file_are_those_of_the_task(tmp_path):
    path = tmp_path / "file"
    path.write_text("1 2 1 2\n\n3 3 3 3\n")
    continued = [tuple(12 * digits)[:CONTINUED] for digits in ("12", "3")]
    assert read_examples(path, "patterns")[1] == continued
    assert read_examples(path, "integers")[1] == [tuple("2121"), tuple("3333")]
    path.write_text("\n")
    with pytest.raises(ValueError, match="no sentence"):
        read_examples(path, "translate")


@pytest.fixture
def corpus(tmp_path):
    """60 sentences, each with a word of its own; one again, and two of which a side is too long."""
    lines = [f"It is w{i} or x{i % 7} .\tC'est m{i} .\tAttribution" for i in range(60)]
    lines += ["IT is w3 or x3.\tEncore.", f"{'a ' * 8}\tOui.", f"Yes.\t{'a ' * 8}"]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_translation_task_from_a_file(corpus):
    config = replace(SMALL, task="translate", max_length=7)
    task = load_task(config, corpus)
    assert (task.corpus, task.left_out) == (str(corpus), 2)
    assert [len(part) for part in task.sentences] == [39, 6, 15]
    assert_no_overlap(task.sentences)
    for sentences, references in zip(*task[:2], strict=True):
        for english, french in zip(sentences, references, strict=True):
            assert french == ("c'", "est", english[2].replace("w", "m"), ".")
    for side, vocab in ((task.sentences, task.vocab), (task.references, task.trg_vocab)):
        known = {token for tokens in side.train for token in tokens}
        assert vocab.words == [*SPECIALS, *sorted(known)]
    for part in (task.pairs.valid, task.pairs.test):
        assert all(src[2] == UNK == trg[2] for src, trg in part), "a word of its own is not known"
    assert all(UNK not in src + trg for src, trg in task.pairs.train)


def test_translations_of_other_words_are_another_task(corpus):
    config = replace(SMALL, task="translate")
    task = load_task(config, corpus)
    assert load_task(config, corpus).digest() == task.digest()
    corpus.write_text(corpus.read_text().replace("C'est", "Voilà"))
    other = load_task(config, corpus)
    assert other.sentences == task.sentences and other.digest() != task.digest()


def test_sentences_of_the_same_words_are_split_by_sentence(tmp_path):
    """Another order of words is another sentence: bags of words do not matter in translation."""
    rng, path = random.Random(0), tmp_path / "pairs.tsv"
    orders = {" ".join(rng.sample("abcdef", 6)) for _ in range(50)}
    path.write_text("".join(f"{order}\t{order.upper()}\n" for order in sorted(orders)))
    task = translation_task(SMALL, str(path))
    assert_no_overlap(task.sentences)


def test_files_that_cannot_be_split_or_read(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("Go.\tVa !\n")
    with pytest.raises(ValueError, match="pairs.tsv: 1 different sentences are too few"):
        load_task(replace(SMALL, task="translate"), path)
    path.write_text("Go.\tVa !\nGo on.\n")
    with pytest.raises(ValueError, match="pairs.tsv: line 2 "):
        load_task(replace(SMALL, task="translate"), path)
    for task in ("integers", "patterns"):
        with pytest.raises(ValueError, match="only the tasks words and translate read a corpus"):
            load_task(replace(SMALL, task=task), path)


@pytest.mark.parametrize("name", Config.__dataclass_fields__["task"].metadata["options"])
def test_each_task_by_its_name(name):
    config = replace(SMALL, task=name)
    task = load_task(config)
    assert isinstance(task.sentences, Splits) and task.corpus is None
    assert_no_overlap(task.sentences)
    again, other = load_task(config), load_task(replace(config, seed=2))
    assert again.sentences == task.sentences and again.references == task.references
    assert again.digest() == task.digest() != other.digest()
    longest = max(len(tokens) for part in task.sentences for tokens in part)
    assert longest <= config.max_length
    for sentences, references, pairs in zip(*task[:2], task.pairs, strict=True):
        assert len(sentences) == len(references) == len(pairs)
    src, trg = task.pairs.test[0]
    assert src == task.vocab.encode(task.sentences.test[0])
    assert trg == task.trg_vocab.encode(task.references.test[0])
    reverses = [*task.references.test] == [tokens[::-1] for tokens in task.sentences.test]
    assert reverses == (name in ("words", "integers"))
    same = task.vocab.words == task.trg_vocab.words
    assert same == (name != "translate")


def test_a_cycle_is_the_same_wherever_it_begins():
    assert cycle(tuple("7237237")) == cycle(tuple("372372")) == tuple("237")
    assert cycle(tuple("0000")) == ("0",)


def test_no_two_parts_have_a_bag_of_words_in_common():
    sentences = [
        tuple(words) for chosen in combinations("abcdefgh", 3) for words in permutations(chosen)
    ]
    parts = [{bag(sentence) for sentence in part} for part in split(sentences, seed=1)]
    assert sum(map(len, parts)) == 56 and all(parts)
    assert not any(one & other for one, other in combinations(parts, 2))
