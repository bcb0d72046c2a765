"""Which short name each name of the library gets.

Names that do not meet may be the same: what only its own class asks itself for, and a global that
only one file uses. Two functions of one file never have one name, so that tracebacks can be read.
"""

from __future__ import annotations

import keyword
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from string import ascii_letters

from handfast.boards.device_code.static_names import PARAMETER_NAMES, STATIC_NAMES

_MEANT_IN_CLASSES = frozenset(("property", "classmethod", "staticmethod", "super"))


@dataclass
class Use:
    """Where one name is found: how often, in which files and families of classes."""

    count: int = 0
    files: set[str] = field(default_factory=set)
    families: set[str] = field(default_factory=set)  # of an attribute that is asked of `self`
    open: bool = False  # asked of anything else
    in_class: bool = False  # a global that a class's body uses
    functions: dict[str, str] = field(default_factory=dict)  # file → what it is called there


@dataclass
class Uses:
    """What the library's names are used for, collected while it is read."""

    globals: defaultdict[str, Use] = field(default_factory=lambda: defaultdict(Use))
    attributes: defaultdict[str, Use] = field(default_factory=lambda: defaultdict(Use))
    keywords: defaultdict[str, Use] = field(default_factory=lambda: defaultdict(Use))
    builtins: set[str] = field(default_factory=set)
    modules: set[str] = field(default_factory=set)  # the package's attributes, once imported


@dataclass(frozen=True, slots=True)
class Names:
    """Own name → short name, for each kind; others stay as they are."""

    globals: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # file → short → own


class _Choice:
    """Gives the first name that is free; remembers the functions' names by file."""

    def __init__(self) -> None:
        self.functions: defaultdict[str, dict[str, str]] = defaultdict(dict)

    def take(self, use: Use, candidates: Iterable[str], taken: Iterable[set[str]]) -> str:
        used = [*taken, *(set(self.functions[file]) for file in use.functions)]
        found = next(name for name in candidates if not any(name in names for names in used))
        for file, function in use.functions.items():
            self.functions[file][found] = function
        return found


def choose_names(uses: Uses, own: Mapping[str, set[str]]) -> Names:
    """Return short names for the `own` names of each kind: "globals", "attributes", "keywords"."""
    choice = _Choice()
    for kind in (uses.globals, uses.attributes):
        for name, use in kind.items():
            for file, function in use.functions.items():
                choice.functions[file].setdefault(name, function)
    keywords = _keywords(choice, uses, own["keywords"])
    kept = set(uses.keywords) - set(keywords)  # those that applications give
    globals_ = _globals(choice, uses, own["globals"], set(keywords.values()) | kept)
    in_class = {globals_.get(name, name) for name, use in uses.globals.items() if use.in_class}
    attributes = _attributes(choice, uses, own["attributes"], in_class)
    return Names(globals_, attributes, keywords, choice.functions)


def _keywords(choice: _Choice, uses: Uses, own: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    reserved = set(uses.keywords) | set(uses.globals) | uses.builtins | set(PARAMETER_NAMES)
    for name in _by_count(uses.keywords, own):
        found[name] = choice.take(Use(), _candidates(), (reserved, set(found.values())))
    return found


def _globals(choice: _Choice, uses: Uses, own: set[str], keywords: set[str]) -> dict[str, str]:
    reserved = (set(uses.globals) - own) | uses.builtins | set(PARAMETER_NAMES) | keywords
    reserved |= _MEANT_IN_CLASSES | uses.modules
    everywhere: set[str] = set()
    by_file: defaultdict[str, set[str]] = defaultdict(set)
    found: dict[str, str] = {}
    for name in sorted(_by_count(uses.globals, own), key=lambda n: len(uses.globals[n].files) < 2):
        use = uses.globals[name]
        taken = [reserved, everywhere, *(by_file[file] for file in use.files)]
        found[name] = choice.take(use, _candidates(), taken)
        if len(use.files) > 1:
            everywhere.add(found[name])
        for file in use.files:
            by_file[file].add(found[name])
    return found


def _attributes(choice: _Choice, uses: Uses, own: set[str], in_class: set[str]) -> dict[str, str]:
    reserved = (set(uses.attributes) - own) | in_class | _MEANT_IN_CLASSES
    everywhere: set[str] = set()
    by_family: defaultdict[str, set[str]] = defaultdict(set)
    found: dict[str, str] = {}
    first = [*PARAMETER_NAMES, *sorted(uses.builtins & set(STATIC_NAMES))]
    for name in sorted(_by_count(uses.attributes, own), key=lambda n: not uses.attributes[n].open):
        use = uses.attributes[name]
        taken = [reserved, everywhere, *(by_family[family] for family in use.families)]
        found[name] = choice.take(use, [*first, *_candidates()], taken)
        if use.open:
            everywhere.add(found[name])
        for family in use.families:
            by_family[family].add(found[name])
    return found


def _by_count(uses: Mapping[str, Use], own: set[str]) -> list[str]:
    return sorted(own & set(uses), key=lambda name: (-uses[name].count, name))


def _candidates() -> Iterator[str]:
    yield from STATIC_NAMES
    yield from ascii_letters
    pairs = map("".join, product(ascii_letters, repeat=2))
    yield from (pair for pair in pairs if not keyword.iskeyword(pair))
