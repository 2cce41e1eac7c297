"""The shapes of public data, and what is made of each."""

import copy

import pytest
from shapes import CASES

from llmrl.data.shaper import Shaper
from llmrl.errors import DefectiveError, InputError

# Words of our messages for what the table calls a column.
WORDS = {"column": "columns?"}


@pytest.mark.parametrize(
    ("name", "settings", "row", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_a_row_of_public_data(name, settings, row, expected):
    """It becomes the data set's one shape, or is refused by a reason that holds the word."""
    shaper = Shaper(name, settings.get("columns", {}), settings.get("format"))
    if isinstance(expected, str):
        with pytest.raises((DefectiveError, InputError), match=f"(?i){WORDS.get(expected, expected)}"):
            shaper.shape(copy.deepcopy(row))
    else:
        import json

        found = {key: value for key, value in shaper.shape(copy.deepcopy(row))[0].items() if key != "tools" or value}
        if "tools" in found:
            found["tools"] = json.loads(found["tools"])
        assert expected == found
