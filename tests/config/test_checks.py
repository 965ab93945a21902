"""Values that RecBole would only warn of, fail on later or take for something else."""

import math
import re

import pytest

from recbole_hns.config import Config
from recbole_hns.config.checks import check_dataset_name
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.errors import UserError
from recbole_hns.parameters import Parameter

#: Keys, values that are refused, and what the line ends with.
REFUSED = [
    # what RecBole only warns of
    ("user_inter_num_interval", 10, "must be an interval, such as [10,inf)"),
    ("user_inter_num_interval", "[10,", "must be an interval"),
    ("user_inter_num_interval", "", "must be an interval"),
    ("item_inter_num_interval", "[10,5]", "must be an interval"),
    ("item_inter_num_interval", "[1,2];[3", "must be an interval"),
    ("item_inter_num_interval", "[five,inf)", "must be an interval"),
    ("item_inter_num_interval", "[nan,5]", "must be an interval"),
    ("val_interval", {"rating": "3"}, "rating must have an interval, such as [3,inf)"),
    ("val_interval", {"rating": 3}, "rating must have an interval"),
    ("val_interval", {"rating": [3]}, "rating must have an interval"),
    ("val_interval", "[3,inf)", "must be a dictionary"),
    ("state", "warn", "must be debug, info, warning, error or critical"),
    ("state", "verbose", "must be debug, info"),
    ("clip_grad_norm", {"max_norm": -1}, "max_norm and norm_type must be > 0"),
    ("clip_grad_norm", {"max_norm": 0}, "max_norm and norm_type must be > 0"),
    ("clip_grad_norm", {"max_norm": math.nan}, "must be a dictionary, each value a number"),
    ("clip_grad_norm", {"max_norm": 1, "norm_type": -2}, "max_norm and norm_type must be > 0"),
    ("clip_grad_norm", {"max_norm": 1, "nrom_type": 2}, "must hold max_norm"),
    ("clip_grad_norm", {}, "must hold max_norm"),
    ("rm_dup_inter", False, "must be first or last"),
    ("rm_dup_inter", "newest", "must be first or last"),
    # inside eval_args
    ("eval_args", {"spilt": {"RS": [8, 1, 1]}}, "spilt is none of split, order, group_by, mode; "),
    ("eval_args", {"groupby": "user"}, "did you mean group_by?"),
    ("eval_args", {"split": {"LS": "valid_and_tset"}}, "LS must be valid_and_test, valid_only or"),
    ("eval_args", {"split": {"TS": [1, 1]}}, "TS must list three numbers >= 0"),
    ("eval_args", {"split": {"RS": [1, 1, math.nan]}}, "RS must list three numbers >= 0"),
    ("eval_args", {"split": {"SR": [8, 1, 1]}}, "split must be {'RS': [0.8, 0.1, 0.1]}"),
    ("eval_args", {"split": {"RS": [8, 1, 1], "LS": "valid_only"}}, "split must be {'RS'"),
    ("eval_args", {"split": "RS"}, "split must be {'RS'"),
    ("eval_args", {"split": None}, "split must be {'RS'"),
    ("eval_args", {"order": "T0"}, "order must be RO or TO"),
    ("eval_args", {"order": None}, "order must be RO or TO"),
    ("eval_args", {"group_by": "users"}, "group_by must be user or none"),
    ("eval_args", {"group_by": 3}, "group_by must be user or none"),
    ("eval_args", {"mode": {"vald": "full"}}, "mode: vald is none of valid, test; did you mean"),
    ("eval_args", {"mode": {0: None}}, "mode: 0 is none of valid, test"),
    ("eval_args", {3: 4}, "3 is none of split, order, group_by, mode"),
    ("eval_args", {"mode": "ful"}, "mode must be full, labeled, uniN or popN with N >= 1"),
    ("eval_args", {"mode": "uni999999999"}, "uniN or popN with N <= 100000"),
    ("eval_args", {"mode": "pop" + "9" * 5000}, "uniN or popN with N <= 100000"),
    # what the metrics need
    ("eval_args", {"mode": "labeled"}, "mode labeled ranks no items; its metrics must be of auc"),
    ("eval_args", {"mode": {"valid": "full", "test": "labeled"}}, "mode labeled ranks no items"),
    ("metrics", ["AUC"], "AUC rates values: neither beside rankings nor in mode full"),
    ("metrics", ["Recal"], "RecBole has no metric Recal; did you mean recall?"),
    # what follows from others
    ("valid_metric_bigger", False, "follows from valid_metric=MRR@10; leave it out"),
    ("device", "cpu", "set use_gpu=False for the CPU"),
    # columns
    ("load_col", {"inter": "user_id"}, "must be a dictionary, each value a list"),
    ("load_col", {"intr": ["user_id"]}, "intr is none of inter, user, item"),
    ("threshold", {"rating": "3"}, "must be a dictionary, each value a number"),
    ("threshold", {}, "must be a dictionary, each value a number"),
    ("numerical_features", "age", "must be a list"),
    ("seq_len", {"title": 0}, "must be a dictionary, each value an integer > 0"),
    ("normalize_all", "yes", "must be True or False"),
    ("repeatable", "maybe", "must be True or False"),
    ("USER_ID_FIELD", 3, "must be a string"),
    # sizes
    ("embedding_size", "1e9", "must be an integer > 0 and <= 65536"),
    ("embedding_size", 10**9, "must be an integer > 0 and <= 65536"),
]


