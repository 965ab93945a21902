"""Checkpoints that are damaged, or that native code would go astray with, are refused in a line."""

import copy
import io
import math
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared

from recbole_hns import load_data_and_model, run
from recbole_hns.errors import UserError
from recbole_hns.ops.optimizer import load_optimizer
from recbole_hns.training.checkpoint import (
    checked_generator_state,
    load_checkpoint,
    random_state,
    save_checkpoint,
    set_random_state,
)

#: Samplers with a state, and keys that suit 40 items.
STATEFUL = {
    "adasir": {"adasir_pool_size": 10, "adasir_sample_size": 20},
    "aobpr": {},
    "irgan": {},
    "kernel": {"kernel_refresh": "epoch"},
    "srns": {"candidate_num": 12},
}


@pytest.fixture
def checkpoint(toy):
    """The path of a checkpoint after two epochs."""
    run(config_dict={**QUIET, **toy, "epochs": 2, "embedding_size": 4})
    (path,) = Path("saved").glob("*.pth")
    return path


def refused(path):
    with pytest.raises(UserError) as told:
        load_checkpoint(path)
    assert str(told.value).startswith(f"resume={path}: ")
    return str(told.value)


# --- the archive ----------------------------------------------------------------------------------


def flipped(content, place, bit):
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


def test_a_flipped_bit_in_any_record_is_refused(checkpoint):
    content = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        records = [(e.filename, archive.read(e)) for e in archive.infolist() if e.file_size]
    assert len(records) > 8
    rng = random.Random(1)
    for name, data in records:
        assert content.count(data) >= 1
        start = content.index(data)
        # the first record of the same content may be another one's
        for place in {0, len(data) - 1, rng.randrange(len(data))}:
            Path("a.pth").write_bytes(flipped(content, start + place, rng.randrange(8)))
            assert "a.pth: is damaged: the checksum of its record" in refused("a.pth"), name


def test_a_flipped_bit_anywhere_is_refused_or_changes_nothing(checkpoint):
    content = checkpoint.read_bytes()
    intact = as_bytes(load_checkpoint(checkpoint))
    rng, accepted = random.Random(2), 0
    for _ in range(250):
        Path("a.pth").write_bytes(flipped(content, rng.randrange(len(content)), rng.randrange(8)))
        try:
            state = load_checkpoint("a.pth")
        except UserError:
            continue
        accepted += 1
        assert as_bytes(state) == intact
    # padding, times and permissions of the archive's entries
    assert accepted < 50


