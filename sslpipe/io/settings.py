"""Conversion of mappings to frozen, typed settings, with errors that name the key."""

import types
from collections.abc import Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from math import inf
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from sslpipe.io.errors import UserError
from sslpipe.io.renamed import unknown_key, value_hint

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Bounds of a number, for Annotated[float, Range(...)]: `low` and `high` are inclusive, the others exclusive."""

    low: float = -inf
    high: float = inf
    above: float = -inf
    below: float = inf

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high and self.above < value < self.below

    def __str__(self) -> str:
        lower = f"above {self.above:g}" if self.above > -inf else f"at least {self.low:g}" if self.low > -inf else ""
        upper = f"below {self.below:g}" if self.below < inf else f"at most {self.high:g}" if self.high < inf else ""
        return " and ".join(part for part in (lower, upper) if part)


Positive = Annotated[float, Range(above=0)]
NonNegative = Annotated[float, Range(low=0)]
Fraction = Annotated[float, Range(low=0, high=1)]
BelowOne = Annotated[float, Range(low=0, below=1)]
Count = Annotated[int, Range(low=1)]
TwoOrMore = Annotated[int, Range(low=2)]
CountOrZero = Annotated[int, Range(low=0)]


def parse(
    cls: type[T],
    block: Any,
    *,
    where: str,
    base: T | None = None,
    around: Mapping[str, Any] | None = None,
    shared: Collection[str] = (),
) -> T:
    """Return settings of class `cls` from a mapping.

    block: the content of params.yaml at the key `where`. A missing key takes its value from `base` if that is given,
    else from the field's default. The default of a nested block is its `base`, with two exceptions: a block with the
    key that its class names in `PRESET` has no base, and the base of a class with a method `base_for` is
    `default.base_for(block)`.
    around, shared: the block that `block` lies in, and the fields whose values are there.
    Raises UserError for an unknown key, a missing key without a default, a wrong type or a value out of range.
    """
    if not isinstance(block, Mapping):
        raise UserError(f"{where}: {_shown(block)} found, expected a block of keys")
    known = {field.name: field for field in fields(cls)}  # type: ignore[arg-type]
    outside = where.rpartition(".")[0]
    for key in block:
        if key in shared:
            raise UserError(f"{where}.{key}: unknown key; set {outside}.{key}, which all methods share")
        if key not in known:
            raise unknown_key(where, str(key), known)
    hints = get_type_hints(cls, include_extras=True)
    values = {}
    for name, field in known.items():
        made = field.default_factory() if field.default_factory is not MISSING else field.default
        default = made if base is None else getattr(base, name)
        source, place = (around or {}, outside) if name in shared else (block, where)
        if name in source:
            values[name] = _convert(hints[name], source[name], f"{place}.{name}", default)
        elif default is not MISSING:
            values[name] = default
        else:
            raise UserError(f"{place}.{name}: missing, expected {expected(hints[name])}")
    try:
        return cls(**values)
    except UserError as error:  # raised by __post_init__
        raise UserError(f"{where}: {error}") from None


def _convert(hint: Any, value: Any, where: str, default: Any = MISSING) -> Any:
    """Convert a value of params.yaml to the type `hint`."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *bounds = get_args(hint)
        result = _convert(inner, value, where, default)
        for bound in bounds:
            if isinstance(bound, Range) and result not in bound:
                raise UserError(f"{where}: {result} is out of range, expected {bound}")
        return result
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if is_dataclass(hint) and isinstance(hint, type):
        base = default if isinstance(default, hint) else None
        if isinstance(value, Mapping):
            # A block that names its preset takes the preset's values, not what the default adds to another preset.
            if getattr(hint, "PRESET", None) in value:
                base = None
            elif base is not None and hasattr(base, "base_for"):
                base = base.base_for(value)
        return parse(hint, value, where=where, base=base)
    if origin is Literal:
        if any(value == option and type(value) is type(option) for option in get_args(hint)):
            return value
        raise UserError(f"{where}: unknown value {_shown(value)}{value_hint(where, value, get_args(hint))}")
    if origin is Mapping and isinstance(value, Mapping):  # a block that is parsed later, with another class
        return dict(value)
    if origin is tuple and isinstance(value, list | tuple):
        return _convert_tuple(hint, value, where)
    if hint is float:
        # YAML 1.1 reads 1e-4 as a string.
        try:
            if not isinstance(value, bool) and (number := float(value)) == number:
                return number
        except (TypeError, ValueError):
            pass
    elif hint in (str, bool, int) and type(value) is hint:
        return value
    raise UserError(f"{where}: {_shown(value)} found, expected {expected(hint)}")


def _convert_union(hint: Any, value: Any, where: str) -> Any:
    options = get_args(hint)
    if value is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return _convert(options[0], value, where)
    for option in options:
        try:
            return _convert(option, value, where)
        except UserError:
            continue
    raise UserError(f"{where}: {_shown(value)} found, expected {expected(hint)}")


def _convert_tuple(hint: Any, value: Any, where: str) -> tuple[Any, ...]:
    inner = get_args(hint)
    if len(inner) == 2 and inner[1] is Ellipsis:
        return tuple(_convert(inner[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(inner) != len(value):
        raise UserError(f"{where}: {len(value)} values found, expected {len(inner)}")
    return tuple(_convert(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(inner, value, strict=True)))


def expected(hint: Any) -> str:
    """Describe a type hint in words."""
    origin = get_origin(hint)
    if origin is Annotated:
        inner, *bounds = get_args(hint)
        return " ".join([expected(inner), *(str(b) for b in bounds)])
    if origin in (Union, types.UnionType):
        return " or ".join(expected(option) for option in get_args(hint))
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in get_args(hint))
    if origin is tuple:
        return "a list"
    names = {float: "a number", int: "a whole number", str: "text", bool: "true or false", type(None): "null"}
    return names.get(hint, "a block of keys")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
