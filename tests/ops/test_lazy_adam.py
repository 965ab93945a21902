"""Adam whose tables wait, against PyTorch's, which moves every row in every step."""

import copy

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_hns import HardNegativeSampler, Selection, run
from recbole_hns.model.embeddings import EncodedTables
from recbole_hns.ops import kernels
from recbole_hns.ops.lazy_adam import LazyAdam
from recbole_hns.training import trainer

ROWS, DIM = 60, 5


class Pair:
    """The same table with this Adam and with PyTorch's, and the gradients of both."""

    def __init__(self, dtype=torch.float64, seed=0, lr=0.01, **settings):
        self.draws = torch.Generator().manual_seed(seed)
        start = torch.randn(ROWS, DIM, generator=self.draws, dtype=dtype)
        self.lazy, self.dense = (torch.nn.Parameter(start.clone()) for _ in range(2))
        self.touched = {}
        self.ours = LazyAdam([self.lazy], lr, [self.lazy], lambda: self.touched)
        self.theirs = torch.optim.Adam([self.dense], lr=lr)
        for group in (*self.ours.param_groups, *self.theirs.param_groups):
            group.update(fused=True, foreach=False, **settings)

    def step(self, ids, told=True, scale=1.0):
        ids = torch.as_tensor(ids, dtype=torch.int64)
        self.ours.read(self.lazy, ids)
        read = (self.lazy[ids] - self.dense[ids]).abs().max().item() if len(ids) else 0.0
        rows = scale * torch.randn(len(ids), DIM, generator=self.draws, dtype=self.lazy.dtype)
        # from 1 to 1e-6, of which the least are as small as Adam's epsilon
        rows *= 10.0 ** -(ids % 7).to(rows.dtype).unsqueeze(1)
        self.lazy.grad = torch.zeros_like(self.lazy).index_add_(0, ids, rows)
        self.dense.grad = self.lazy.grad.clone()
        self.touched.clear()
        if told:
            self.touched[self.lazy] = ids
        self.ours.step()
        self.theirs.step()
        return read

    def steps(self, num, **options):
        """The largest difference in rows that were read."""
        found = 0.0
        for _ in range(num):
            many = torch.randint(1, 9, (1,), generator=self.draws).item()
            # few rows have most of the gradients
            drawn = torch.rand(many, generator=self.draws) ** 3 * ROWS
            found = max(found, self.step(drawn.long(), **options))
        return found

    def difference(self):
        return (self.lazy - self.dense).abs().max().item()


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
@pytest.mark.parametrize("scale", [1.0, 1e4, 1e-5])
def test_rows_that_are_read_are_as_pytorchs(dtype, close, scale):
    pair = Pair(dtype)
    # whether before or after the bias correction changes slowly
    for num in (300, 900, 300):
        assert pair.steps(num, scale=scale) < close
        assert pair.difference() > 0.01  # they do wait
    # as at the end of an epoch, after which the learning rate falls
    pair.ours.read_all()
    assert pair.difference() < close
    for group in (*pair.ours.param_groups, *pair.theirs.param_groups):
        group["lr"] *= 0.1
    assert pair.steps(700, scale=scale) < close
    pair.ours.read_all()
    assert pair.difference() < close
    [ours], [theirs] = pair.ours.state.values(), pair.theirs.state.values()
    assert ours["step"] == theirs["step"] == 2200
    for name in ("exp_avg", "exp_avg_sq"):
        largest = theirs[name].abs().max().item()
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-9 * largest)


@given(st.lists(st.lists(st.integers(0, ROWS - 1), max_size=9), min_size=1, max_size=30))
@settings(deadline=None, max_examples=6)
def test_any_steps(steps):
    pair = Pair(lr=0.1)
    for ids in steps:
        pair.step(ids)
    pair.steps(1000)
    for number, ids in enumerate(steps):
        assert pair.step(ids) < 1e-6
        if number % 5 == 4:
            pair.ours.read(pair.lazy)
            assert pair.difference() < 1e-6


