"""Settings in words."""

import pytest

from m2cnn.wording import word, words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.123456, "0.1235"), (True, "yes"), (False, "no"), ((0.5, 1.25), "0.5 / 1.25"), ("halton", "halton"), (0, "0")],
)
def test_a_setting_is_one_word(value, text):
    assert word(value) == text


def test_empty_and_left_out_settings_are_not_told():
    settings = {"name": "mean", "other": 0.3, "trunk": "", "options": {}, "none": None, "clipped": False}
    assert words(settings, "name") == "other 0.3, clipped no"
