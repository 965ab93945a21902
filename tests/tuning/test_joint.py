"""The joint space of a search: what it suggests, and where a search starts."""

import re

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hns.config.axes import make_axes, without_effect
from recbole_hns.config.config import model_class
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError
from recbole_hns.files import properties_path
from recbole_hns.sampler.registry import sampler_class
from recbole_hns.tuning.joint import FOUND_ON, Facts, JointSpace, recipe_files, recipes, schedule
from recbole_hns.tuning.space import searchable

PHONES = Facts(27_879, 10_429, 137_356)
ML_1M = Facts(6_040, 3_706, 719_676)
TOY = Facts(30, 40, 200)


def drawn(space, seed):
    """A point at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return space(study.ask())


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


GIVEN = [
    {},
    {"sampler": "dns_mn"},
    {"sampler": "dns_mn", "dns_m": 20, "loss": "softmax"},
    {"sampler": "dns_mn", "candidate_num": "all"},
    {"candidate_num": "all"},
    {"candidate_distribution": "in_batch"},
    {"opauc_beta": 0.1, "similarity": "inner"},
    {"sampler": "softmax_v"},
    {"sampler": "ahns"},
    {"sampler": "ssm"},
    {"sampler": "rns", "loss": "psl"},
    {"sampler": "all"},
    {"loss": "psl"},
    {"loss": "bpr", "candidate_num": 77},
    {"similarity": "cosine", "learning_rate": 0.1},
    {"similarity": "inner", "lr_decay": 1.0, "n_layers": 1},
]


@settings(max_examples=40)
@given(
    st.sampled_from(["LightGCN", "BPR", "NGCF", "SGL", "ConvNCF", "SASRec"]),
    st.sampled_from(GIVEN),
    st.sampled_from([PHONES, ML_1M, TOY]),
    st.integers(0, 2**31),
)
def test_every_point_can_be_trained(model, keys, facts, seed):
    try:
        space = JointSpace(model, keys, facts)
    except UserError:
        assert model == "ConvNCF"
        assert keys.get("sampler") == "all" or keys.get("similarity") == "cosine"
        return
    if model == "ConvNCF" and "candidate_distribution" in keys:
        return  # which the config of all trials refuses
    point = drawn(space, seed)
    assert not keys.keys() & point.keys()
    together = {**keys, **point}
    cls = sampler_class(together["sampler"])
    axes = make_axes(model_class(model), cls, together)
    known = searchable(cls, [type(axes.loss)], model)
    assert point.keys() <= {*known, "sampler"}
    # nothing is searched that nothing reads
    assert not without_effect(axes.sampler, axes.loss, point)
    if "dns_m" in point and together["candidate_num"] != "all":
        assert 1 <= point["dns_m"] <= together["candidate_num"] / 2 + 1
    assert 0 < point["learning_rate"] < 1 if "learning_rate" in point else True


def test_ranges_fit_the_data():
    points = {
        facts: [drawn(JointSpace("LightGCN", {}, facts), seed) for seed in range(60)]
        for facts in (PHONES, ML_1M, TOY)
    }

    def most(facts, key):
        return max(point[key] for point in points[facts])

    assert most(PHONES, "n_layers") == 4
    assert most(ML_1M, "n_layers") == 2
    assert most(TOY, "candidate_num") <= 64
    assert 512 < most(PHONES, "candidate_num") <= PHONES.items / 8
    assert 256 < most(ML_1M, "candidate_num") <= ML_1M.items / 8
    assert 3000 < most(PHONES, "train_batch_size") <= 137_356 / 32
    assert 1 / ML_1M.interactions < most(ML_1M, "weight_decay") <= 2 / ML_1M.interactions
    # small data need more epochs; what a user says stays
    assert schedule(PHONES, {}) == {"epochs": 60, "eval_step": 2, "stopping_step": 3}
    assert schedule(TOY, {})["epochs"] == 300
    assert schedule(PHONES, {"epochs": 90, "stopping_step": 9}) == {"eval_step": 3}


def test_a_search_starts_from_the_recommended_recipes():
    """Phones' and ML-1M's as they are, and one of each kind, those with few layers first."""
    space = JointSpace("LightGCN", {}, PHONES)
    starts = [space(optuna.trial.FixedTrial(params)) for params in recipes(space)]
    layers = [start["n_layers"] for start in starts]
    assert layers == sorted(layers)
    kinds = [
        tuple(map(start.get, ("similarity", "sampler", "loss", "n_layers"))) for start in starts
    ]
    assert len(set(kinds)) == len(kinds) >= 4
    assert {"inner", "cosine"} == {start["similarity"] for start in starts}
    assert ("popularity", "inner") in {
        (start.get("candidate_distribution"), start.get("eval_similarity")) for start in starts
    }
    same = {"dataset", "embedding_size", "epochs", "eval_step", "stopping_step", "metrics", "topk"}
    # of ML-1M it goes with the interactions
    for name, scaled in (("phones", set()), ("ml-1m", {"weight_decay"})):
        recipe = read_yaml(properties_path(f"recommended/{name}.yaml"))
        alike = {"n_layers": recipe["n_layers"], "sampler": recipe["sampler"]}
        (start,) = (each for each in starts if alike.items() <= each.items())
        for key in recipe.keys() - same - {"model", "valid_metric"} - scaled:
            assert start[key] == pytest.approx(recipe[key]), (name, key)


@pytest.mark.parametrize(("name", "layers"), [("phones", 3), ("ml-1m", 2)])
def test_a_weight_decay_that_was_found_on_other_data_goes_with_the_interactions(name, layers):
    facts = Facts(31_668, 38_048, 1_110_780)
    space = JointSpace("LightGCN", {}, facts)
    starts = [space(optuna.trial.FixedTrial(params)) for params in recipes(space)]
    alike = {"n_layers": layers, "sampler": "dns_mn"}
    (start,) = (each for each in starts if alike.items() <= each.items())
    found_on = {"phones": PHONES, "ml-1m": ML_1M}[name]
    recipe = read_yaml(properties_path(f"recommended/{name}.yaml"))
    expected = recipe["weight_decay"] * found_on.interactions / facts.interactions
    assert start["weight_decay"] == pytest.approx(expected, rel=5e-3)  # of three digits


def test_it_is_known_on_how_many_interactions_a_weight_decay_was_found():
    for files in recipe_files():
        for path in files:
            recipe = read_yaml(path)
            assert "weight_decay" not in recipe or recipe["dataset"] in FOUND_ON


def test_softmax_v_is_searched_where_it_is_named():
    unnamed = [drawn(JointSpace("LightGCN", {}, PHONES), seed) for seed in range(60)]
    assert {point["sampler"] for point in unnamed} == {"dns_mn", "all"}
    space = JointSpace("LightGCN", {"sampler": "softmax_v"}, PHONES)
    points = [drawn(space, seed) for seed in range(60)]
    rhos = [point["softmax_rho"] for point in points]
    assert 0.05 <= min(rhos) < 0.1
    assert 2 < max(rhos) <= 5
    assert all("dns_m" not in point and 16 <= point["candidate_num"] <= 256 for point in points)


def test_what_is_given_stays_and_the_rest_of_a_recipe_is_tried():
    space = JointSpace("LightGCN", {"sampler": "ahns", "learning_rate": 0.5}, PHONES)
    for params in recipes(space):
        assert "inner.reg_weight" in params
        assert not any(key.endswith(("learning_rate", "ahns_beta", "sampler")) for key in params)
    # which has no layers, and L2 of its own
    space = JointSpace("BPR", {"similarity": "cosine"}, PHONES)
    first, second = recipes(space)
    params = {**first, **second}
    assert not [key for key in params if re.search(r"n_layers|reg_weight|^similarity", key)]


def test_a_network_is_searched_in_its_own_ranges_from_its_own_recipes():
    space = JointSpace("SASRec", {}, ML_1M)
    (start,) = [space(optuna.trial.FixedTrial(params)) for params in recipes(space)]
    recipe = read_yaml(properties_path("recommended/beauty.yaml"))
    for key in ("similarity", "sampler", "loss", "loss_tau", "learning_rate", "n_layers"):
        assert start[key] == pytest.approx(recipe[key])
    for point in (drawn(space, seed) for seed in range(20)):
        assert "embedding_std" not in point
        assert 3e-4 <= point["learning_rate"] <= 5e-3
        assert point["weight_decay"] <= 0.3 / ML_1M.interactions


@pytest.mark.parametrize(
    ("model", "keys", "text"),
    [
        ("BPR", {"sampler": "all", "similarity": "inner"}, "sampler=all: is not searched with"),
        ("BPR", {"sampler": "dns", "similarity": "cosine"}, "sampler=dns: is not searched with"),
        (
            "ConvNCF",
            {"similarity": "cosine"},
            "model=ConvNCF: is not searched with similarity=cosi",
        ),
        ("BPR", {"loss": "bpr", "similarity": "cosine"}, "loss=bpr: is not searched with"),
        ("Nope", {}, "model=Nope: RecBole has no such model"),
        ("BPR", {"sampler": "nope"}, "sampler=nope: must be one of"),
        ("BPR", {"loss": "nope"}, "loss=nope: must be one of"),
        ("BPR", {"similarity": "dot"}, "similarity=dot: must be inner or cosine"),
    ],
)
def test_mistakes(model, keys, text):
    with pytest.raises(UserError, match=text):
        JointSpace(model, keys, PHONES)
