"""Tokens, vocabulary, splits, masking, batches, and reading a corpus."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, permutations

import pytest
import torch
from torch.utils.data import DataLoader

from helpers import grammar, integers
from helpers.config import Config
from helpers.data import (
    BOS,
    EOS,
    PAD,
    UNK,
    ReversalDataset,
    Vocab,
    batches,
    collate,
    reversal_pairs,
    reverse_words,
    tokenize,
    vocab_key,
)
from helpers.tasks import add_shuffled, load_task, read_lines, reversal_task, split

SMALL = Config(per_length=40)


@pytest.mark.parametrize(
    "token, expected",
    [
        ("Cat", "cat"),
        ("cat.", "cat"),
        ("“Stop!”", "stop"),
        ("(e.g.", "e.g"),
        ("cat's", "cat's"),
        ("--", "--"),
        ("<eos>", "eos"),
        ("$5", "5"),
        ("Straße,", "straße"),
        ("¿Qué?", "qué"),
        ("東京。", "東京"),
    ],
)
def test_vocab_key(token, expected):
    assert vocab_key(token) == expected


def test_reverse_words_keeps_tokens_and_normalises_whitespace():
    assert reverse_words("  The cat\tsat. \n") == "sat. cat The"
    assert reverse_words("") == ""


def test_vocab_round_trip_and_unknown_words():
    vocab = Vocab.build([("The", "cat"), ("the", "dog.")])
    assert vocab.words == ["<pad>", "<bos>", "<eos>", "<unk>", "cat", "dog", "the"]
    assert vocab.decode(vocab.encode(["the", "dog"])) == ["the", "dog"]
    assert vocab.encode(["Dog!", "mouse"]) == [5, UNK]
    assert len(vocab) == 7


def test_no_token_is_taken_for_a_special_symbol():
    vocab = Vocab.build([("<pad>", "<eos>", "word")])
    assert min(vocab.encode(["<pad>", "<bos>", "<eos>", "<unk>"])) >= UNK


def test_the_lexicon_is_large_and_all_of_it_is_used():
    assert len(grammar.WORDS) >= 300
    symbols = {part for rules in grammar.RULES.values() for rule in rules for part in rule.split()}
    assert symbols == (set(grammar.RULES) | set(grammar.LEXICON)) - {"sentence"}


def test_sentences_are_distinct_of_all_lengths_and_repeatable():
    found = grammar.sentences(50, max_words=12, seed=3)
    assert len(set(found)) == len(found)
    assert {len(sentence) for sentence in found} == set(range(1, 13))
    assert found == grammar.sentences(50, max_words=12, seed=3)
    assert found != grammar.sentences(50, max_words=12, seed=4)
    assert {word for sentence in found for word in sentence} <= set(grammar.WORDS)


def test_a_and_an():
    for sentence in grammar.sentences(300):
        for word, following in zip(sentence, sentence[1:], strict=False):
            if word in ("a", "an"):
                assert (word == "an") == (following[0] in "aeiou"), sentence


def test_split_shares_no_sentence_and_no_bag_of_words():
    parts = split(add_shuffled(grammar.sentences(100), seed=0), seed=0)
    bags = [{tuple(sorted(sentence)) for sentence in part} for part in parts]
    assert all(bags) and not (bags[0] & bags[1] or bags[0] & bags[2] or bags[1] & bags[2])
    everything = [sentence for part in parts for sentence in part]
    assert len(set(everything)) == len(everything)


@pytest.mark.parametrize(
    "sentences",
    [[("a",)] * 3, [(x, y) for x in "abc" for y in "def"], list(permutations("abcde"))],
)
def test_split_refuses_what_leaves_a_part_empty(sentences):
    with pytest.raises(ValueError, match="too few, or too much alike"):
        split(sentences, seed=0)


def test_the_grammar_refuses_lengths_that_it_does_not_have():
    for max_words in (2, 26, 100):
        with pytest.raises(ValueError, match="3 to 25 words"):
            grammar.sentences(10, max_words)


def test_add_shuffled_counts_spellings_of_one_sentence_once():
    found = add_shuffled([("The", "cat."), ("the", "cat"), ("sit",)], seed=0)
    assert found in ([("The", "cat."), ("sit",)], [("The", "cat."), ("sit",), ("cat.", "The")])


def test_masking_is_mirrored():
    sentences = grammar.sentences(30)
    vocab = Vocab.build(sentences)
    masked = reversal_pairs(sentences, vocab, unk_rate=0.5, seed=0)
    assert all(trg == src[::-1] for src, trg in masked)
    assert any(UNK in src for src, _ in masked)
    assert reversal_pairs(sentences, vocab)[0][0] == vocab.encode(sentences[0])


def test_collate_pads_and_shifts():
    batch = collate([([7], [7]), ([5, 6, 7], [7, 6, 5])])
    assert batch.src.tolist() == [[7, PAD, PAD], [5, 6, 7]]
    assert batch.src_lens.tolist() == [1, 3]
    assert batch.trg_in.tolist() == [[BOS, 7, PAD, PAD], [BOS, 7, 6, 5]]
    assert batch.trg_out.tolist() == [[7, EOS, PAD, PAD], [7, 6, 5, EOS]]
    assert batch.src.dtype == torch.int64


def test_the_pairs_serve_torchs_data_loader():
    pairs = ReversalDataset([[7, 8, 9], [5], [4, 6]])
    assert pairs[0] == ([7, 8, 9], [9, 8, 7]) and pairs[1:] == [([5], [5]), ([4, 6], [6, 4])]
    first, second = DataLoader(pairs, batch_size=2, collate_fn=collate)
    assert first.src.tolist() == [[7, 8, 9], [5, PAD, PAD]] and first.src_lens.tolist() == [3, 1]
    assert first.trg_in.tolist() == [[BOS, 9, 8, 7], [BOS, 5, PAD, PAD]]
    assert second.trg_out.tolist() == [[6, 4, EOS]]


def test_the_parts_of_a_batch_are_its_rows():
    batch = collate(ReversalDataset([[7, 8, 9], [5], [4, 6]])[:])
    parts = [batch.part(i, 2) for i in range(2)]
    assert parts[0].src.tolist() == [[7, 8, 9], [4, 6, PAD]] and parts[0].src_lens.tolist() == [
        3,
        2,
    ]
    assert parts[1].trg_out.tolist() == [[5, EOS, PAD, PAD]]
    assert sum(part.tokens() for part in parts) == batch.tokens() == 9
    empty = batch.part(4, 5)
    assert empty.tokens() == 0 and len(empty.src) == 1 and empty.src_lens.tolist() == [3]


def test_the_integer_task():
    config = Config(task="integers", vocab_size=7, max_length=5, per_length=100, seed=3)
    task = load_task(config)
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
    assert load_task(config).digest() == task.digest()
    assert load_task(replace(config, seed=4)).digest() != task.digest()


def test_integers_need_a_vocabulary_and_know_no_other_words():
    with pytest.raises(ValueError, match="leaves no integers"):
        integers.sequences(10, 4, vocab_size=3)
    vocab = load_task(Config(task="integers", vocab_size=7, per_length=50)).vocab
    assert vocab.encode(["6", "3"]) == [6, 3]
    for word in ("7", "2", "cat", "<unk>"):
        with pytest.raises(ValueError, match=f"{word}.* is not in the vocabulary"):
            vocab.encode(["3", word])


@pytest.mark.parametrize("bucket", [True, False])
def test_batches_hold_every_pair_once_in_an_order_of_seed_and_epoch(bucket):
    pairs = [([i] * (1 + i % 7), [i]) for i in range(4, 1000)]

    def first_ids(seed, epoch):
        return [row[0] for b in batches(pairs, 32, seed, epoch, bucket) for row in b.src.tolist()]

    assert sorted(first_ids(1, 1)) == list(range(4, 1000))
    assert first_ids(1, 1) == first_ids(1, 1)
    assert first_ids(1, 1) != first_ids(1, 2) != first_ids(2, 2)


def test_what_the_task_consists_of():
    task = reversal_task(Config(per_length=100, unk_rate=0.5))
    assert task.vocab.words == Vocab.build(task.sentences.train).words
    masked = [sum(UNK in src for src, _ in pairs) / len(pairs) for pairs in task.pairs]
    assert 0.3 < masked[0] < 0.5 and max(masked[1:]) < 0.1  # words that only the test set has
    for sentences, pairs in zip(task.sentences, task.pairs, strict=True):
        for sentence, (src, trg) in zip(sentences, pairs, strict=True):
            assert len(sentence) == len(src) and trg == src[::-1]
    ours = set(grammar.sentences(100, seed=SMALL.seed))
    found = [sentence in ours for part in task.sentences for sentence in part]
    assert 0.45 < sum(found) / len(found) < 0.6


def test_buckets_put_like_lengths_together():
    pairs = [([5] * (1 + i % 10), [5]) for i in range(1000)]
    spread = [int(b.src_lens.max() - b.src_lens.min()) for b in batches(pairs, 20, 1, 1)]
    mixed = [int(b.src_lens.max() - b.src_lens.min()) for b in batches(pairs, 20, 1, 1, False)]
    assert sum(spread) < 0.2 * sum(mixed)
    lengths = [int(b.src_lens.max()) for b in batches(pairs, 20, 1, 1)]
    assert lengths != sorted(lengths)


def test_task_from_a_corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    lines = [f"Line {i} of my text." for i in range(30)] + ["", "line 3 of my text", "w " * 13]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
    task = reversal_task(SMALL, str(path))
    sentences = [sentence for part in task.sentences for sentence in part]
    assert max(map(len, sentences)) == 5
    assert tokenize("Line 3 of my text.") in sentences
    assert 30 < len(sentences) <= 60
    assert task.corpus == str(path) and task.left_out == 1
    assert task.digest() == reversal_task(SMALL, str(path)).digest()
    path.write_text("\n".join(lines[::-1]))
    assert task.digest() != reversal_task(SMALL, str(path)).digest()


@pytest.mark.parametrize(
    "content, message", [(b"\xff\xfe\x00", "not UTF-8"), (b"", "too few"), (b"one", "too few")]
)
def test_a_corpus_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "corpus.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        reversal_task(SMALL, str(path))


def test_read_lines_of_a_missing_file(tmp_path):
    with pytest.raises(OSError):
        read_lines(tmp_path / "none.txt")


@pytest.mark.parametrize(
    "setting",
    [
        {"lr": 0.0},
        {"lr": float("nan")},
        {"epochs": 0},
        {"unk_rate": 1.5},
        {"seed": -1},
        {"schedule": "up"},
        {"amp": "yes"},
    ],
)
def test_config_refuses_impossible_values(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        Config(**setting)
