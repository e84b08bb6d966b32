"""Tokens, vocabulary, the grammar, splits, masking, and batches."""

from itertools import combinations, permutations

import pytest
import torch

from helpers import grammar
from helpers.data import (
    BOS,
    EOS,
    PAD,
    UNK,
    Vocab,
    add_shuffled,
    bag,
    batches,
    collate,
    pad,
    reversal_data,
    reversal_pairs,
    reverse_words,
    split,
    vocab_key,
)


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


def test_an_exact_vocabulary_looks_tokens_up_as_they_are():
    vocab = Vocab.build([("The", "cat"), ("the", "dog.")], exact=True)
    assert vocab.words == ["<pad>", "<bos>", "<eos>", "<unk>", "The", "cat", "dog.", "the"]
    assert vocab.encode(["the", "dog", "The"]) == [7, UNK, 4]
    assert vocab.unknown(["the", "dog", "Cat"]) == ["dog", "Cat"] and vocab.knows(["dog"])


def test_a_vocabulary_without_unk_knows_only_its_words():
    vocab = Vocab(["<pad>", "<bos>", "<eos>", "cat"])
    assert vocab.encode(["Cat."]) == [3] and vocab.knows(["cat"]) and not vocab.knows(["dog"])
    with pytest.raises(ValueError, match="'dog' is not in the vocabulary"):
        vocab.encode(["cat", "dog"])


def test_the_lexicon_is_large_and_all_of_it_is_used():
    assert len(grammar.WORDS) >= 300
    symbols = {part for rules in grammar.RULES.values() for rule in rules for part in rule.split()}
    assert symbols == (set(grammar.RULES) | set(grammar.LEXICON)) - {"sentence"}


def test_sentences_are_distinct_of_all_lengths_and_repeatable():
    sentences = grammar.sentences(50, max_words=12, seed=3)
    assert len(set(sentences)) == len(sentences)
    assert {len(sentence) for sentence in sentences} == set(range(1, 13))
    assert sentences == grammar.sentences(50, max_words=12, seed=3)
    assert sentences != grammar.sentences(50, max_words=12, seed=4)
    assert {word for sentence in sentences for word in sentence} <= set(grammar.WORDS)


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


def test_no_two_parts_have_a_bag_of_words_in_common():
    sentences = [
        tuple(words) for chosen in combinations("abcdefgh", 3) for words in permutations(chosen)
    ]
    parts = [{bag(sentence) for sentence in part} for part in split(sentences, seed=1)]
    assert sum(map(len, parts)) == 56 and all(parts)
    assert not any(one & other for one, other in combinations(parts, 2))


def test_the_sizes_of_the_parts():
    """A quarter and a tenth, at most 10,000 and 2,000; the order is that of the seed."""
    few, many = split(range(99), seed=1, group=int), split(range(60_000), seed=1, group=int)
    assert [*map(len, few)] == [66, 9, 24] and [*map(len, many)] == [48_000, 2_000, 10_000]
    assert few == split(range(99), seed=1, group=int) != split(range(99), seed=2, group=int)
    assert sorted(sum(few, [])) == [*range(99)] and few.train != sorted(few.train)


