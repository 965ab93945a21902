"""LLPAUC against its definition pair by pair, its relation to OPAUC, and the keys it has."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hns import UserError, run
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.evaluation import LLPAUC, Collector, NormLLPAUC, norm_llpauc, norm_opauc
from recbole_hns.evaluation.metrics import LLPAUC_ALPHAS, LLPAUC_BETAS
from recbole_hns.files import properties_path


def literal_llpauc(positives, negatives, alpha, beta):
    """The area, by the weights of places; None where there is no pair."""
    if not positives or not negatives:
        return None
    area = 0.0
    for a, r_a in enumerate(sorted(positives, reverse=True), start=1):
        for b, r_b in enumerate(sorted(negatives, reverse=True), start=1):
            first = min(max(alpha * len(positives) - (a - 1), 0), 1)
            top = min(max(beta * len(negatives) - (b - 1), 0), 1)
            area += first * top * ((r_a > r_b) + 0.5 * (r_a == r_b))
    return area / (len(positives) * len(negatives))


def computed(scores, positive, alphas, betas):
    """LLPAUC of each user, ``[users, pairs]``."""
    user, item = torch.as_tensor(positive).nonzero(as_tuple=True)
    norm = norm_llpauc(scores, user, item, alphas, betas).numpy()
    return norm * np.array(alphas) * np.array(betas)


@st.composite
def batches(draw):
    """Scores with many ties and exclusions, positives anywhere, and pairs of rates."""
    users, items = draw(st.integers(1, 5)), draw(st.integers(1, 25))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(-3, draw(st.integers(-2, 30)), (users, items)) / 7
    scores[rng.random((users, items)) < draw(st.sampled_from([0.0, 0.3]))] = -math.inf
    positive = rng.random((users, items)) < draw(st.sampled_from([0.1, 0.4, 1.0]))
    rate = st.one_of(st.floats(1e-3, 1), st.sampled_from([0.25, 0.5, 1.0]))
    pairs = draw(st.lists(st.tuples(rate, rate), min_size=1, max_size=4))
    return scores, positive, pairs


@settings(max_examples=80)
@given(batches())
def test_equals_the_definition(batch):
    scores, positive, pairs = batch
    tensor = torch.from_numpy(scores.copy())
    actual = computed(tensor, positive, *zip(*pairs, strict=True))
    assert torch.equal(tensor, torch.from_numpy(scores))
    expected = [
        [literal_llpauc(row[p].tolist(), row[~p & (row > -math.inf)].tolist(), *q) for q in pairs]
        for row, p in zip(scores, positive, strict=True)
    ]
    np.testing.assert_allclose(actual, np.array(expected, dtype=np.float64), 0, 1e-9)


def test_examples_of_the_specification():
    scores = torch.tensor([[0.9, 0.4, 0.8, 0.5, 0.3, 0.1]], dtype=torch.float64)
    positive = np.array([[True, True, False, False, False, False]])
    actual = computed(scores, positive, [0.5, 1.0], [0.5, 0.5])
    np.testing.assert_allclose(actual, [[0.25, 0.25]])


def test_without_ties_it_is_the_integral_of_the_cut_curve():
    """Of min(alpha, TPR) over the false-positive rates 0 to beta."""
    rng = np.random.default_rng(0)
    for alpha, beta in itertools.product([0.13, 0.5, 1.0], [0.07, 0.5, 1.0]):
        scores = rng.permutation(60).astype(np.float64)
        positive = rng.permutation(60) < 17
        ranked = positive[np.argsort(-scores)]
        above = np.cumsum(ranked)[~ranked] / 17  # TPR at each negative
        share = np.clip(beta * 43 - np.arange(43), 0, 1) / 43
        (actual,) = computed(torch.from_numpy(scores)[None], positive[None], [alpha], [beta])
        assert actual[0] == pytest.approx((np.minimum(alpha, above) * share).sum())


def test_at_alpha_1_it_is_opauc():
    rng = np.random.default_rng(1)
    scores = torch.from_numpy(rng.integers(0, 9, (6, 40)) / 3)
    user, item = torch.from_numpy(rng.random((6, 40)) < 0.2).nonzero(as_tuple=True)
    betas = [0.03, 0.1, 0.77, 1.0]
    expected = norm_opauc(scores, user, item, betas)
    torch.testing.assert_close(norm_llpauc(scores, user, item, [1.0] * 4, betas), expected)


def test_evaluation_gathers_it_beside_opauc(caplog):
    keys = Config(
        config_dict={
            "metrics": ["LLPAUC", "NormLLPAUC", "OPAUC"],
            "valid_metric": "LLPAUC@1,0.5",
            "llpauc_alphas": [0.5, 1],
            "llpauc_betas": [0.5, 0.5],
            "opauc_betas": [0.5],
            "metric_decimal_place": 9,
        }
    )
    assert keys["valid_metric"] == "LLPAUC@1.0,0.5"
    assert keys["valid_metric_bigger"] is True
    assert Config(config_dict=keys.resolved()).final_config_dict == keys.final_config_dict
    collector = Collector(keys)
    scores = torch.tensor([[0.9, 0.4, 0.8, 0.5, 0.3, 0.1], [0.0] * 6])
    collector.eval_batch_collect(scores, None, torch.tensor([0, 0]), torch.tensor([0, 1]))
    with caplog.at_level("WARNING"):
        struct = collector.get_data_struct()
    found = {}
    for metric in (LLPAUC, NormLLPAUC):
        found.update(metric(keys).calculate_metric(struct))
    assert found == pytest.approx(
        {
            "llpauc@0.5,0.5": 0.25,
            "llpauc@1.0,0.5": 0.25,
            "normllpauc@0.5,0.5": 1.0,
            "normllpauc@1.0,0.5": 0.5,
        }
    )
    assert struct.get("rec.opauc").tolist() == [[0.5]]
    messages = [record.getMessage() for record in caplog.records]
    assert "LLPAUC leaves out 1 of 2 users, who have no positive or no negative item" in messages


def test_a_run_reports_and_selects_by_it(toy):
    keys = {**toy, "metrics": ["LLPAUC", "NormLLPAUC"], "valid_metric": "NormLLPAUC@0.9,0.01"}
    result = run(config_dict={**keys, "epochs": 2, "state": "ERROR"}, saved=False)
    assert set(result["test_result"]) == {
        f"{name}@{pair}" for name in ("llpauc", "normllpauc") for pair in ("0.7,0.1", "0.9,0.01")
    }


def test_default_pairs():
    config, yaml = Config(), read_yaml(properties_path("overall.yaml"))
    for rates in (LLPAUC_ALPHAS, LLPAUC_BETAS):
        assert config[rates.name] == yaml[rates.name] == rates.default
    assert Config(config_dict={"llpauc_alphas": 1, "llpauc_betas": 0.1})["llpauc_alphas"] == [1.0]


MISTAKES = {
    "--llpauc_alphas=0": "llpauc_alphas=0: must be a number > 0 and <= 1 or a list",
    "--llpauc_betas=[0.1,2]": "llpauc_betas=[0.1, 2]: must be a number > 0 and <= 1",
    "--llpauc_betas=[0.1]": "llpauc_betas=[0.1]: must be as many as llpauc_alphas=[0.7, 0.9]",
    "--llpauc_beta=0.1": "llpauc_beta=0.1: no such key; did you mean llpauc_betas?",
    "--metrics=LLPAUC --valid_metric=LLPAUC@0.7": (
        "LLPAUC@0.7: its pair of rates must be one of (llpauc_alphas, llpauc_betas) = [(0.7, 0.1)"
    ),
}


@pytest.mark.parametrize("arguments", MISTAKES)
def test_a_mistake_ends_in_one_line(arguments, capfd):
    assert main(["run", "--state=ERROR", *arguments.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert MISTAKES[arguments] in err


def test_recboles_own_config_is_checked_when_the_metric_is_made():
    keys = {"llpauc_alphas": 2, "llpauc_betas": None, "metric_decimal_place": 4}
    with pytest.raises(UserError, match="llpauc_alphas=2: must be"):
        LLPAUC(keys)