@pytest.mark.parametrize(("key", "value", "expected"), REFUSED, ids=str)
def test_refused(key, value, expected):
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        Config(config_dict={key: value})
    # the key that was given is the one that is named, but where metrics do not suit eval_args
    assert str(caught.value).startswith((f"{key}=", "metrics="))


#: Keys and values that are what they were before, and what becomes of them.
ALLOWED = [
    ("user_inter_num_interval", "[10,inf)", "[10,inf)"),
    ("user_inter_num_interval", "(0,5];[10, 1e3)", "(0,5];[10, 1e3)"),
    ("user_inter_num_interval", "[5,9]", [5, 9]),  # as RecBole reads it too
    ("user_inter_num_interval", "(5,9)", (5, 9)),
    ("user_inter_num_interval", None, None),
    (
        "val_interval",
        {"rating": "[3,5]", "tag": ["a", "b"]},
        {"rating": "[3,5]", "tag": ["a", "b"]},
    ),
    ("state", "WARNING", "WARNING"),
    ("state", "Debug", "Debug"),
    ("clip_grad_norm", {"max_norm": 5, "norm_type": 1}, {"max_norm": 5.0, "norm_type": 1.0}),
    ("load_col", {"inter": "*"}, {"inter": "*"}),
    ("load_col", None, None),
    ("threshold", {"timestamp": 1.7e12}, {"timestamp": 1.7e12}),
    ("valid_metric_bigger", True, True),
    ("embedding_size", 64, 64),
]


@pytest.mark.parametrize(("key", "value", "expected"), ALLOWED, ids=str)
def test_allowed(key, value, expected):
    assert Config(config_dict={key: value})[key] == expected


@pytest.mark.parametrize(
    "eval_args",
    [
        {"split": {"LS": "valid_and_test"}, "order": "TO"},
        {"split": {"TS": [0.8, 0.1, 0.1]}, "order": "TO"},
        {"split": {"RS": [8, 1, 1]}, "group_by": None},
        {"group_by": "None", "mode": "uni100"},
        {"mode": {"valid": "uni100", "test": "full"}},
        {"mode": {"valid": "pop99999"}},
    ],
    ids=str,
)
def test_allowed_in_eval_args(eval_args):
    config = Config(config_dict={"eval_args": eval_args})
    for part, value in eval_args.items():
        if part != "mode":
            assert config["eval_args"][part] == value


@pytest.mark.parametrize("mode", ["labeled", "uni100", {"valid": "uni10", "test": "labeled"}])
def test_metrics_of_values_need_no_ranking(mode):
    keys = {"metrics": ["AUC", "RMSE"], "valid_metric": "AUC", "eval_args": {"mode": mode}}
    assert Config(config_dict=keys)["metrics"] == ["AUC", "RMSE"]


#: Keys of models, whose types are those of their defaults.
@pytest.mark.parametrize(
    ("model", "key", "value", "expected"),
    [
        ("NGCF", "hidden_size_list", "64", "must be a list, such as [64,64,64]"),
        ("NGCF", "hidden_size_list", "64 64", "must be a list, such as [64,64,64]"),
        ("NGCF", "hidden_size_list", "[64,", "must be a list, such as [64,64,64]"),
        ("ConvNCF", "cnn_kernels", "4", "must be a list, such as [4,4,2,2]"),
        ("ConvNCF", "train_method", "3", "must be a string"),
        ("NGCF", "node_dropout", "1.5", "must be a number >= 0 and < 1"),
        ("SGL", "ssl_tau", "abc", "must be a number"),
        ("DGCF", "n_iterations", "two", "must be an integer > 0"),
        ("NCL", "m_step", "one", "must be an integer or a number"),
    ],
)
def test_a_models_key_of_another_type_is_refused(model, key, value, expected):
    with pytest.raises(UserError, match=re.escape(f"{key}={value}: {expected}")):
        Config(model, sampler="rns", command_line={key: value})


