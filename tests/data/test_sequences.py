"""Sequences by index, against RecBole's augmentation and against loops."""

import logging
import pickle
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import recbole.data.utils as recbole_data
import torch
from conftest import QUIET
from hypothesis import given
from hypothesis import strategies as st
from recbole.config import Config as RecBoleConfig
from recbole.data.dataset import SequentialDataset as RecBoleSequentialDataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType, init_seed

from recbole_hns.convert import convert
from recbole_hns.data import preparation
from recbole_hns.data.eval_sampler import RepeatableEvalSampler
from recbole_hns.data.interactions import pairs
from recbole_hns.data.loader import NegSampleEvalDataLoader, SequenceEvalDataLoader
from recbole_hns.data.pool import NegativePool
from recbole_hns.data.sequences import Sequences
from recbole_hns.data.sequential_dataset import SequentialDataset
from recbole_hns.errors import UserError

#: Today's; float32 has only every 128th.
NOW = 1_764_000_000


@pytest.fixture(autouse=True)
def no_arguments(monkeypatch):
    """RecBole's config would read pytest's."""
    monkeypatch.setattr("sys.argv", ["x"])


def write(rows, header, suffix="inter", name="tiny"):
    folder = Path("dataset", name)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["\t".join(map(str, row)) for row in (header, *rows)]
    (folder / f"{name}.{suffix}").write_text("\n".join(lines) + "\n")


def configured(name="tiny", **keys):
    keys = {"train_neg_sample_args": None, "protocol": "valid", "eval_users": None, **keys}
    values = {**QUIET, "data_path": "dataset", "MAX_ITEM_LIST_LENGTH": 4, **keys}
    return RecBoleConfig("SASRec", name, config_dict=values)


def split(config):
    """The parts and their sampler by this package."""
    init_seed(config["seed"], True)
    return preparation.split_dataset(config, preparation.create_dataset(config))


def loaders(config):
    """RecBole's own three."""
    init_seed(config["seed"], True)
    return recbole_data.data_preparation(config, recbole_data.create_dataset(config))


def assert_same(mine, theirs):
    """That two batches are the same to the last bit."""
    assert type(mine) is type(theirs) is Interaction
    assert mine.columns == theirs.columns
    for name in theirs:
        assert mine[name].dtype == theirs[name].dtype, name
        assert mine[name].equal(theirs[name]), name


# --- RecBole's batches ----------------------------------------------------------------------------

HEADER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float", "tags:token_seq"]


def some_rows(rng):
    """Users with 1 to 20 interactions, with repeats of items and of times."""
    rows = []
    for user in range(1, 25):
        for _ in range(rng.integers(1, 21) if user > 4 else user):
            tags = " ".join(f"t{tag}" for tag in rng.integers(0, 9, rng.integers(1, 4)))
            rating, time = rng.integers(1, 6), rng.integers(0, 200)
            rows.append((f"u{user}", f"i{rng.integers(30)}", rating, time, tags))
    return [rows[at] for at in rng.permutation(len(rows))]


#: RecBole loads no times by itself.
TIMES = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
LOADED = {"load_col": {"inter": [column.split(":")[0] for column in HEADER]}}
CASES = {
    "last one out": {},
    "valid only": {"eval_args": {"split": {"LS": "valid_only"}, "order": "TO"}},
    "by ratio": {"eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO"}},
    "ratio of all": {
        "eval_args": {"split": {"RS": [6, 2, 2]}, "order": "TO", "group_by": "none"},
    },
    "at a time": {"eval_args": {"split": {"TS": [0.6, 0.2, 0.2]}, "order": "TO"}},
    "every column": LOADED,
    "numbers in two columns": {**LOADED, "numerical_features": ["rating"]},
    "unused": {**LOADED, "unused_col": {"inter": ["timestamp", "rating"]}},
    "longer than any": {"MAX_ITEM_LIST_LENGTH": 50},
    "of one": {"MAX_ITEM_LIST_LENGTH": 1, **LOADED},
    "filtered": {"item_inter_num_interval": "[6,inf)", "user_inter_num_interval": "[3,inf)"},
}


