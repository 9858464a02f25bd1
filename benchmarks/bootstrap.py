"""How long do bootstrap replicates of the quadratic weighted kappa take? Against the plain loop.

    python benchmarks/bootstrap.py [--patients 26788] [--replicates 10000] [--loop 20]

Two photographs of each patient; the default is the size of EyePACS' test set, 53,576 photographs. The loop copies the
photographs of the drawn patients and calls scikit-learn's cohen_kappa_score; it runs for a few replicates and is scaled
up. Both draw the same patients, and their replicates are compared. Processor time of one core, so that other work on
the machine does not count.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from sklearn.metrics import cohen_kappa_score

from m2cnn.bootstrap import interval, kappa_replicates
from m2cnn.simulated import Population, Reader


def study(patients: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and grade of 2 P photographs, and their patients' numbers."""
    population, rng = Population(), np.random.default_rng(0)
    liability = population.draw(patients, rng)
    read = Reader().read(liability, rng)
    return population.grades(liability).ravel(), population.grades(read).ravel(), np.repeat(np.arange(patients), 2)


def plain_loop(truth: np.ndarray, graded: np.ndarray, patients: int, replicates: int) -> list[float]:
    rng, values = np.random.default_rng(0), []
    for _ in range(replicates):
        drawn = rng.integers(0, patients, patients, dtype=np.uint32).astype(np.int64)
        rows = np.concatenate([2 * drawn, 2 * drawn + 1])
        values.append(cohen_kappa_score(truth[rows], graded[rows], weights="quadratic", labels=range(5)))
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("patients", 26_788), ("replicates", 10_000), ("loop", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    truth, graded, patient = study(options.patients)
    began = time.process_time()
    ours = kappa_replicates(truth, graded, patient, options.replicates)
    seconds = time.process_time() - began
    began = time.process_time()
    theirs = plain_loop(truth, graded, options.patients, options.loop)
    each = (time.process_time() - began) / options.loop
    low, high = interval(ours)
    print(f"{len(truth)} photographs of {options.patients} patients, {options.replicates} replicates")
    print(f"interval {low:.4f} to {high:.4f}; {seconds:.2f} s")
    print(f"plain loop: {each * 1000:.1f} ms a replicate, {each * options.replicates:.0f} s for all")
    apart = np.abs(ours[: options.loop] - theirs).max()
    print(f"ratio {each * options.replicates / seconds:.0f}; largest difference of a replicate {apart:.1e}")


if __name__ == "__main__":
    main()
