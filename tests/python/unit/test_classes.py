"""Giving an object another class."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from comfy_auth_rs.comfyui.classes import give_class


class Old:
    def __init__(self, number: int) -> None:
        self.number = number
        self.name = str(number)

    def __setattr__(self, name: str, value: Any) -> None:
        assert name in ("number", "name"), "the class is given without asking the object"
        super().__setattr__(name, value)


class New(Old):
    __slots__ = ()


def shares_its_keys(thing: Any) -> bool:
    """Whether its dictionary shares its keys with other instances: a copy, which shares none, has another size."""
    return sys.getsizeof(vars(thing)) != sys.getsizeof({**vars(thing)})


def test_its_dictionary_becomes_its_own() -> None:
    things = [Old(number) for number in range(3)]
    object.__setattr__(things[0], "__class__", New)
    give_class(things[1], New)
    assert [shares_its_keys(thing) for thing in things] == [True, False, True]
    assert [type(thing) for thing in things] == [New, New, Old]
    for number, thing in enumerate(things):
        assert (thing.number, thing.name) == (number, str(number))
        thing.name = "changed"
        assert vars(thing) == {"number": number, "name": "changed"}


def test_a_dictionary_that_cannot_be_replaced_stays() -> None:
    old = type("Old", (SimpleNamespace,), {})
    new = type("New", (old,), {})
    thing = old(number=1)
    give_class(thing, new)
    assert type(thing) is new
    assert vars(thing) == {"number": 1}
