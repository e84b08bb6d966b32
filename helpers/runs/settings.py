"""Every setting of a run, in four groups: the task, the model, the optimizer, and the run itself.

Which settings there are depends on the task, the model and the optimizer that are chosen by name;
one that means nothing beside the others is refused.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from helpers.models import MODELS, ModelSettings
from helpers.runs.fields import Group, choice, number
from helpers.tasks import TASKS
from helpers.tasks.task import Task

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.optim import Optimizer

PLATEAU = {"schedule": ("plateau",)}
PATIENT = {"patience": range(1, 10_001)}


@dataclass(frozen=True)
class OptimizerSettings(Group):
    """What all optimizers have in common: the learning rate, and how it falls."""

    lr: float = number(2e-3, 1e-5, 1, "learning rate at the start")
    schedule: str = choice("cosine", ("cosine", "plateau"), "how the learning rate falls")
    lr_floor: float = number(0.02, 0, 1, "the learning rate falls no lower than this share of lr")
    plateau_factor: float = number(0.5, 0, 0.999, "factor of the learning rate", PLATEAU)
    plateau_patience: int = number(1, 0, 10_000, "bad epochs (validation loss) to wait", PLATEAU)
    warmup: int = number(
        0, 0, 1_000_000, "steps in which the learning rate rises to lr", {"schedule": ("cosine",)}
    )
    max_norm: float = number(1.0, 1e-9, 1e9, "global norm that the gradient is clipped to")

    smallest_lr = 0.0  # that the grid of float64 (see `snap_to_grid`) can follow

    def build(self, params: Iterable["Tensor"]) -> "Optimizer":
        """The optimizer of some parameters."""
        raise NotImplementedError

    def check_grid(self) -> None:
        """Raises ValueError if the steps are lost when parameters are rounded to the grid."""
        from helpers.training import GRID

        way_out = "for parameters rounded to 2^-20: choose a higher one, or precision float32"
        if self.lr * min(1, self.max_norm) < self.smallest_lr:
            raise ValueError(f"lr {self.lr} (times max_norm) is too small {way_out}")
        if 0 < self.weight_decay * self.lr < 5 / GRID:  # a parameter of 0.1 would not move
            raise ValueError(f"weight_decay {self.weight_decay} times lr is too small {way_out}")


@dataclass(frozen=True)
class AdamSettings(OptimizerSettings):
    """Adam by hand; with weight decay, AdamW."""

    name = "adam"

    beta1: float = number(0.9, 0, 0.999999, "share of the mean kept in each step")
    beta2: float = number(0.98, 0, 0.999999, "share of the mean square kept in each step")
    eps: float = number(1e-8, 1e-16, 1, "added to the root of the mean square")
    weight_decay: float = number(0.0, 0, 100, "decoupled decay (adam), L2 penalty (sgd)")

    def build(self, params: Iterable["Tensor"]) -> "Optimizer":
        from helpers.optim import Adam

        return Adam(params, self.lr, (self.beta1, self.beta2), self.eps, self.weight_decay)


@dataclass(frozen=True)
class SGDSettings(OptimizerSettings):
    """Torch's stochastic gradient descent."""

    name = "sgd"
    smallest_lr = 1e-3  # times a gradient; many of its numbers are a thousandth of its norm

    momentum: float = number(0.9, 0, 0.999999, "share of the last step kept in each step")
    weight_decay: float = number(0.0, 0, 100, "decoupled decay (adam), L2 penalty (sgd)")

    def build(self, params: Iterable["Tensor"]) -> "Optimizer":
        from torch.optim import SGD

        decay = {"weight_decay": self.weight_decay}
        return SGD(params, self.lr, self.momentum, **decay, foreach=True)


OPTIMIZERS = {kind.name: kind for kind in (AdamSettings, SGDSettings)}


@dataclass(frozen=True)
class RunSettings(Group):
    """How a model is trained, whatever it is."""

    seed: int = number(1, 0, 2**32 - 1, "seed of data, first parameters and batch order")
    device: str = choice("cpu", ("cpu", "cuda"), "where to compute")
    precision: str = choice(None, ("float64", "float32"), "float64: the same digits everywhere")
    amp: bool = choice(False, (False, True), "automatic mixed precision")
    epochs: int = number(3, 1, 10_000, "passes over the training data, at most")
    patience: int = number(
        0, 0, 10_000, "stop after so many epochs without a better exact match; 0: never"
    )
    min_delta: float = number(
        0.0, 0, 1, "smallest rise of the exact match, from 0 to 1, that counts", PATIENT
    )
    batch_size: int = number(
        32, 1, 65_536, "sources in a training step, over all processes", {"batch_tokens": (0,)}
    )
    batch_tokens: int = number(
        0, 0, 1_000_000, "target tokens in a training step, padding included; 0: a batch_size"
    )
    threads: int = number(1, 1, 1024, "threads on a CPU; more than one changes the rounding")
    accumulate: int = number(1, 1, 65_536, "parts of a batch whose gradients are added up")
    label_smoothing: float = number(
        0.0, 0, 0.999, "share of the target that is spread over all symbols, in training"
    )
    teacher_forcing: float = number(1.0, 0, 1, "share of previous words that are the true ones")
    teacher_forcing_end: float = number(
        None, 0, 1, "moves on a line to this share; None: it stays", {"epochs": range(2, 10_001)}
    )

    def __post_init__(self):
        if self.precision is None:
            usual = {"cpu": "float64", "cuda": "float32"}.get(self.device, "float64")
            object.__setattr__(self, "precision", usual)
        super().__post_init__()
        if self.amp and self.precision != "float32":
            raise ValueError("amp means nothing with precision float64")

    @property
    def dtype(self) -> "torch.dtype":
        import torch

        return getattr(torch, self.precision)

    def forcing_in(self, epoch: int) -> float:
        """The share of true previous words in an epoch: on a line from the first to the last."""
        start, end = self.teacher_forcing, self.teacher_forcing_end
        way = (epoch - 1) / max(1, self.epochs - 1)
        return start if end is None else start + way * (end - start)