def test_those_of_a_group_do_not_stay_side_by_side():
    """Else a sentence would always stand beside the same words in another order."""
    for part in split(range(200), seed=1, group=lambda number: number // 2):
        apart = [abs(part.index(number) - part.index(number ^ 1)) for number in part]
        assert apart.count(1) < len(part) / 3


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
    with pytest.raises(ValueError, match="per_length must be at least 1, not 0"):
        grammar.sentences(0)


def test_add_shuffled_counts_spellings_of_one_sentence_once():
    distinct = add_shuffled([("The", "cat."), ("the", "cat"), ("sit",)], seed=0)
    assert distinct in ([("The", "cat."), ("sit",)], [("The", "cat."), ("sit",), ("cat.", "The")])


def test_masking_is_mirrored():
    sentences = grammar.sentences(30)
    vocab = Vocab.build(sentences)
    masked = reversal_pairs(sentences, vocab, unk_rate=0.5, seed=0)
    assert all(trg == src[::-1] for src, trg in masked)
    assert any(UNK in src for src, _ in masked)
    assert reversal_pairs(sentences, vocab)[0][0] == vocab.encode(sentences[0])


def test_the_masked_share_of_the_sentences_and_of_their_words():
    """Of half of the sentences a share of the words, between none and all, on average half."""
    sentences = [tuple("abcdefgh")] * 2000
    vocab = Vocab.build(sentences)
    sources = [src for src, _ in reversal_pairs(sentences, vocab, unk_rate=0.5, seed=1)]
    counts = [src.count(UNK) for src in sources]
    assert 0.22 < sum(counts) / (8 * 2000) < 0.28 and {*counts} == {*range(9)}
    assert 0.4 < sum(map(bool, counts)) / 2000 < 0.5  # 1 of 9 that are chosen is left as it is
    again, other = (reversal_pairs(sentences, vocab, 0.5, seed) for seed in (1, 2))
    assert [src for src, _ in again] == sources != [src for src, _ in other]


def test_collate_pads_and_shifts():
    batch = collate([([7], [7]), ([5, 6, 7], [7, 6, 5])])
    assert batch.src.tolist() == [[7, PAD, PAD], [5, 6, 7]]
    assert batch.src_lens.tolist() == [1, 3]
    assert batch.trg_in.tolist() == [[BOS, 7, PAD, PAD], [BOS, 7, 6, 5]]
    assert batch.trg_out.tolist() == [[7, EOS, PAD, PAD], [7, 6, 5, EOS]]
    assert {rows.dtype for rows in batch} == {torch.int64}


def test_padding_by_hand():
    assert pad([[5], [6, 7, 8], [9, 4]]).tolist() == [[5, PAD, PAD], [6, 7, 8], [9, 4, PAD]]
    assert pad(row for row in [[5]]).tolist() == [[5]]
    with pytest.raises(ValueError, match="no sentence"):
        pad([])


@pytest.mark.parametrize("bucket", [True, False])
def test_batches_hold_every_pair_once_in_an_order_of_seed_and_epoch(bucket):
    pairs = [([i] * (1 + i % 7), [i]) for i in range(4, 1000)]

    def first_ids(seed, epoch):
        return [row[0] for b in batches(pairs, 32, seed, epoch, bucket) for row in b.src.tolist()]

    assert sorted(first_ids(1, 1)) == list(range(4, 1000))
    assert first_ids(1, 1) == first_ids(1, 1)
    assert first_ids(1, 1) != first_ids(1, 2) != first_ids(2, 2)


def test_what_the_data_of_the_assignment_consist_of():
    ours = grammar.sentences(100, seed=1)
    data = reversal_data(ours, seed=1, unk_rate=0.5)
    assert data.vocab is data.trg_vocab and data.left_out == 0
    assert data.vocab.words == Vocab.build(data.sentences.train).words
    masked = [sum(UNK in src for src, _ in pairs) / len(pairs) for pairs in data.pairs]
    assert 0.3 < masked[0] < 0.5 and max(masked[1:]) < 0.1  # words that only the test set has
    for sentences, references, pairs in zip(*data[:2], data.pairs, strict=True):
        for sentence, reference, (src, trg) in zip(sentences, references, pairs, strict=True):
            assert reference == sentence[::-1]
            assert len(sentence) == len(src) and trg == src[::-1]
            known = zip(src, data.vocab.encode(sentence), strict=True)
            assert all(id_ in (UNK, true) for id_, true in known)
    from_grammar = [sentence in set(ours) for part in data.sentences for sentence in part]
    assert 0.45 < sum(from_grammar) / len(from_grammar) < 0.6
    assert data[:2] == reversal_data(ours, seed=1)[:2] != reversal_data(ours, seed=2)[:2]
    train = data.sentences.train
    assert data.pairs.train == reversal_pairs(train, data.vocab, unk_rate=0.5, seed=1)
    plain = reversal_data(ours, seed=1, unk_rate=0.0).pairs
    assert not any(UNK in src for src, _ in plain.train) and plain.test == data.pairs.test


def test_buckets_put_like_lengths_together():
    pairs = [([5] * (1 + i % 10), [5]) for i in range(1000)]
    spread = [int(b.src_lens.max() - b.src_lens.min()) for b in batches(pairs, 20, 1, 1)]
    mixed = [int(b.src_lens.max() - b.src_lens.min()) for b in batches(pairs, 20, 1, 1, False)]
    assert sum(spread) < 0.2 * sum(mixed)
    lengths = [int(b.src_lens.max()) for b in batches(pairs, 20, 1, 1)]
    assert lengths != sorted(lengths)
