"""Settings in words."""

import pytest

from m2cnn.tasks import ROUNDING_CUTS, Classification, Regression
from m2cnn.wording import grade_rule, word, words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (True, "yes"), (False, "no"), ((0.5, 1.25), "0.5 / 1.25"), ("halton", "halton"), (0, "0")],
)
def test_a_setting_is_one_word(value, text):
    assert word(value) == text


def test_empty_and_left_out_settings_are_not_told():
    settings = {"name": "mean", "other": 0.3, "trunk": "", "options": {}, "none": None, "clipped": False}
    assert words(settings, "name") == "other 0.3, clipped no"


def test_a_rule_says_where_cuts_are_not_those_of_rounding():
    assert grade_rule(Classification()) == "the likeliest grade"
    assert grade_rule(Regression(cuts=ROUNDING_CUTS)) == "severity, cut at 0.5 / 1.5 / 2.5 / 3.5"
    fitted = Regression(cuts=(0.6, 1.5, 2.5, 3.5))
    assert grade_rule(fitted) == "severity, cut at 0.6 / 1.5 / 2.5 / 3.5: not a rounded severity"
