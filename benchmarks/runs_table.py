"""The table of docs/results.md: one row per finished run folder.

python benchmarks/runs_table.py runs/eyepacs-mt runs/eyepacs-m2cnn
"""

import argparse
import json
from pathlib import Path

from m2cnn.bootstrap import shown
from m2cnn.part import read_history
from m2cnn.summary import read_metrics

HEAD = "run | stages (px, cells, passes) | trained on | test patients | kappa, test | referable AUC, test | kappa, val"
HEAD += " | training | images/s by stage"


def cell(summary: dict, metric: str) -> str:
    value = summary["metrics"][metric]
    return shown(value["value"], value["low"], value["high"])


def row(run: Path) -> str:
    history = read_history(run)
    settings = json.loads((run / "bundle" / "system.json").read_text())
    stages = [[h for h in history if h["stage"] == n] for n in range(history[-1]["stage"] + 1)]
    val, test = (read_metrics(run / split / "metrics.json") for split in ("val", "test"))
    speed = [sum(h["images_per_second"] for h in s) / len(s) for s in stages]
    cells = [
        f"`{run.name}`",
        "; ".join(f"{s[0]['size']}, {s[0]['cells']}, {len(s)}" for s in stages),
        f"{settings['training']['photographs']} photographs",
        f"{test['n_patients']}",
        cell(test, "qwk"),
        cell(test, "referable_auc"),
        cell(val, "qwk"),
        f"{sum(h['seconds'] for h in history) / 60:.0f} min",
        ", ".join(f"{s:.0f}" for s in speed),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    print(f"| {HEAD} |\n|{'---|' * (HEAD.count('|') + 1)}")
    for folder in runs:
        print(row(folder))


if __name__ == "__main__":
    main()
