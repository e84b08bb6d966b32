"""The four tasks: integers, patterns, translation, words; their files, splits and vocabularies."""

import random
import unicodedata
from collections import Counter
from itertools import combinations, product
from pathlib import Path

import pytest
from torch.utils.data import DataLoader

from helpers import data, grammar
from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Splits, collate
from helpers.runs.checkpoint import digest
from helpers.tasks import TASKS, Integers, Patterns, Translation, Words, integers
from helpers.tasks.integers import ReversalDataset
from helpers.tasks.patterns import (
    CONTINUED,
    PERIOD,
    continuation,
    cycle,
    period,
    sequences,
)
from helpers.tasks.task import Corpus, read_lines
from helpers.tasks.tokens import detokenize, tokenize
from helpers.tasks.translation import read_pairs

SMALL = {"per_length": 40}


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
        patterns = sequences(100_000, max_length)
        assert len(patterns) == len(expected) and set(patterns) == expected
    longest = {"".join(row) for row in sequences(100_000, 12) if len(row) == 12}
    assert {12 * "0", 12 * "1", 6 * "01", 6 * "10", 12 * "7", 4 * "729"} <= longest
    assert {period(tuple(row)) for row in longest} == set(range(1, PERIOD + 1))


def test_patterns_are_distinct_of_all_lengths_and_repeatable():
    patterns = sequences(50, 10, seed=3)
    assert len(set(patterns)) == len(patterns)
    counts = Counter(map(len, patterns))
    assert set(counts) == set(range(2, 11)) and counts[2] == 10 and counts[10] == 50
    assert patterns == sequences(50, 10, seed=3) != sequences(50, 10, seed=4)
    assert patterns != sorted(patterns, key=len), "they are shuffled"


def assert_no_overlap(parts):
    assert all(parts)
    assert len({*parts.train, *parts.valid, *parts.test}) == sum(map(len, parts))


def test_the_pattern_task():
    task = Patterns(**SMALL).load(seed=1)
    assert_no_overlap(task.sentences)
    assert task.vocab.words == task.trg_vocab.words == [*SPECIALS[:3], *"0123456789"]
    for sentences, references, pairs in zip(*task[:2], task.pairs, strict=True):
        assert len(sentences) == len(references) == len(pairs)
        for digits, reference, (src, trg) in zip(sentences, references, pairs, strict=True):
            assert reference == continuation(digits) and len(reference) == CONTINUED
            assert task.vocab.decode(src) == [*digits] and task.vocab.decode(trg) == [*reference]
    cycles = [{cycle(digits) for digits in part} for part in task.sentences]
    assert cycles[0] & cycles[2], "what repeats may be in two parts, at another length"