@pytest.mark.parametrize("name", CASES)
def test_batches_are_recboles(name):
    write(some_rows(np.random.default_rng(7)), HEADER)
    if "order" in CASES[name].get("eval_args", {}):
        CASES[name]["eval_args"]["mode"] = "full"
    keys = {**TIMES, **CASES[name]}
    config = configured(train_batch_size=32, eval_batch_size=10, **keys)
    parts = preparation.split(config, preparation.create_dataset(config))
    for part, theirs in zip(parts, loaders(config), strict=True):
        assert isinstance(part.inter_feat, Sequences)
        if not len(theirs._dataset):
            assert not len(part)
            continue
        training = theirs.shuffle
        kind = type(theirs) if training else SequenceEvalDataLoader
        mine = kind(config, part, None, shuffle=training)
        assert len(mine) == len(theirs) > 1
        for _ in range(2):
            for batch, expected in zip(mine, theirs, strict=True):
                if training:
                    assert_same(batch, expected)
                    continue
                assert_same(batch[0], expected[0])
                assert batch[1] is expected[1] is None
                assert batch[2].equal(expected[2])
                assert batch[3].equal(expected[3])
        feat = theirs._dataset.inter_feat
        assert list(part.inter_feat) == part.inter_feat.columns == feat.columns
        for field in feat:
            assert part.inter_feat[field][:].equal(feat[field])
            # what a tensor has is there, too
            assert part.inter_feat[field].shape == feat[field].shape
        assert {**part.field2seqlen} == {**theirs._dataset.field2seqlen}
        for field in ("user_id", "item_id"):
            assert part.counter(field) == theirs._dataset.counter(field)
        matrices = [each.inter_matrix() for each in (part, theirs._dataset)]
        assert (matrices[0] != matrices[1]).nnz == 0


def test_loaders_of_this_package_are_in_recboles_order():
    write(some_rows(np.random.default_rng(6)), HEADER)
    config = configured(train_batch_size=32, eval_batch_size=10, **TIMES)
    mine = preparation.data_loaders(config, split(config))
    for loader, theirs in zip(mine, loaders(config), strict=True):
        # where RecBole has a list of as many numbers
        assert isinstance(vars(loader)["dataset"], range)
        assert len(loader) == len(theirs) > 1
        for batch, expected in zip(loader, theirs, strict=True):
            alone = isinstance(expected, Interaction)
            assert_same(*((batch, expected) if alone else (batch[0], expected[0])))


def test_rows_are_chosen_as_recboles_interactions_are():
    write(some_rows(np.random.default_rng(8)), HEADER)
    config = configured(**TIMES)
    mine, theirs = split(config).train.inter_feat, loaders(config)[0]._dataset.inter_feat
    mask = np.arange(len(mine)) % 3 == 0
    for index in (slice(3, 9), [5, 2, 2], np.array([4, 0]), torch.tensor([7]), mask):
        assert_same(mine[index], theirs[index])
    for index in (3, np.int64(5)):
        assert mine["item_id_list"][index].equal(theirs["item_id_list"][index])
    for feat in (mine, theirs):
        feat.sort(by=["item_id", "user_id"])
    assert_same(mine[:], theirs[:])
    for feat in (mine, theirs):
        torch.manual_seed(3)
        feat.shuffle()
    assert_same(mine[:], theirs[:])
    assert_same(pickle.loads(pickle.dumps(mine))[:], theirs[:])
    assert_same(mine.to("cpu")[:], theirs[:])
    assert "rating" not in mine
    with pytest.raises(TypeError, match="rating: rows that are made of indices"):
        mine["rating"] = torch.zeros(len(mine))


