"""What the verbs of the command line share: exit codes, and a parser that ends with the disclaimer."""

from __future__ import annotations

import argparse
import shlex
import sys

from m2cnn.grades import DISCLAIMER

OK, UNGRADED, REFUSED, INTERRUPTED = 0, 1, 2, 130


def typed() -> str:
    """The command as it was typed, to be kept beside what it makes."""
    return shlex.join(["m2cnn", *sys.argv[1:]])


def verb(verbs, name: str, run, text: str) -> argparse.ArgumentParser:
    one = verbs.add_parser(name, help=text, description=text, epilog=DISCLAIMER)
    if run:
        one.set_defaults(run=run)
    return one
