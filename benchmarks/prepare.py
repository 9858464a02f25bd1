"""How fast are photographs prepared, against the script that most use, per core? And how near to bare decoding?

    OMP_NUM_THREADS=1 python benchmarks/prepare.py DATA [--repeats 7] [--sizes 224 448 512 720] [--format png]
    OMP_NUM_THREADS=1 python benchmarks/prepare.py DATA --agreement [--every 10]

DATA: a folder with eyepacs_fullres/train, five originals of 2592 x 1944 to 4928 x 3264 px; for --agreement, which says
how far pictures from prepared files are from those of the originals, also with eyepacs1024/train and idrid.

Speed: one process, one thread; the sides take turns on every photograph, each from the same bytes on disk to a file on
disk, in CPU time: medians over the repeats, means over the photographs; ratios with their lowest and highest repeat.

usual     full decode, crop where grey > 7, disc, crop again, resize: the functions that public kernels pass around
careful   the same steps as quick as full decoding lets them be: one crop by its bounds, mean over areas, disc last
m2cnn     what `m2cnn data prepare` does with a photograph: read, hash, reduce, hash, write to the disk, journal
decode    the photograph decoded at the scale that m2cnn reads it at, and nothing else: the ceiling
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from m2cnn.data import Row
from m2cnn.data.files import open_folder
from m2cnn.data.prepare import Task, prepare_chunk
from m2cnn.data.reduce import JPEG_QUALITY, KINDS, reduce_photograph
from m2cnn.errors import ImageError
from m2cnn.photograph import PhotographFile
from m2cnn.preprocess import Preprocess
from m2cnn.quality import check_file

Side = Callable[[Path, Path, int], None]
DARK = 7  # grey levels: what is brighter is retina


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448, 512, 720])
    parser.add_argument("--format", default="png")
    parser.add_argument("--agreement", action="store_true")
    parser.add_argument("--every", type=int, default=10)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    if options.agreement:
        return agreement(options.data, options.every)
    paths = sorted((options.data / "eyepacs_fullres" / "train").iterdir())
    print(f"{len(paths)} photographs, {options.format}, CPU ms per photograph")
    print("size  usual careful  m2cnn decode            usual/m2cnn          careful/m2cnn        share of decode")
    for size in options.sizes:
        spent = measured(paths, size, options.format, options.repeats)
        times = "{:>7.1f}{:>8.1f}{:>7.1f}{:>7.1f}".format(*np.median(spent, axis=0).mean(axis=0))
        print(f"{size:>4}{times}{ratio(spent, 0, 2):>23}{ratio(spent, 1, 2):>23}{ratio(spent, 3, 2):>23}")


def ratio(spent: np.ndarray, over: int, under: int) -> str:
    """Of two sides: of their medians, and the lowest and highest of the repeats."""
    middle = np.median(spent, axis=0).mean(axis=0)
    each = spent.mean(axis=1)
    each = each[:, over] / each[:, under]
    return f"{middle[over] / middle[under]:.2f} ({each.min():.2f} to {each.max():.2f})"


def measured(paths: list[Path], size: int, kind: str, repeats: int) -> np.ndarray:
    """CPU ms (repeats, photographs, sides); a first round, in which scales are sought, is left out."""
    sides = (usual, careful, prepared, decoded)
    spent = np.zeros((1 + repeats, len(paths), len(sides)))
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(1 + repeats):
            for number, path in enumerate(paths):
                for place, side in enumerate(sides):
                    spent[repeat, number, place] = cpu(side, path, Path(folder) / f"{side.__name__}.{kind}", size)
    return 1000 * spent[1:]


def cpu(side: Side, path: Path, out: Path, size: int) -> float:
    start = time.process_time()
    side(path, out, size)
    return time.process_time() - start


# The sides


def usual(path: Path, out: Path, size: int) -> None:
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    image = lit(disc(lit(image)))
    write(cv2.resize(image, (size, size)), out)


def lit(image: np.ndarray) -> np.ndarray:
    """The rows and columns that are not all dark, picked channel by channel."""
    bright = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) > DARK
    picked = np.ix_(bright.any(1), bright.any(0))
    if image[:, :, 0][picked].shape[0] == 0:
        return image
    return np.stack([image[:, :, channel][picked] for channel in range(3)], axis=-1)


def disc(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), min(width, height) // 2, 1, -1)
    return cv2.bitwise_and(image, image, mask=mask)


def careful(path: Path, out: Path, size: int) -> None:
    image = cv2.imread(str(path))
    bright = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) > DARK
    rows, columns = (np.flatnonzero(bright.any(axis)) for axis in (1, 0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    write(cv2.cvtColor(disc(cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)), cv2.COLOR_BGR2RGB), out)


def write(image: np.ndarray, out: Path) -> None:
    how = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY] if out.suffix == ".jpeg" else []
    cv2.imwrite(str(out), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), how)


def prepared(path: Path, out: Path, size: int) -> None:
    settings = {"size": size, "format": out.suffix[1:]}
    prepare_chunk(open_folder(path.parent), open_folder(out.parent), settings, [Task(Row(path.name, path.stem), None)])


def decoded(path: Path, out: Path, size: int) -> None:
    scale = scale_of(path, size)
    with Image.open(path) as picture:
        picture.draft(None, (picture.width // scale, picture.height // scale))
        np.asarray(picture)


@lru_cache
def scale_of(path: Path, size: int) -> int:
    """Sought in the first round alone."""
    return PhotographFile(path).at(Preprocess().diameter(size)).scale


# Agreement


def agreement(data: Path, every: int) -> None:
    """Differences in grey levels, and the verdicts of the check, over the photographs of three sets."""
    sets = {
        "eyepacs_fullres": sorted((data / "eyepacs_fullres").rglob("*.jpeg")),
        "eyepacs1024": sorted((data / "eyepacs1024").rglob("*.jp*g"))[::every],
        "idrid": sorted((data / "idrid").rglob("*.jpg"))[::every],
    }
    print("set              n  prepared     read  mean: median, worst  99th percentile: median, worst  other verdicts")
    for name, paths in sets.items():
        for size, kind, read in product((256, 448, 720), KINDS, (224, 256, 448, 720)):
            if read <= size:
                found = [apart(PhotographFile(path), size, kind, read) for path in paths]
                mean, most, verdict = np.array([one for one in found if one]).T
                print(
                    f"{name:<15} {len(mean):>3}  {size} {kind:<4} {read:>6} {np.median(mean):>13.2f} {mean.max():>6.2f}"
                    f" {np.median(most):>22.0f} {most.max():>6.0f} {int(verdict.sum()):>15}"
                )


def apart(file: PhotographFile, size: int, kind: str, read: int) -> tuple[float, float, bool] | None:
    """Mean and 99th percentile of the differences, and whether the check judges otherwise. None: unreadable."""
    try:
        before, verdict = Preprocess().read(file, read), check_file(file)
    except ImageError:
        return None
    reduced = PhotographFile(reduce_photograph(file, size, kind).content)
    difference = np.abs(Preprocess().read(reduced, read).astype(int) - before)
    return difference.mean(), np.percentile(difference, 99), check_file(reduced) != verdict


if __name__ == "__main__":
    main()
