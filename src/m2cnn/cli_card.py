"""`m2cnn card`: a model card from a bundle and from what was measured of it."""

from __future__ import annotations

import argparse

from m2cnn.cli_verb import images_option, replicates_option
from m2cnn.errors import SettingError
from m2cnn.packaged import DEFAULT
from m2cnn.tables import new_table, writing_new


def card_options(one: argparse.ArgumentParser) -> None:
    one.add_argument("model", nargs="?", default=DEFAULT, help=f"bundle, run or packaged model (default: {DEFAULT})")
    one.add_argument("--out", metavar="FILE.md", help="write the card there, a new file, instead of printing it")
    folder = "keep what FOLDER of evaluate, a run or a cross-validation measured; may be repeated"
    one.add_argument("--add", action="append", default=[], metavar="NAME=FOLDER", help=folder)
    one.add_argument("--data", help="of --add: the photographs that were graded, as for evaluate; tells their groups")
    images_option(one)
    one.add_argument("--cache", help="folder that remembers what was seen of photographs")
    picture = "keep a rendered photograph; may be repeated"
    one.add_argument("--picture", action="append", default=[], metavar="FILE=CAPTION", help=picture)
    replicates_option(one, " of groups")


def card(options: argparse.Namespace) -> None:
    from m2cnn.card import add_evidence, add_picture
    from m2cnn.card_page import model_card
    from m2cnn.data.survey import remembering

    out = new_table(options.out)
    if out and out.suffix.lower() != ".md":
        raise SettingError("--out", f'"{out}"', "a page to write, such as card.md")
    if not options.add and (options.data or options.images or options.cache):
        raise SettingError("card", "--data, --images or --cache without --add", "them beside --add NAME=FOLDER")
    added = [_pair("--add", text) for text in options.add]
    pictures = [_pair("--picture", text) for text in options.picture]
    # Without --cache the photographs are still looked at once alone, whatever is added of them.
    with remembering(options.cache) as memory:
        looks = {"data": options.data, "images": options.images, "memory": memory}
        for name, folder in added:
            add_evidence(options.model, name, folder, **looks, replicates=options.replicates)
    for file, caption in pictures:
        add_picture(options.model, file, caption)
    page = model_card(options.model, out.parent if out else None)
    if out:
        with writing_new(out) as file:
            file.write(page.encode())
    print(out or page, end="\n" if out else "")


def _pair(option: str, text: str) -> tuple[str, str]:
    first, equals, second = text.partition("=")
    if not (first and equals and second):
        raise SettingError(option, f'"{text}"', "NAME=FOLDER" if option == "--add" else "FILE=CAPTION")
    return first, second
