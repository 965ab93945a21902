"""Data files read by the fast parser are what RecBole reads by its own."""

import numpy as np
import pytest
import recbole.data.utils
import torch
from conftest import QUIET

from recbole_hns.config import Config
from recbole_hns.data import create_dataset


@pytest.mark.parametrize("separator", ["\t", ",", "::"])
def test_the_same_tokens_and_floats(separator, tmp_path):
    rng = np.random.default_rng(0)
    rows = [["user_id:token", "item_id:token", "rating:float", "tags:token_seq", "note:token"]]
    notes = ["1e5", "007", "a b", "", "x'y", 'q"', "na"]
    for k in range(200):
        rating = repr(float(rng.normal() * 10.0 ** rng.integers(-12, 12)))
        tags = " ".join(f"t{t}" for t in rng.integers(0, 5, rng.integers(0, 4)))
        rows.append([f"u{k % 9}", f"{k:03d}", rating, tags, notes[k % len(notes)]])
    folder = tmp_path / "dataset" / "mixed"
    folder.mkdir(parents=True)
    (folder / "mixed.inter").write_text("\n".join(separator.join(row) for row in rows) + "\n")
    load_col = {"inter": ["user_id", "item_id", "rating", "tags", "note"]}
    keys = {"dataset": "mixed", "load_col": load_col, "field_separator": separator, **QUIET}
    found = create_dataset(Config(config_dict=keys))
    expected = recbole.data.utils.create_dataset(Config(config_dict=keys))
    assert found.field2token_id.keys() == expected.field2token_id.keys()
    for field, ids in expected.field2token_id.items():
        assert found.field2token_id[field] == ids
    for field in load_col["inter"]:
        for a, b in zip(found.inter_feat[field], expected.inter_feat[field], strict=True):
            assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))
