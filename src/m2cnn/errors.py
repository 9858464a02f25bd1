"""Everything that m2cnn refuses to do, and the words in which it says so.

    M2cnnError
    ├── DataError        a manifest, a table or a folder that cannot be trusted    (also a ValueError)
    ├── ImageError       a photograph that cannot be read or graded                (also a ValueError)
    │   ├── NoFieldError one in which no round field of view was found
    │   └── ReducedError a photograph that was prepared for smaller pictures than is asked for
    ├── SettingError     an option, a recipe or a setting that means nothing       (also a ValueError)
    │   └── SizeError    an input too small for the network's stage
    ├── BundleError      a saved model that is damaged, changed or too new         (also a ValueError)
    ├── LockboxError     the lockbox was touched without being opened
    └── MissingExtra     an optional part of m2cnn is not installed                (also an ImportError)

Every message has four parts: place, got, expected, repair.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType


class M2cnnError(Exception):
    """`place: got; expected ... . repair`; the four parts stay readable as attributes.

    >>> print(DataError('train.csv, row 17', 'grade is "5"', "0..4 (ICDR)", "Ungradable: leave the cell empty."))
    train.csv, row 17: grade is "5"; expected 0..4 (ICDR). Ungradable: leave the cell empty.
    """

    def __init__(self, place: object, got: str, expected: str = "", repair: str = ""):
        self.place, self.got, self.expected, self.repair = str(place), got, expected, repair
        message = f"{place}: {got}" + (f"; expected {expected}" if expected else "") + "."
        super().__init__(message + (f" {repair}" if repair else ""))

    @property
    def fault(self) -> str:
        """The message without its place."""
        return str(self).removeprefix(f"{self.place}: ")

    def __reduce__(self) -> tuple:
        # Worker processes hand errors back by pickle; the default would call __init__ with the message alone.
        return type(self), (self.place, self.got, self.expected, self.repair)


class DataError(M2cnnError, ValueError):
    """A manifest, a table or a folder that cannot be trusted."""


class ImageError(M2cnnError, ValueError):
    """A photograph that cannot be read or graded."""


class NoFieldError(ImageError):
    """A photograph in which no round field of view was found."""


class ReducedError(ImageError):
    """A photograph that was prepared for smaller pictures than is asked for; so were its neighbours."""


class SettingError(M2cnnError, ValueError):
    """An option, a recipe or a setting that means nothing."""


class SizeError(SettingError):
    """An input too small for the network's stage."""


class BundleError(M2cnnError, ValueError):
    """A saved model that is damaged, changed or too new for this version."""


class LockboxError(M2cnnError):
    """The lockbox was touched without being opened."""


class MissingExtra(M2cnnError, ImportError):
    """An optional part of m2cnn is not installed; the message has the install command."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """A repair sentence for a mistyped name.

    >>> did_you_mean("m2cn", ["m2cnn", "basenet"])
    'Did you mean "m2cnn"? Known: basenet, m2cnn.'
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name, choices, n=1)
    return (f'Did you mean "{near[0]}"? ' if near else "") + f"Known: {', '.join(choices)}."


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, or say which extra of m2cnn brings it.

    Raises MissingExtra with the install command.
    """
    try:
        return importlib.import_module(module)
    except ImportError as cause:
        missing = cause.name or module
        raise MissingExtra(
            module,
            f"{missing} is not installed",
            f"the extra m2cnn[{extra}]",
            f"Install it: pip install 'm2cnn[{extra}]'",
        ) from cause
