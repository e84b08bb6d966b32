"""Settings: what may be asked for, what is refused, and by what name a run goes."""

from dataclasses import FrozenInstanceError, fields

import pytest
import torch

from helpers.runs.settings import DEFAULTS, KINDS, RunSettings, Settings

FIELDS = {  # each setting, and beside which kinds of its group it means something
    (group, spec.name): [
        kind for kind, cls in kinds.items() if spec.name in {other.name for other in fields(cls)}
    ]
    for group, kinds in KINDS.items()
    for cls in kinds.values()
    for spec in fields(cls)
}
FOREIGN = [
    (group, kind, name)
    for (group, name), kinds in FIELDS.items()
    for kind in KINDS[group]
    if kind not in kinds
]


def value_for(group, name):
    """A possible value of a setting, other than None."""
    specs = [spec for cls in KINDS[group].values() for spec in fields(cls) if spec.name == name]
    limits = specs[0].metadata
    return limits["options"][0] if "options" in limits else limits["high"]


def test_by_default_it_is_the_model_of_the_assignment():
    settings = Settings.of()
    assert DEFAULTS == {"task": "words", "model": "recurrent", "optimizer": "adam"}
    model, run = settings.model, settings.run
    assert (model.cell, model.attention, model.layers, model.dropout) == ("gru", "bahdanau", 1, 0)
    assert (model.emb_size, model.hidden_size, model.attn_size) == (64, 64, 64)
    assert (settings.optimizer.lr, settings.optimizer.beta2) == (2e-3, 0.98)
    assert (run.epochs, run.batch_size, run.seed, run.precision) == (3, 32, 1, "float64")
    assert model.is_of_the_assignment and not model.copies


@pytest.mark.parametrize("group, kind, name", FOREIGN)
def test_what_means_nothing_for_the_kind_that_is_chosen_is_refused(group, kind, name):
    with pytest.raises(ValueError, match=f"^{name} means nothing with {group} {kind}$"):
        Settings.of(**{group: kind, name: value_for(group, name)})


def test_there_is_something_to_refuse():
    expected = {"unk_rate", "vocab_size", "heads", "cell", "attention", "attn_size"}
    expected |= {"subwords", "output", "momentum", "beta1", "beta2", "eps"}
    assert {name for _, _, name in FOREIGN} == expected


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"attention": "none", "attn_size": 8}, "attn_size means nothing with attention none$"),
        ({"attention": "luong", "attn_size": 64}, "attn_size means nothing with attention luong$"),
        ({"plateau_factor": 0.1}, "plateau_factor means nothing with schedule cosine$"),
        ({"plateau_patience": 1}, "plateau_patience means nothing with schedule cosine$"),
        ({"min_delta": 0.1}, "min_delta means nothing with patience 0$"),
        ({"amp": True}, "amp means nothing with precision float64$"),
        ({"device": "cuda", "precision": "float64", "amp": True}, "amp means nothing with"),
        ({"task": "translate", "unk_rate": 0.9, "heads": 7}, "^heads means nothing with model rec"),
        ({"attention": "location", "task": "translate"}, "copies cannot learn translate"),
        ({"attention": "location", "task": "patterns"}, "copies cannot learn patterns"),
        ({"model": "transformer", "emb_size": 6}, "divisible by heads: 6 and"),
        ({"model": "transformer", "emb_size": 5, "heads": 1}, "even and divisible"),
        ({"optimizer": "adagrad"}, "optimizer must be adam or sgd, not 'adagrad'"),
        ({"model": "lstm"}, "model must be recurrent or transformer, not 'lstm'"),
        ({"task": "sums"}, "task must be words or integers or patterns or translate, not 'sums'"),
        ({"attention": "lstm"}, "attention must be bahdanau or luong or"),
        ({"cell": "rnn"}, "cell must be gru or lstm, not 'rnn'"),
        ({"precision": "float16"}, "precision must be float64 or float32, not 'float16'"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie between"),
        ({"lr": float("nan")}, "lr must lie between"),
        ({"epochs": 0}, "epochs must lie between 1 and 10000, not 0"),
        ({"wings": 2}, "^wings is no setting$"),
    ],
)
def test_settings_that_cannot_be(flags, message):
    with pytest.raises(ValueError, match=message):
        Settings.of(**flags)


@pytest.mark.parametrize("flags", [{"epochs": 2.5}, {"epochs": True}, {"lr": "1"}, {"lr": b"1"}])
def test_what_is_no_number_is_refused(flags):
    with pytest.raises(TypeError, match=f"^{next(iter(flags))} must be an? "):
        Settings.of(**flags)