def test_memory_is_that_of_the_interactions():
    rows = [(f"u{n % 50}", f"i{n % 97}", 1, n, "t") for n in range(5000)]
    write(rows, HEADER)
    found = split(configured(MAX_ITEM_LIST_LENGTH=1000))
    tensors = {}
    for part in found[:3]:
        columns = part.inter_feat.interaction
        for tensor in (part.inter_feat.member, columns.target, *columns.table.columns.values()):
            tensors[tensor.data_ptr()] = tensor.nbytes
    # user, item, time, length and target, and three marks
    assert sum(tensors.values()) <= 5000 * (8 + 8 + 4 + 8 + 8 + 3)


def test_items_features_are_joined_as_ever():
    write(some_rows(np.random.default_rng(9)), HEADER)
    write([(f"i{n}", n % 4) for n in range(30)], ["item_id:token", "kind:token"], "item")
    keys = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "kind"]}
    config = configured(load_col=keys)
    part, theirs = split(config).train, loaders(config)[0]._dataset
    assert_same(part[torch.arange(9)], theirs[torch.arange(9)])
    assert "kind" in part[[0]]


# --- times ----------------------------------------------------------------------------------------

#: User and time of each interaction. As float32, all of these times are one.
SEQUENCES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 30).map(lambda seconds: NOW + seconds)),
    min_size=1,
    max_size=40,
)


def stub(user, times, most=3, **eval_args):
    """A data set of these rows, without files; items are the rows' numbers from 1."""
    dataset = SequentialDataset.__new__(SequentialDataset)
    arguments = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user"}
    dataset.config = defaultdict(
        lambda: None,
        eval_args={**arguments, **eval_args},
        numerical_features=[],
        LIST_SUFFIX="_list",
    )
    dataset.logger = logging.getLogger()
    dataset.uid_field, dataset.iid_field, dataset.time_field = "user", "item", "time"
    dataset.item_list_length_field, dataset.max_item_list_len = "length", most
    dataset.benchmark_filename_list = None
    dataset.feat_name_list = ["inter_feat"]
    dataset.user_feat = dataset.item_feat = None
    frame = pd.DataFrame({"user": user, "item": np.arange(1, len(user) + 1), "time": times})
    dataset.inter_feat = frame
    token, number = FeatureType.TOKEN, FeatureType.FLOAT
    dataset.field2type = {"user": token, "item": token, "time": number}
    dataset.field2source = dict.fromkeys(dataset.field2type, FeatureSource.INTERACTION)
    dataset.field2seqlen = dict.fromkeys(dataset.field2type, 1)
    dataset._normalize()
    return dataset


@given(rows=SEQUENCES, most=st.integers(1, 5))
def test_sequences_are_in_the_order_of_time_as_read(rows, most):
    user, times = map(np.array, zip(*rows))
    dataset = stub(user, times.astype(float), most)
    parts = dataset.build()
    expected = {0: {}, 1: {}, 2: {}}
    members = {0: set(), 1: set(), 2: set()}
    for one in set(user.tolist()):
        own = [row + 1 for row in np.argsort(times, kind="stable") if user[row] == one]
        targets = range(1, len(own))
        left_out = min(2, len(targets) - 1)
        for target in targets:
            last = len(own) - 1 - target
            part = 2 - last if last < left_out else 0
            expected[part][own[target]] = own[max(0, target - most) : target]
            members[part].add((one, own[target]))
        if len(own) > 1:
            members[0].add((one, own[0]))
    for number, part in enumerate(parts):
        batch = part[torch.arange(len(part))]
        assert "time as read" not in batch
        found = {}
        for item, length, items in zip(batch["item"], batch["length"], batch["item_list"]):
            assert not items[length:].any()
            found[int(item)] = items[:length].tolist()
        assert found == expected[number]
        assert {*zip(*(column.tolist() for column in pairs(part)))} == members[number]


