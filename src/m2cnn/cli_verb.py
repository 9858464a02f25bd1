"""What the verbs of the command line share: exit codes, options, a parser that ends with the disclaimer."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from m2cnn.errors import SettingError
from m2cnn.grades import DISCLAIMER

OK, UNGRADED, REFUSED, INTERRUPTED = 0, 1, 2, 130
FEWEST_REPLICATES = 20  # below, the ends of an interval are single resamples


def typed() -> str:
    """The command as it was typed, to be kept beside what it makes."""
    return shlex.join(["m2cnn", *sys.argv[1:]])


def images_option(one: argparse.ArgumentParser) -> None:
    told = "folder that the manifest's paths start from; a dataset's folder has its own photographs"
    one.add_argument("--images", help=told)


def names_in(text: str | None) -> list[str]:
    """What an option names, joined by commas; [] where it was not given."""
    return [name for name in (text or "").split(",") if name]


def replicates_option(one: argparse.ArgumentParser, of: str = "") -> None:
    """of: what is told by the intervals, such as " of groups"."""
    text = f"bootstrap replicates{of}, {FEWEST_REPLICATES} or more (default: 2000)"
    one.add_argument("--replicates", type=int, default=2000, help=text)


def check_values(options: argparse.Namespace) -> None:
    """SettingError for an empty text, which would be as if nothing was asked for, and for too few replicates."""
    for action in options.parser._actions:
        given = getattr(options, action.dest, None)
        if "" in (given if isinstance(given, list) else [given]):
            name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
            raise SettingError(name, "an empty text", "a value", "Is a variable of your shell unset?")
    asked = getattr(options, "replicates", None)
    if asked is not None and asked < FEWEST_REPLICATES:
        expected = f"{FEWEST_REPLICATES} or more"
        raise SettingError("replicates", f"{asked}", expected, "2000 gives steady intervals.")


def prevalence_option(one: argparse.ArgumentParser) -> None:
    one.add_argument(
        "--prevalence",
        action="append",
        default=[],
        metavar="[NAME=]SHARE",
        help="predictive values where this share has it too: 0.08 (referable) or any=0.3; may be repeated",
    )


def prevalences(words: Sequence[str]) -> dict[str, float]:
    """What was given to that option: the share of an end-point by its name."""
    return dict(map(_prevalence, words))


def _prevalence(word: str) -> tuple[str, float]:
    name, _, share = word.rpartition("=")
    try:
        return name or "referable", float(share)
    except ValueError as cause:
        raise SettingError("--prevalence", word, "NAME=SHARE", "Such as referable=0.08.") from cause


def verb(verbs, name: str, run, text: str) -> argparse.ArgumentParser:
    """A verb's parser; `run` is called with its options. options.parser: the parser of the innermost verb."""
    one = verbs.add_parser(name, help=text, description=text, epilog=DISCLAIMER)
    one.set_defaults(parser=one, **({"run": run} if run else {}))
    return one
