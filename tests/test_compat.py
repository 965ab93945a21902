"""RecBole made to work again: each mend puts back what is missing and leaves what is there."""

from logging import getLogger
from pathlib import Path

import numpy as np
import pytest
import recbole.utils
import torch
from conftest import QUIET, prepared
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset, data_preparation
from recbole.data.dataset import Dataset
from recbole.trainer import Trainer
from recbole.utils import get_model, get_trainer
from scipy.sparse import dok_matrix

import recbole_hns.data
from recbole_hns import compat
from recbole_hns.config import Config
from recbole_hns.errors import UserError


def test_numpy_names_are_put_back_where_they_are_missing(monkeypatch):
    for name in ("float_", "complex_", "unicode_"):
        monkeypatch.delattr(np, name, raising=False)
    compat.mend()
    assert (np.float_, np.complex_, np.unicode_) == (np.float64, np.complex128, np.str_)
    assert RecBoleConfig("BPR", "ml-100k")["epochs"] == 300


def test_what_is_there_stays(monkeypatch):
    class Other(np.float64):
        pass

    monkeypatch.setattr(np, "float_", Other)
    before = dok_matrix._update, Dataset._download
    compat.mend()
    assert np.float_ is Other
    assert (dok_matrix._update, Dataset._download) == before


def test_dok_matrix_can_be_updated():
    matrix = dok_matrix((3, 3), dtype=np.float32)
    matrix._update({(0, 1): 1, (2, 2): 5})
    assert matrix.toarray().tolist() == [[0, 1, 0], [0, 0, 0], [0, 0, 5]]


def test_recboles_own_trainer_loads_its_own_checkpoint(toy):
    config, train, valid, ours = prepared(**toy, sampler="rns", epochs=2)
    trainer = Trainer(config, ours.model)
    trainer.fit(train, valid, show_progress=False)
    assert trainer.evaluate(valid, load_best_model=True)["ndcg@10"] >= 0
    torch.load(trainer.saved_model_file, weights_only=True)
    Trainer(config, ours.model).resume_checkpoint(trainer.saved_model_file)


@pytest.mark.parametrize("model", ["EASE", "ItemKNN", "Pop"])
def test_models_that_learn_arrays_have_plain_checkpoints_too(model, toy):
    config = RecBoleConfig(
        model,
        toy["dataset"],
        config_dict={**QUIET, **toy, "topk": 5, "valid_metric": "MRR@5", "data_path": "dataset"},
    )
    train, valid, _ = data_preparation(config, create_dataset(config))
    network = get_model(model)(config, train._dataset)
    trainer = get_trainer(config["MODEL_TYPE"], model)(config, network)
    _, expected = trainer.fit(train, valid, show_progress=False)
    torch.load(trainer.saved_model_file, weights_only=True)
    for name in network.other_parameter_name if hasattr(network, "other_parameter_name") else ():
        setattr(network, name, None)
    assert trainer.evaluate(valid, load_best_model=True) == expected


def test_recboles_load_data_and_model_says_what_to_call(toy):
    """It needs a config in the file, which no plain data is."""
    from recbole.quick_start import load_data_and_model

    for keys, instead in (
        ({"model": "BPR", "sampler": "dns"}, "call recbole_hns.load_data_and_model"),
        ({"model": "BPR"}, "Trainer.evaluate"),
    ):
        config = {"seed": 1, "reproducibility": True, **keys}
        torch.save({"config": config, "state_dict": {}}, "a.pth")
        with pytest.raises(UserError, match=instead) as told:
            load_data_and_model("a.pth")
        assert "\n" not in str(told.value)
    # its own loggers are as they were
    recbole.utils.init_logger(Config(config_dict={**QUIET, **toy}))


@pytest.mark.parametrize("text", ["Default process group has not been initialized", "other"])
def test_a_download_does_not_end_in_a_barrier(text, tmp_path, monkeypatch):
    url = "recbole.data.dataset.dataset."
    monkeypatch.setattr(url + "decide_download", lambda url: True)
    monkeypatch.setattr(url + "download_url", lambda url, path: str(Path(path) / "a.zip"))
    monkeypatch.setattr(url + "extract_zip", lambda path, folder: None)
    monkeypatch.setattr(url + "os.unlink", lambda path: None)
    monkeypatch.setattr(url + "rename_atomic_files", lambda *names: None)

    def barrier():
        raise ValueError(text)

    monkeypatch.setattr(torch.distributed, "barrier", barrier)
    dataset = Dataset.__new__(Dataset)
    dataset.dataset_name, dataset.dataset_path = "ml-1m", str(tmp_path / "ml-1m")
    dataset.config, dataset.logger = Config(), getLogger()
    if text == "other":
        with pytest.raises(ValueError, match="other"):
            dataset._download()
    else:
        dataset._download()


@pytest.mark.parametrize("make", [create_dataset, recbole_hns.data.create_dataset])
def test_missing_values_are_filled_whatever_pandas_does(make):
    """Numbers with the column's mean, tokens with the padding, sequences as empty ones."""
    Path("toy").mkdir()
    inter = ["user_id:token", "item_id:token", "stars:float", "how:token", "tags:token_seq"]
    rows = [["a", "x", "1.5", "", "t u"], ["b", "y", "", "web", ""], ["b", "x", "4", "app", "u"]]
    Path("toy/toy.inter").write_text("\n".join("\t".join(row) for row in [inter, *rows]) + "\n")
    user = ["user_id:token", "age:float", "job:token", "words:token_seq", "vector:float_seq"]
    rows = [["b", "30", "", "v w", "1 2.5"], ["c", "", "cook", "", ""]]
    Path("toy/toy.user").write_text("\n".join("\t".join(row) for row in [user, *rows]) + "\n")
    columns = {"inter": [name.split(":")[0] for name in inter]}
    columns["user"] = [name.split(":")[0] for name in user]
    keys = {**QUIET, "dataset": "toy", "data_path": ".", "load_col": columns}
    keys |= {"normalize_field": ["vector"], "normalize_all": False}
    dataset = make(Config(config_dict={**keys, "filter_inter_by_user_or_item": False}))
    dataset._change_feat_format()

    def values(feat):
        return {name: feat[name].tolist() for name in feat.columns}

    assert values(dataset.inter_feat) == {
        "user_id": [1, 2, 2],
        "item_id": [1, 2, 1],
        "stars": [1.5, 2.75, 4.0],
        "how": [0, 1, 2],
        "tags": [[1, 2], [0, 0], [2, 0]],
    }
    # the padding, a, b, c, of which the first two have no line
    assert values(dataset.user_feat) == {
        "user_id": [0, 1, 2, 3],
        "age": [30.0] * 4,
        "job": [0, 0, 0, 1],
        "words": [[0, 0], [0, 0], [1, 2], [0, 0]],
        "vector": [[0, 0], [0, 0], [0, 1], [0, 0]],
    }
    assert list(dataset.field2id_token["tags"]) == ["[PAD]", "t", "u"]
