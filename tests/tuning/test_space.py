"""Search spaces: how they are read, which points they have, and what is wrong with them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_hns.errors import UserError
from recbole_hns.files import properties_path
from recbole_hns.loss.registry import LOSSES
from recbole_hns.sampler.registry import SAMPLERS
from recbole_hns.tuning import space as space_module
from recbole_hns.tuning.space import (
    _draw,
    default_space,
    distribution,
    frozen,
    possible_points,
    read_space,
    searchable,
    space_path,
)


def points(space, sampler="dns_mn", given=None, num_samples=1, model="BPR"):
    return possible_points(read_space(space), SAMPLERS[sampler], model, given or {}, num_samples)


@pytest.mark.parametrize("name", [path.stem for path in properties_path("tune").glob("*.yaml")])
def test_shipped_spaces_are_possible_throughout(name):
    space = read_space(default_space(name, None))
    assert space.content == read_space(properties_path(f"tune/{name}.yaml")).content
    found = points(space.content, name)
    assert len(found) == np.prod([len(values) for values in space.grids.values()])


#: Losses that leave nothing to search.
WITHOUT_SPACE = {"bpr"}


def test_every_loss_with_hyperparameters_comes_with_a_space():
    shipped = {path.stem for path in properties_path("tune/loss").glob("*.yaml")}
    assert shipped >= set(LOSSES) - WITHOUT_SPACE


@pytest.mark.parametrize("name", sorted(set(LOSSES) - WITHOUT_SPACE))
@pytest.mark.parametrize("similarity", ["inner", "cosine"])
def test_spaces_of_losses_are_possible_throughout(name, similarity):
    sampler = "all" if LOSSES[name].picks_itself else "rns"
    content = default_space(sampler, name)
    assert content == read_space(properties_path(f"tune/loss/{name}.yaml")).content
    assert set(content) <= set(LOSSES[name].hyperparameters)
    sizes = [len(values) for values in content.values()]
    assert np.prod(sizes) <= 40
    found = points(content, sampler, given={"loss": name, "similarity": similarity})
    assert len(found) == np.prod(sizes)


def test_a_samplers_space_is_searched_with_the_losss():
    dns_mn, psl = (
        read_space(properties_path(f"tune/{name}.yaml")).content for name in ("dns_mn", "loss/psl")
    )
    content = default_space("dns_mn", "psl")
    assert content == {**dns_mn, **psl}
    assert list(content) == [*dns_mn, *psl]
    sizes = [len(values) for values in content.values()]
    assert len(points(content, given={"loss": "psl"})) == np.prod(sizes)
    # without a space for the loss
    assert default_space("dns_mn", "bpr") == default_space("dns_mn", None) == dns_mn


def test_what_a_sampler_sets_or_a_loss_does_not_read_is_not_searched():
    ssm = read_space(properties_path("tune/ssm.yaml")).content
    fixed = set(SAMPLERS["ssm"]().loss_parameters())
    assert "loss_tau" in fixed
    content = default_space("ssm", "softmax")
    assert "ssm_tau" in content
    assert not fixed.intersection(content)
    points(content, "ssm", given={"loss": "softmax"})
    content = default_space("ssm", "talos")
    assert set(content) == {*ssm, "loss_tau"} - {"ssm_tau"}
    points(content, "ssm", given={"loss": "talos"})
    assert set(default_space("warp", "hinge")) == {"warp_margin"}


@pytest.mark.parametrize(
    ("sampler", "loss", "message"),
    [
        (
            "rns",
            None,
            "sampler=rns: comes with no search space; .*dns_mn.*, or loss=advinfonce, .*psl",
        ),
        ("all", "bpr", "sampler=all: comes with no search space; give --params, or use"),
        ("rnd", "psl", "sampler=rnd: must be one of"),
        ("rns", "pls", "loss=pls: must be one of"),
        ("dns", "../psl", "loss=../psl: must be one of"),
    ],
)
def test_no_default_space(sampler, loss, message):
    with pytest.raises(UserError, match=message):
        default_space(sampler, loss)


def test_shipped_ranges_are_the_papers():
    """One for each sampler that has a hardness; M, rho, and alpha x beta x p."""
    shipped = {path.stem: read_space(path) for path in properties_path("tune").glob("*.yaml")}
    assert set(shipped) == set(SAMPLERS) - {"all", "rns"}
    assert shipped["dns_mn"].grids["dns_m"] == [1, 2, 3, 4, 5, 10, 20]
    assert shipped["softmax_v"].grids["softmax_rho"] == [0.01, 0.1, 1, 10, 100]
    tenths = [round(0.1 * i, 1) for i in range(1, 11)]
    grids = {"ahns_alpha": tenths, "ahns_beta": tenths, "ahns_p": [-1, -2]}
    assert shipped["ahns"].grids == grids


def test_lists_are_grids_in_their_order_and_a_single_value_is_a_list_of_one():
    found = points({"dns_m": [5, 1], "candidate_num": [50, 200], "learning_rate": 0.01})
    expected = [(m, n, 0.01) for m, n in itertools.product([5, 1], [50, 200])]
    assert [tuple(point.values()) for point in found] == expected


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
    st.lists(st.integers(1, 300), min_size=1, max_size=5),
)
def test_impossible_points_are_left_out(ms, ns):
    expected = list(dict.fromkeys((m, n) for m, n in itertools.product(ms, ns) if m <= n))
    space = {"dns_m": ms, "candidate_num": ns}
    if expected:
        assert [(p["dns_m"], p["candidate_num"]) for p in points(space)] == expected
    else:
        with pytest.raises(UserError, match="no possible point"):
            points(space)


def test_what_is_given_makes_points_impossible_too():
    space = {"dns_m": [1, 5, 9]}
    assert [p["dns_m"] for p in points(space, given={"candidate_num": 5})] == [1, 5]
    # every negative is enough for any M
    assert len(points(space, given={"candidate_num": "all"})) == 3


def test_the_other_axes_are_searched_too():
    space = {"loss": ["bpr", "softmax"], "loss_tau": [0.1, 0.2], "candidate_sharing": ["batch"]}
    assert len(points(space)) == 4
    space = {"similarity": ["inner", "cosine"]}
    assert len(points(space, "dns")) == 2
    # a mixture of layers has no cosine
    assert points(space, "mixgcf") == [{"similarity": "inner"}]
    # ssm sets the temperature of its own loss
    with pytest.raises(UserError, match=r"no possible point; .* sampler=ssm sets it"):
        points({"loss_tau": [0.1]}, "ssm")
    assert len(points({"loss_tau": [0.1]}, "dns", given={"loss": "softmax"})) == 1


@given(st.integers(0, 2**31), st.floats(1e-6, 1e3), st.floats(1.001, 1e3))
def test_draws_are_within_their_bounds(seed, low, factor):
    rng, high = np.random.default_rng(seed), low * factor
    for kind in ("uniform", "loguniform"):
        value = _draw(distribution("x", {kind: [low, high]}), rng)
        assert type(value) is float
        assert low * (1 - 1e-9) <= value <= high * (1 + 1e-9)
    assert _draw(distribution("x", {"randint": [3, 5]}), rng) in (3, 4)
    assert _draw(distribution("x", {"choice": ["a", None]}), rng) in ("a", None)


def test_loguniform_is_uniform_in_the_logarithm():
    rng = np.random.default_rng(0)
    drawn = distribution("x", {"loguniform": [1e-4, 1e-2]})
    values = [_draw(drawn, rng) for _ in range(2000)]
    assert np.mean(np.array(values) < 1e-3) == pytest.approx(0.5, abs=0.05)


def test_random_points_for_each_point_of_the_grid_repeat_with_the_seed():
    space = {
        "candidate_num": [5, 50],
        "dns_m": {"randint": [1, 51]},
        "learning_rate": {"loguniform": [1e-4, 1e-2]},
    }
    found = points(space, num_samples=6)
    assert [p["candidate_num"] for p in found] == [5] * 6 + [50] * 6
    assert all(p["dns_m"] <= p["candidate_num"] for p in found)
    assert found == points(space, num_samples=6) != points(space, given={"seed": 1}, num_samples=6)
    # there are only three
    assert len(points({"dns_m": {"choice": [1, 2, 3]}}, num_samples=9)) == 3


def test_a_parameter_that_is_given_is_not_searched():
    space = read_space({"dns_m": [1, 2], "candidate_num": [50]}, fixed={"candidate_num": 7})
    assert space.parameters == ["dns_m"]
    with pytest.raises(UserError, match="at least one parameter"):
        read_space({"dns_m": [1, 2]}, fixed={"dns_m": 1})


@pytest.mark.parametrize(
    ("space", "text"),
    [
        ({"dns_n": [1]}, r"dns_n=\[1\]: no parameter of dns_mn, .* did you mean dns_m\?"),
        ({"ahns_beta": [1]}, "ahns_beta"),
        ({"topk": [[5]]}, "topk"),
        ({"seed": [1, 2]}, "seed"),
        ({"dns_m": []}, r"dns_m=\[\]: must list at least one value"),
        ({"dns_m": [0]}, "dns_m=0: must be an integer > 0"),
        ({"dns_m": [1, "two"]}, "dns_m=two: must be an integer"),
        ({"learning_rate": [-1]}, "learning_rate=-1: must be a number > 0"),
        ({"dns_m": {"uniform": [1, 5]}}, "must be an integer > 0"),
        ({"dns_m": {"normal": [1, 5]}}, "must be a list of values, or one of uniform"),
        ({"dns_m": {"randint": [5, 5]}}, "LOW < HIGH"),
        ({"dns_m": {"randint": [1, 2.5]}}, "randint: integers"),
        ({"learning_rate": {"loguniform": [0, 1]}}, "loguniform: > 0"),
        ({"dns_m": {"choice": []}}, "choice with a list"),
        ({"dns_m": {}}, "must be a list"),
        ({}, "must name at least one parameter"),
        ({"dns_m": [1], "constraints": ["dns_m < 3"]}, r"constraints=.*: leave it out"),
        ({"loss_tau": [0.1]}, r"loss_tau=\[0.1\]: no parameter of dns_mn, bpr, BPR"),
        ({"loss": ["brp"]}, "loss=brp: must be one of"),
        ({"loss": ["softmax"], "loss_tau": [-1]}, "loss_tau=-1: must be a number > 0"),
        ({"similarity": ["dot"]}, "similarity=dot: must be inner or cosine"),
        ({"dns_m": [300]}, r"no possible point; .* dns_m=300: must be <= candidate_num=200"),
    ],
)
def test_mistakes(space, text):
    with pytest.raises(UserError, match=text):
        points(space)


EXTREME = {
    "uniform too wide": {"uniform": [-1.7e308, 1.7e308]},
    "uniform of no float": {"uniform": [0, 10**400]},
    "loguniform of no float": {"loguniform": [1, 10**309]},
    "randint too large": {"randint": [1, 10**23]},
    "randint too small": {"randint": [-(2**63) - 1, 5]},
    "randint of 2**63 + 1": {"randint": [0, 2**63 + 1]},
    "infinite": {"uniform": [0, float("inf")]},
    "no number": {"uniform": [float("nan"), 1]},
    "nested": {"uniform": [[0], [1]]},
    "bool": {"randint": [False, True]},
    "too many": {"randint": [1, 2, 3]},
}


@pytest.mark.parametrize("name", EXTREME)
def test_bounds_that_nothing_can_be_drawn_between(name):
    with pytest.raises(UserError, match=r"learning_rate=.* or choice with a list"):
        distribution("learning_rate", EXTREME[name])


@pytest.mark.parametrize(
    "value",
    [
        {"uniform": [-8e307, 8e307]},
        {"loguniform": [5e-324, 1.7e308]},
        {"loguniform": [1, 10**300]},
        {"randint": [-(2**63), 2**63]},
        {"randint": [2**63 - 1, 2**63]},
    ],
)
def test_the_widest_bounds_that_there_are(value):
    drawn = distribution("x", value)
    rng = np.random.default_rng(0)
    [(low, high)] = value.values()
    assert all(low <= _draw(drawn, rng) <= high for _ in range(100))


@pytest.mark.parametrize(
    "space",
    [
        {key: [0.1] * 99 for key in ("learning_rate", "weight_decay", "embedding_std")},
        {"learning_rate": [0.1] * 100_001},
        {"learning_rate": {"uniform": [0, 1]}},
    ],
)
def test_more_points_than_anyone_waits_for(space):
    drawn = 10**9 if isinstance(space["learning_rate"], dict) else 1
    with pytest.raises(UserError, match=r"search space has \d+ points; must be <= 100000"):
        possible_points(read_space(space), SAMPLERS["dns_mn"], "BPR", {}, drawn)


def test_planning_a_large_grid_compares_no_point_with_all_others(monkeypatch):
    """It would take minutes; the check of each point, which takes its time, is left out."""
    monkeypatch.setattr(space_module, "make_axes", lambda *arguments: None)
    rates, decays = [i / 1000 for i in range(1, 201)], [i / 100 for i in range(100)]
    found = points({"learning_rate": rates, "weight_decay": decays * 2})
    expected = itertools.product(rates, decays)
    assert [(p["learning_rate"], p["weight_decay"]) for p in found] == list(expected)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ({"a": 1, "b": [1, 2]}, {"b": [1, 2], "a": 1.0}, True),
        ({"a": {"x": 1, "y": 2}}, {"a": {"y": 2, "x": 1}}, True),
        ({"a": [1, [2]]}, {"a": [1, [3]]}, False),
        ({"a": None}, {"a": False}, False),
        ({"a": "1"}, {"a": 1}, False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_points_are_the_same_where_they_are_equal(first, second, same):
    assert (first == second) is same
    assert (frozen(first) == frozen(second)) is same


def test_num_samples_needs_something_to_draw():
    with pytest.raises(UserError, match="num_samples=3: must be 1 for a space of lists"):
        points({"dns_m": [1]}, num_samples=3)


def test_files(tmp_path):
    (tmp_path / "bad.yaml").write_text("a: [1")
    for name, text in (("none.yaml", "cannot be read"), ("bad.yaml", "not valid YAML")):
        with pytest.raises(UserError, match=f"params=.*{name}.* {text}"):
            read_space(tmp_path / name)
    # shipped with the package, and so found without a checkout
    assert space_path("properties/tune/ahns.yaml") == properties_path("tune/ahns.yaml")


def test_what_can_be_searched():
    keys = searchable(SAMPLERS["ahns"], [LOSSES["bpr"]], "LightGCN")
    assert {"ahns_beta", "candidate_num", "learning_rate", "reg_weight", "n_layers"} <= set(keys)
    assert not {"metrics", "dataset", "seed", "sampler"}.intersection(keys)