@pytest.mark.parametrize(
    "text, tokens",
    [
        ("L'homme n'a pas faim.", "l' homme n' a pas faim ."),
        ("J’ai dit qu’il vient d’Arles !", "j' ai dit qu' il vient d' Arles !"),
        ("Aujourd'hui, d'aujourd'hui", "aujourd'hui , d' aujourd'hui"),
        ("I don't know; it's Tom's", "i don't know ; it's Tom's"),
        ("Peut-être (est-ce que c'est?)", "peut-être ( est-ce que c' est ? )"),
        ("Wait... no?!", "wait ... no ?!"),
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
    """Attributions and blank lines are left out, and so is the BOM; a sentence that is there twice
    has two translations.
    """
    pairs = [("Go.", "Va !"), ("Run!", "Cours\u202f!"), ("GO .", "Bouge !"), ("Hi.", "Salut.")]
    assert read_pairs(ANKI.splitlines(keepends=True), "fra.txt") == pairs
    path = tmp_path / "fra.txt"
    path.write_bytes(b"\xef\xbb\xbf" + ANKI.encode())
    sentences, references, texts = Translation().examples(path)
    assert texts == [("Va !", "Bouge !"), ("Cours\u202f!",), ("Salut.",)]
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
    assert Patterns().examples(path)[1] == continued
    assert Integers().examples(path)[1] == [tuple("2121"), tuple("3333")]
    expected = (
        [tuple("1212"), tuple("3333")],
        Integers().examples(path)[1],
        [("2 1 2 1",), ("3 3 3 3",)],
    )
    assert Words().examples(path) == expected
    path.write_text("\n")
    for task in TASKS.values():
        with pytest.raises(ValueError, match="file holds no sentence"):
            task().examples(path)
        with pytest.raises(OSError):
            task().examples(tmp_path / "none")


@pytest.fixture
def corpus(tmp_path):
    """60 sentences, each with a word of its own; one again, and two of which a side is too long."""
    lines = [f"It is w{i} or x{i % 7} .\tC'est m{i} .\tAttribution" for i in range(60)]
    lines += ["IT is w3 or x3.\tEncore.", f"{'a ' * 8}\tOui.", f"Yes.\t{'a ' * 8}"]
    path = tmp_path / "pairs.tsv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_translation_task_from_a_file(corpus):
    task = Translation(max_length=7).load(1, corpus)
    assert task.left_out == 2
    pairs = {english: texts for part in zip(task.sentences, task.texts, strict=True)
             for english, texts in zip(*part, strict=True)}  # fmt: skip
    assert sorted(map(len, task.sentences)) == [6, 15, 40]
    assert len(pairs) == 60, "one sentence of the training has two translations"
    assert_no_overlap(task.sentences._replace(train=[*dict.fromkeys(task.sentences.train)]))
    for sentences, references in zip(*task[:2], strict=True):
        for english, french in zip(sentences, references, strict=True):
            assert french == ("encore", ".") or french == (
                "c'",
                "est",
                english[2].replace("w", "m"),
                ".",
            )
    for side, vocab in ((task.sentences, task.vocab), (task.references, task.trg_vocab)):
        known = {token for tokens in side.train for token in tokens}
        assert vocab.words == [*SPECIALS, *sorted(known)]
    for part in (task.pairs.valid, task.pairs.test):
        assert all(src[2] == UNK == trg[2] for src, trg in part), "a word of its own is not known"
    assert all(UNK not in src + trg for src, trg in task.pairs.train)


def test_translations_of_other_words_are_another_task(corpus):
    task = Translation().load(1, corpus)
    assert digest(Translation().load(1, corpus)) == digest(task)
    corpus.write_text(corpus.read_text().replace("C'est", "Voilà"))
    other = Translation().load(1, corpus)
    assert other.sentences == task.sentences and digest(other) != digest(task)


def test_sentences_of_the_same_words_are_split_by_sentence(tmp_path):
    """Another order of words is another sentence: bags of words do not matter in translation."""
    rng, path = random.Random(0), tmp_path / "pairs.tsv"
    orders = {" ".join(rng.sample("abcdef", 6)) for _ in range(50)}
    path.write_text("".join(f"{order}\t{order.upper()}\n" for order in sorted(orders)))
    assert_no_overlap(Translation().load(1, str(path)).sentences)


def test_files_that_cannot_be_split_or_read(tmp_path):
    path = tmp_path / "pairs.tsv"
    path.write_text("Go.\tVa !\n")
    with pytest.raises(
        ValueError, match="pairs.tsv: 1 sentences read, .*: 1 different sentences are too few"
    ):
        Translation().load(1, path)
    path.write_text("Go.\tVa !\nGo on.\n")
    with pytest.raises(ValueError, match="pairs.tsv: line 2 "):
        Translation().load(1, path)
    for task in (Integers(), Patterns()):
        assert not task.reads_corpus
        with pytest.raises(ValueError, match=f"the task {task.name} reads no corpus"):
            task.load(1, str(path))
    assert Words().reads_corpus and Translation().reads_corpus


@pytest.mark.parametrize("name", TASKS)
def test_each_task_by_its_name(name):
    kind = TASKS[name](**SMALL)
    assert kind.name == name
    task = kind.load(seed=1)
    assert isinstance(task.sentences, Splits)
    assert_no_overlap(task.sentences)
    again, other = kind.load(seed=1), kind.load(seed=2)
    assert again.sentences == task.sentences and again.references == task.references
    assert digest(again) == digest(task) != digest(other)
    longest = max(len(tokens) for part in task.sentences for tokens in part)
    assert longest <= kind.max_length == 12
    for sentences, references, pairs in zip(*task[:2], task.pairs, strict=True):
        assert len(sentences) == len(references) == len(pairs)
    src, trg = task.pairs.test[0]
    assert src == task.vocab.encode(task.sentences.test[0])
    assert trg == task.trg_vocab.encode(task.references.test[0])
    reverses = [*task.references.test] == [tokens[::-1] for tokens in task.sentences.test]
    assert reverses == kind.mirrors == (name in ("words", "integers"))
    same = task.vocab.words == task.trg_vocab.words
    assert same == (name != "translate")


def test_the_order_and_the_lines_of_the_tasks():
    """The first is the default. A line becomes tokens, an answer a line, each in its own way."""
    assert [*TASKS] == ["words", "integers", "patterns", "translate"]
    for task in (Words(), Integers(), Patterns()):
        assert task.tokenize(" The cat.\t7\n") == ("The", "cat.", "7")
        assert task.join(["The", "cat.", "7"]) == "The cat. 7"
    assert Translation().tokenize("L’homme!") == ("l'", "homme", "!")
    assert Translation().join(["l'", "homme", "."]) == "L'homme."
    assert Words().answer(("a", "b")) == Integers().answer(("a", "b")) == ("b", "a")
    assert Patterns().answer(tuple("3434")) == tuple("343434")[:CONTINUED]


def test_a_cycle_is_the_same_wherever_it_begins():
    assert cycle(tuple("7237237")) == cycle(tuple("372372")) == tuple("237")
    assert cycle(tuple("0000")) == ("0",)


def test_the_pairs_serve_torchs_data_loader():
    pairs = ReversalDataset([[7, 8, 9], [5], [4, 6]])
    assert pairs[0] == ([7, 8, 9], [9, 8, 7]) and pairs[1:] == [([5], [5]), ([4, 6], [6, 4])]
    first, second = DataLoader(pairs, batch_size=2, collate_fn=collate)
    assert first.src.tolist() == [[7, 8, 9], [5, PAD, PAD]] and first.src_lens.tolist() == [3, 1]
    assert first.trg_in.tolist() == [[BOS, 9, 8, 7], [BOS, 5, PAD, PAD]]
    assert second.trg_out.tolist() == [[6, 4, EOS]]


def test_the_integer_task():
    kind = Integers(vocab_size=7, max_length=5, per_length=100)
    task = kind.load(seed=3)
    assert task.vocab.words == ["<pad>", "<bos>", "<eos>", "3", "4", "5", "6"]
    everything = [sequence for part in task.sentences for sequence in part]
    lengths = Counter(map(len, everything))
    assert lengths == {1: 4, 2: 16, 3: 64, 4: 100, 5: 100} and len(set(everything)) == 284
    bags = [{tuple(sorted(sequence)) for sequence in part} for part in task.sentences]
    assert all(one.isdisjoint(other) for one, other in combinations(bags, 2))
    for part, pairs in zip(task.sentences, task.pairs, strict=True):
        assert [src for src, _ in pairs] == [[int(word) for word in words] for words in part]
        assert all(trg == src[::-1] for src, trg in pairs)
    assert {i for src, _ in task.pairs.train for i in src} == {3, 4, 5, 6}
    assert digest(kind.load(seed=3)) == digest(task) != digest(kind.load(seed=4))


def test_integers_need_a_vocabulary_and_know_no_other_words():
    with pytest.raises(ValueError, match="leaves no integers"):
        integers.sequences(10, 4, vocab_size=3)
    vocab = Integers(vocab_size=7, per_length=50).load(seed=1).vocab
    assert vocab.encode(["6", "3"]) == [6, 3]
    for word in ("7", "2", "cat", "<unk>"):
        with pytest.raises(ValueError, match=f"{word}.* is not in the vocabulary"):
            vocab.encode(["3", word])


def test_words_from_the_grammar_are_the_data_of_the_assignment(monkeypatch):
    given = {}

    def reversal_data(sentences, seed, unk_rate):
        given.update(sentences=sentences, seed=seed, unk_rate=unk_rate)
        return data.reversal_data(sentences, seed, unk_rate)

    monkeypatch.setattr("helpers.tasks.words.reversal_data", reversal_data)
    task = Words(**SMALL, max_length=5, unk_rate=0.4).load(seed=3)
    assert (given["seed"], given["unk_rate"], task.left_out) == (3, 0.4, 0)
    assert given["sentences"] == grammar.sentences(40, 5, seed=3)
    assert task.pairs == data.reversal_data(given["sentences"], 3, 0.4).pairs


def test_words_from_a_corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    lines = [f"Line {i} of my text." for i in range(30)] + ["", "line 3 of my text", "w " * 13]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    task = Words().load(1, str(path))
    sentences = [sentence for part in task.sentences for sentence in part]
    assert max(map(len, sentences)) == 5
    assert data.tokenize("Line 3 of my text.") in sentences
    assert 30 < len(sentences) <= 60
    assert task.left_out == 1
    assert digest(task) == digest(Words().load(1, str(path)))
    path.write_text("\n".join(lines[::-1]))
    assert digest(task) != digest(Words().load(1, str(path)))


@pytest.mark.parametrize(
    "content, message", [(b"\xff\xfe\x00", "not UTF-8"), (b"", "too few"), (b"one", "too few")]
)
def test_a_corpus_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"corpus.txt.*{message}"):
        Words().load(1, str(path))


def test_read_lines_of_a_missing_file(tmp_path):
    with pytest.raises(OSError):
        read_lines(tmp_path / "none.txt")


def write_pairs(path, *pairs):
    path.write_text("".join(f"{english}\t{french}\n" for english, french in pairs))
    return str(path)


@pytest.fixture
def files(tmp_path):
    """A corpus with a sentence each of the validation and the test file, in capitals."""
    train = [(f"I see {i} cats.", f"Je vois {i} chats.") for i in range(60)]
    train += [("I see 3 cats.", "J'aperçois 3 chats."), ("GO!", "Va !"), ("RUN!", "Cours !")]
    return Corpus(
        write_pairs(tmp_path / "train", *train),
        write_pairs(tmp_path / "valid", ("Go!", "Va !"), ("Go!", "Allez !"), ("Stop!", "Stop !")),
        write_pairs(tmp_path / "test", ("Run!", "Cours !"), ("Hi.", "Salut."), ("Run!", "File !")),
    )


@pytest.mark.parametrize("subwords", [0, 300])
def test_files_of_their_own_to_validate_and_test(files, subwords):
    data = Translation(subwords=subwords).load(1, files)
    assert [len(part) for part in data.sentences] == [61, 2, 2]
    assert data.texts.valid == [("Va !", "Allez !"), ("Stop !",)]
    assert data.texts.test == [("Cours !", "File !"), ("Salut.",)]
    task = Translation(subwords=subwords)
    written = [task.join(tokens, data.trg_vocab) for tokens in data.references.train]
    assert set(written) == {text for (text,) in data.texts.train}
    assert "Va !" not in written and "Cours !" not in written, "they are tested on"
    assert {"Je vois 3 chats.", "J'aperçois 3 chats."} < set(written)


@pytest.mark.parametrize("subwords", [0, 300])
def test_the_same_sentence_in_another_spelling_is_not_trained_on(files, subwords):
    other = files._replace(valid=files.test, test=files.valid)
    Path(other.train).write_text("I don’t go.\tNon.\nCafe\u0301 !\tOui.\n" + "".join(
        f"A {i}.\tUn {i}.\n" for i in range(40)))  # fmt: skip
    Path(other.test).write_text("I don't go.\tNon !\nCaf\u00e9!\tOui !\n")
    data = Translation(subwords=subwords).load(1, other)
    assert len(data.sentences.train) == 40 and len(data.sentences.test) == 2


@pytest.mark.parametrize("given", ["valid", "test"])
def test_what_is_not_given_is_cut_off(files, given):
    corpus = Corpus(files.train, **{given: getattr(files, given)})
    data = Translation(subwords=300).load(1, corpus)
    sizes = {name: len(part) for name, part in data.sentences._asdict().items()}
    assert sizes.pop(given) == 2
    cut_off = {"valid": data.texts.test, "test": data.texts.valid}[given]
    assert sizes["train"] + sum(map(len, cut_off)) == 62, "of 63 pairs one is in the file"


def test_pieces_are_learned_from_the_training_alone(files, tmp_path):
    task, other = Translation(subwords=300), write_pairs(tmp_path / "x", ("Zzz zzz!", "Żżż żżż !"))
    vocabs = [task.load(1, Corpus(files.train, files.valid, test)).trg_vocab
              for test in (files.test, other)]  # fmt: skip
    assert vocabs[0].words != vocabs[1].words, "one sentence is no longer left out"
    assert not any("ż" in word.lower() for word in vocabs[1].words)


def test_what_is_tested_is_never_too_long(files):
    data = Translation(subwords=300, max_length=8).load(1, files)
    assert 0 < len(data.sentences.train) == 61 - data.left_out < 61
    assert len(data.sentences.test) == 2 and len(data.references.test[1]) > 3


def test_own_files_that_cannot_be_used(files, tmp_path):
    with pytest.raises(ValueError, match="splits its corpus itself"):
        Words().load(1, files)
    with pytest.raises(ValueError, match="no sentence is left to train on"):
        Translation().load(1, files._replace(train=files.test))
    with pytest.raises(ValueError, match="all sentences to validate on are in the test"):
        Translation().load(1, files._replace(valid=files.test))
    with pytest.raises(ValueError, match="train: no pair of at most 3 pieces"):
        Translation(subwords=300, max_length=3).load(1, files)
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(ValueError, match="empty holds no sentence"):
        Translation().load(1, files._replace(test=str(tmp_path / "empty")))
