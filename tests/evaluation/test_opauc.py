"""OPAUC against slow, literal definitions, its edge cases, and the config keys it has."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literal_opauc import EXCLUDED, literal_of_matrix
from recbole.evaluator import DataStruct
from sklearn.metrics import roc_auc_score

from recbole_hns import UserError
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.evaluation import OPAUC, Collector, NormOPAUC, norm_opauc
from recbole_hns.evaluation.metrics import OPAUC_BETAS
from recbole_hns.files import properties_path
from recbole_hns.ops import devices


def computed(scores, positive, betas):
    return norm_opauc(scores, *torch.as_tensor(positive).nonzero(as_tuple=True), betas).numpy()


@st.composite
def batches(draw):
    """Scores with many ties and exclusions, positives anywhere, and rates."""
    users, items = draw(st.integers(1, 6)), draw(st.integers(1, 30))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scores = rng.integers(-3, draw(st.integers(-2, 30)), (users, items)) / 7
    scores[rng.random((users, items)) < draw(st.sampled_from([0.0, 0.3]))] = EXCLUDED
    scores[rng.random((users, items)) < 0.02] = math.inf
    positive = rng.random((users, items)) < draw(st.sampled_from([0.05, 0.3, 1.0]))
    whole = [(k + 1) / items for k in range(items)]
    fractional = draw(st.lists(st.floats(1e-3, 1), min_size=1, max_size=3))
    return scores, positive, [*whole, *fractional, 1.0]


@settings(max_examples=60)
@given(batches(), st.sampled_from([torch.float64, torch.float32]))
def test_equals_the_definition(batch, dtype):
    scores, positive, betas = batch
    scores = torch.tensor(scores, dtype=dtype)
    before = scores.clone()
    actual = computed(scores, positive, betas)
    np.testing.assert_allclose(actual, literal_of_matrix(scores, positive, betas), 0, 1e-9)
    assert torch.equal(scores, before)


def test_from_one_negative_to_all_whole_and_fractional():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 12, (5, 60)).astype(np.float64)
    positive = np.arange(60) < 10
    betas = [*(np.arange(1, 51) / 50), *(np.arange(1, 50) / 50 + 0.007), 0.01]
    actual = computed(torch.from_numpy(scores), np.tile(positive, (5, 1)), betas)
    expected = literal_of_matrix(scores, np.tile(positive, (5, 1)), betas)
    np.testing.assert_allclose(actual, expected, 0, 1e-9)
    assert len(np.unique(expected)) > 100


@pytest.mark.parametrize("compared", [1, 70, 10**6])
def test_however_many_scores_are_compared_at_a_time(compared, monkeypatch):
    monkeypatch.setattr(devices, "pairs_at_once", lambda scores: compared)
    rng = np.random.default_rng(1)
    scores, positive = rng.integers(0, 9, (20, 33)) / 3, rng.random((20, 33)) < 0.2
    actual = computed(torch.from_numpy(scores), positive, [0.1, 1.0])
    np.testing.assert_allclose(actual, literal_of_matrix(scores, positive, [0.1, 1.0]), 0, 1e-9)


@pytest.mark.parametrize("beta", [0.02, 0.1, 0.123, 0.5, 0.999, 1.0])
def test_equals_scikit_learns_partial_auc_without_its_standardisation(beta):
    rng = np.random.default_rng(2)
    for _ in range(20):
        scores = rng.permutation(80) / 80
        positive = rng.permutation(80) < rng.integers(1, 40)
        s = roc_auc_score(positive, scores, max_fpr=beta)
        area = s if beta == 1 else (2 * s - 1) * (beta - beta**2 / 2) + beta**2 / 2
        (actual,) = computed(torch.from_numpy(scores)[None], positive[None], [beta])
        assert beta * actual[0] == pytest.approx(area, abs=1e-6)


@pytest.mark.parametrize("beta", [0.03, 0.1, 1.0])
def test_constant_scores_are_worth_one_half(beta):
    positive = np.arange(30) % 7 == 0
    (actual,) = computed(torch.full((1, 30), 0.3), positive[None], [beta])
    assert actual == pytest.approx(0.5, abs=1e-12)


def test_perfect_and_worst_ranking():
    scores = torch.arange(20.0).tile(2, 1)
    positive = np.stack([np.arange(20) >= 15, np.arange(20) < 5])
    np.testing.assert_array_equal(computed(scores, positive, [0.05, 0.5, 1.0]), [[1] * 3, [0] * 3])


def test_positives_at_minus_infinity_rank_below_every_negative():
    scores = torch.tensor([[EXCLUDED, 3.0, 2.0, EXCLUDED, 4.0, EXCLUDED]])
    # both positives misordered with everything; then one of two
    both = np.array([[True, False, False, True, False, False]])
    one = np.array([[True, False, False, False, True, False]])
    assert computed(scores, both, [0.1, 0.5, 1.0]).tolist() == [[0, 0, 0]]
    assert computed(scores, one, [0.1, 0.5, 1.0]).tolist() == [[0.5, 0.5, 0.5]]


def test_users_without_positives_or_without_negatives_are_nan():
    scores = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, EXCLUDED], [1.0, 2.0, 3.0]])
    positive = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 0]], dtype=bool)
    actual = computed(scores, positive, [0.5, 1.0])
    np.testing.assert_array_equal(actual, [[np.nan] * 2, [np.nan] * 2, [0.0, 0.5]])
    assert np.isnan(computed(scores, np.zeros((3, 3), dtype=bool), [1.0])).all()


def test_nan_scores_are_told_with_their_number():
    scores = torch.randn(4, 10)
    scores[1, 2:4] = scores[3, 0] = torch.nan
    with pytest.raises(ValueError, match="3 scores are NaN, of 2 users"):
        computed(scores, np.eye(4, 10, dtype=bool), [1.0])


# --- as RecBole's metrics -------------------------------------------------------------------------


def config(**keys):
    return Config(config_dict={"metrics": ["NormOPAUC"], "valid_metric": "NormOPAUC@0.1", **keys})


def collect(collector, scores, positive):
    collector.eval_batch_collect(scores, None, *torch.as_tensor(positive).nonzero(as_tuple=True))


def test_metrics_are_means_over_users_and_opauc_is_beta_times_the_other():
    keys = config(opauc_betas=[0.1, 0.25, 1], metric_decimal_place=12)
    struct = DataStruct()
    struct.set("rec.opauc", torch.tensor([[0.2, 0.4, 0.6], [0.4, 0.4, 1.0]], dtype=torch.float64))
    norm = NormOPAUC(keys).calculate_metric(struct)
    area = OPAUC(keys).calculate_metric(struct)
    expected = {"normopauc@0.1": 0.3, "normopauc@0.25": 0.4, "normopauc@1.0": 0.8}
    assert norm == pytest.approx(expected)
    assert area == pytest.approx({"opauc@0.1": 0.03, "opauc@0.25": 0.1, "opauc@1.0": 0.8})
    assert NormOPAUC(config(metric_decimal_place=0)).calculate_metric(struct)["normopauc@0.1"] == 0


def test_at_beta_1_it_is_the_mean_auc_of_the_users():
    rng = np.random.default_rng(3)
    scores, positive = rng.random((12, 50)), rng.random((12, 50)) < 0.2
    keys = config(metric_decimal_place=9)
    collector = Collector(keys)
    for part in (slice(0, 5), slice(5, 12)):
        collect(collector, torch.from_numpy(scores[part]), positive[part])
    result = NormOPAUC(keys).calculate_metric(collector.get_data_struct())
    auc = np.mean([roc_auc_score(p, s) for p, s in zip(positive, scores)])
    assert result["normopauc@1.0"] == pytest.approx(auc, abs=1e-8)


def test_users_left_out_are_counted_in_one_warning(caplog):
    keys = config(metrics=["OPAUC", "NormOPAUC"], opauc_betas=[1.0], valid_metric="OPAUC@1")
    collector = Collector(keys)
    collect(collector, torch.tensor([[1.0, 2.0]] * 3), [[True, False], [False] * 2, [True] * 2])
    collect(collector, torch.tensor([[1.0, 0.0]] * 2), [[True, False], [False, False]])
    with caplog.at_level("WARNING"):
        struct = collector.get_data_struct()
        results = [metric(keys).calculate_metric(struct) for metric in (OPAUC, NormOPAUC)]
    assert results == [{"opauc@1.0": 0.5}, {"normopauc@1.0": 0.5}]
    assert [r.getMessage() for r in caplog.records] == [
        "OPAUC leaves out 3 of 5 users, who have no positive or no negative item"
    ]


def test_without_any_user_to_evaluate_the_result_is_nan(caplog):
    collector = Collector(config())
    collect(collector, torch.tensor([[1.0, 2.0]]), [[False, False]])
    with caplog.at_level("WARNING"):
        result = NormOPAUC(config()).calculate_metric(collector.get_data_struct())
    assert all(math.isnan(value) for value in result.values())
    assert len(caplog.records) == 1


def test_nan_ends_the_evaluation_and_leaves_nothing_to_the_next():
    collector = Collector(config())
    positive = np.eye(2, 5, dtype=bool)
    collect(collector, torch.arange(10.0).view(2, 5), positive)
    with pytest.raises(ValueError, match="1 scores are NaN"):
        collect(collector, torch.tensor([[1.0, math.nan, 0, 0, 0]] * 1), positive[:1])
    collect(collector, torch.arange(10.0).view(2, 5), positive)
    assert len(collector.get_data_struct().get("rec.opauc")) == 2


# --- config ---------------------------------------------------------------------------------------


def test_default_rates():
    assert Config()["opauc_betas"] == [0.01, 0.1, 1.0] == OPAUC_BETAS.default
    assert read_yaml(properties_path("overall.yaml"))["opauc_betas"] == OPAUC_BETAS.default
    assert config(opauc_betas=None)["opauc_betas"] == OPAUC_BETAS.default
    assert config(opauc_betas=0.1)["opauc_betas"] == [0.1]


@pytest.mark.parametrize(
    ("given", "spelt"),
    [("NormOPAUC@0.1", "NormOPAUC@0.1"), ("normopauc@0.10", "normopauc@0.1"),
     ("NormOPAUC@1", "NormOPAUC@1.0"), ("NormOPAUC@1e-5", "NormOPAUC@1e-05")],
)  # fmt: skip
def test_valid_metric_is_spelt_as_the_results_are(given, spelt):
    keys = config(valid_metric=given, opauc_betas=[0.1, 1, 1e-5])
    assert keys["valid_metric"] == spelt
    assert keys["valid_metric_bigger"] is True
    again = Config(config_dict=keys.resolved())
    assert again.final_config_dict == keys.final_config_dict


MISTAKES = {
    "0": ("--opauc_betas=0", "opauc_betas=0: must be a number > 0 and <= 1 or a list"),
    "0 among others": ("--opauc_betas=[0.1,0]", "opauc_betas=[0.1, 0]: must be"),
    "1.5": ("--opauc_betas=[0.1,1.5]", "opauc_betas=[0.1, 1.5]: must be a number > 0 and <= 1"),
    "none": ("--opauc_betas=[]", "opauc_betas=[]: must be"),
    "text": ("--opauc_betas=few", "opauc_betas=few: must be"),
    "rate": (
        "--metrics=OPAUC --valid_metric=OPAUC@0.2",
        "valid_metric=OPAUC@0.2: its rate must be one of opauc_betas = [0.01, 0.1, 1.0]",
    ),
    "no rate": ("--metrics=OPAUC --valid_metric=OPAUC", "valid_metric=OPAUC: its rate must be"),
    "no K": ("--metrics=NDCG --valid_metric=NDCG", "valid_metric=NDCG: its K must be"),
    "no @": ("--metrics=GAUC --valid_metric=GAUC@10", "valid_metric=GAUC@10: GAUC takes no @"),
    "misspelt": ("--opauc_betaz=1", "opauc_betaz=1: no such key; did you mean opauc_beta"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name, capfd):
    arguments, expected = MISTAKES[name]
    assert main(["run", "--state=ERROR", *arguments.split()]) == 2
    out, err = capfd.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert expected in err


def test_metrics_without_at_can_be_valid_metrics():
    assert Config(config_dict={"metrics": "GAUC", "valid_metric": "GAUC"})["valid_metric"] == "GAUC"


def test_recboles_own_config_is_checked_when_the_metric_is_made():
    with pytest.raises(UserError, match=r"opauc_betas=\[2\]: must be"):
        NormOPAUC({"opauc_betas": [2], "metric_decimal_place": 4})
