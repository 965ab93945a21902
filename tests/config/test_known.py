"""No key is lost: each is read by somebody, refused with what was meant, or said to be idle."""

import re
from pathlib import Path

import pytest
import recbole.data.dataset.dataset as recbole_dataset
import recbole.trainer.trainer as recbole_trainer
from conftest import QUIET
from recbole.model.general_recommender import BPR

import recbole_hns
from recbole_hns.cli import compare, tune
from recbole_hns.cli.options import refuse_misspelt
from recbole_hns.config import Config
from recbole_hns.config.axes import loss_keys, sampler_keys
from recbole_hns.config.keys import KEYS
from recbole_hns.config.known import INSTEAD, TRAINED, model_keys, model_keys_of_any, recbole_keys
from recbole_hns.errors import UserError

#: Keys that nothing reads, and the end of the line.
UNREAD = {
    "modle": "did you mean model?",
    "datset": "did you mean dataset?",
    "samplr": "did you mean sampler?",
    "config_file": '--config_files="A.yaml B.yaml"',
    "config_file_list": '--config_files="A.yaml B.yaml"',
    "params_file": "--params",
    "epoch": "did you mean epochs?",
    "lr": "did you mean learning_rate?",
    "batch_size": "did you mean train_batch_size?",
    "learning_rat": "did you mean learning_rate?",
    "learning-rate": "did you mean learning_rate?",
    "Learning_Rate": "did you mean learning_rate?",
    "topK": "did you mean topk?",
    "user_id_field": "did you mean USER_ID_FIELD?",
    "group_by": "set eval_args={'group_by': 'user'}",
    "split": "set eval_args={'split':",
    "order": "set eval_args={'order':",
    "mode": "set eval_args={'mode':",
    "min_user_inter_num": "set user_inter_num_interval",
    "max_item_inter_num": "set item_inter_num_interval",
    "lowest_val": "set val_interval",
    "eval_setting": "set eval_args",
    "leave_one_num": "set eval_args={'split':",
    "split_ratio": "set eval_args={'split':",
    "nproc": "num_workers",
    "world_size": "num_workers",
    "ip": "num_workers",
    "port": "num_workers",
    "group_offset": "num_workers",
    "offset": "num_workers",
    "optimizer": "did you mean learner?",
    "num_negatives": "did you mean candidate_num?",
    "early_stopping": "did you mean stopping_step?",
    "resume": "--resume=CHECKPOINT",
    "ahns_bta": "did you mean ahns_beta?",
    "hinge_margn": "did you mean hinge_margin?",
    "xyz": "nothing reads it: not RecBole, nor its BPR, nor any sampler or loss",
}


@pytest.mark.parametrize("key", UNREAD)
def test_a_key_that_nothing_reads_is_refused_with_what_was_meant(key):
    message = re.escape(f"{key}=3: no such key; ") + ".*" + re.escape(UNREAD[key])
    with pytest.raises(UserError, match=message):
        Config(command_line={key: "3"})


def test_however_a_key_is_given(tmp_path):
    (tmp_path / "a.yaml").write_text("learning_rat: 0.1\n")
    for given in (
        {"config_file_list": ["a.yaml"]},
        {"config_dict": {"learning_rat": 0.1}},
        {"command_line": {"learning_rat": "0.1"}},
    ):
        with pytest.raises(UserError, match=r"learning_rat=0.1: .*did you mean learning_rate\?"):
            Config(**given)