@pytest.mark.parametrize(
    "flags",
    [
        {"attention": "luong", "teacher_forcing": 0.5, "emb_size": 5},
        {"cell": "lstm", "attention": "none", "teacher_forcing_end": 1, "emb_size": 5},
        {"model": "transformer", "emb_size": 6, "heads": 3, "teacher_forcing": 0.0},
        {"cell": "lstm", "attention": "location", "layers": 3, "dropout": 0.5},
        {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 0},
        {"patience": 1, "min_delta": 0.5},
        {"precision": "float32", "amp": True},
        {"device": "cuda", "amp": True},
        {"attention": "location", "task": "integers", "vocab_size": 9},
        {"optimizer": "sgd", "momentum": 0.5, "weight_decay": 1},
    ],
    ids=str,
)
def test_settings_that_can_be_and_come_back_from_their_names(flags):
    settings = Settings.of(**flags)
    flat = settings.flat()
    assert flat | flags == flat
    given = {name: value for name, value in flat.items() if value is not None}
    assert Settings.of(**given) == settings == settings.having()
    with pytest.raises(FrozenInstanceError):
        settings.run.seed = 2


def test_cell_attention_layers_and_dropout_are_chosen_one_by_one():
    attentions = "bahdanau", "luong", "luong-dot", "location", "none"
    for cell in ("gru", "lstm"):
        for attention in attentions:
            for layers, dropout in ((1, 0.0), (2, 0.1)):
                flags = {"cell": cell, "attention": attention, "layers": layers}
                model = Settings.of(**flags, dropout=dropout, emb_size=4, hidden_size=4).model
                src, lens = torch.tensor([[5, 6, 4]]), torch.tensor([3])
                logits, weights = model.build(9, 7).eval()(src, lens, src)
                assert logits.shape == (1, 3, 7) and weights.shape == (1, 3, 3)
                assert model.is_of_the_assignment == (
                    (cell, attention, layers) == ("gru", "bahdanau", 1)
                )


def test_a_recipe_of_its_own_for_any_length():
    settings, plain = Settings.of(attention="location"), Settings.of()
    changed = {
        name: value for name, value in settings.flat().items() if value != plain.flat()[name]
    }
    assert changed == {
        "attention": "location",
        "max_length": 10,
        "per_length": 700,
        "unk_rate": 0.9,
        "dropout": 0.2,
        "epochs": 6,
    }
    assert Settings.of(attention="location", epochs=2).run.epochs == 2
    integers = Settings.of(attention="location", task="integers")
    assert (integers.task.per_length, integers.run.epochs) == (700, 6)
    assert plain.having(attention="location").run.epochs == plain.run.epochs


def test_a_change_keeps_the_rest_and_drops_what_means_nothing_beside_it():
    settings = Settings.of(attn_size=8, epochs=7, schedule="plateau", plateau_factor=0.1)
    other = settings.having(attention="none", schedule="cosine")
    assert other.model.attn_size is None and other.optimizer.plateau_factor is None
    assert other.run.epochs == 7
    transformer = settings.having(model="transformer", optimizer="sgd")
    assert transformer.model.heads == 4 and transformer.optimizer.momentum == 0.9
    assert transformer.optimizer.plateau_factor == 0.1 and transformer.run.epochs == 7
    with pytest.raises(ValueError, match="attn_size means nothing with attention none"):
        settings.having(attention="none", attn_size=8)
    with pytest.raises(ValueError, match="heads means nothing with model recurrent"):
        settings.having(heads=2)


@pytest.mark.parametrize(
    "flags, precision",
    [
        ({}, "float64"),
        ({"device": "cuda"}, "float32"),
        ({"device": "cuda", "precision": "float64"}, "float64"),
        ({"precision": "float32"}, "float32"),
    ],
)
def test_the_precision_is_a_setting(flags, precision):
    run = Settings.of(**flags).run
    assert run.precision == precision and run.dtype == getattr(torch, precision)


@pytest.mark.parametrize(
    "flags, name",
    [
        ({}, "words"),
        ({"cell": "lstm"}, "words-lstm"),
        ({"attention": "none"}, "words-none"),
        ({"cell": "lstm", "attention": "luong"}, "words-lstm-luong"),
        ({"attention": "location"}, "words-location"),
        ({"model": "transformer", "task": "patterns"}, "patterns-transformer"),
        ({"task": "translate", "layers": 2}, "translate-2-layers"),
        ({"dropout": 0.1}, "words-dropout-0.1"),
        ({"attention": "location", "dropout": 0}, "words-location-dropout-0"),
    ],
)
def test_the_folder_is_named_by_task_and_model(flags, name):
    assert Settings.of(**flags).folder().as_posix() == f"checkpoints/{name}"


def test_differences_are_named():
    settings = Settings.of(attention="luong", seed=3)
    settings.check_same(Settings.of(seed=3, attention="luong"))
    with pytest.raises(ValueError) as caught:
        settings.check_same(Settings.of(seed=3, cell="lstm", attention="luong", lr=0.1))
    assert str(caught.value) == "the run to resume has cell gru, not lstm, lr 0.002, not 0.1"


def test_the_share_of_true_words_moves_on_a_line():
    run = RunSettings(epochs=3, teacher_forcing=1.0, teacher_forcing_end=0.5)
    assert [run.forcing_in(epoch) for epoch in (1, 2, 3)] == [1.0, 0.75, 0.5]
    assert RunSettings(epochs=3, teacher_forcing=0.3).forcing_in(3) == 0.3