def test_a_step_is_dense_to_the_last_bit_where_rows_may_not_wait():
    for pair, options in [
        (Pair(torch.float32, weight_decay=1e-4), {}),
        (Pair(torch.float32), {"told": False}),
    ]:
        pair.steps(1100, **options)
        assert torch.equal(pair.lazy, pair.dense)
    pair = Pair(torch.float32)
    for _ in range(1100):
        pair.ours.read(pair.lazy)  # all rows, before every step
        pair.step([1, 2, 3])
    assert torch.equal(pair.lazy, pair.dense)


@pytest.mark.parametrize("beta1", [0.9, 0.5])
@pytest.mark.parametrize("lacks", [1, 2, 30, 399, 1000])
@pytest.mark.parametrize(("start", "early"), [(1500, 0), (1, 10**6)])
def test_what_a_row_lacks_is_its_sum(beta1, lacks, start, early):
    beta2, eps, lr, steps = 0.999, 1e-8, 0.1, []
    m = np.array([[1.0, -1e-3, 1e-9, 0.0, 0.0, 1e-20, 5.0]])
    v = np.array([[1.0, 1e-4, 1e-17, 0.0, 1e-3, 1e-40, 1e8]])
    row, first, second = np.zeros_like(m), m.copy(), v.copy()
    expected, c, ca, caa = np.zeros_like(m), 0.0, 0.0, 0.0
    for j in range(1, lacks + 1):
        correction = 1 - beta2 ** (start + j)
        rate = lr * beta1**j / (1 - beta1 ** (start + j))
        a = (beta2**j / correction) ** 0.5
        steps.append([rate / beta1**j, correction**-0.5])
        expected -= rate * m / (a * np.sqrt(v) + eps)
        c, ca, caa = c + rate, ca + rate * a, caa + rate * a * a
    sums = np.array([[c], [ca], [caa]])
    last = np.zeros(1, np.int32)
    ids = np.zeros(2, np.int64)  # twice the same, which has them once
    rest = np.array(steps).T, early, beta1, beta2, eps, 0, 1
    kernels.catch_up(row, first, second, ids, last, lacks, sums, *rest)
    np.testing.assert_allclose(row, expected, rtol=1e-6)
    np.testing.assert_allclose(first, m * beta1**lacks, rtol=1e-10, atol=1e-17)
    np.testing.assert_allclose(second, v * beta2**lacks, rtol=1e-10)
    assert last == lacks


# more than the 1,000 steps that are dense
LONG = {**QUIET, "epochs": 7, "train_batch_size": 1, "learning_rate": 0.01, "seed": 3}


@pytest.mark.parametrize(
    "keys",
    [
        {"sampler": "ahns"},
        {"sampler": "all", "loss": "softmax", "candidate_sharing": "batch", "candidate_num": 3},
    ],
    ids=lambda keys: keys["sampler"],
)
def test_a_run_is_that_of_dense_adam(toy, keys, monkeypatch):
    found = []
    for _ in range(2):
        result = run(config_dict={**LONG, **toy, **keys})
        found.append([epoch["train_loss"] for epoch in result.epochs])
        monkeypatch.setitem(trainer.OPTIMIZERS, "adam", Dense)
    assert found[0] == pytest.approx(found[1], rel=1e-5)


class Dense(LazyAdam):
    """Never waits."""

    def __init__(self, params, lr, tables=(), touched=dict):
        super().__init__(params, lr)


def test_a_resumed_run_goes_on_to_the_last_bit(toy):
    keys = {**LONG, **toy, "sampler": "ahns"}
    whole = run(config_dict=keys)
    part = run(config_dict={**keys, "epochs": 6})
    rest = run(resume=part.checkpoint, config_dict={"epochs": 7, **QUIET})
    assert rest.epochs[-1]["train_loss"] == whole.epochs[-1]["train_loss"]


