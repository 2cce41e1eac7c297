"""One plain notation for the many that there are; names of units."""

from __future__ import annotations

import pytest

from llmrl.answers import quantities
from llmrl.answers.notation import ALIASES, SPACES, TYPOGRAPHY, normalized, squeezed


@pytest.mark.parametrize(("alias", "plain"), ALIASES.items())
def test_aliases(alias: str, plain: str) -> None:
    """A command by another name is the same."""
    assert squeezed(normalized(rf"2 \{alias} x y")) == squeezed(normalized(f"2 {plain} x y"))


@pytest.mark.parametrize(
    "name", ["left", "right", "big", "Bigg", "bigl", "displaystyle", "limits", "Large", "checkmark"]
)
def test_what_only_sets(name: str) -> None:
    """What changes how a formula looks is left out."""
    assert normalized(rf"2 \{name}(x)") == "2 (x)"


@pytest.mark.parametrize("name", SPACES.split("|"))
def test_spaces(name: str) -> None:
    """A space by its name is one."""
    assert normalized(rf"2\{name} x") == "2 x"


@pytest.mark.parametrize("sign", TYPOGRAPHY)
def test_typography_is_ascii(sign: str) -> None:
    """A sign that is understood becomes ASCII."""
    assert normalized(f"2{sign}x").isascii()


@pytest.mark.parametrize(("name", "unit"), quantities.UNITS.items())
def test_units(name: str, unit: str) -> None:
    """A unit has one name, whatever it is called, in the plural too."""
    assert quantities.unit(f' "{name}"') == unit
    if name.isalpha() and len(name) > 3:
        assert quantities.unit(f" {name}s") == unit
