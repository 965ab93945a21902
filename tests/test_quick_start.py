"""Models as runs build them."""

import pytest
import torch
from conftest import QUIET

from recbole_hns.config import Config
from recbole_hns.data import create_dataset
from recbole_hns.quick_start import build_model


@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_embeddings_start_as_told(model, toy):
    config = Config(model, config_dict={**QUIET, **toy, "embedding_std": 0.3})
    dataset = create_dataset(config)
    network = build_model(config, dataset)
    for table in (network.user_embedding.weight, network.item_embedding.weight):
        assert table.std().item() == pytest.approx(0.3, rel=0.1)
        assert abs(table.mean().item()) < 0.05
    assert torch.isfinite(network.item_embedding.weight).all()
