"""Which setting means something beside which others: each with each task, model and optimizer, from
a list that is written by hand; and what a field is.
"""

from dataclasses import dataclass
from itertools import product

import pytest

from helpers.models.recurrent import ATTENTIONS
from helpers.runs.fields import Group, choice, number
from helpers.runs.settings import KINDS, Settings

OF_TASKS = {
    "words": {"max_length", "per_length", "unk_rate"},
    "integers": {"max_length", "per_length", "vocab_size"},
    "patterns": {"max_length", "per_length"},
    "translate": {"max_length", "per_length", "subwords"},
}
OF_MODELS = {
    "recurrent": {
        "cell",
        "attention",
        "emb_size",
        "hidden_size",
        "attn_size",
        "layers",
        "dropout",
        "output",
    },
    "transformer": {"emb_size", "hidden_size", "heads", "layers", "dropout"},
}
OF_ALL = {"lr", "schedule", "lr_floor", "plateau_factor", "plateau_patience", "warmup"}
OF_ALL |= {"max_norm"}
OF_OPTIMIZERS = {
    "adam": OF_ALL | {"beta1", "beta2", "eps", "weight_decay"},
    "sgd": OF_ALL | {"momentum", "weight_decay"},
}
OF_RUNS = {"seed", "device", "precision", "amp", "epochs", "patience", "min_delta", "batch_size"}
OF_RUNS |= {
    "batch_tokens",
    "threads",
    "accumulate",
    "label_smoothing",
    "teacher_forcing",
    "teacher_forcing_end",
}
VALUES = {  # of each setting one that it does not have by default
    "max_length": 5, "per_length": 50, "unk_rate": 0.5, "vocab_size": 9, "subwords": 300,
    "cell": "lstm", "attention": "luong", "emb_size": 8, "hidden_size": 8, "attn_size": 8,
    "layers": 3, "dropout": 0.3, "output": "tied", "heads": 2,
    "lr": 0.1, "schedule": "plateau", "lr_floor": 0.1, "plateau_factor": 0.1,
    "plateau_patience": 7, "warmup": 5, "max_norm": 2.0, "beta1": 0.5, "beta2": 0.5, "eps": 0.1,
    "weight_decay": 0.1, "momentum": 0.5,
    "seed": 2, "device": "cuda", "precision": "float32", "amp": True, "epochs": 9, "patience": 2,
    "min_delta": 0.1, "batch_size": 8, "batch_tokens": 99, "threads": 2, "accumulate": 2,
    "label_smoothing": 0.1, "teacher_forcing": 0.5, "teacher_forcing_end": 0.5,
}  # fmt: skip
BESIDE = {  # what must be set, too, for them to mean something
    "plateau_factor": {"schedule": "plateau"},
    "plateau_patience": {"schedule": "plateau"},
    "min_delta": {"patience": 2},
    "amp": {"precision": "float32"},
}
CHOICES = [*product(OF_TASKS, OF_MODELS, OF_OPTIMIZERS)]


def test_the_list_is_complete():
    assert [[*kinds] for kinds in KINDS.values()] == [
        [*OF_TASKS], [*OF_MODELS], [*OF_OPTIMIZERS]]  # fmt: skip
    everything = set.union(*OF_TASKS.values(), *OF_MODELS.values(), *OF_OPTIMIZERS.values())
    assert {*VALUES} == everything | OF_RUNS
    for task, model, optimizer in CHOICES:
        flat = Settings.of(task=task, model=model, optimizer=optimizer).flat()
        own = OF_TASKS[task] | OF_MODELS[model] | OF_OPTIMIZERS[optimizer] | OF_RUNS
        assert {*flat} == own | {"task", "model", "optimizer"}
        assert all(flat[name] != VALUES[name] for name in own)


@pytest.mark.parametrize("name", VALUES)
def test_a_setting_is_accepted_exactly_if_the_chosen_kinds_have_it(name):
    for task, model, optimizer in CHOICES:
        chosen = {"task": task, "model": model, "optimizer": optimizer}
        flags = chosen | BESIDE.get(name, {}) | {name: VALUES[name]}
        if name in OF_TASKS[task] | OF_MODELS[model] | OF_OPTIMIZERS[optimizer] | OF_RUNS:
            flat = Settings.of(**flags).flat()
            assert flat | flags == flat
            continue
        with pytest.raises(ValueError) as refused:
            Settings.of(**flags)
        kinds = ("task", OF_TASKS), ("model", OF_MODELS), ("optimizer", OF_OPTIMIZERS)
        (group,) = (group for group, of in kinds if name in set.union(*of.values()))
        assert str(refused.value) == f"{name} means nothing with {group} {chosen[group]}"