KINDS = {"task": TASKS, "model": MODELS, "optimizer": OPTIMIZERS}  # what is chosen by name
DEFAULTS = {name: next(iter(kinds)) for name, kinds in KINDS.items()}


@dataclass(frozen=True)
class Settings:
    """All that decides the result of a run. Raises ValueError for a model that cannot learn the
    task, and for steps that float64 rounds off.
    """

    task: Task
    model: ModelSettings
    optimizer: OptimizerSettings
    run: RunSettings

    def __post_init__(self):
        if self.model.copies and not self.task.mirrors:
            raise ValueError(f"a model that copies cannot learn {self.task.name}")
        if self.run.precision == "float64":
            self.optimizer.check_grid()

    @classmethod
    def of(cls, **flags) -> "Settings":
        """The settings that are asked for by name, all others by default: the `task`, the `model`,
        the `optimizer`, and fields of their groups and of the run. Raises ValueError for one that
        means nothing beside the others, or is not possible.
        """
        return cls.choose(flags, {})

    @classmethod
    def choose(cls, flags: dict, defaults: dict) -> "Settings":
        """As `of`, but with `defaults`; those that mean nothing beside the `flags` are left out."""
        chosen = {name: flags.get(name, defaults.get(name, DEFAULTS[name])) for name in KINDS}
        for name, kinds in KINDS.items():
            if chosen[name] not in [*kinds]:  # which takes what has no hash, too
                options = " or ".join(kinds)
                raise ValueError(f"{name} must be {options}, not {chosen[name]!r}")
        groups = {name: KINDS[name][kind] for name, kind in chosen.items()} | {"run": RunSettings}
        if not defaults:
            defaults = groups["model"].recipe(flags)
        known = {spec.name for group in groups.values() for spec in fields(group)}
        for name in sorted(flags.keys() - KINDS.keys() - known):
            raise ValueError(f"{name} {refusal(name, chosen)}")
        return cls(**{name: fill(group, flags, defaults) for name, group in groups.items()})

    def having(self, **changes) -> "Settings":
        """The same settings but for the `changes`, and for what means nothing beside them."""
        return self.choose(changes, self.flat())

    def flat(self) -> dict:
        """All names and values in one dictionary."""
        names = {name: getattr(self, name).name for name in KINDS}
        groups = (self.task, self.model, self.optimizer, self.run)
        return names | {name: value for group in groups for name, value in vars(group).items()}

    def check_same(self, other: "Settings") -> None:
        """Raises ValueError, naming the differences, unless `other` has the same settings."""
        mine, theirs = self.flat(), other.flat()
        differences = [
            f"{name} {mine.get(name)}, not {theirs.get(name)}"
            for name in mine | theirs
            if mine.get(name) != theirs.get(name)
        ]
        if differences:
            raise ValueError(f"the run to resume has {', '.join(differences)}")

    def folder(self, recipe: Mapping = MappingProxyType({})) -> Path:
        """Where `train` keeps a run, and the other commands look for one; `recipe` is that of a
        corpus.
        """
        label = self.model.label(recipe)
        return Path("checkpoints", f"{self.task.name}-{label}" if label else self.task.name)


def refusal(name: str, chosen: dict[str, str]) -> str:
    """Why a setting cannot be given beside the kinds that were chosen."""
    for group, kinds in KINDS.items():
        if any(name == spec.name for kind in kinds.values() for spec in fields(kind)):
            return f"means nothing with {group} {chosen[group]}"
    return "is no setting"


def fill(group: type[Group], flags: dict, defaults: dict) -> Group:
    """A group with those of the `flags` that it has, and of the `defaults` that mean something."""
    names = [spec.name for spec in fields(group)]
    given = {name: flags[name] for name in names if name in flags}
    usual = {name: defaults[name] for name in names if name in defaults and name not in flags}
    for spec in fields(group):
        needs = spec.metadata["needs"]
        others = given | usual
        if any(others.get(name, default_of(group, name)) not in needs[name] for name in needs):
            usual.pop(spec.name, None)
    return group(**usual | given)


def default_of(group: type[Group], name: str):
    return next(spec.metadata["default"] for spec in fields(group) if spec.name == name)