#: Keys of models that are not the run's: of one that is trained here, and of another.
@pytest.mark.parametrize(
    ("model", "key", "message"),
    [
        ("LightGCN", "num_layers", "did you mean n_layers?"),
        ("NGCF", "node_droput", "did you mean node_dropout?"),
        ("BPR", "fredom", "nothing reads it"),
    ],
)
def test_a_key_of_a_model_that_is_not_trained_here_is_refused(model, key, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Config(model, config_dict={key: 3})


class Own(BPR):
    """A model of the user's, which reads a key of its own and, elsewhere, another."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.steepness = config["steepness"]
        self.depth = config["depth"] or 1


def test_a_model_of_the_users_may_read_what_nobody_knows():
    given = {"steepness": 2.0, "depth": 3, "embedding_size": 8, "hidden_depth": 3}
    config = Config(Own, config_dict={**given, "learning_rat": 0.1})
    assert config.unused_keys() == {
        "hidden_depth": "has no effect, unless Own reads it, which was not seen; "
        "leave it out if it is a mistake",
        "learning_rat": "has no effect, unless Own reads it, which was not seen; "
        "did you mean learning_rate?",
    }
    for key in ("lr", "config_file", "ahns_bta"):
        with pytest.raises(UserError, match=f"{key}=1: no such key"):
            Config(Own, config_dict={key: 1})


READY = {"benchmark_filename": ["train", "valid", "test"]}
SPLIT = "has no effect with benchmark_filename=['train', 'valid', 'test'], a ready split"
POSITIVE = "has no effect on what BPR learns: every interaction is a positive"
INTERVAL = "; val_interval leaves out those that are to be none"
LOADED = {"inter": ["user_id", "item_id", "rating"]}

#: Keys given, and those of them that have no effect.
IDLE = [
    ({"sampler": "dns", "ahns_p": -1.0}, {"ahns_p": "has no effect with sampler=dns"}),
    ({"sampler": "dns", "loss_tau": 0.5}, {"loss_tau": "has no effect with loss=bpr"}),
    ({"sampler": "dns", "loss": "softmax", "loss_tau": 0.5}, {}),
    ({"sampler": "ssm", "ssm_tau": 0.3}, {}),
    (
        {"sampler": "ssm", "loss": "bpr", "ssm_tau": 0.3},
        {"ssm_tau": "has no effect with loss=bpr"},
    ),
    ({"n_layers": 3}, {"n_layers": "has no effect with model=BPR"}),
    ({"model": "LightGCN", "n_layers": 3}, {}),
    ({"model": "LightGCN", "ssl_tau": 0.2}, {"ssl_tau": "has no effect with model=LightGCN"}),
    (
        {
            "sampler": "dns",
            "candidate_distribution": "in_batch",
            "candidate_num": 8,
            "candidate_sharing": "batch",
            "candidate_alpha": 1.0,
        },
        dict.fromkeys(
            ("candidate_num", "candidate_sharing", "candidate_alpha"),
            "has no effect with candidate_distribution=in_batch",
        ),
    ),
    (
        {"sampler": "ssm", "ssm_negatives": "in_batch", "candidate_num": 8},
        {"candidate_num": "has no effect with ssm_negatives=in_batch"},
    ),
    (
        {"sampler": "dns", "candidate_alpha": 0.5},
        {"candidate_alpha": "has no effect with candidate_distribution=uniform"},
    ),
    ({"sampler": "pns", "candidate_alpha": 0.5}, {}),
    ({"sampler": "ssm", "ssm_negatives": "popularity", "candidate_alpha": 0.5}, {}),
    (
        {"sampler": "dns", "candidate_num": "all", "candidate_distribution": "popularity"},
        {"candidate_distribution": "has no effect with candidate_num=all"},
    ),
    ({**READY, "eval_args": {"mode": "uni100"}, "val_interval": None}, {}),
    (
        {
            **READY,
            "val_interval": {"rating": "[3,inf)"},
            "user_inter_num_interval": "[5,inf)",
            "item_inter_num_interval": "[5,inf)",
            "rm_dup_inter": "first",
        },
        dict.fromkeys(
            (
                "val_interval",
                "user_inter_num_interval",
                "item_inter_num_interval",
                "rm_dup_inter",
            ),
            SPLIT,
        ),
    ),
    (
        {**READY, "eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO", "group_by": "none"}},
        dict.fromkeys(("eval_args.split", "eval_args.order", "eval_args.group_by"), SPLIT),
    ),
    (
        {"load_col": LOADED, "threshold": {"rating": 3}},
        {"threshold": POSITIVE + INTERVAL},
    ),
    ({**READY, "load_col": LOADED, "threshold": {"rating": 3}}, {"threshold": POSITIVE}),
    ({"threshold": {"rating": 3}, "val_interval": {"rating": "[3,inf)"}}, {}),
    (
        {
            "threshold": {"rating": 3},
            "metrics": ["AUC"],
            "valid_metric": "AUC",
            "eval_args": {"mode": "labeled"},
        },
        {},
    ),
]


@pytest.mark.parametrize(("given", "expected"), IDLE, ids=str)
def test_keys_without_effect_are_named_with_the_reason(given, expected):
    assert Config(config_dict=given).unused_keys() == expected


@pytest.mark.parametrize("files", [None, ["train", "valid", "test"]])
def test_a_column_of_labels_is_said_to_have_no_effect(tmp_path, files):
    folder = tmp_path / "dataset" / "rated"
    folder.mkdir(parents=True)
    name = "rated.inter" if files is None else "rated.train.inter"
    (folder / name).write_text("user_id:token\titem_id:token\tlabel:float\nu\ti\t0\n")
    given = {"dataset": "rated", "benchmark_filename": files}
    expected = f"is label, a column of the data, which {POSITIVE}{'' if files else INTERVAL}"
    assert Config(config_dict=given).unused_keys() == {"LABEL_FIELD": expected}
    given |= {"LABEL_FIELD": "liked"}
    assert Config(config_dict=given).unused_keys() == {}
    if files is None:
        given = {"dataset": "rated", "val_interval": {"label": "[1,1]"}}
        assert Config(config_dict=given).unused_keys() == {}


def test_a_run_says_so_once_and_a_resumed_one_only_of_what_is_new(toy, caplog):
    keys = {**QUIET, **toy, "state": "WARNING", "epochs": 1, "embedding_size": 4, "topk": 5}
    keys |= {"valid_metric": "MRR@5", "n_layers": 3, "sampler": "dns", "candidate_alpha": 1.0}
    recbole_hns.run(config_dict=keys)
    [checkpoint] = Path("saved").glob("*.pth")
    said = [record.message for record in caplog.records]
    assert said.count("n_layers has no effect with model=BPR") == 1
    assert said.count("candidate_alpha has no effect with candidate_distribution=uniform") == 1
    caplog.clear()
    recbole_hns.run(resume=checkpoint, config_dict={"epochs": 2})
    assert not [record for record in caplog.records if "no effect" in record.message]


# --- the list itself ------------------------------------------------------------------------------


def test_all_that_recbole_and_this_package_read_is_known():
    """Literal keys in the code that every run goes through."""
    files = [recbole_dataset.__file__, recbole_trainer.__file__]
    package = Path(recbole_hns.__file__).parent
    sources = [Path(file).read_text() for file in files]
    sources[1] = sources[1].split("class KGTrainer")[0]
    sources += [path.read_text() for path in package.rglob("*.py")]
    read = {key for source in sources for key in re.findall(r'config\["(\w+)"\]', source)}
    assert len(read) > 60
    ours = {*sampler_keys(), *loss_keys(), *model_keys_of_any()}
    # what RecBole reads in a run of several processes
    assert read - recbole_keys() - ours == {"world_size"}


@pytest.mark.parametrize("model", TRAINED)
def test_what_a_model_reads_is_in_its_properties_or_its_source(model):
    config = Config(model, sampler="rns")
    assert {"embedding_size", "USER_ID_FIELD"} <= model_keys(config.model_class)
    assert model_keys(config.model_class) <= {*config.final_config_dict, *recbole_keys()}


def test_no_name_of_another_program_is_a_key_that_is_read():
    known = recbole_keys() | sampler_keys().keys() | loss_keys().keys() | model_keys_of_any()
    assert set(INSTEAD) & known == set()
    for key, text in INSTEAD.items():
        if text.startswith("did you mean "):
            assert text.removeprefix("did you mean ").rstrip("?") in known, key


@pytest.mark.parametrize(
    ("command", "key", "option"),
    [
        (tune, "param", "params"),
        (tune, "output_dir", "output"),
        (tune, "max_concurent", "max_concurrent"),
        (compare, "sampler", "samplers"),
        (compare, "seads", "seeds"),
        (compare, "setting", "settings"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_nearest(command, key, option):
    with pytest.raises(UserError, match=rf"{key}=3: no such option; did you mean --{option}\?"):
        refuse_misspelt({key: "3"}, command.OPTIONS | tune.RESOURCES)


@pytest.mark.parametrize("command", [tune, compare])
def test_keys_of_the_config_are_no_misspelt_options(command):
    keys = {*recbole_keys(), *sampler_keys(), *loss_keys(), *model_keys_of_any()}
    known = command.OPTIONS | tune.RESOURCES
    refuse_misspelt(dict.fromkeys(sorted(keys - {"sampler"} - known.keys()), "3"), known)
    # the config explains these better
    refuse_misspelt({"params_file": "a.yaml", "nproc": "2"}, known)


def test_every_row_of_the_table_is_known():
    assert set(KEYS) <= recbole_keys() | model_keys_of_any()