def as_bytes(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def rewritten(content, changes=(), **options):
    """The archive anew, some records replaced, with the right checksums."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w", **options) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, dict(changes).get(entry.filename, old.read(entry)))
    return file.getvalue()


def test_archives_that_pytorch_would_not_write(checkpoint):
    content = checkpoint.read_bytes()
    Path("a.pth").write_bytes(rewritten(content))
    load_checkpoint("a.pth")
    Path("a.pth").write_bytes(rewritten(content, compression=zipfile.ZIP_DEFLATED))
    assert "must be a checkpoint that recbole-hns wrote" in refused("a.pth")
    # the checksum of a name is the last one's, and PyTorch reads the first
    Path("a.pth").write_bytes(rewritten(content))
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile("a.pth", "a") as archive:
        archive.writestr(archive.namelist()[0], b"")
    assert "must be a checkpoint that recbole-hns wrote" in refused("a.pth")


def test_a_storage_that_is_shorter_than_its_tensor(checkpoint):
    content = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        data = archive.read(name)
    Path("a.pth").write_bytes(rewritten(content, {name: data[:-4]}))
    assert "must be a checkpoint that recbole-hns wrote" in refused("a.pth")


def test_a_damaged_file_is_not_evaluated_with(checkpoint, toy):
    _, train, valid, trainer = prepared(**toy, embedding_size=4, epochs=1)
    trainer.eval_collector.data_collect(train)
    trainer.evaluate(valid, model_file=str(checkpoint))
    content = checkpoint.read_bytes()
    with zipfile.ZipFile(checkpoint) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data/0"))
        start = content.index(archive.read(name))
    checkpoint.write_bytes(flipped(content, start + 3, 2))
    with pytest.raises(UserError, match=r"model_file=.*: is damaged: the checksum of its record"):
        trainer.evaluate(valid, model_file=str(checkpoint))
    with pytest.raises(UserError, match=r"model_file=.*: is damaged: the checksum of its record"):
        load_data_and_model(checkpoint)


# --- its values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("epoch",), -2),
        (("epoch",), 2),
        (("cur_step",), -1),
        (("cur_step",), 2**53),
        (("best_valid_score",), math.nan),
        (("last", "epoch"), -1),
        (("last", "epoch"), 10**9),
        (("last", "epoch"), 10**400),
        (("last", "epochs"), []),
        (("last", "epochs", 0, "epoch"), 2),
        (("last", "epochs", 0, "epoch"), None),
        (("last", "epochs", 1, "train_seconds"), 10**400),
        (("last", "epochs", 1, "epoch"), 1.5),
    ],
    ids=str,
)
def test_values_that_no_run_leaves(path, value, checkpoint):
    state = load_checkpoint(checkpoint)
    place = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    save_checkpoint(state, "a.pth")
    assert "a.pth: must be a checkpoint that recbole-hns wrote" in refused("a.pth")


@pytest.mark.filterwarnings("ignore")
def test_tensors_with_inner_tables(checkpoint):
    state = load_checkpoint(checkpoint)
    for odd in (
        torch.quantize_per_tensor(torch.zeros(31, 4), 0.1, 0, torch.quint8),
        torch.nested.nested_tensor([torch.ones(3), torch.ones(4)]),
    ):
        save_checkpoint({**state, "other_parameter": {"a": [odd]}}, "a.pth")
        assert "a.pth: must be a checkpoint that recbole-hns wrote" in refused("a.pth")


def test_values_that_are_not_finite_are_read_where_runs_leave_them(checkpoint):
    state = load_checkpoint(checkpoint)
    state["best_valid_score"] = -math.inf
    state["best_valid_result"] = {"auc": math.nan}
    state["last"]["epochs"][0].update(auc=math.nan, hardness=None)
    save_checkpoint(state, "a.pth")
    assert load_checkpoint("a.pth")["best_valid_score"] == -math.inf


# --- random generators ----------------------------------------------------------------------------


def test_random_states_come_back_to_the_last_bit():
    random.gauss(0, 1)
    np.random.standard_normal(3)
    torch.randn(3)
    state = random_state()

    def draws():
        numbers = [random.random(), random.gauss(0, 1), *np.random.random(700)]
        return [*numbers, np.random.standard_normal(), *torch.rand(700).tolist()]

    expected = draws()
    set_random_state(state)
    assert draws() == expected


def torch_state(left, following):
    state = torch.Generator().get_state()
    changed = bytearray(state.numpy().tobytes())
    struct.pack_into("=i4xQ", changed, 8, left, following)
    return torch.frombuffer(changed, dtype=torch.uint8)


WRONG_TORCH = [
    torch_state(1, 625),
    torch_state(624, 600),
    torch_state(0, 0),
    torch_state(-1, 1),
    torch_state(2**31 - 1, 1),
    torch_state(1, 2**63),
    torch.zeros(5056, dtype=torch.uint8),
    torch.zeros(5055, dtype=torch.uint8),
    torch.zeros(0, dtype=torch.uint8),
    torch.zeros(5056),
    torch.zeros(1, dtype=torch.uint8).expand(5056),
    3,
]


@pytest.mark.parametrize("wrong", WRONG_TORCH, ids=range(len(WRONG_TORCH)))
def test_states_that_no_pytorch_generator_has(wrong):
    with pytest.raises((AttributeError, RuntimeError, TypeError, ValueError)):
        checked_generator_state(wrong)
    with pytest.raises((AttributeError, RuntimeError, TypeError, ValueError)):
        set_random_state({**random_state(), "torch": wrong})


KEYS = random_state()["numpy"][1]


@pytest.mark.parametrize(
    "wrong",
    [
        {2: 10**9},
        {2: 625},
        {2: -1},
        {2: 2**63},
        {2: math.nan},
        {2: None},
        {0: "PCG64"},
        {1: KEYS[:600]},
        {1: KEYS + 2**32},
        {1: -KEYS - 1},
        {1: KEYS.double() + 0.5},
        {1: KEYS.reshape(-1, 1)},
        {1: KEYS.reshape(2, -1)},
        {1: None},
        {3: 10**30},
        {4: "x"},
    ],
    ids=range(16),
)
def test_states_that_no_numpy_generator_has(wrong):
    state = random_state()
    numpy = tuple(wrong.get(index, value) for index, value in enumerate(state["numpy"]))
    errors = (ArithmeticError, AttributeError, TypeError, ValueError, RuntimeError)
    with pytest.raises(errors):
        set_random_state({**state, "numpy": numpy})
    np.random.seed(0)


@pytest.mark.parametrize("index", [0, 623])
@pytest.mark.parametrize("value", [-1, 2**32, 10**30, 0.5, None])
def test_states_that_pythons_generator_has_not(index, value):
    state = random_state()
    version, internal, gauss = state["python"]
    internal = [value if i == index else old for i, old in enumerate(internal)]
    with pytest.raises((ArithmeticError, TypeError, ValueError)):
        set_random_state({**state, "python": (version, internal, gauss)})


@pytest.mark.parametrize("position", [-1, 625, 10**9])
def test_positions_that_pythons_generator_has_not(position):
    state = random_state()
    version, internal, gauss = state["python"]
    with pytest.raises((ArithmeticError, TypeError, ValueError)):
        set_random_state({**state, "python": (version, (*internal[:-1], position), gauss)})


# --- optimizers -----------------------------------------------------------------------------------


def stepped(learner="Adam", **settings):
    table = torch.nn.Parameter(torch.ones(6, 4))
    optimizer = getattr(torch.optim, learner)([table], lr=0.01, **settings)
    for _ in range(3):
        table.grad = torch.ones_like(table)
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("learner", ["Adam", "AdamW", "SGD", "Adagrad", "RMSprop"])
def test_an_optimizers_own_state_is_loaded(learner):
    state = copy.deepcopy(stepped(learner).state_dict())
    state["param_groups"][0]["lr"] = 0.005  # it decays
    optimizer = stepped(learner)
    load_optimizer(optimizer, state)
    assert optimizer.param_groups[0]["lr"] == 0.01
    for name, value in state["state"].get(0, {}).items():
        assert torch.equal(optimizer.state_dict()["state"][0][name], value)


def test_the_state_of_a_parameter_that_is_one_number_may_be_negative():
    number = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.Adam([number])
    number.grad = torch.tensor(-2.0)
    optimizer.step()
    load_optimizer(optimizer, copy.deepcopy(optimizer.state_dict()))
    assert optimizer.state[number]["exp_avg"] < 0


FUSED = {"fused": True, "foreach": False}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("exp_avg", torch.zeros(1).expand(6, 4)),
        ("exp_avg_sq", torch.zeros(1, 4).expand(6, 4)),
        ("exp_avg", torch.zeros(4, 6).t()),
        ("exp_avg", torch.zeros(12, 4)[::2]),
        ("exp_avg", torch.zeros(6, 3)),
        ("exp_avg", torch.zeros(24)),
        ("exp_avg", torch.zeros(0)),
        ("exp_avg", torch.tensor(1.0)),
        ("exp_avg", 1.0),
        ("step", torch.tensor(-1.0)),
        ("step", torch.tensor(math.nan)),
        ("step", torch.tensor(math.inf)),
        ("step", torch.tensor(1e38)),
        ("step", torch.zeros(3)),
        ("more", torch.zeros(6, 4)),
    ],
)
def test_optimizer_states_that_no_step_can_be_made_from(name, value):
    state = copy.deepcopy(stepped(**FUSED).state_dict())
    state["state"][0][name] = value
    with pytest.raises((AttributeError, TypeError, ValueError)):
        load_optimizer(stepped(**FUSED), state)


@pytest.mark.parametrize(
    "change",
    [
        {"betas": (2.0, 0.999)},
        {"betas": 0.9},
        {"weight_decay": 1e308},
        {"amsgrad": True},
        {"capturable": True},
        {"fused": None},
        {"eps": "x"},
        {"params": [1]},
        {"params": [0, 0]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_settings_that_are_not_the_optimizers_own(change):
    state = copy.deepcopy(stepped(**FUSED).state_dict())
    state["param_groups"][0].update(change)
    with pytest.raises((AttributeError, KeyError, TypeError, ValueError)):
        load_optimizer(stepped(**FUSED), state)


# --- samplers and models --------------------------------------------------------------------------


def with_state(sampler, toy):
    """A checkpoint of a sampler with a state, and a function that resumes from it."""
    keys = {**QUIET, **toy, **STATEFUL[sampler], "embedding_size": 4}
    run(sampler=sampler, config_dict={**keys, "epochs": 2})
    (path,) = Path("saved").glob("*.pth")

    def resume(state):
        save_checkpoint(state, "a.pth")
        run(resume="a.pth", config_dict={"epochs": 3, **QUIET})

    return load_checkpoint(path), resume


WRONG_STATES = {
    "adasir": [
        lambda s: s["pool"].fill_(41),
        lambda s: s["pool"].view(-1)[5:6].fill_(-1),
        lambda s: s["pool"].fill_(2**31 - 1),
    ],
    "kernel": [lambda s: s["pool"].fill_(10**6), lambda s: s["pool"].fill_(-(2**31))],
    "srns": [
        lambda s: s["memory"].fill_(2**62),
        lambda s: s["memory"].view(-1)[-1:].fill_(-1),
        lambda s: s["_extra_state"].__setitem__(0, [torch.zeros(3, 4), torch.zeros(41, 4)]),
        lambda s: s["_extra_state"].__setitem__(0, [torch.zeros(31, 4), torch.zeros(4, 4)]),
        lambda s: s["_extra_state"].__setitem__(0, [torch.zeros(31, 4), torch.zeros(41, 5)]),
        lambda s: s["_extra_state"][0].__setitem__(1, torch.zeros(1).expand(41, 4)),
        lambda s: s["_extra_state"].append(3),
    ],
    "aobpr": [
        lambda s: s["_extra_state"]["ranking"].fill_(41),
        lambda s: s["_extra_state"].update(ranking=torch.zeros(4, 39, dtype=torch.int32)),
        lambda s: s["_extra_state"].update(ranking=torch.zeros(4, 40)),
        lambda s: s["_extra_state"].update(drawn=-1),
        lambda s: s.update(_extra_state={"drawn": 3}),
    ],
    "irgan": [
        lambda s: s["_extra_state"]["negatives"].fill_(41),
        lambda s: s["_extra_state"].update(negatives=torch.ones(3, dtype=torch.int32)),
        lambda s: s["_extra_state"].update(negatives=None),
        lambda s: s["_extra_state"].update(optimizer={"state": {}, "param_groups": []}),
    ],
}


@pytest.mark.parametrize("sampler", STATEFUL)
def test_a_samplers_state_that_compiled_loops_would_go_astray_with(sampler, toy):
    intact, resume = with_state(sampler, toy)
    resume(intact)
    for index, spoil in enumerate(WRONG_STATES[sampler]):
        state = copy.deepcopy(intact)
        spoil(state["last"]["sampler"])
        with pytest.raises(UserError) as told:
            resume(state)
        assert str(told.value).count("\n") == 0, index


@pytest.mark.parametrize("name", ["restore_user_e", "restore_item_e"])
@pytest.mark.parametrize("value", [torch.zeros(3, 4), torch.tensor(1.0), 3, "x"], ids=str)
def test_embeddings_kept_for_evaluation_of_another_size(name, value, toy):
    run(model="LightGCN", config_dict={**QUIET, **toy, "epochs": 1, "embedding_size": 4})
    (path,) = Path("saved").glob("*.pth")
    state = load_checkpoint(path)
    state["other_parameter"][name] = value
    save_checkpoint(state, path)
    with pytest.raises(UserError, match=r"model_file=.*: its parameters do not fit"):
        load_data_and_model(path)