@pytest.mark.parametrize("name", BESIDE)
def test_a_setting_that_needs_another_is_refused_without_it(name):
    (needed,) = BESIDE[name]
    usual = Settings.of().flat()[needed]
    with pytest.raises(ValueError, match=f"^{name} means nothing with {needed} {usual}$"):
        Settings.of(**{name: VALUES[name]})
    accepted = Settings.of(**BESIDE[name]).flat()
    assert accepted[name] is not None and accepted[name] != VALUES[name], "its default"
    assert name in ("amp", "min_delta") or Settings.of().flat()[name] is None


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_only_an_attention_with_a_hidden_layer_has_a_size(attention):
    flags = {"attention": attention, "attn_size": 8}
    if attention in ("bahdanau", "location"):
        assert Settings.of(**flags).model.attn_size == 8
        assert Settings.of(attention=attention).model.attn_size == 64
        return
    with pytest.raises(ValueError, match=f"^attn_size means nothing with attention {attention}$"):
        Settings.of(**flags)
    assert Settings.of(attention=attention).model.attn_size is None


@pytest.mark.parametrize("one, other", [
    (one, other) for one in CHOICES for other in CHOICES
])  # fmt: skip
def test_from_any_choice_to_any_other(one, other):
    """What both have is kept, what only the first has is left out, the rest is as by default."""
    names = "task", "model", "optimizer"
    flags, changes = dict(zip(names, one, strict=True)), dict(zip(names, other, strict=True))
    own = [
        OF_TASKS[task] | OF_MODELS[model] | OF_OPTIMIZERS[optimizer] | OF_RUNS
        for task, model, optimizer in (one, other)
    ]
    values = {
        name: VALUES[name] for name in own[0] - {"device", "attention", "warmup", "batch_tokens"}
    }
    flat = Settings.of(**flags, **values).having(**changes).flat()
    usual = Settings.of(**changes, schedule="plateau", emb_size=8, hidden_size=8).flat()
    assert {*flat} == own[1] | {*names}
    for name in own[1] - {"device", "attention", "warmup", "batch_tokens"}:
        assert flat[name] == (VALUES[name] if name in own[0] else usual[name]), name
    assert {name: flat[name] for name in names} == changes


@pytest.mark.parametrize("name", ["plateau_factor", "plateau_patience", "attn_size"])
def test_what_needs_another_setting_goes_with_it(name):
    """And is there again, as by default, if that comes back."""
    needed = {"attention": "luong"} if name == "attn_size" else {"schedule": "cosine"}
    settings = Settings.of(**{"schedule": "plateau", name: VALUES[name]})
    without = settings.having(**needed)
    assert settings.flat()[name] == VALUES[name] and without.flat()[name] is None
    back = without.having(attention="bahdanau", schedule="plateau")
    assert back == Settings.of(schedule="plateau")


@dataclass(frozen=True)
class Door(Group):
    material: str = choice("wood", ("wood", "glass"), "what it is made of")
    width: int = number(90, 60, 120, "in centimetres")
    tint: float = number(0.5, 0, 1, "share of the light it takes", {"material": ("glass",)})
    open: bool = choice(False, (False, True), "whether it stands open")
    handle: float = number(None, 0, 9, "its length, if it has one")


def test_a_group_has_its_defaults_and_none_for_what_means_nothing():
    assert vars(Door()) == {
        "material": "wood", "width": 90, "tint": None, "open": False, "handle": None}  # fmt: skip
    assert Door(material="glass").tint == 0.5 and Door(material="glass", tint=0).tint == 0
    assert Door(width=None, material=None) == Door(), "None is the default"


@pytest.mark.parametrize(
    "flags, error, message",
    [
        ({"material": "steel"}, ValueError, "material must be wood or glass, not 'steel'"),
        ({"material": 1}, ValueError, "material must be wood or glass, not 1"),
        ({"open": 1}, ValueError, "open must be False or True, not 1"),
        ({"width": 59}, ValueError, "width must lie between 60 and 120, not 59"),
        ({"width": 121}, ValueError, "width must lie between 60 and 120, not 121"),
        ({"width": 90.0}, TypeError, "width must be an integer, not 90.0"),
        ({"width": True}, TypeError, "width must be an integer, not True"),
        ({"width": "90"}, TypeError, "width must be an integer, not '90'"),
        ({"tint": 0.5}, ValueError, "tint means nothing with material wood"),
        ({"tint": 1.5, "material": "glass"}, ValueError, "tint must lie between 0 and 1, not 1.5"),
        ({"tint": "x", "material": "glass"}, TypeError, "tint must be a number, not 'x'"),
        ({"handle": float("nan")}, ValueError, "handle must lie between 0 and 9, not nan"),
    ],
)
def test_what_a_field_may_not_be(flags, error, message):
    with pytest.raises(error) as refused:
        Door(**flags)
    assert str(refused.value) == message


def test_the_ends_of_a_range_are_within_it():
    assert (Door(width=60).width, Door(width=120).width, Door(handle=9).handle) == (60, 120, 9)
