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

from helpers.commands import build_parser
from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Vocab, batches, collate, pad, tokenize
from helpers.decoding import decode, greedy_exact_match
from helpers.metrics import by_length, exact_match, token_accuracy, wilson_interval
from helpers.models.transformer import PositionalEncoding
from helpers.optim import clip_grad_norm
from helpers.runs import checkpoint
from helpers.runs.checkpoint import Checkpoint
from helpers.runs.settings import KINDS, RunSettings, Settings
from helpers.runs.step import Learner
from helpers.search.answers import predict
from helpers.search.beam import decode_with_beam
from helpers.search.errors import error_kind
from helpers.tasks import TASKS, translation
from helpers.tasks.patterns import continuation
from helpers.tests.test_cli import run
from helpers.tests.test_copying import Pointer, reverse_lines
from helpers.tests.tiny import TINY, fresh_model, tiny_data
from helpers.training import masked_cross_entropy, mean_loss

SPECS, BESIDE = {}, {}  # of each setting: its field, and what must be set for it to mean something
for group, kinds in [*KINDS.items(), ("run", {None: RunSettings})]:
    for kind, fields_of in kinds.items():
        for spec in dataclasses.fields(fields_of):
            if spec.name not in SPECS:
                needs = spec.metadata["needs"].items()
                chosen = {} if kind is None else {group: kind}
                SPECS[spec.name] = spec
                BESIDE[spec.name] = chosen | {name: values[0] for name, values in needs}
BESIDE |= {"min_delta": {"patience": 1}, "amp": {"precision": "float32"}, "heads": {
    "model": "transformer", "emb_size": 64}}  # fmt: skip
NAMES = sorted([*SPECS, *KINDS])
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
@given(st.sampled_from(NAMES), anything)
def test_a_setting_is_possible_or_refused_by_name(name, value):
    try:
        accepted = Settings.of(**BESIDE.get(name, {}) | {name: value}).flat()[name]
    except (ValueError, TypeError) as error:
        assert name in str(error) and "\n" not in str(error)
        return
    limits = SPECS[name].metadata if name in SPECS else {"options": KINDS[name]}
    if "options" in limits:
        assert accepted in limits["options"]
    elif accepted is not None:
        assert limits["low"] <= accepted <= limits["high"]
        assert SPECS[name].type is float or accepted == int(accepted)


@pytest.mark.parametrize("name", [name for name in SPECS if "low" in SPECS[name].metadata])
def test_both_ends_of_a_range_are_possible(name):
    limits, beside = SPECS[name].metadata, BESIDE[name]
    for value in (limits["low"], limits["high"]):
        if name == "heads":  # they must divide it
            beside = beside | {"emb_size": 64}
        if beside.get("model") == "transformer" and name != "heads":
            beside = beside | {"heads": 1}
        assert Settings.of(**beside | {name: value}).flat()[name] == value
        flag = f"--{name.replace('_', '-')}={value}"
        assert getattr(build_parser().parse_args(["train", flag]), name) == value


def possible(name):
    """Values that a setting may have, if it means something."""
    limits = SPECS[name].metadata if name in SPECS else {"options": [*KINDS[name]]}
    if "options" in limits:
        return st.sampled_from(limits["options"])
    kind = st.integers if SPECS[name].type is int else st.floats
    return kind(limits["low"], limits["high"])


some_settings = st.lists(st.sampled_from(NAMES), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: possible(name) for name in names})
)


def test_settings_are_possible_together_or_one_is_named():
    """And those that are possible come back from their names."""
    counts = {True: 0, False: 0}

    @settings(SURE, max_examples=300)
    @given(some_settings)
    def check(flags):
        try:
            accepted = Settings.of(**flags)
        except ValueError as error:
            assert any(name in str(error) for name in flags) or "cannot learn" in str(error)
        else:
            flat = accepted.flat()
            assert flat | flags == flat
            given = {name: value for name, value in flat.items() if value is not None}
            assert Settings.of(**given) == accepted.having() == accepted
        counts["flat" in locals()] += 1

    check()
    assert min(counts.values()) > 50, "some are possible, some are not"


