"""Groups that are left out: whoever subtracts what is told must not reach a few patients."""

from itertools import chain, combinations

import numpy as np
import pytest

from m2cnn.disclosure import Groups

FEWEST = 10


def groups(*columns, measured=None, photographs=2):
    """columns: for each, one value per patient, who has that many photographs."""
    named = [np.repeat(np.asarray(values), photographs) for values in columns]
    patient = np.repeat(np.arange(len(columns[0])), photographs)
    column = [f"c{k}" for k, values in enumerate(named) for _ in np.unique(values)]
    rows = [values == value for values in named for value in np.unique(values)]
    own = (np.full(len(patient), True) if measured is None else np.repeat(measured, photographs),)
    return Groups(np.array(column), np.array(rows), patient, own, FEWEST)


def told(found):
    """(column, patients) of the groups that are told."""
    shown = np.flatnonzero(~found.to_hide())
    return [(str(found.column[g]), len(np.unique(found.patient[found.rows[g]]))) for g in shown]


def blocks(*sizes):
    return np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        ((30, 20, 12), [30, 20, 12]),  # none is small
        ((30, 20, 5), [30]),  # one alone would follow from the whole: the next smallest too
        ((30, 20, 4, 3), [30]),  # 7 together are few as well
        ((30, 20, 6, 5), [30, 20]),  # 11 together are not
        ((30, 5), []),
        ((3, 3), []),
    ],
)
def test_of_a_column(sizes, shown):
    assert told(groups(blocks(*sizes))) == [("c0", size) for size in shown]


def test_patients_who_are_not_measured_do_not_make_a_group_large():
    measured = np.arange(80) >= 15  # of the first 20 patients, 5
    assert told(groups(blocks(20, 40, 20), measured=measured)) == [("c0", 40)]
    # Where nobody is measured there is no metric to give away.
    assert told(groups(blocks(20, 40, 20), measured=np.arange(80) >= 20)) == [("c0", 20), ("c0", 40), ("c0", 20)]


def test_a_clinic_does_not_follow_from_its_country():
    country = blocks(43, 60)
    clinic = blocks(22, 18, 3, 12, 48)  # the third is hidden, and with it the fourth, in another country
    assert told(groups(clinic)) == [("c0", 22), ("c0", 18), ("c0", 48)]
    assert told(groups(country, clinic)) != [("c0", 43), ("c0", 60), ("c1", 22), ("c1", 18), ("c1", 48)]
    safe(groups(country, clinic))


def unions(parts):
    picks = chain.from_iterable(combinations(parts, k) for k in range(1, len(parts) + 1))
    return [np.any(pick, axis=0) for pick in picks]


def safe(found):
    """Nobody finds few patients: by subtracting any union of a column from the whole, from a group, or all but it."""
    hidden, whole = found.to_hide(), np.full(len(found.patient), True)
    columns = {}
    for name in np.unique(found.column):
        mine = found.column == name
        shown = list(found.rows[mine & ~hidden])
        columns[name] = [*shown, whole & ~np.any(shown, axis=0)] if shown else []
    for name, parts in columns.items():
        targets = [whole, *chain.from_iterable((rows, whole & ~rows) for each in columns.values() for rows in each)]
        for target in targets:
            for union in unions(parts):
                if not (union & ~target).any():
                    assert len(np.unique(found.patient[target & ~union])) not in range(1, FEWEST), name
    for name in np.unique(found.column):  # what was hidden alone would be known from the whole
        assert (hidden & (found.column == name)).sum() != 1 or not (~hidden & (found.column == name)).any()


@pytest.mark.parametrize("seed", range(30))
def test_whoever_subtracts_reaches_nobody(seed):
    rng = np.random.default_rng(seed)
    clinic = rng.choice(6, 120, p=rng.dirichlet([1] * 6))
    country, camera = clinic // rng.integers(2, 4), (clinic + (rng.random(120) < 0.05)) % 4
    safe(groups(clinic, country, camera))