def test_whoever_asks_for_all_rows_has_them_read():
    reads = []
    tables = torch.ones(3, 2), torch.ones(4, 2)
    encoded = EncodedTables(*tables, "inner", 100, lambda table, ids: reads.append((table, ids)))
    for name, table in [("items", 1), ("item_table", 1), ("user_table", 0)]:
        getattr(encoded, name)
        assert reads[-1][0] is tables[table]
        assert reads[-1][1] is None


def test_what_was_loaded_is_not_moved_by_steps_of_before():
    pair = Pair()
    pair.steps(1100)
    state, rows = copy.deepcopy(pair.theirs.state_dict()), pair.dense.detach().clone()
    pair.steps(5)
    pair.ours.load_state_dict(state)
    with torch.no_grad():
        pair.lazy.copy_(rows)
    pair.ours.read_all()
    assert torch.equal(pair.lazy, rows)
    # and goes on
    pair.theirs.load_state_dict(copy.deepcopy(state))
    with torch.no_grad():
        pair.dense.copy_(rows)
    assert pair.steps(50) < 1e-6
    assert pair.difference() > 0.01


def test_a_copy_goes_on_by_itself():
    pair = Pair(torch.float32)
    pair.steps(1050)
    table, ours = copy.deepcopy((pair.lazy, pair.ours))
    ours.read(table)
    torch.testing.assert_close(table, pair.dense, rtol=0, atol=1e-5)
    table.grad = torch.ones_like(table)
    pair.dense.grad = torch.ones_like(table)
    ours.step()
    pair.theirs.step()
    torch.testing.assert_close(table, pair.dense, rtol=0, atol=1e-5)


def test_a_table_without_gradient_has_no_state():
    frozen = torch.nn.Parameter(torch.ones(4, 2), requires_grad=False)
    learned = torch.nn.Parameter(torch.ones(4, 2))
    optimizer = LazyAdam([learned, frozen], 0.1, [learned, frozen])
    learned.grad = torch.ones_like(learned)
    optimizer.read(frozen, torch.tensor([1]))
    optimizer.step()
    optimizer.read_all()
    assert list(optimizer.state) == [learned]
    assert list(optimizer.state_dict()["state"]) == [0]


class LooksByItself(HardNegativeSampler):
    """Reads the model's table, which is that of dense Adam then."""

    def setup(self, model, epochs):
        self.tables = [model.item_embedding.weight]

    def select(self, scores, candidates, part):
        norms = self.tables[0].detach().norm(dim=1)[candidates.items]
        return Selection(columns=norms.argmax(dim=1, keepdim=True))


def test_a_sampler_of_the_users_may_look_at_tables(toy, monkeypatch):
    keys = {**LONG, **toy}
    ours = run(sampler=LooksByItself, config_dict=keys)
    monkeypatch.setitem(trainer.OPTIMIZERS, "adam", Dense)
    dense = run(sampler=LooksByItself, config_dict=keys)
    assert ours.epochs[-1]["train_loss"] == dense.epochs[-1]["train_loss"]


def test_an_interrupted_epoch_leaves_what_dense_adam_would(toy, monkeypatch):
    found = []
    for optimizer in (LazyAdam, Dense):
        monkeypatch.setitem(trainer.OPTIMIZERS, "adam", optimizer)
        _, train, _, fitted = prepared(**{**LONG, **toy, "sampler": "rns"})
        fitted.pool = fitted._pool_of(train)
        for epoch in range(6):
            fitted._train_epoch(train, epoch)
        steps, step = iter(range(20)), trainer.batch_losses

        def interrupted(*args, steps=steps, step=step):
            if next(steps, None) is None:
                raise KeyboardInterrupt
            return step(*args)

        with monkeypatch.context() as patch:
            patch.setattr(trainer, "batch_losses", interrupted)
            with pytest.raises(KeyboardInterrupt):
                fitted._train_epoch(train, 6)
        found.append(fitted.model.item_embedding.weight.detach())
    torch.testing.assert_close(*found, rtol=0, atol=1e-5)
