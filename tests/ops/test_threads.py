"""Loops on several threads, whose results are those of one."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import QUIET, prepared

from recbole_hns import run
from recbole_hns.data import NegativePool
from recbole_hns.evaluation.top_items import highest_of_blocks
from recbole_hns.ops import threads
from recbole_hns.ops.finite_sums import finite_sums
from recbole_hns.ops.highest import highest
from recbole_hns.ops.lazy_adam import LazyAdam
from recbole_hns.ops.list_scores import list_scores
from recbole_hns.ops.nearest import nearest
from recbole_hns.ops.row_optimizers import RowwiseAdagrad, SparseAdam
from recbole_hns.ops.tables import Table, look_up
from recbole_hns.ops.unit_rows import unit_rows

ROWS, DIM, BATCH = 50, 5, 41


@pytest.fixture(autouse=True)
def _set_back(monkeypatch):
    before = torch.get_num_threads()
    # all loops are worth it
    monkeypatch.setattr(threads, "FEW_ROWS", 1)
    yield
    torch.set_num_threads(before)


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape, seed=1):
    return torch.randint(ROWS, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("num", [1, 2, 3])
@pytest.mark.parametrize("parts", [0, 1, 2, 5])
def test_each_part_is_worked_on_once_without_gradient(num, parts):
    torch.set_num_threads(num)
    done = []
    threads.run(lambda part: done.append((part, torch.is_grad_enabled())), parts)
    assert sorted(done) == [(part, False) for part in range(parts)]
    assert torch.is_grad_enabled()


def test_parts_are_worked_on_at_the_same_time():
    torch.set_num_threads(2)
    if threads.number() == 1:
        pytest.skip("PyTorch has another pool here")
    both = threading.Barrier(2, timeout=60)
    threads.run(lambda part: both.wait(), 2)


@pytest.mark.parametrize("error", [IndexError, KeyboardInterrupt])
@pytest.mark.parametrize("part", [0, 2])
def test_an_error_is_the_callers(error, part):
    torch.set_num_threads(2)

    def work(number):
        if number == part:
            raise error("here")

    with pytest.raises(error, match="here"):
        threads.run(work, 3)
    threads.run(lambda number: None, 3)


def test_with_another_pool_there_is_one_thread(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(threads.ctypes, "CDLL", lambda name: SimpleNamespace())
    threads._pool.cache_clear()
    try:
        assert threads._pool() is None
        assert threads.number() == threads.parts(10**9) == 1
    finally:
        threads._pool.cache_clear()


def test_a_short_loop_is_not_divided(monkeypatch):
    torch.set_num_threads(2)
    monkeypatch.setattr(threads, "FEW_ROWS", 100)
    assert threads.parts(99) == 1
    assert threads.parts(100) == threads.number()


# --- the loops ------------------------------------------------------------------------------------


def of_list_scores(num):
    user_e, table = random(BATCH, DIM).requires_grad_(), random(ROWS, DIM).requires_grad_()
    table.grad = torch.ones_like(table)
    scores = list_scores(user_e, table, ids(BATCH, num))
    (scores * random(BATCH, num, seed=2)).sum().backward()
    return scores.detach(), user_e.grad, table.grad


def of_look_up():
    table = random(ROWS, DIM).requires_grad_()
    table.grad = torch.zeros_like(table)
    rows = look_up([Table.of(table)], [ids(BATCH)])
    (rows * random(1, BATCH, DIM, seed=2)).sum().backward()
    return (table.grad,)


def of_unit_rows():
    rows = random(BATCH, DIM).requires_grad_()
    (unit_rows(rows, 1e-6) * random(BATCH, DIM, seed=2)).sum().backward()
    return unit_rows(rows, 1e-6).detach(), rows.grad


def of_rows_of_scores():
    scores = random(BATCH, 9)
    scores[scores > 1] = -torch.inf
    num = 1 + ids(BATCH) % 5
    columns = torch.where(torch.arange(5) < num.unsqueeze(1), highest(scores, num)[:, :5], 0)
    return finite_sums(scores), highest(scores, 3), columns, *nearest(scores, random(BATCH, 1))


def of_lists():
    scores = random(BATCH, 60).round(decimals=1)  # some are equal
    row, known = np.arange(BATCH), np.sort(ids(BATCH, 9).numpy(), axis=1)
    blocks = ((first, scores[:, first : first + 20].contiguous()) for first in (0, 20, 40))
    found = highest_of_blocks(blocks, row, 9 * np.arange(BATCH + 1), known.reshape(-1), 4)
    return [torch.from_numpy(each) for each in found]


def of_steps(make):
    table = random(ROWS, DIM).requires_grad_()
    touched = {}
    optimizer = make([table], 0.1, [table], lambda: touched)
    for group in optimizer.param_groups:
        if make is LazyAdam:
            group.update(betas=(0.5, 0.6), fused=True, foreach=False)
    for step in range(8):
        touched[table] = ids(7, seed=step)
        if make is LazyAdam:
            optimizer.read(table, touched[table])
        rows = random(7, DIM, seed=step)
        table.grad = torch.zeros_like(table).index_add_(0, touched[table], rows)
        optimizer.step()
    if make is LazyAdam:
        optimizer.read_all()
    return table.detach(), *(v for v in optimizer.state[table].values() if v.dim())


@pytest.mark.parametrize(
    "loops",
    [
        lambda: of_list_scores(3),
        of_look_up,
        of_unit_rows,
        of_rows_of_scores,
        of_lists,
        lambda: of_steps(SparseAdam),
        lambda: of_steps(RowwiseAdagrad),
        lambda: of_steps(LazyAdam),
    ],
    ids=[
        "few",
        "look_up",
        "unit_rows",
        "scores",
        "lists",
        "sparse_adam",
        "rowwise_adagrad",
        "adam",
    ],
)
def test_results_are_the_same_to_the_last_bit(loops):
    results = []
    for num in (1, 2):
        torch.set_num_threads(num)
        results.append(loops())
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)


def test_gradients_of_long_lists():
    results = []
    for num in (1, 2, 3):
        torch.set_num_threads(num)
        results.append(of_list_scores(70))
    one, two, three = (result[2] for result in results)
    torch.testing.assert_close(one, two)
    assert torch.equal(two, three)


# --- draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("distribution", ["uniform", "popularity"])
def test_draws_on_several_threads(distribution, toy):
    _, train, _, _ = prepared(**toy)
    pool = NegativePool.of(train._dataset).with_distribution(distribution, 0.75)
    users = torch.arange(1, pool.user_num).repeat(40)
    found = []
    for num in (2, 3):
        torch.set_num_threads(num)
        torch.manual_seed(5)
        found.append(pool.draw(users, 30))
    assert torch.equal(*found)
    drawn = found[0]
    assert not pool.is_used(users.unsqueeze(1), drawn).any()
    assert drawn.min() > 0
    # no rows, a part from each other or not, have the same sequence
    assert len({tuple(row) for row in drawn.tolist()}) == len(users)
    count = torch.zeros(pool.user_num, pool.item_num)
    count.index_put_((users.unsqueeze(1).expand_as(drawn), drawn), torch.tensor(1.0), True)
    tables = pool.tables("cpu")
    mass = np.diff(tables.mass.numpy(), prepend=0) * np.ones((pool.user_num, 1))
    mass[pool.used.user, pool.used.item] = 0
    share = (count / count.sum(dim=1, keepdim=True))[1:].numpy()
    expected = (mass / mass.sum(axis=1, keepdims=True))[1:]
    np.testing.assert_allclose(share, expected, atol=0.03)


def test_draws_of_few_rows_begin_as_those_of_one_thread(toy):
    _, train, _, _ = prepared(**toy)
    pool, found = NegativePool.of(train._dataset), []
    for num in (1, 2):
        torch.set_num_threads(num)
        torch.manual_seed(5)
        found.append(pool.draw(torch.arange(1, 30).repeat(10), 4))
    assert torch.equal(found[0][:256], found[1][:256])


# --- a run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("learner", ["adam", "sparse_adam"])
def test_runs_on_two_and_three_threads_are_the_same(learner, toy):
    parameters = []

    def keep(end):
        parameters.append([p.detach().clone() for p in end.trainer.model.parameters()])

    for num in (2, 3):
        torch.set_num_threads(num)
        keys = {"sampler": "ahns", "candidate_num": 8, "epochs": 1, "learner": learner}
        run(callbacks=[keep], config_dict={**QUIET, **toy, **keys, "train_batch_size": 64})
    for two, three in zip(*parameters, strict=True):
        assert torch.equal(two, three)
