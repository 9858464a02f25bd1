"""How often do 95 % intervals hold the truth? Simulated studies of patients with two alike eyes.

    python benchmarks/coverage.py [--mix clinic|screening] [--patients 300] [--studies 2000] [--replicates 500]

Prints for every metric of metrics.json its true value (of 200,000 simulated patients), the share of studies whose
interval held it, those that had none, and below and above: the shares of studies whose interval lay wholly below or
above the truth. Then the same of paired differences, in every other study to a worse system, in the rest to one that is
as good (with the share of p < 0.05, which should be 5 %). Two standard errors of a share of 95 % are 1 % of 2,000
studies and 1.4 % of 1,000. Ctrl-C prints what was done so far.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np

from m2cnn.bootstrap import Difference, Estimate, bootstrap, paired_difference
from m2cnn.budget import budget_curve
from m2cnn.endpoints import predictive_values
from m2cnn.panel import METRICS, Panel, panel
from m2cnn.predictions import Predictions
from m2cnn.simulated import Population, Reader
from m2cnn.summary import estimates, estimates_at, gaps_of

MIXES = {"clinic": (0.35, 0.15, 0.27, 0.13, 0.10), "screening": (0.735, 0.07, 0.15, 0.025, 0.02)}
READER, WORSE = Reader(noise=0.35, confidence=1.5), Reader(noise=0.5, confidence=1.5)
SHARES = (0.1, 0.3)
PREVALENCE = 0.1
PAIRED = ("qwk", "linear_kappa", "accuracy", "macro_f1", "mae", "referable_auc", "referable_sensitivity")
EXTRA = ("referable_ppv_at_prevalence", "referable_npv_at_prevalence", *(f"found_in_{share:.0%}" for share in SHARES))


def table(population: Population, liability: np.ndarray, reader: Reader, rng: np.random.Generator) -> Predictions:
    """(1, P, E) liabilities -> what the reader says of them."""
    reading = reader.read(liability, rng)
    severity = reader.severity(population, reading).ravel()
    n, eyes = severity.size, liability.shape[-1]
    numbers = np.arange(n)
    blank = np.full(n, "")
    return Predictions(
        image=numbers.astype(str),
        patient=(numbers // eyes).astype(str),
        eye=blank,
        split=blank,
        grade=population.grades(liability).ravel(),
        probabilities=reader.probabilities(population, reading).reshape(n, 5),
        severity=severity,
        decoded=np.rint(severity).astype(int),
        gradable=np.full(n, True),
        reason=blank,
        system=np.full(n, "simulated"),
        bundle=blank,
    )


def at_prevalence(columns: np.ndarray) -> np.ndarray:
    """(..., K) metrics -> (..., 2) predictive values at PREVALENCE."""
    rates = [columns[..., METRICS.index(f"referable_{key}")] for key in ("sensitivity", "specificity")]
    return np.stack(predictive_values(*rates, PREVALENCE), axis=-1)


def found(p: Predictions, replicates: int, seed: int) -> list[Estimate]:
    return [b.found for b in budget_curve(p.grade, p.severity, p.patient, SHARES, replicates=replicates, seed=seed)]


def truth_of(population: Population, readers: tuple[Reader, ...], patients: int = 200_000) -> np.ndarray:
    """(S, K + extra) true values of each system."""
    rng = np.random.default_rng(2)
    liability = population.draw(patients, rng)
    tables = [table(population, liability, reader, rng) for reader in readers]
    values = np.array([panel(p).values() for p in tables])
    budget = [[e.value for e in found(p, 1, 0)] for p in tables]
    return np.concatenate([values, at_prevalence(values), budget], axis=1)


def studies(population: Population, patients: int, number: int) -> Iterator[tuple[int, list[Predictions]]]:
    """The same patients graded by the system and by another, the worse and an equally good one in turn."""
    for study in range(number):
        rng = np.random.default_rng([7, study])
        liability = population.draw(patients, rng)
        yield study, [table(population, liability, reader, rng) for reader in (READER, (WORSE, READER)[study % 2])]


def intervals_of(tables: list[Predictions], replicates: int, seed: int) -> tuple[list[Estimate], list[Difference]]:
    """Estimates of the first system, and paired differences of the other to it."""
    panels: list[Panel] = [panel(p) for p in tables]
    drawn = bootstrap(lambda c: np.concatenate([p(c) for p in panels], axis=1), panels[0].patients, replicates, seed)
    values, parts = [p.values() for p in panels], np.split(drawn, len(panels), axis=1)
    own = list(estimates(panels[0], parts[0], gaps_of(panels[0], replicates, seed)).values())
    own += estimates_at(panels[0], parts[0], "referable", PREVALENCE).values()
    changes = [
        paired_difference((values[0][k], values[1][k]), (parts[0][:, k], parts[1][:, k]))
        for k in map(METRICS.index, PAIRED)
    ]
    return own + found(tables[0], replicates, seed), changes


def told(name: str, true: float, bounds: np.ndarray, note: str = "") -> str:
    """bounds: (S, 2). One line of the table."""
    low, high = bounds[~np.isnan(bounds).any(1)].T
    held = ((low <= true) & (true <= high)).mean() if len(low) else np.nan
    rest = f"{(high < true).mean():7.1%}{(low > true).mean():7.1%}" if len(low) else ""
    return f"{name:42}{true:8.3f}{held:9.1%}{len(bounds) - len(low):6}{rest}{note}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mix", choices=MIXES, default="clinic")
    for name, default in (("patients", 300), ("studies", 2000), ("replicates", 500)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    population, started = Population(MIXES[options.mix]), time.process_time()
    true = truth_of(population, (READER, WORSE))
    own, changes = [], []
    try:
        for study, tables in studies(population, options.patients, options.studies):
            measured, paired = intervals_of(tables, options.replicates, study)
            own.append([(e.low, e.high) for e in measured])
            changes.append([(d.low, d.high, d.p) for d in paired])
    except KeyboardInterrupt:
        own = own[: len(changes)]
    print(f"{len(own)} studies of {options.patients} patients ({options.mix}), {options.replicates} replicates")
    report(true, np.array(own), np.array(changes))
    print(f"{time.process_time() - started:.0f} s of one core")


def report(true: np.ndarray, bounds: np.ndarray, changes: np.ndarray) -> None:
    """true: (2, K).  bounds: (S, K, 2).  changes: (S, PAIRED, 3)."""
    print(f"{'metric':42}{'truth':>8}{'held':>9}{'none':>6}{'below':>7}{'above':>7}")
    for k, name in enumerate((*METRICS, *EXTRA)):
        print(told(name, true[0, k], bounds[:, k]))
    for other, title in enumerate(("worse", "as good")):
        mine = changes[other::2]
        for k, name in enumerate(PAIRED):
            change = 0.0 if other else true[1, METRICS.index(name)] - true[0, METRICS.index(name)]
            note = f"   p < 0.05: {np.nanmean(mine[:, k, 2] < 0.05):.1%}"
            print(told(f"difference, {title}: {name}", change, mine[:, k, :2], note))


if __name__ == "__main__":
    main()
