"""`make demo`: render photographs, train a slim M2CNN, measure it, grade a handful, write one page."""

from __future__ import annotations

import time
from pathlib import Path

from m2cnn.bundle import Bundle
from m2cnn.data.manifest import Manifest, Row, read_manifest, write_manifest
from m2cnn.data.rendered import render_manifest
from m2cnn.grader import Grader
from m2cnn.grades import DISCLAIMER
from m2cnn.part import read_history
from m2cnn.photograph import read_image
from m2cnn.recipe import load_recipe
from m2cnn.report import confusion_plot, curves, graded_figure, legend, metrics_table, page, shrunk
from m2cnn.summary import TOLD, read_metrics
from m2cnn.train import RUN, resume, train

PATIENTS, SIZE, SEED = 480, 448, 2018
SHOWN = 10
SIDE = 320  # px, of a photograph on the page
EASY = (
    "<p>Rendered eyes are easy: from grade 2 on haemorrhages are plain to see, so that referable eyes are hardly ever "
    "missed. Patients are not like that, and none of these numbers is about them.</p>"
)


def run(out: Path) -> dict:
    """The whole demonstration in `out`; what is there already is kept. Returns the metrics on the test patients."""
    started = time.monotonic()
    manifest = photographs(out / "photographs")
    bundle = model(manifest, out / "run")
    summary = read_metrics(out / "run" / "test" / "metrics.json")
    where = out / "page.html"
    where.write_text(
        demo_page(bundle, read_manifest(out / "run" / "manifest.csv", manifest.root), summary), encoding="utf-8"
    )
    kappa = summary["metrics"]["qwk"]
    interval = f"{kappa['low']:.3f} to {kappa['high']:.3f}"
    print(f"kappa {kappa['value']:.3f} ({interval}) on {summary['n_patients']} unseen rendered patients")
    print(DISCLAIMER)
    print(f"{where} ({time.monotonic() - started:.0f} s)")
    return summary


def photographs(folder: Path) -> Manifest:
    """Both eyes of rendered patients, the grades equally frequent."""
    if not (folder / "manifest.csv").is_file():
        print(f"rendering {PATIENTS} patients into {folder}", flush=True)
        write_manifest(render_manifest(folder, PATIENTS, SEED, SIZE), folder / "manifest.csv")
    return read_manifest(folder / "manifest.csv")


def model(manifest: Manifest, folder: Path) -> Bundle:
    """The demonstration's model, trained, continued or just loaded."""
    if (folder / RUN).is_file():
        return resume(folder)
    return train(load_recipe("demo"), manifest, folder)


def demo_page(bundle: Bundle, manifest: Manifest, summary: dict) -> str:
    """The page: photographs with their grades, the numbers, the curves."""
    kappa = summary["metrics"]["qwk"]
    lead = (
        f"A slim M2CNN, trained just now on {bundle.settings['training']['photographs']} rendered photographs, agrees "
        f"with the grades of {summary['n_patients']} unseen rendered patients: kappa {kappa['value']:.2f} "
        f"(95 % interval {kappa['low']:.2f} to {kappa['high']:.2f})."
    )
    shown = some_of_each_grade(manifest.select("test").rows, SHOWN)
    gradings = Grader.load(bundle.folder).grade_all(manifest.path(row) for row in shown)
    figures = (
        graded_figure(shrunk(read_image(manifest.path(row)), SIDE), grading, row.grade)
        for row, grading in zip(shown, gradings, strict=True)
    )
    sections = [
        (
            "Graded photographs",
            f'<p>Rendered, not of patients; none was trained on.</p><div class="grid">{"".join(figures)}</div>',
        ),
        ("How good it is", EASY + metrics_table(summary, TOLD) + confusion_plot(summary["confusion"])),
        ("How it was trained", curves(read_history(bundle.folder.parent))),
        ("The grades", legend()),
        ("The model", f"<p>{bundle.system}, {bundle.size} px, hash <code>{bundle.hash}</code>.</p>"),
    ]
    return page("m2cnn: demonstration", lead, sections)


def some_of_each_grade(rows: tuple[Row, ...], count: int) -> list[Row]:
    """`count` photographs, the grades in turn."""
    places: dict[int, int] = {}
    turns = []
    for row in rows:
        places[row.grade] = places.get(row.grade, -1) + 1
        turns.append((places[row.grade], row.grade, row.image, row))
    return [row for *_, row in sorted(turns, key=lambda turn: turn[:3])[:count]]
