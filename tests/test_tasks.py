"""Tasks: losses worked by hand, decodes, and refusals."""

import numpy as np
import pytest
import torch

from m2cnn.errors import SettingError
from m2cnn.tasks import MEAN_GRADE, TASKS, Classification, MultiTask, Regression, task_from_dict

LOGITS = [[2.0, 0, 0, 0, 0], [0, 0, 0, 0, 1.0]]
GRADES = torch.tensor([0, 3])


def by_hand_ce():
    first = -np.log(np.exp(2) / (np.exp(2) + 4))
    second = -np.log(1 / (np.e + 4))
    return (first + second) / 2


def test_cross_entropy_is_l1_of_the_poster():
    assert Classification().loss(torch.tensor(LOGITS), GRADES).item() == pytest.approx(by_hand_ce(), rel=1e-6)


def test_squared_error_is_l2_of_the_poster():
    assert Regression().loss(torch.tensor([[0.5], [2.0]]), GRADES).item() == pytest.approx((0.25 + 1) / 2)


@pytest.mark.parametrize("weight", [0.0, 1.0, 0.5])
def test_multitask_is_their_weighted_sum(weight):
    outputs = torch.cat([torch.tensor(LOGITS), torch.tensor([[0.5], [2.0]])], dim=1)
    loss = MultiTask(weight=weight).loss(outputs, GRADES).item()
    assert loss == pytest.approx(by_hand_ce() + weight * 0.625, rel=1e-6)


def test_clipped_error_forgives_only_beyond_the_ends():
    scores, grades = torch.tensor([[-1.0], [1.0], [5.0], [3.0], [3.0]]), torch.tensor([0, 0, 4, 4, 2])
    assert Regression(clipped=True).loss(scores, grades).item() == pytest.approx((0 + 1 + 0 + 1 + 1) / 5)
    assert Regression().loss(scores, grades).item() == pytest.approx((1 + 1 + 1 + 1 + 1) / 5)


def test_clipped_error_sends_no_gradient_beyond_the_ends():
    scores = torch.tensor([[-1.0], [1.0]], requires_grad=True)
    Regression(clipped=True).loss(scores, torch.tensor([0, 0])).backward()
    assert scores.grad[:, 0].tolist() == [0.0, 1.0]


def test_scores_are_clipped_and_cut():
    decoded = Regression().read(np.array([[-2.0], [0.5], [1.49], [9.0]]))
    assert decoded.grade.tolist() == [0, 1, 1, 4]
    assert decoded.severity.tolist() == [0, 0.5, 1.49, 4]
    assert decoded.probabilities is None


def test_prob_by_argmax_and_by_expectation_differ():
    logits = np.log(np.array([[0.4, 0.0001, 0.0001, 0.0998, 0.5]]))
    assert Classification().read(logits).grade.tolist() == [4]
    expected = Classification(rule="expectation").read(logits)
    assert expected.grade.tolist() == [2]
    assert expected.severity[0] == pytest.approx(0.0001 + 0.0002 + 3 * 0.0998 + 2)


def test_multitask_decodes_from_either_head():
    outputs = np.array([[9.0, 0, 0, 0, 0, 3.2]])
    assert MultiTask().read(outputs).grade.tolist() == [3]
    assert MultiTask(decode="prob").read(outputs).grade.tolist() == [0]
    assert MultiTask().read(outputs).probabilities.sum() == pytest.approx(1)


def test_fitted_cuts_move_the_grade():
    assert MultiTask().with_cuts((0.1, 0.2, 0.3, 0.4)).read(np.array([[0.0] * 5 + [0.35]])).grade.tolist() == [3]


@pytest.mark.parametrize("name", TASKS)
def test_every_task_survives_its_dict(name):
    task = TASKS[name](cuts=(0.6, 1.5, 2.5, 3.5))
    assert task_from_dict(task.to_dict()) == task
    assert len(task.initial_bias()) == task.outputs


def test_score_starts_at_the_mean_grade():
    assert MultiTask().initial_bias() == [0, 0, 0, 0, 0, MEAN_GRADE]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "multitsk"}, 'Did you mean "multitask"'),
        ({"name": "multitask", "wieght": 2}, 'Did you mean "weight"'),
        ({"name": "multitask", "weight": -1}, ">= 0"),
        ({"name": "multitask", "decode": "score"}, 'Did you mean "scores"'),
        ({"name": "classification", "decode": "scores"}, "one of prob"),
        ({"name": "regression", "cuts": [1, 1, 2, 3]}, "four increasing numbers"),
        ({"name": "multitask", "weight": "abc"}, "a number"),
        ({"name": "regression", "cuts": "abc"}, "a number"),
        ({"name": "classification", "rule": "mode"}, "argmax, expectation"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, words):
    with pytest.raises(SettingError, match=words):
        task_from_dict(settings)


def test_outputs_of_another_task_are_refused():
    with pytest.raises(SettingError, match=r"\(N, 6\)"):
        MultiTask().read(np.zeros((3, 5)))
