"""Whatever is put in: a good answer, or an error that names what is wrong. Over 2,000 cases, drawn
by hypothesis, the same in every run.
"""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers import checkpoint, translation
from helpers.__main__ import build_parser
from helpers.checkpoint import Checkpoint
from helpers.config import Config
from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Vocab, batches, collate, tokenize
from helpers.decoding import decode, predict, reverse_lines
from helpers.learner import Learner, masked_cross_entropy
from helpers.metrics import by_length, error_kind, exact_match, token_accuracy, wilson_interval
from helpers.optim import clip_grad_norm
from helpers.patterns import continuation
from helpers.tasks import load_task
from helpers.tests.test_cli import run
from helpers.tests.test_copying import Pointer
from helpers.tests.tiny import TINY, fresh_model, tiny_task
from helpers.training import greedy_exact_match, mean_loss
from helpers.transformer import PositionalEncoding

SPECS = {spec.name: spec for spec in dataclasses.fields(Config)}
SURE = settings(derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from([0, 1, -1, 2.5, math.nan, math.inf, 10**30, 1e300, 1e-300, b"x", [], "adam"]),
)
words = st.text(st.characters(codec="utf-8"), max_size=12)
lines = st.one_of(words, st.lists(words, max_size=8).map(" ".join))
some_bytes = st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode))


@settings(SURE, max_examples=500)
@given(st.sampled_from(sorted(SPECS)), anything)
def test_a_setting_is_possible_or_refused_by_name(name, value):
    try:
        config = Config(**{name: value})
    except (ValueError, TypeError) as error:
        assert name in str(error) and "\n" not in str(error)
        return
    accepted, limits = getattr(config, name), SPECS[name].metadata
    if accepted is not None and "low" in limits:
        assert limits["low"] <= accepted <= limits["high"]
        assert SPECS[name].type is float or accepted == int(accepted)


@pytest.mark.parametrize("name", [name for name in SPECS if "low" in SPECS[name].metadata])
def test_both_ends_of_a_range_are_possible(name):
    model = {"dropout": {"model": "location"}}.get(name, {})
    for value in (SPECS[name].metadata["low"], SPECS[name].metadata["high"]):
        assert getattr(Config(**{name: value}, **model), name) == value
        flag = f"--{name.replace('_', '-')}={value}"
        assert getattr(build_parser().parse_args(["train", flag]), name) == value


@settings(SURE, max_examples=300)
@given(st.sampled_from(sorted(SPECS)), st.one_of(words, anything.map(str)))
def test_a_flag_is_possible_or_refused_in_one_line(tmp_path_factory, name, text):
    """The corpus is missing, so that no training begins."""
    folder = tmp_path_factory.getbasetemp()
    flag = f"--{name.replace('_', '-')}={text}"
    corpus = ["--corpus", folder / "none.txt", "--checkpoint-dir", folder / "never"]
    out, err = run("train", flag, *corpus, status=2)
    assert out == "" and err.count("\n") == 1 and err.startswith("python -m helpers")
    assert not (folder / "never").exists()


@settings(SURE, max_examples=200)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n"), max_size=40)))
def test_a_line_in_is_a_line_out_byte_for_byte(texts):
    vocab = Vocab([*SPECIALS, "cat"])
    answers = list(reverse_lines(Pointer(lambda lens: lens, -1), vocab, texts))
    assert answers == [" ".join(reversed(text.split())) for text in texts]


@settings(SURE, max_examples=200)
@given(st.lists(words.filter(str.split).map(lambda text: tuple(text.split())), max_size=5), lines)
def test_a_vocabulary_takes_any_word(sentences, line):
    vocab, tokens = Vocab.build(sentences), tokenize(line)
    assert vocab.knows(tokens) and len(vocab.encode(tokens)) == len(tokens)
    known = [token for sentence in sentences for token in sentence]
    assert vocab.decode(vocab.encode(known)) == [vocab.key(token) for token in known]


@settings(SURE, max_examples=300)
@given(
    st.sampled_from(["words", "translate"]),
    st.one_of(some_bytes, st.lists(lines).map(lambda found: "\n".join(found).encode())),
    st.integers(0, 3),
)
def test_a_corpus_serves_or_is_refused_by_name(tmp_path_factory, task, content, copies):
    path = tmp_path_factory.getbasetemp() / "corpus.txt"
    path.write_bytes(b"".join(content + b"%d\n" % i for i in range(10 * copies)) or content)
    try:
        loaded = load_task(Config(task=task), path)
    except ValueError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert all(loaded.sentences) and all(loaded.pairs)


