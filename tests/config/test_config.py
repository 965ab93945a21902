"""Precedence of configuration, and a user's mistakes: one line, exit status 2, nothing written."""

import pickle
import sys

import pytest
import torch
import yaml

from recbole_hns import HardNegativeSampler, Loss
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.config.yaml_files import literal, read_yaml
from recbole_hns.errors import UserError
from recbole_hns.files import properties_path
from recbole_hns.sampler.registry import SAMPLERS


def test_command_line_over_dictionary_over_files_over_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("candidate_num: 3\nepochs: 4\nlearning_rate: 1e-2\nsampler: dns\n")
    assert Config()["sampler"] == "dns_mn"
    config = Config(
        config_file_list=[path],
        config_dict={"candidate_num": 5, "epochs": 6},
        command_line={"candidate_num": "7"},
    )
    assert (config["sampler"], config["learning_rate"]) == ("dns", 0.01)
    assert (config["candidate_num"], config["epochs"]) == (7, 6)
    assert config.sampler.candidate_num == 7
    assert (
        Config(
            "LightGCN", sampler="rns", config_file_list=[path], config_dict={"candidate_num": 1}
        )["model"]
        == "LightGCN"
    )


def test_nothing_is_read_from_the_caller_command_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x", "--epochs=9", "--sampler=rns"])
    config = Config()
    assert (config["epochs"], config["sampler"]) == (300, "dns_mn")


@pytest.mark.parametrize("name", SAMPLERS)
def test_defaults_are_the_classes(name):
    config = Config(sampler=name)
    for key, parameter in SAMPLERS[name].hyperparameters.items():
        assert config[key] == parameter.default


def test_opauc_beta_replaces_the_default_of_what_it_sets():
    config = Config(sampler="dns_mn", config_dict={"opauc_beta": 0.1, "candidate_num": 50})
    assert config["dns_m"] == config.sampler.dns_m == 5
    again = Config(config_dict=config.resolved())
    assert again["dns_m"] == 5
    assert again.resolved() == config.resolved()


def test_resolved_makes_the_same_config():
    config = Config(
        "LightGCN",
        sampler="softmax_v",
        config_dict={"topk": 20, "metrics": "NDCG", "valid_metric": "NDCG@20"},
    )
    again = Config(config_dict=config.resolved())
    assert again.final_config_dict == config.final_config_dict


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-3", 1e-3), ("[1, 2]", [1, 2]), ("True", True), ("false", False), ("None", None),
     ("ml-100k", "ml-100k"), ("__import__('os')", "__import__('os')"), ("{'a': 1}", {"a": 1}),
     ("(" * 500, "(" * 500), ("1/3", "1/3")],
)  # fmt: skip
def test_strings_are_read_as_literals_and_never_evaluated(text, value):
    assert literal(text) == value


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / "evil.yaml"
    path.write_text("a: !!python/object/apply:os.system ['touch evil']\n")
    with pytest.raises(UserError, match="is not valid YAML"):
        read_yaml(path)
    assert not (tmp_path / "evil").exists()


AXES = [
    # keys given: sampler's default loss, training and evaluation similarity
    ({}, ("bpr", "inner", "inner")),
    ({"similarity": "cosine"}, ("bpr", "cosine", "cosine")),
    ({"similarity": "cosine", "eval_similarity": "inner"}, ("bpr", "cosine", "inner")),
    ({"eval_similarity": "cosine"}, ("bpr", "inner", "cosine")),
    ({"sampler": "warp"}, ("hinge", "inner", "inner")),
    ({"sampler": "warp", "loss": "softmax"}, ("softmax", "inner", "inner")),
    ({"sampler": "ssm"}, ("softmax", "inner", "inner")),
    ({"sampler": "ssm", "ssm_similarity": "cosine"}, ("softmax", "cosine", "inner")),
    ({"sampler": "ssm", "similarity": "cosine"}, ("softmax", "cosine", "inner")),
    (
        {"sampler": "ssm", "ssm_similarity": "cosine", "eval_similarity": "trained"},
        ("softmax", "cosine", "cosine"),
    ),
]


