"""The packaged settings of the papers' runs, and those that are recommended."""

import pytest

from recbole_hns.config import Config
from recbole_hns.config.yaml_files import read_yaml
from recbole_hns.files import properties_path

FILES = sorted(
    str(path.relative_to(properties_path(".")))
    for path in properties_path("paper").rglob("*-*.yaml")
)

AHNS_ROWS = {"rns", "dns", "dns_mn", "ahns"}

#: The samplers of each paper's rows on a data set.
ROWS = {
    ("ahns", "phones"): AHNS_ROWS | {"ssm", "mixgcf", "dens", "cuco"},
    ("ahns", "ml-1m"): AHNS_ROWS,
    ("hns", "gowalla"): {"rns", "dns", "dns_mn", "softmax_v"}
    | {"aobpr", "warp", "pris", "adasir", "kernel"},
}

#: The losses of a paper's rows on a data set, on each of its models.
LOSSES = {
    "sl_at_k/gowalla-ir": {"softmax", "psl", "bsl", "sl_at_k"},
    "bsl/yelp2018": {"softmax", "bsl"},
}


def config(file):
    return Config(config_file_list=[file.rpartition("/")[0] + "/common.yaml", file])


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_its_data_set_and_its_sampler_with_all_settings_in_use(file):
    _, paper, name = file.split("/")
    found = config(file)
    assert name.startswith(f"{found['dataset']}-")
    assert found["protocol"] == ("valid" if paper == "sl_at_k" else "paper")
    assert not found.unused_keys()
    # what all share is in one place
    assert not set(read_yaml(properties_path(file))) & set(
        read_yaml(properties_path(f"paper/{paper}/common.yaml"))
    )


@pytest.mark.parametrize(("paper", "dataset"), ROWS)
def test_every_row_is_there(paper, dataset):
    start = f"paper/{paper}/{dataset}-"
    found = [config(file) for file in FILES if file.startswith(start)]
    assert {each["sampler"] for each in found} == ROWS[paper, dataset]
    powers = sorted(each["ahns_p"] for each in found if each["sampler"] == "ahns")
    assert powers == ([-2, -1] if paper == "ahns" else [])


@pytest.mark.parametrize(("prefix", "model"), [("mf", "BPR"), ("lightgcn", "LightGCN")])
@pytest.mark.parametrize(("start", "losses"), LOSSES.items())
def test_every_loss_is_there(start, losses, prefix, model):
    found = [config(file) for file in FILES if file.startswith(f"paper/{start}-{prefix}-")]
    assert {each["loss"] for each in found} == losses
    assert {each["model"] for each in found} == {model}


def test_the_published_settings():
    found = config("paper/ahns/phones-ahns-p2.yaml")
    keys = ("ahns_alpha", "ahns_beta", "ahns_p", "candidate_num", "model", "n_layers")
    assert [found[key] for key in keys] == [1, 0.1, -2, 32, "LightGCN", 0]
    found = config("paper/hns/gowalla-dns_mn.yaml")
    keys = ("dns_m", "candidate_num", "weight_decay")
    assert [found[key] for key in keys] == [5, 200, pytest.approx(7e-7)]
    found = config("paper/hns/gowalla-softmax_v.yaml")
    assert found["weight_decay"] == pytest.approx(0.01 / 4096, rel=0.05)


def test_a_users_file_goes_before_a_packaged_one_of_its_name(tmp_path):
    (tmp_path / "paper/ahns").mkdir(parents=True)
    (tmp_path / "paper/ahns/common.yaml").write_text("epochs: 7\n")
    found = config("paper/ahns/phones-dns.yaml")
    assert (found["epochs"], found["dataset"]) == (7, "phones")


@pytest.mark.parametrize("path", sorted(properties_path("recommended").glob("*.yaml")))
def test_recommended_settings_select_on_validation_data_and_are_all_in_use(path):
    found = Config(config_file_list=[f"recommended/{path.name}"])
    assert found["dataset"] == path.stem.removesuffix("-fast")
    assert found["protocol"] == "valid"
    assert not found.unused_keys()
