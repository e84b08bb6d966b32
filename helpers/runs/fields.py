"""What a setting is: its default, what it may be, what it depends on, what `--help` says of it."""

from dataclasses import dataclass, field, fields


def number(default: float, low: float, high: float, help: str, needs: dict | None = None):
    """A field of a `Group` that is a number from `low` to `high`.

    `needs` names other fields of the group, each with the values that it must have for this one to
    mean something; without such a value the field is None.
    """
    metadata = {"low": low, "high": high, "help": help}
    return setting(default, metadata, needs)


def choice(default, options: tuple, help: str, needs: dict | None = None):
    """A field of a `Group` that has one of a few values, the `options`."""
    return setting(default, {"options": options, "help": help}, needs)


def setting(default, metadata: dict, needs: dict | None):
    metadata |= {"default": default, "needs": needs or {}}
    return field(default=None if needs else default, metadata=metadata)


@dataclass(frozen=True)
class Group:
    """Settings that belong together. Raises ValueError for a value that is not possible, or that
    means nothing beside the others, and TypeError for one that is no number where there must be
    one.
    """

    def __post_init__(self):
        for spec in fields(self):
            value = getattr(self, spec.name)
            lacking = self.lacking(spec)
            if lacking and value is not None:
                raise ValueError(f"{spec.name} means nothing with {lacking}")
            if value is None and not lacking:
                value = spec.metadata["default"]
                object.__setattr__(self, spec.name, value)
            if value is not None:
                check(spec.name, value, spec.type, spec.metadata)

    def lacking(self, spec) -> str:
        """What keeps a field from meaning something: "" or, for example, "cell gru"."""
        for name, values in spec.metadata["needs"].items():
            if getattr(self, name) not in values:
                return f"{name} {getattr(self, name)}"
        return ""


def check(name: str, value, kind: type, limits: dict) -> None:
    """Raises ValueError or TypeError unless `value` is a possible one for a field."""
    if "options" in limits:
        if type(value) is not kind or value not in limits["options"]:
            options = " or ".join(str(option) for option in limits["options"])
            raise ValueError(f"{name} must be {options}, not {value!r}")
    elif isinstance(value, bool) or not isinstance(value, (int, kind)):
        noun = {int: "an integer", float: "a number"}[kind]
        raise TypeError(f"{name} must be {noun}, not {value!r}")
    elif not limits["low"] <= value <= limits["high"]:  # also refuses NaN
        raise ValueError(
            f"{name} must lie between {limits['low']} and {limits['high']}, not {value}"
        )