@pytest.mark.parametrize(("given", "expected"), AXES, ids=str)
def test_axes_and_that_resolved_makes_them_again(given, expected):
    config = Config(config_dict=given)
    found = tuple(config[key] for key in ("loss", "similarity", "eval_similarity"))
    assert found == expected
    assert config.loss.name == expected[0]
    again = Config(config_dict=config.resolved())
    assert again.final_config_dict == config.final_config_dict
    assert again.resolved() == config.resolved()


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("use_gpu", [True, False])
def test_the_device_follows_use_gpu(use_gpu, there, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device = Config(config_dict={"use_gpu": use_gpu})["device"]
    assert device.type == ("cuda" if use_gpu and there else "cpu")


def test_a_sampler_sets_its_default_loss_and_no_other():
    config = Config(sampler="ssm", config_dict={"ssm_tau": 0.3})
    assert config.loss.loss_tau == config["loss_tau"] == 0.3
    assert "loss_tau" not in config.resolved()
    config = Config(sampler="ssm", loss="hinge", config_dict={"hinge_margin": 2.0})
    assert (config.loss.name, config.loss.hinge_margin) == ("hinge", 2.0)
    config = Config(sampler="dns", loss="softmax", config_dict={"loss_tau": 0.4})
    assert config.resolved()["loss_tau"] == config.loss.loss_tau == 0.4


def test_a_loss_of_the_users(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(
        "from recbole_hns import Loss\n"
        "class Ours(Loss):\n"
        "    steepness: float = 2.0\n"
        "    def row_losses(self, scores, negatives, part):\n"
        "        return self.steepness * (scores.neg - scores.pos).mean(dim=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    config = Config(loss="own_loss:Ours", config_dict={"steepness": 3.0})
    assert (config["loss"], config["steepness"], config.loss.steepness) == (
        "own_loss:Ours",
        3.0,
        3.0,
    )
    assert Config(loss=type(config.loss))["loss"] == "Ours"


def test_classes_go_by_their_names():
    class Own(HardNegativeSampler):
        """Takes whatever is drawn."""

    class OwnLoss(Loss):
        """Learns nothing."""

    config = Config(sampler=Own, loss=OwnLoss)
    assert (config["sampler"], config["loss"]) == ("Own", "OwnLoss")


#: Arguments of ``run``, and what the one line holds.
MISTAKES = {
    "unknown sampler": ("--sampler=ahsn", ["sampler=ahsn: must be one of", "did you mean ahns"]),
    "unimportable": ("--sampler=no.such:Class", ["sampler=no.such:Class", "cannot be imported"]),
    "no sampler": ("--sampler=collections:OrderedDict", ["subclass of HardNegativeSampler"]),
    "unknown model": ("--model=BRP", ["model=BRP: RecBole has no such model; did you mean BPR?"]),
    "wrong case": ("--model=lightgcn", ["did you mean LightGCN?"]),
    "odd model": ("--model=../x", ["model=../x: must be the name of a RecBole model"]),
    "pointwise": ("--model=NeuMF", ["model=NeuMF: must be a general recommender", "LightGCN"]),
    "auto-encoder": ("--model=MultiVAE", ["model=MultiVAE: must be"]),
    "item-based": ("--model=ItemKNN", ["model=ItemKNN: must be"]),
    "sequential": ("--model=DIN", ["model=DIN: must be"]),
    "knowledge": ("--model=CKE", ["model=CKE: must be"]),
    "M > N": ("--sampler=dns_mn --candidate_num=5 --dns_m=6", ["dns_m=6", "<= candidate_num=5"]),
    "N = 0": (
        "--candidate_num=0",
        ["candidate_num=0: must be an integer > 0 and", "or all"],
    ),
    "N is text": (
        "--candidate_num=many",
        ["candidate_num=many: must be an integer > 0"],
    ),
    "p > 0": ("--ahns_p=0.5", ["ahns_p=0.5: must be a number < 0"]),
    "rho < 0": ("--sampler=softmax_v --softmax_rho=-1", ["softmax_rho=-1: must be a number >= 0"]),
    "misspelt": ("--ahns_bta=1", ["ahns_bta=1: no such key; did you mean ahns_beta?"]),
    "misspelt sampler": ("--samplr=dns", ["samplr=dns: no such key; did you mean sampler?"]),
    "other sampler's": ("--sampler=rns --ahns_p=3", ["ahns_p=3: must be a number < 0"]),
    "rns with N": ("--sampler=rns --candidate_num=4", ["candidate_num=4: must be 1"]),
    "both": ("--sampler=dns_mn --dns_m=2 --opauc_beta=0.1", ["dns_m=2: opauc_beta=0.1 sets"]),
    "beta > 1": ("--sampler=dns_mn --opauc_beta=1.5", ["opauc_beta=1.5: must be a number"]),
    "replaced": ("--train_neg_sample_args={}", ["train_neg_sample_args={}: the sampler draws"]),
    "epochs": ("--epochs=no", ["epochs=no: must be an integer > 0"]),
    "lr": ("--learning_rate=-1", ["learning_rate=-1: must be a number > 0"]),
    "metrics": ("--metrics=Fame", ["metrics=['Fame']: RecBole has no metric Fame"]),
    "valid_metric": ("--valid_metric=NDCG@7", ["valid_metric=NDCG@7: its K must be one of"]),
    "valid_metric 2": ("--valid_metric=MAP@10", ["valid_metric=MAP@10: its metric must be one of"]),
    "eval_args": ("--eval_args=3", ["eval_args=3: must be a dictionary"]),
    "two parts": ("--eval_args={'split':{'RS':[0.8,0.2]}}", ["RS must list three numbers"]),
    "negative part": ("--eval_args={'split':{'RS':[8,-1,3]}}", ["RS must list three numbers"]),
    "no parts": ("--eval_args={'split':{'RS':[0,0,0]}}", ["RS must list three numbers"]),
    "no test part": ("--eval_args={'split':{'RS':[1,0,0]}}", ["ml-100k: its test part is empty"]),
    "mode": ("--eval_args={'mode':'uni0'}", ["mode must be full, labeled, uniN or popN"]),
    "mode of text": ("--eval_args={'mode':{'valid':'uniX'}}", ["mode must be full, labeled"]),
    "no metrics": ("--metrics=[]", ["metrics=[]: must be", "a list of one or more"]),
    "value metric": ("--metrics=AUC", ["metrics=['AUC']: AUC rates values"]),
    "no valid_metric": ("--valid_metric=", ["valid_metric=: must be a string that is not empty"]),
    "large K": (
        "--topk=5000 --valid_metric=MRR@5000",
        ["topk=[5000]: must be <= 1682, the number of items"],
    ),
    "seed": ("--seed=5000000000", ["seed=5000000000: must be an integer >= 0 and < 4294967296"]),
    "clip": ("--clip_grad_norm=5", ["clip_grad_norm=5: must be a dictionary"]),
    "worker": ("--worker=-1", ["worker=-1: must be an integer >= 0"]),
    "lr_decay": ("--lr_decay=1.5", ["lr_decay=1.5: must be a number > 0 and <= 1"]),
    "lr_decay_step": ("--lr_decay_step=0", ["lr_decay_step=0: must be an integer > 0"]),
    "misspelt decay": ("--lr_decy=0.9", ["lr_decy=0.9: no such key; did you mean lr_decay?"]),
    "embedding_std": ("--embedding_std=0", ["embedding_std=0: must be a number > 0"]),
    "eval_users": ("--eval_users=0", ["eval_users=0: must be an integer > 0"]),
    "no eval_users": ("--eval_users=all", ["eval_users=all: must be an integer"]),
    "protocol": ("--protocol=test", ["protocol=test: must be valid or paper"]),
    "one part": (
        "--benchmark_filename=['train']",
        ["benchmark_filename=['train']: must be a list"],
    ),
    "no validation part": (
        "--benchmark_filename=['train','test']",
        ["protocol=valid needs a training, a validation and a test part", "protocol=paper"],
    ),
    "packaged": ("--config_files=paper/ahns/none.yaml", ["paper/ahns/none.yaml: cannot be read"]),
    "learner": (
        "--learner=sparse_adm",
        ["learner=sparse_adm: must be adam or", "did you mean sparse_adam?"],
    ),
    "N is huge": (
        "--candidate_num=1000000000000",
        ["must be an integer > 0 and <= 1000000"],
    ),
    "N below M": (
        "--sampler=dns_mn --candidate_num=9",
        ["dns_m=40: must be <= candidate_num=9; it is 40"],
    ),
    "broken module": ("--sampler=broken:X", ["sampler=broken:X: cannot be imported: SyntaxError"]),
    "no default": ("--sampler=nodefault:X", ["cannot be imported: TypeError: X.rank", "default"]),
    "clusters": ("--model=NCL", ["num_clusters=1000: must be an integer > 0 and <= 944"]),
    "model's own": ("--model=DGCF --n_factors=3", ["model=DGCF: cannot be built: AssertionError"]),
    "field": ("--USER_ID_FIELD=foo", ["USER_ID_FIELD=foo: ml-100k.inter has user_id, item_id"]),
    "emptied checkpoint": ("--resume=empty.pth", ["resume=empty.pth: must be a checkpoint"]),
    "split": ("--eval_args={'split':{'XX':[1]}}", ["XX"]),
    "no dataset": ("--dataset=nosuch", ["dataset=nosuch", "nosuch"]),
    "no yaml": ("--config_files=none.yaml", ["config_files=none.yaml: cannot be read"]),
    "bad yaml": ("--config_files=bad.yaml", ["config_files=bad.yaml: is not valid YAML"]),
    "list yaml": (
        "--config_files=list.yaml",
        ["config_files=list.yaml: must hold keys and values"],
    ),
    "no file": ("--resume=none.pth", ["resume=none.pth: must be", "No such file"]),
    "no checkpoint": ("--resume=bad.yaml", ["resume=bad.yaml: must be a checkpoint"]),
    "a pickle": ("--resume=pickle.pth", ["resume=pickle.pth: must be a checkpoint"]),
    "a directory": ("--resume=.", ["resume=.: must be"]),
    "unwritable": ("--checkpoint_dir=bad.yaml/saved", ["checkpoint_dir=bad.yaml/saved: must be"]),
    "empty": ("--val_interval={'rating':'[9,inf)'}", ["dataset=ml-100k:"]),
    "unknown loss": ("--loss=brp", ["loss=brp: must be one of", "did you mean bpr"]),
    "no loss": ("--loss=collections:OrderedDict", ["loss=collections:OrderedDict", "Loss"]),
    "misspelt loss key": ("--loss_tua=1", ["loss_tua=1: no such key; did you mean loss_tau?"]),
    "loss key": ("--loss=softmax --loss_tau=0", ["loss_tau=0: must be a number > 0"]),
    "other loss's key": ("--loss_tau=-1", ["loss_tau=-1: must be a number > 0"]),
    "set by the sampler": (
        "--sampler=ssm --loss_tau=0.2",
        ["loss_tau=0.2: sampler=ssm sets it by its own keys, ssm_tau"],
    ),
    "similarity": ("--similarity=dot", ["similarity=dot: must be inner or cosine"]),
    "eval_similarity": ("--eval_similarity=dot", ["eval_similarity=dot: must be trained or inner"]),
    "two similarities": (
        "--sampler=ssm --ssm_similarity=inner --similarity=cosine",
        ["ssm_similarity=inner: similarity=cosine differs; give only one"],
    ),
    "cosine of no embeddings": (
        "--model=ConvNCF --similarity=cosine",
        ["similarity=cosine: needs a model that scores by an inner product; ConvNCF does not"],
    ),
    "ssm's cosine of no embeddings": (
        "--model=ConvNCF --sampler=ssm --ssm_similarity=cosine",
        ["ssm_similarity=cosine: needs a model that scores by an inner product"],
    ),
    "cosine in evaluation": (
        "--model=ConvNCF --eval_similarity=cosine",
        ["eval_similarity=cosine: needs a model that scores by an inner product"],
    ),
    "cosine of layers": (
        "--sampler=mixgcf --similarity=cosine",
        ["similarity=cosine: must be inner with sampler=mixgcf"],
    ),
    "shared without embeddings": (
        "--model=ConvNCF --candidate_sharing=batch",
        ["candidate_sharing=batch: needs a model that scores by an inner product"],
    ),
    "candidate_sharing": (
        "--candidate_sharing=all",
        ["candidate_sharing=all: must be row or batch"],
    ),
    "no key": ("epochs=3", ["epochs=3: options have the form --key=value"]),
    "no value": ("--epochs", ["--epochs: needs a value"]),
    "twice": ("--epochs=3 --epochs=4", ["epochs=4: given twice, before as 3"]),
    "no such option": ("-x", ["-x: options have the form --key=value"]),
}


class Bomb:
    def __reduce__(self):
        return open, ("exploded", "w")


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name, tmp_path, capfd, monkeypatch):
    (tmp_path / "bad.yaml").write_text("a: [1\nb: }")
    (tmp_path / "broken.py").write_text("def")
    (tmp_path / "nodefault.py").write_text(
        "from recbole_hns import HardNegativeSampler\n"
        "class X(HardNegativeSampler):\n    rank: int\n"
    )
    torch.save({"last": {}}, tmp_path / "empty.pth")
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Bomb()))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = sorted(tmp_path.rglob("*"))
    arguments, expected = MISTAKES[name]
    assert main(["run", "--state=ERROR", *arguments.split()]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "Traceback" not in err
    for text in expected:
        assert text in err
    assert not (tmp_path / "exploded").exists()
    left = [p for p in sorted(tmp_path.rglob("*")) if p not in before]
    # a mistake that only the data show has a log, as in RecBole; nothing else is left
    assert {p.parts[len(tmp_path.parts)] for p in left} <= {"saved"}
    assert {p.name for p in tmp_path.glob("saved/*")} <= {"log", "log_tensorboard"}


def test_unknown_command(capsys):
    assert main(["rnu"]) == 2
    err = capsys.readouterr().err
    assert "rnu: no such command; known: convert, run" in err
    assert err.endswith("; did you mean run?\n")
    assert main([]) == main(["--help"]) == 0
    assert "run" in capsys.readouterr().out


def test_packaged_yaml_is_what_recboles_loader_reads_too():
    for path in properties_path(".").rglob("*.yaml"):
        assert yaml.safe_load(path.read_text()) == read_yaml(path)