@settings(SURE, max_examples=200)
@given(lines)
def test_english_and_french_lose_nothing_but_space_and_case(line):
    tokens = translation.tokenize(line)
    assert not any(token.isspace() or not token for token in tokens)
    assert translation.tokenize(" ".join(tokens)) == tokens


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The path of a checkpoint."""
    path, task = tmp_path_factory.mktemp("saved") / "best.pt", tiny_task()
    model = fresh_model(task)
    data = (task.vocab, task.trg_vocab, TINY, [], None, task.digest())
    checkpoint.save(Checkpoint(model, *data, Learner(model, TINY, 10).state_dict()), path)
    return path


def same(one, other):
    weights = zip(one.model.parameters(), other.model.parameters(), strict=True)
    known = [(c.vocab.words, c.trg_vocab.words, c.config, *c[4:7]) for c in (one, other)]
    return known[0] == known[1] and all(mine.equal(theirs) for mine, theirs in weights)


@settings(SURE, max_examples=300)
@given(
    st.floats(0, 1, exclude_max=True), st.integers(0, 7), st.sampled_from(["cut", "flip", "zeros"])
)
def test_a_damaged_checkpoint_is_refused(saved, place, bit, damage):
    broken = bytearray(saved.read_bytes())
    i = int(place * len(broken))
    if damage == "cut":
        del broken[i:]
    elif damage == "flip":
        broken[i] ^= 1 << bit
    else:
        broken[i : i + 512] = bytes(len(broken[i : i + 512]))
    other = saved.with_name("broken.pt")
    other.write_bytes(broken)
    try:
        loaded = checkpoint.load(other)
    except ValueError as error:
        assert str(other) in str(error) and "damaged" in str(error)
    else:  # in a place of the file that is never read
        assert same(loaded, checkpoint.load(saved))


@settings(SURE, max_examples=200)
@given(some_bytes)
def test_reverse_answers_each_line_or_says_that_it_is_not_text(saved, stdin):
    try:
        expected = stdin.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        out, err = run("reverse", "--checkpoint", saved, stdin=stdin, status=2)
        assert "not UTF-8" in err and err.count("\n") <= 2
    else:
        out, _ = run("reverse", "--checkpoint", saved, stdin=stdin)
        assert out.count("\n") == len(expected) - (not expected[-1])


@settings(SURE, max_examples=100)
@given(some_bytes)
def test_evaluate_measures_or_says_what_is_wrong(saved, content):
    path = saved.with_name("input.txt")
    path.write_bytes(content)
    try:
        count = sum(bool(line.strip()) for line in content.decode("utf-8-sig").split("\n"))
    except UnicodeDecodeError:
        count = 0
    out, err = run("evaluate", "--checkpoint", saved, "--input", path, status=0 if count else 2)
    if count:
        assert out.startswith(f"sentences: {count}\n")
    else:
        assert str(path) in err and err.count("\n") == 1


pairs_of_ids = st.lists(
    st.tuples(*[st.lists(st.integers(UNK, 20), min_size=1, max_size=9)] * 2), min_size=1, max_size=6
)


@settings(SURE, max_examples=200)
@given(pairs_of_ids)
def test_a_batch_holds_its_pairs(pairs):
    batch = collate(pairs)
    for (src, trg), row, length, trg_in, trg_out in zip(pairs, *batch, strict=True):
        assert [i for i in row.tolist() if i != PAD] == src and length == len(src)
        assert [i for i in trg_in.tolist() if i != PAD] == [BOS, *trg]
        assert [i for i in trg_out.tolist() if i != PAD] == [*trg, EOS]
    assert batch.tokens() == sum(len(trg) + 1 for _, trg in pairs)
    torch.manual_seed(0)
    total, tokens = masked_cross_entropy(torch.randn(*batch.trg_out.shape, 21), batch.trg_out)
    assert tokens == batch.tokens() and total.isfinite()


@settings(SURE, max_examples=200)
@given(st.integers(), st.integers(), pairs_of_ids)
def test_metrics_lie_between_0_and_1(right, total, pairs):
    if 0 <= right <= total and total > 0:
        low, high = wilson_interval(right, total)
        assert 0 <= low <= right / total <= high <= 1
    else:
        with pytest.raises(ValueError, match="need 0 <= right <= total"):
            wilson_interval(right, total)
    hypotheses, references = zip(*pairs, strict=True)
    kinds = [error_kind(*pair) for pair in pairs]
    assert exact_match(hypotheses, references) == kinds.count("right") / len(pairs)
    assert 0 <= token_accuracy(hypotheses, references) <= 1


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: collate([]), "no sentence"),
        (lambda: next(batches([([4], [4])], 0, seed=1, epoch=1)), "batch_size .* not 0"),
        (lambda: decode(fresh_model(tiny_task()), [[4]], batch_size=0), "batch_size .* not 0"),
        (lambda: Vocab([*SPECIALS, "cat", "<eos>"]), "'<eos>' is in the vocabulary twice"),
        (lambda: clip_grad_norm([], 0.0), "max_norm must be above 0, not 0.0"),
        (lambda: clip_grad_norm([], math.nan), "max_norm must be above 0, not nan"),
        (lambda: Config(hidden_size=np.int64(8)), "hidden_size must be an integer"),
        (lambda: next(predict(None, None, None, [], chunk=0)), "chunk .* not 0"),
        (lambda: Vocab([*SPECIALS, "cat"]).decode([4, -1]), "-1 is no id .* 5 words"),
        (lambda: Vocab([*SPECIALS, "cat"]).decode([5]), "5 is no id"),
        (lambda: collate([([4], [4]), ([], [4])]), "source without a token"),
        (lambda: by_length([], []), "no sentences"),
        (lambda: continuation(()), "at least one digit"),
        (lambda: mean_loss(fresh_model(tiny_task()), []), "no pairs"),
        (lambda: greedy_exact_match(fresh_model(tiny_task()), []), "no pairs"),
        (lambda: PositionalEncoding(5), "even emb_size, not 5"),
        (lambda: masked_cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 4).long()), "6.*8"),
    ],
)
def test_a_mistake_of_the_programmer_is_named(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
