"""`m2cnn report`: what predictions are worth, as one HTML file and one PDF, for a clinician and for a reviewer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from m2cnn.errors import SettingError, require
from m2cnn.reporting import sections
from m2cnn.reporting.checklists import checklists
from m2cnn.reporting.document import Document, Section
from m2cnn.reporting.html import to_html
from m2cnn.reporting.mistakes import WORST, mistakes
from m2cnn.reporting.pdf import to_pdf
from m2cnn.reporting.study import Study
from m2cnn.tables import write_atomically

HTML, PDF = "report.html", "report.pdf"


def document_of(
    study: Study,
    *,
    pictures: bool = True,
    maps: bool = False,
    worst: int = WORST,
    command: str = "",
    more: Sequence[Section] = (),
) -> Document:
    """pictures: photographs are shown, where the study knows them.  maps: see `mistakes`.  worst: how many mistakes.
    more: sections before those of how it was made.

    Raises SettingError for maps without the model or the photographs, MissingExtra for maps without torch.
    """
    shown = pictures and study.manifest is not None
    if maps:
        require("torch", "train")
        if study.bundle is None or not shown:
            raise SettingError("report --maps", "no model, or no photographs", "both", "Give --model and --data.")
    parts = (
        sections.grades(study),
        sections.endpoints(study),
        sections.chances(study),
        sections.severity(study),
        sections.patients(study),
        sections.subgroups(study),
        mistakes(study, shown, maps, worst),
        sections.data(study),
        *more,
        sections.environment(study, command),
        *checklists(study, maps, worst),
    )
    title = f"{study.summary['system'] or study.name}: how well it grades"
    return Document(title, sections.lead(study), sections.warnings(study, shown), parts)


def write_report(study: Study, out: str | Path, **settings) -> tuple[Path, Path]:
    """Write OUT/report.html and OUT/report.pdf; settings: as of `document_of`. The same study gives the same files."""
    document, out = document_of(study, **settings), Path(out)
    files = {HTML: to_html(document).encode(), PDF: to_pdf(document)}
    for name, data in files.items():
        write_atomically(out / name, data)
    return out / HTML, out / PDF
