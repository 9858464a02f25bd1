"""What the verbs of the command line share: exit codes, a file to write, a parser that ends with the disclaimer."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from m2cnn.errors import SettingError
from m2cnn.grades import DISCLAIMER

OK, UNGRADED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def typed() -> str:
    """The command as it was typed, to be kept beside what it makes."""
    return shlex.join(["m2cnn", *sys.argv[1:]])


def new_file(path: Path) -> Path:
    """Raises SettingError for a file that is there already: what it holds would be lost."""
    if path.exists():
        raise SettingError(path, "it exists", "a file that is not there yet", "Name another, or remove it yourself.")
    return path


def new_table(asked: str | None) -> Path | None:
    """As `new_file`, None where none is asked for; a pipe or a device, such as /dev/stdout, loses nothing and may be
    there.
    """
    if not asked:
        return None
    path = Path(asked)
    return path if path.exists() and not path.is_file() and not path.is_dir() else new_file(path)


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
