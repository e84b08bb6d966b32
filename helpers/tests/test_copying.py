"""Words copied from where the attention points: the search, its end, and what comes back."""

import io

import pytest
import torch

from helpers.data import BOS, EOS, PAD, SPECIALS, UNK, Vocab
from helpers.models import recurrent
from helpers.runs.loop import Run, fit, prepare
from helpers.runs.settings import Settings
from helpers.search.answers import predict
from helpers.search.copying import copy_search, decode_by_copying
from helpers.tests.test_models import KINDS, build
from helpers.tests.tiny import silent


class Pointer(torch.nn.Module):
    """Stands in for a model: it moves its weights by `move` places a step, from `first` on."""

    copies = any_length = True
    longest = 0

    def __init__(self, first, move):
        super().__init__()
        self.first, self.move = first, move
        self.weight = torch.nn.Parameter(torch.zeros(1))  # decoding asks where the model is
        self.read, self.seen = [], []

    def start(self, src, src_lens):
        places = torch.arange(src.size(1) + 2).expand(len(src), -1)
        mask = places < (src_lens + 2).unsqueeze(1)
        self.lens = src_lens
        return torch.zeros(len(src), 1), torch.zeros(mask.shape), places, places, mask

    def step(self, ids, state):
        """It sees the numbers of the places as their keys."""
        assert not torch.is_grad_enabled(), "what is kept for a gradient grows with the square"
        hidden, previous, places, _, mask = state
        self.read.append(ids.tolist())
        self.seen.append(places.size(1))
        if not self.read[1:]:
            assert not previous.any()
            at = self.first(self.lens)
        else:
            assert torch.all((previous == 1).sum(dim=1) == 1), "fed back as one weight of 1"
            at = places.gather(1, previous.argmax(dim=1, keepdim=True)).squeeze(1) + self.move
        away = (places - at.unsqueeze(1)).abs()
        return None, None, (hidden, (1.0 / (1 + away)).where(mask, 0), places, places, mask)


def test_it_copies_until_it_points_at_the_first_sentinel():
    model = Pointer(first=lambda lens: lens, move=-1)
    src, lens = torch.tensor([[7, 8, 9, 6], [5, 4, 0, 0]]), torch.tensor([4, 2])
    assert copy_search(model, src, lens).tolist() == [[4, 3, 2, 1, 0], [2, 1, 0, 0, 0]]
    assert model.read[:3] == [[1, 1], [6, 4], [9, 5]], "<bos>, then the words pointed at"


def test_each_of_a_batch_ends_by_itself():
    """The first is stuck, so is the shorter second, and the third is lost at once."""
    src, lens = torch.tensor([[7, 8], [5, 0], [6, 0]]), torch.tensor([2, 1, 1])
    places = copy_search(Pointer(first=lambda lens: torch.tensor([1, 1, 2]), move=0), src, lens)
    assert places.tolist() == [[1] * 6, [1] * 4 + [0] * 2, [0] * 6]
    src, lens = torch.tensor([[7, 8], [5, 6]]), torch.tensor([2, 2])
    places = copy_search(Pointer(first=lambda lens: torch.tensor([0, 1]), move=1), src, lens)
    assert places.tolist() == [[0, 0, 0], [1, 2, 0]], "the first is over and does not begin again"


def test_it_ends_where_it_is_lost():
    src, lens = torch.tensor([[7, 8, 9]]), torch.tensor([3])
    assert copy_search(Pointer(lambda lens: lens - 1, 1), src, lens).tolist() == [[2, 3, 0]]
    stuck = copy_search(Pointer(lambda lens: lens, 0), src, lens)
    assert stuck.tolist() == [[3] * 8]


def test_only_the_first_step_looks_at_the_whole_source():
    src, lens = torch.full((2, 40), 7), torch.tensor([40, 30])
    model = Pointer(lambda lens: lens, -1)
    places = copy_search(model, src, lens, side=3).tolist()
    assert places == [[*range(40, 0, -1), 0], [*range(30, 0, -1)] + [0] * 11]
    assert model.seen == [42] + [7] * 40
    assert copy_search(Pointer(lambda lens: lens, -1), src, lens, side=100).tolist() == places


@pytest.mark.parametrize(
    "first, move, right", [(40, -9, [40, 31, 22, 13, 4, 0]), (1, 9, [1, 10, 19, 28, 37, 0])]
)
def test_whoever_reaches_the_edge_looks_at_the_whole_source(first, move, right):
    """In both directions: what is farther than 3 places cannot be seen before."""
    src, lens = torch.full((1, 40), 7), torch.tensor([40])
    model = Pointer(lambda lens: torch.tensor([first]), move)
    assert copy_search(model, src, lens, side=3).tolist() == [right]
    assert model.seen == [42] + [7, 42] * 5


def test_each_source_is_answered_in_its_place():
    sources = [[7, 8, 9], [5], [4, 6]]
    answers = decode_by_copying(Pointer(lambda lens: lens, -1), sources)
    assert answers == [[3, 2, 1], [1], [2, 1]]
    with pytest.raises(ValueError, match="without a token"):
        decode_by_copying(Pointer(lambda lens: lens, -1), [[4], []])


def test_a_beam_is_refused():
    vocab = Vocab([*SPECIALS, "cat"])
    with pytest.raises(ValueError, match="no use for a beam"):
        next(predict(Pointer(lambda lens: lens, -1), vocab, vocab, [("cat",)], beam=2))