@given(rows=SEQUENCES, most=st.integers(1, 5))
def test_a_row_of_all_positions_is_a_user(rows, most):
    user, times = map(np.array, zip(*rows))
    train, *_ = stub(user, times.astype(float), most).build()
    part = train.all_positions()
    expected = {}
    for one in set(user.tolist()):
        own = [row + 1 for row in np.argsort(times, kind="stable") if user[row] == one]
        known = own[: max(2, len(own) - 2)]
        if len(own) > 1:
            expected[one] = (known[:-1][-most:], known[1:][-most:])
    batch = part[torch.arange(len(part))]
    assert batch.columns[-1] == "target_item_list"
    found = {}
    for index, one in enumerate(batch["user"].tolist()):
        length = int(batch["length"][index])
        items, targets = batch["item_list"][index], batch["target_item_list"][index]
        assert items.shape == targets.shape == (most,)
        assert not items[length:].any()
        assert not targets[length:].any()
        assert batch["item"][index] == targets[length - 1]
        found[one] = (items[:length].tolist(), targets[:length].tolist())
    assert found == expected
    # what is known of the part is as before
    for mine, theirs in zip(pairs(part), pairs(train), strict=True):
        assert (mine == theirs).all()
    assert part.counter("item") == Counter(train.inter_feat["item"].tolist())


@pytest.mark.parametrize("keep", ["first", "last"])
def test_ties_stay_in_the_files_order_where_repeats_are_left_out(keep):
    rng = np.random.default_rng(19)
    rows = [
        ("u", f"i{item}", n, NOW + n % 3, "t") for n, item in enumerate(rng.integers(0, 60, 90))
    ]
    write(rows, HEADER)
    part = split(configured(rm_dup_inter=keep, MAX_ITEM_LIST_LENGTH=90)).test
    ordered = sorted(rows, key=lambda row: row[3])
    kept = {row[1]: row for row in (ordered if keep == "last" else reversed(ordered))}
    items = [row[1] for row in ordered if kept[row[1]] is row]
    assert len(items) < len(rows)
    batch, token = part[[0]], part.field2id_token["item_id"]
    assert token[batch["item_id_list"][0, : batch["item_length"]]].tolist() == items[:-1]
    assert token[batch["item_id"]] == items[-1]


def test_all_positions_by_the_key():
    write(some_rows(np.random.default_rng(10)), HEADER)
    one, every = (split(configured(train_positions=key)) for key in ("last", "all"))
    assert len(every.train) == one.train.inter_feat["user_id"].unique().numel()
    assert every.train.field2seqlen["target_item_id_list"] == 4
    assert every.sampler.used_ids.keys() == one.sampler.used_ids.keys()
    own = [each.sampler.set_phase("train").pool.popularity for each in (one, every)]
    assert (own[0] == own[1]).all()
    assert_same(every.valid[[0, 1]], one.valid[[0, 1]])
    assert "target_item_id_list" not in one.train[[0]]


def test_a_split_in_random_order_is_refused():
    write(some_rows(np.random.default_rng(11)), HEADER)
    config = configured(eval_args={"split": {"LS": "valid_and_test"}, "order": "RO"})
    with pytest.raises(UserError, match=r"^eval_args=.*: a sequential model needs order TO"):
        split(config)


# --- who has what ---------------------------------------------------------------------------------


def test_a_users_first_interaction_is_his():
    rows = [("u1", f"i{n}", 1, n, "t") for n in range(5)]
    rows += [("u2", "i0", 1, 3, "t"), ("u2", "i4", 1, 4, "t"), ("u3", "i2", 1, 0, "t")]
    write(rows, HEADER)
    found = split(configured())
    tokens = found.train.field2id_token["item_id"]
    pool = NegativePool.of(found.train)
    users = found.train.token2id("user_id", ["u1", "u2", "u3"])
    own = [sorted(tokens[[*pool.used[user]]]) for user in users]
    # nothing is learned of u3, who has one
    assert own == [["i0", "i1", "i2"], ["i0", "i4"], []]
    assert pool.popularity[found.train.token2id("item_id", "i0")] == 2
    assert isinstance(found.sampler, RepeatableEvalSampler)
    assert (found.sampler.set_phase("train").pool.popularity == pool.popularity).all()
    last = found.sampler.set_phase("test").pool
    assert last.popularity.sum() == len(rows) - 1