def test_a_list_may_be_given_without_brackets():
    config = Config("NGCF", command_line={"hidden_size_list": "32,16"})
    assert config["hidden_size_list"] == [32, 16]


@pytest.mark.parametrize("size", [5e-324, 1e-300, 1e-40, 1e-11, 1e11, 1e40, 1e300])
@pytest.mark.parametrize(
    ("sampler", "key"),
    [("irgan", "irgan_temperature"), ("ssm", "ssm_tau"), ("warp", "warp_margin")],
)
def test_a_size_that_overflows_in_single_precision_is_refused(sampler, key, size):
    with pytest.raises(UserError, match="of a size from 1e-10 to 1e"):
        Config(sampler=sampler, config_dict={key: size})


def test_sizes_have_a_sign():
    parameter = Parameter("p", float, 0.0, computed_with=True)
    assert [parameter.check(value) for value in (0, -1e10, 1e-10)] == [0, -1e10, 1e-10]
    with pytest.raises(UserError, match="p=-1e-11"):
        parameter.check(-1e-11)
    assert Parameter("p", float, 0.0).check(1e-300) == 1e-300


def test_none_as_a_word_is_unset_in_yaml(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: None\nb: [None, 1]\nc: {d: None}\ne: 'None'\nf: Nonesuch\ng: none\n")
    expected = {"a": None, "b": [None, 1], "c": {"d": None}}
    assert read_yaml(path) == {**expected, "e": "None", "f": "Nonesuch", "g": "none"}
    path.write_text("load_col: None\nval_interval: None\nclip_grad_norm: None\n")
    config = Config(config_file_list=[path])
    assert [config[key] for key in ("load_col", "val_interval", "clip_grad_norm")] == [None] * 3
    path.write_text("epochs: None\n")
    with pytest.raises(UserError, match="epochs=None: must be an integer > 0"):
        Config(config_file_list=[path])


# --- the name of the data set ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        ("tiny/", "--data_path=dataset --dataset=tiny"),
        ("tiny.inter", "--data_path=dataset --dataset=tiny"),
        ("tiny.train.inter", "--data_path=dataset --dataset=tiny"),
        ("tiny/tiny.inter", "--data_path=dataset --dataset=tiny"),
        ("sub/tiny", "--data_path=dataset/sub --dataset=tiny"),
        ("../tiny", "--data_path=. --dataset=tiny"),
        ("here/tiny", "--data_path=here --dataset=tiny"),
        ("./here/tiny/", "--data_path=here --dataset=tiny"),
        ("here/tiny/tiny.inter", "--data_path=here --dataset=tiny"),
        ("{cwd}/here/tiny", "--data_path={cwd}/here --dataset=tiny"),
        ("{cwd}/here/tiny/tiny.inter", "--data_path={cwd}/here --dataset=tiny"),
        (
            "{cwd}/here/loose.inter",
            "--data_path={cwd}/here --dataset=loose and have the file as "
            "{cwd}/here/loose/loose.inter",
        ),
    ],
)
def test_a_path_is_refused_with_the_keys_that_name_it(tmp_path, dataset, expected):
    (tmp_path / "here" / "tiny").mkdir(parents=True)
    (tmp_path / "here" / "tiny" / "tiny.inter").touch()
    (tmp_path / "here" / "loose.inter").touch()
    dataset, expected = (text.replace("{cwd}", str(tmp_path)) for text in (dataset, expected))
    with pytest.raises(UserError) as caught:
        Config(dataset=dataset)
    start = f"dataset={dataset}: must be the name of a data set, which is read from "
    assert str(caught.value) == f"{start}data_path/NAME/NAME.inter; give {expected}"


@pytest.mark.parametrize("dataset", ["", "/", ".", "..", "a\0b", "a\nb", "x" * 300, None, 3, ["a"]])
def test_what_can_be_no_name_is_refused(dataset):
    with pytest.raises(UserError, match="must be the name of a data set"):
        check_dataset_name(dataset, "dataset")


@pytest.mark.parametrize("dataset", ["tiny", "ml-1m.v2", "my data", "größe", "数据"])
def test_names(dataset):
    check_dataset_name(dataset, "dataset")