def test_tokens_come_back_byte_for_byte():
    vocab = Vocab([*SPECIALS, "cat"])
    tokens = ("\u65e5\u672c", "Cat\u00e9!", "<pad>", "\U0001f600", "e\u0301")
    answer, empty = predict(Pointer(lambda lens: lens, -1), vocab, vocab, [tokens, ()])
    assert answer.words == [*tokens[::-1]] and empty.words == []


def reverse_lines(model, vocab, lines):
    """As the command line does it."""
    answers = predict(model, vocab, vocab, (tuple(line.split()) for line in lines))
    return (" ".join(answer.words) for answer in answers)


@torch.no_grad()
def slow_copying(model, src):
    """One source, with all of the state written out: the weights are one of 1."""
    framed, lens = torch.tensor([[BOS, *src, EOS]]), torch.tensor([len(src)])
    state, ids, places = model.start(torch.tensor([src]), lens), torch.tensor([BOS]), []
    while len(places) < 2 * len(src) + 2:
        *hidden, previous, keys, values, mask = state
        located = model.decoder.attention.locate(keys, previous)
        _, hidden, weights = model.decoder.step(ids, tuple(hidden), located, values, mask)
        place = weights.argmax().item()
        if place in (0, len(src) + 1):
            break
        places.append(place)
        ids = framed[:, place]
        state = *hidden, torch.eye(len(src) + 2)[place : place + 1], keys, values, mask
    return places


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "location" in kind])
def test_the_search_is_that_of_one_source_after_the_other(kind):
    """Whatever the cell and the layers are."""
    model = build(kind, 12, 12)
    sources = [[5], [6, 7, 8, 9, 4], [4, 5], [9, 9, 4], [11, 10, 4, 8, 8, 8, 5]]
    answers = decode_by_copying(model, sources)
    assert answers == [slow_copying(model, src) for src in sources]
    assert len({tuple(row) for row in answers}) > 2, "so that there is something to compare"


def test_who_looks_at_the_whole_source_does_not_change_the_others():
    """The first is always at the edge, the second never: its state stays that of a small look."""
    src, lens, hidden = torch.full((2, 40), 7), torch.tensor([40, 40]), []
    model = Pointer(lambda lens: lens, torch.tensor([-9, -1]))
    step = model.step

    def spy(ids, state):
        hidden.append(state[0].flatten().tolist())
        *_, (_, weights, *rest) = step(ids, state)
        return None, None, (torch.full((2, 1), weights.size(1)), weights, *rest)

    model.step = spy
    assert copy_search(model, src, lens, side=3)[1].tolist() == [*range(40, 0, -1), 0]
    assert hidden[1] == [42, 42] and [42, 7] in hidden and [42, 42] not in hidden[3:]


@pytest.fixture(scope="module")
def trained():
    """A small one of its kind, trained on up to six words."""
    settings = Settings.of(
        attention="location", max_length=6, per_length=300, unk_rate=0.6, dropout=0.1, lr=8e-3,
        emb_size=32, hidden_size=32, attn_size=32, epochs=7, seed=2,
    )  # fmt: skip
    data, model = prepare(settings)
    fit(Run(model, data, settings), report=silent, bar=io.StringIO())
    assert not model.training
    return model, data.vocab


def test_trained_on_six_words_it_reverses_sixty(trained):
    """Words that are all unknown; without the weight of 1 it would blur."""
    lengths = [1, 6, 7, 20, 60]
    answers = decode_by_copying(trained[0], [[UNK] * n for n in lengths])
    assert answers == [list(range(n, 0, -1)) for n in lengths]


def test_what_is_far_away_changes_nothing(trained):
    """The same places as those of a search that looks at everything in each step."""
    model, vocab = trained
    known = vocab.encode(("the", "cat", "saw", "a", "dog"))
    for n in (1, 30, 70, 300):
        lens = torch.tensor([n, n, max(1, n - 3), max(1, n - 9)])
        src = torch.full((4, n), UNK)
        src[1:, ::7] = known[n % 5]
        src[torch.arange(n) >= lens.unsqueeze(1)] = PAD
        assert copy_search(model, src, lens).equal(copy_search(model, src, lens, side=n))


def test_a_long_line_is_read_in_pieces(trained, monkeypatch):
    whole = decode_by_copying(trained[0], [[UNK] * 150])
    monkeypatch.setattr(recurrent, "LONG", 40)
    assert decode_by_copying(trained[0], [[UNK] * 150]) == whole == [list(range(150, 0, -1))]


def test_it_reverses_a_long_text_that_nobody_here_wrote(trained):
    documented = [getattr(torch.nn, name).__doc__ or "" for name in sorted(dir(torch.nn))]
    lines = "\n".join(documented).splitlines()[:5000]
    assert len(lines) == 5000 and "" in lines and max(len(line.split()) for line in lines) > 12
    answers = list(reverse_lines(*trained, lines))
    assert answers == [" ".join(reversed(line.split())) for line in lines]


def test_no_more_lines_are_read_than_are_answered_at_once(trained):
    read = []
    answers = reverse_lines(*trained, (read.append(i) or f"line {i}" for i in range(10**9)))
    assert [next(answers) for _ in range(501)][-1] == "500 line" and len(read) == 1000