@pytest.mark.parametrize("protocol", ["paper", "all"])
def test_parts_are_joined(protocol):
    write(some_rows(np.random.default_rng(12)), HEADER)
    train, valid, test, _ = split(configured())
    found = split(configured(protocol=protocol))
    joined = [train, valid] if protocol == "paper" else [train, valid, test]
    for field in ("user_id", "item_id", "item_id_list"):
        expected = torch.cat([part.inter_feat[field][:] for part in joined])
        assert found.train.inter_feat[field][:].equal(expected)
    known = sorted(pair for part in joined for pair in zip(*pairs(part)))
    assert sorted(zip(*pairs(found.train))) == known
    if protocol == "paper":
        assert found.valid is found.test
        assert_same(found.test[:], test[:])


def test_validation_of_some_users():
    write(some_rows(np.random.default_rng(13)), HEADER)
    config = configured()
    valid = split(config).valid
    some = preparation.of_some_users(valid, 5, config["seed"])
    users = some.inter_feat["user_id"]
    assert users.unique().numel() == 5
    kept = torch.isin(valid.inter_feat["user_id"], users).nonzero().squeeze(1)
    assert_same(some[:], valid[kept])


def test_an_evaluation_batch_is_bounded_by_default(monkeypatch):
    write(some_rows(np.random.default_rng(14)), HEADER)
    config = configured(eval_batch_size=50)
    test = split(config).test
    assert SequenceEvalDataLoader(config, test, None).step == 50
    config.default_eval_batch_size = True
    for budget, step in ((test.item_num * 3, 3), (1, 1), (2**24, 50)):
        monkeypatch.setattr("recbole_hns.data.loader.MATRIX_BUDGET", budget)
        assert SequenceEvalDataLoader(config, test, None).step == step