@settings(SURE, max_examples=300)
@given(st.sampled_from(NAMES), st.one_of(words, anything.map(str)))
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
    answers = [*reverse_lines(Pointer(lambda lens: lens, -1), vocab, texts)]
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
    st.one_of(some_bytes, st.lists(lines).map(lambda texts: "\n".join(texts).encode())),
    st.integers(0, 3),
)
def test_a_corpus_serves_or_is_refused_by_name(tmp_path_factory, task, content, copies):
    path = tmp_path_factory.getbasetemp() / "corpus.txt"
    path.write_bytes(b"".join(content + b"%d\n" % i for i in range(10 * copies)) or content)
    try:
        loaded = TASKS[task]().load(1, str(path))
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
    path, data = tmp_path_factory.mktemp("saved") / "best.pt", tiny_data()
    model = fresh_model(data)
    rest = (data.vocab, data.trg_vocab, TINY, [], None, checkpoint.digest(data))
    checkpoint.save(Checkpoint(model, *rest, Learner(model, TINY, 10).state_dict()), path)
    return path


def same(one, other):
    params = zip(one.model.parameters(), other.model.parameters(), strict=True)
    known = [(c.vocab.words, c.trg_vocab.words, c.settings, *c[4:7]) for c in (one, other)]
    return known[0] == known[1] and all(mine.equal(theirs) for mine, theirs in params)


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
        text = content.decode("utf-8-sig")
        end = "\n" if "\n" in text.removesuffix("\n") else "\r"
        count = sum(bool(line.strip()) for line in text.split(end))
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
    torch.manual_seed(0)
    total, tokens = masked_cross_entropy(torch.randn(*batch.trg_out.shape, 21), batch.trg_out)
    assert tokens == sum(len(trg) + 1 for _, trg in pairs) and total.isfinite()


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


POINTER = Pointer(lambda lens: lens, -1)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: collate([]), "no sentence"),
        (lambda: next(batches([([4], [4])], 0, seed=1, epoch=1)), "batch_size .* not 0"),
        (lambda: decode(fresh_model(tiny_data()), [[4]], batch_size=0), "batch_size .* not 0"),
        (lambda: Vocab([*SPECIALS, "cat", "<eos>"]), "'<eos>' is in the vocabulary twice"),
        (lambda: clip_grad_norm([], 0.0), "max_norm must be above 0, not 0.0"),
        (lambda: clip_grad_norm([], math.nan), "max_norm must be above 0, not nan"),
        (lambda: Settings.of(hidden_size=np.int64(8)), "hidden_size must be an integer"),
        (lambda: next(predict(POINTER, None, None, [], chunk=0)), "chunk .* not 0"),
        (lambda: next(predict(POINTER, None, None, [], beam=2)), "must be 1, not 2"),
        (lambda: decode_with_beam(None, [[4]], 0), "at least 1, not 0"),
        (lambda: pad([]), "no sentence"),
        (lambda: Vocab([*SPECIALS, "cat"]).decode([4, -1]), "-1 is no id .* 5 words"),
        (lambda: Vocab([*SPECIALS, "cat"]).decode([5]), "5 is no id"),
        (lambda: collate([([4], [4]), ([], [4])]), "source without a token"),
        (lambda: by_length([], []), "no sentences"),
        (lambda: continuation(()), "at least one digit"),
        (lambda: mean_loss(fresh_model(tiny_data()), []), "no pairs"),
        (lambda: greedy_exact_match(fresh_model(tiny_data()), []), "no pairs"),
        (lambda: PositionalEncoding(5), "even emb_size, not 5"),
        (lambda: masked_cross_entropy(torch.zeros(2, 3, 5), torch.zeros(2, 4).long()), "6.*8"),
    ],
)
def test_a_mistake_of_the_programmer_is_named(call, says):
    with pytest.raises((ValueError, TypeError), match=says):
        call()