def test_sampled_negatives_of_sequences():
    write(some_rows(np.random.default_rng(15)), HEADER)
    args = {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni9"}
    config = configured(eval_args=args, eval_batch_size=50)
    found = split(config)
    sampler = found.sampler.set_phase("test")
    order = found.test.inter_feat["user_id"].argsort()
    expected = found.test[order]
    at = 0
    for batch, _, row, positive in NegSampleEvalDataLoader(config, found.test, sampler):
        count = len(row)
        for field in ("user_id", "item_id_list", "item_length"):
            repeated = expected[field][at : at + count].repeat(10, *[1] * (batch[field].dim() - 1))
            assert batch[field].equal(repeated)
        assert positive.equal(expected["item_id"][at : at + count])
        assert batch["item_id"][:count].equal(positive)
        assert (batch["item_id"][count:] != positive.repeat(9)).all()
        at += count
    assert at == len(found.test)


# --- ready splits ---------------------------------------------------------------------------------


def ready(**keys):
    return configured(benchmark_filename=["train", "valid", "test"], **keys)


def test_what_convert_leaves_out_last_is_recboles_split():
    rng = np.random.default_rng(16)
    rows = {}
    for user in range(30):
        for time in range(rng.integers(1, 12)):
            rows[f"u{user}", f"i{rng.integers(25)}"] = time
    frame = pd.DataFrame([(*pair, time) for pair, time in rows.items()])
    frame.columns = ["user_id", "item_id", "timestamp"]
    frame = frame.sample(frac=1, random_state=3)
    convert(frame, "dataset/parts", split="leave-last")
    write(frame.to_numpy().tolist(), ["user_id:token", "item_id:token", "timestamp:float"])
    whole = split(configured())
    found = split(ready(name="parts"))

    def contents(part):
        """Rows by their tokens."""
        batch = part[torch.arange(len(part))]
        user, item = (part.field2id_token[field] for field in ("user_id", "item_id"))
        columns = (batch[field].numpy() for field in ("user_id", "item_id", "item_id_list"))
        return {(user[u], item[i], *item[items]) for u, i, items in zip(*columns)}

    # RecBole trains with the second of two or three, whose first is no target; here they are
    # tested, or validated
    count = frame["user_id"].value_counts()
    few = {user for user in count.index if count[user] < 4}
    assert {1, 2, 3} <= {*count}
    mine, theirs = (
        [{row for row in contents(part) if row[0] not in few} for part in each[:3]]
        for each in (found, whole)
    )
    assert mine == theirs
    for part, least in ((found.valid, 3), (found.test, 2)):
        assert {row[0] for row in contents(part)} == {u for u in count.index if count[u] >= least}
    assert found.sampler.used_ids.keys() == {"train", "valid", "test"}
    assert pairs(found.train)[0].size == (frame.groupby("user_id").size() - 2).clip(1).sum()


def write_parts(**parts):
    for name, rows in parts.items():
        write(rows, ["user_id:token", "item_id:token", "timestamp:float"], f"{name}.inter")


def test_a_part_with_nothing_before_it(caplog):
    caplog.set_level(logging.INFO)
    write_parts(
        train=[("a", "1", 1), ("a", "2", 2), ("b", "1", 1)],
        valid=[("b", "2", 5), ("c", "1", 4)],
        test=[("c", "2", 6), ("d", "1", 6), ("a", "1", NOW + 1), ("a", "3", NOW)],
    )
    found = split(ready(state="INFO"))
    assert [len(part) for part in found[:3]] == [1, 1, 3]
    told = [record.getMessage() for record in caplog.records if "before" in record.getMessage()]
    assert told == [
        f"Rows of part {part} with nothing before them, which are no targets: 1"
        for part in ("valid", "test")
    ]
    token = found.test.field2id_token["item_id"]
    batch = found.test[:]
    assert token[batch["item_id"]].tolist() == ["3", "1", "2"]
    assert token[batch["item_id_list"]][:, :3].tolist() == [
        ["1", "2", "[PAD]"],
        ["1", "2", "3"],
        ["1", "[PAD]", "[PAD]"],
    ]
    # in the pool of training is what was trained with
    assert sorted(token[pairs(found.train)[1]]) == ["1", "1", "2"]


def test_a_test_part_that_validates():
    write_parts(
        train=[("a", "1", 1), ("a", "2", 2), ("b", "1", 1)], test=[("b", "2", 5), ("a", "3", 9)]
    )
    found = split(configured(benchmark_filename=["train", "test", "test"]))
    assert_same(found.valid[:], found.test[:])
    assert len(found.test) == 2
    found = split(configured(benchmark_filename=["train", "test", "test"], protocol="paper"))
    assert len(found.train) == 1
    found = split(configured(benchmark_filename=["train", "test", "test"], protocol="all"))
    assert len(found.train) == 3


def test_parts_that_do_not_follow_one_another_are_refused():
    write_parts(
        train=[("a", "1", 1), ("a", "2", NOW + 7), ("b", "1", 1), ("b", "2", 3)],
        valid=[("b", "3", 3)],
        test=[("a", "3", NOW + 6)],
    )
    message = (
        r"^dataset=tiny: user a \(one of 1\) has an interaction of part test before one of part "
        r"train, and a sequential model needs parts that follow one another, as convert "
        r"--split=leave-last makes them$"
    )
    with pytest.raises(UserError, match=message):
        split(ready())


def test_a_ready_split_needs_times():
    for part in ("train", "valid", "test"):
        write([("a", "1"), ("a", "2")], ["user_id:token", "item_id:token"], f"{part}.inter")
    with pytest.raises(UserError, match=r"^TIME_FIELD=timestamp: a sequential model needs it; "):
        preparation.create_dataset(ready())
    write_parts(train=[("a", "1", 1)], valid=[("a", "2", "")], test=[("a", "3", 3)])
    message = "^dataset=tiny: 1 rows have no timestamp, which a sequential model needs"
    with pytest.raises(UserError, match=message):
        preparation.create_dataset(ready())


@pytest.mark.parametrize("name", ["item_id", "user_id", "timestamp", "item_id_list"])
def test_lengths_take_the_place_of_nothing_else(name):
    write_parts(train=[("a", "1", 1)], valid=[("a", "2", 2)], test=[("a", "3", 3)])
    with pytest.raises(UserError, match=f"^ITEM_LIST_LENGTH_FIELD={name}: must be a name that no"):
        preparation.create_dataset(ready(ITEM_LIST_LENGTH_FIELD=name))


def test_times_are_no_label():
    header = ["user_id:token", "item_id:token", "timestamp:float"]
    write([("a", "1", 1), ("a", "2", 2), ("a", "3", 3)], header)
    keys = {"threshold": {"timestamp": 2}}
    with pytest.raises(UserError, match=r"^threshold=.*: takes the place of timestamp, which ord"):
        preparation.create_dataset(configured(**keys))


def test_lists_of_a_file_are_read_as_recbole_reads_them():
    rng = np.random.default_rng(17)
    header = ["user_id:token", "item_id:token", "item_id_list:token_seq"]
    for part, count in (("train", 30), ("valid", 9), ("test", 9)):
        lists = (" ".join(map(str, rng.integers(0, 9, rng.integers(1, 5)))) for _ in range(count))
        write([(f"s{n}", n % 9, items) for n, items in enumerate(lists)], header, f"{part}.inter")
    columns = {"inter": ["user_id", "item_id", "item_id_list"]}
    keys = {"load_col": columns, "alias_of_item_id": ["item_id_list"], "eval_batch_size": 4}
    config = ready(**keys)
    found = split(config)
    for part, theirs in zip(found[:3], loaders(config), strict=True):
        assert_same(part[:], theirs._dataset[:])
        assert part[:]["item_length"].min() >= 1
    for batch, expected in zip(SequenceEvalDataLoader(config, found.test, None), theirs):
        assert_same(batch[0], expected[0])
    assert_same(split(ready(**keys, protocol="paper")).test[:], found.test[:])
    # by default the lists are loaded, too
    keys = {"alias_of_item_id": ["item_id_list"]}
    assert_same(split(ready(**keys)).train[:], found.train[:])
    with pytest.raises(UserError, match=r"^alias_of_item_id=None: must have item_id_list"):
        preparation.create_dataset(ready())
    with pytest.raises(UserError, match=r"^train_positions=all: needs interactions with times"):
        split(ready(**keys, train_positions="all"))


# --- saved data sets ------------------------------------------------------------------------------


def test_a_saved_data_set(caplog):
    write(some_rows(np.random.default_rng(18)), HEADER)
    Path("saved").mkdir()
    expected = split(configured(save_dataset=True)).train[:]
    named = {"dataset_save_path": "saved/tiny-SequentialDataset.pth"}
    assert_same(split(configured(**named)).train[:], expected)
    Path("saved/tiny-SequentialDataset.pth").unlink()
    theirs = recbole_data.create_dataset(configured(save_dataset=True))
    assert type(theirs) is RecBoleSequentialDataset
    assert_same(split(configured(**named)).train[:], expected)
    # one of another kind is not taken for it
    general = RecBoleConfig("BPR", "tiny", config_dict={**QUIET, "data_path": "dataset"})
    general["save_dataset"] = True
    preparation.create_dataset(general)
    dataset = preparation.create_dataset(configured(dataset_save_path="saved/tiny-Dataset.pth"))
    assert type(dataset) is SequentialDataset
    assert "kind of model" in caplog.text
