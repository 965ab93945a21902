"""Stand-ins for a model and its data, with which samplers and losses are called alone."""

from types import SimpleNamespace

import numpy as np
import torch
from scipy.stats import chisquare

from recbole_hns.batch import Batch, Scores
from recbole_hns.data import NegativePool
from recbole_hns.data.interactions import UsedItems
from recbole_hns.loss.bpr import BPR
from recbole_hns.loss.hinge import Hinge
from recbole_hns.ops.tables import Layers, Table
from recbole_hns.sampler.dns import DNS
from recbole_hns.training.step import part_losses


def pool_of(pairs, user_num, item_num):
    """The pool of some interactions, the ids counting from 1."""
    user, item = np.array(sorted(set(pairs))).T
    popularity = np.bincount(item, minlength=item_num)
    return NegativePool(UsedItems(user, item, user_num, item_num), popularity, None)


def toy_pool():
    """30 users and 40 items, each user with 6 to 14 items."""
    rng = np.random.default_rng(1)
    pairs = [
        (u, 1 + i)
        for u in range(1, 31)
        for i in rng.choice(40, rng.integers(6, 15), replace=False).tolist()
    ]
    return pool_of(pairs, 31, 41)


def tight_pool():
    """One item, 12, is left to user 1, and user 9 has no interactions."""
    pairs = [(1, i) for i in range(1, 12)]
    pairs += [(u, i) for u in range(2, 9) for i in range(u, u + 5)]
    return pool_of(pairs, 10, 13)


def batch_of(pool, size=40):
    """Some of the pool's interactions, in random order."""
    order = torch.randperm(len(pool.used.item))[:size]
    user, item = torch.from_numpy(pool.used.user), torch.from_numpy(pool.used.item)
    return Batch.of(user[order], item[order])


class FakeEncoded:
    """A model that scores by the inner products of two tables.

    Args:
        users: ``[user_num, dim]``.
        items: ``[item_num, dim]``.
    """

    pairs_in_memory = 10**6

    def __init__(self, users, items):
        self.user_table, self.item_table = users, items

    @classmethod
    def random(cls, pool, dim=3, scale=1.0, dtype=torch.float32):
        """Tables N(0, scale^2), with gradient."""
        tables = (torch.randn(n, dim, dtype=dtype) * scale for n in (pool.user_num, pool.item_num))
        return cls(*(table.requires_grad_() for table in tables))

    @property
    def tables(self):
        return self.user_table, self.item_table

    @property
    def layers(self):
        return FakeLayers([self.user_table], [self.item_table]).layers

    def query(self, part):
        return self.user_table[part.user]

    def score(self, query, part, candidates):
        scores = self._scores(query.detach(), part, candidates.items)
        if candidates.excluded is not None:
            scores.neg[candidates.excluded] = -torch.inf
        return scores

    def rescore(self, query, part, negatives):
        pos, neg = self._scores(query, part, negatives.items)
        if negatives.excluded is not None:
            neg = neg.index_put(negatives.excluded, neg.new_tensor(-torch.inf))
        return Scores(pos, neg)

    def user_scores(self, user, items):
        scores = (self.user_table[user] @ self.item_table.t()).detach()
        return scores if items is None else scores.gather(1, items.expand(len(user), -1))

    def _scores(self, query, part, items):
        scores = query @ self.item_table.t()
        pos = scores.gather(1, part.pos_item.unsqueeze(1))
        if items is not None:
            scores = scores.gather(1, items.expand(len(scores), -1))
        return Scores(pos, scores)


class FakePredicted:
    """A model that scores pairs only, by those of another."""

    user_table = item_table = None
    pairs_in_memory = 10**6

    def __init__(self, encoded):
        self.user_scores = encoded.user_scores


class FakeLayers:
    """A model with embeddings at H layers.

    Args:
        users: H tables, ``[user_num, dim]``.
        items: H tables, ``[item_num, dim]``.
    """

    def __init__(self, users, items):
        self.users, self.items = users, items

    @classmethod
    def random(cls, pool, num, dim=4, scale=0.7):
        """Tables N(0, scale^2) in float64, with gradient."""
        tables = [
            [
                (torch.randn(rows, dim, dtype=torch.float64) * scale).requires_grad_()
                for _ in range(num)
            ]
            for rows in (pool.user_num, pool.item_num)
        ]
        return cls(*tables)

    @property
    def tables(self):
        return [*self.users, *self.items]

    @property
    def layers(self):
        return Layers(
            tuple(Table.of(table) for table in self.users),
            tuple(Table.of(table) for table in self.items),
        )


def set_up(sampler, pool, dim=3, epochs=100):
    """The sampler after ``setup``, and the pool with its distribution."""
    model = SimpleNamespace(
        n_users=pool.user_num,
        n_items=pool.item_num,
        item_embedding=SimpleNamespace(embedding_dim=dim),
    )
    sampler.setup(model, epochs)
    return pool.with_distribution(sampler.candidate_distribution, sampler.candidate_alpha)


def start(sampler, epoch, encoded, pool):
    """Start an epoch, as the trainer does."""
    sampler.epoch = epoch
    with torch.no_grad():
        sampler.start_epoch(epoch, encoded, pool)


def recorded(target, name):
    """What a method returns from now on."""
    method, results = getattr(target, name), []

    def call(*args):
        results.append(method(*args))
        return results[-1]

    setattr(target, name, call)
    return results


def gradients(loss, tensors):
    """Of a scalar, 0 where it does not depend on a tensor."""
    found = torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, found, strict=True)]


def assert_drawn_by(probability, items, negatives):
    """Pearson's test of how often each negative was drawn, at 0.1%."""
    counts = np.bincount(np.asarray(items).ravel(), minlength=max(negatives) + 1)
    assert counts.sum() == counts[negatives].sum()
    probability = np.asarray(probability, dtype=np.float64)
    expected = counts.sum() * probability / probability.sum()
    rare = expected < 5
    found, expected = (
        np.append(x[~rare], x[rare].sum()) if rare.any() else x
        for x in (counts[negatives], expected)
    )
    found, expected = found[expected > 0], expected[expected > 0]
    assert len(found) == 1 or chisquare(found, expected).pvalue > 0.001


def bpr(pos, neg):
    """BPR's loss of a pair."""
    return torch.nn.functional.softplus(neg - pos)


def assert_no_own_item(user, items, pool):
    """No row of ``items`` has the padding id or an item of its user."""
    for u, row in zip(user.tolist(), items.tolist(), strict=True):
        assert not set(row) & (pool.used[u] | {0})


def assert_finite_step(sampler, loss, scale):
    """Start an epoch and learn from a batch with embeddings of this size; all stays finite."""
    pool = toy_pool()
    pool = set_up(sampler, pool)
    encoded = FakeEncoded.random(pool, scale=scale)
    for epoch in range(3):
        start(sampler, epoch, encoded, pool)
        value, negatives = part_losses(batch_of(pool), encoded, sampler, loss, pool)
        assert torch.isfinite(value)
        assert torch.isfinite(negatives.scores.neg).all()
        for gradient in gradients(value, encoded.tables):
            assert torch.isfinite(gradient).all()
    assert all(torch.isfinite(buffer).all() for buffer in sampler.buffers())


def assert_draws_what_is_left(sampler):
    """A user with one negative gets no other, and users without interactions are drawn for."""
    pool = set_up(sampler, tight_pool())
    encoded = FakeEncoded.random(pool)
    start(sampler, 0, encoded, pool)
    part = batch_of(pool)
    with torch.no_grad():
        candidates = sampler.propose(part, encoded, pool)
    assert (candidates.items[part.user == 1] == 12).all()
    assert_no_own_item(part.user, candidates.items, pool)


def layered_parameters(sampler, encoded):
    """All that a layered sampler has a gradient in."""
    return [*encoded.tables, *sampler.parameters()]


def ready_layers(sampler, num_layers, ties=False):
    """A layered sampler after ``setup``, a model of so many layers and a pool, in float64."""
    pool = set_up(sampler, toy_pool(), 4)
    encoded = FakeLayers.random(pool, num_layers)
    with torch.no_grad():
        for parameter in sampler.double().parameters():
            parameter.normal_(0, 0.7)
        if ties:  # every two items alike
            for table in encoded.items:
                table[1::2] = table[0 : len(table) - 1 : 2]
    return encoded, pool


def assert_learns(sampler, literal, num_layers, ties=False, in_place=False, randomness=None):
    """Loss, negatives and gradients are those of a formula, row by row, for two losses.

    Args:
        sampler: a layered sampler.
        literal: gives a row's scores of positive and negative, its further terms, and its negative
            at layer 0, from the sampler, the tables of each layer, user, positive, candidates, and
            what ``randomness`` returned for the row, ``[H, ...]``.
        num_layers: H.
        ties: have equal items.
        in_place: have the tables' gradients added up in place.
        randomness: the method that draws at random.
    """
    encoded, pool = ready_layers(sampler, num_layers, ties)
    part = batch_of(pool, 20)._replace(size=33)
    drawn = recorded(pool, "draw")
    random = recorded(sampler, randomness) if randomness else None
    parameters = layered_parameters(sampler, encoded)
    for loss, pair_loss in (
        (BPR(), lambda pos, neg: torch.log1p(torch.exp(neg - pos))),
        (Hinge(hinge_margin=0.4), lambda pos, neg: torch.relu(0.4 - pos + neg)),
    ):
        for table in encoded.tables:
            table.grad = torch.zeros_like(table) if in_place else None
        learned = sampler.batch_losses(part, encoded, pool, loss)
        # an L2 term, too, goes through the negatives
        found = learned.loss + 0.1 * learned.negatives.square().sum()
        found.backward()
        gradient = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None

        expected = 0
        for row, (u, i) in enumerate(zip(part.user.tolist(), part.pos_item.tolist(), strict=True)):
            each = random[-1][:, row] if random else None
            candidates = drawn[-1][row].tolist()
            pos, neg, more, negative = literal(
                sampler, encoded.users, encoded.items, u, i, candidates, each
            )
            expected = expected + (pair_loss(pos, neg) + more) / part.size
            expected = expected + 0.1 * negative.square().sum()
            torch.testing.assert_close(learned.negatives[row], negative)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
        for a, b in zip(gradient, gradients(expected, parameters), strict=True):
            # gates that this loss does not reach have none
            a = torch.zeros_like(b) if a is None else a
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-11)
        assert all(torch.isfinite(scores).all() for scores in learned.scores)
        assert all(scores.shape == (20, 1) for scores in learned.scores)


def assert_learns_the_same_in_parts(sampler, num_layers):
    """The parts of a batch add up to the whole, where what is drawn depends on the row only."""
    encoded, pool = ready_layers(sampler, num_layers)
    pool.draw = lambda user, num: (user.unsqueeze(1) * torch.arange(3, 3 + num)) % 39 + 1
    sampler.mixing_weights = lambda scores: scores.detach().sigmoid()
    sampler.noise = lambda embeddings: embeddings.detach().sigmoid()
    batch, results = batch_of(pool, 20), []
    for rows in (20, 7):
        value = 0
        for part in batch.split(rows):
            learned = sampler.batch_losses(part, encoded, pool, BPR())
            value = value + learned.loss + learned.negatives.square().sum()
        results.append([value, *gradients(value, layered_parameters(sampler, encoded))])
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts, rtol=1e-9, atol=1e-12)


def assert_is_dns(sampler, encoded, pool, num):
    """With one layer and the same draws, loss and gradient are those of DNS."""
    part, tables, results = batch_of(pool), encoded.tables, []
    torch.manual_seed(4)
    results.append(sampler.batch_losses(part, encoded, pool, BPR()).loss)
    torch.manual_seed(4)
    dns = DNS(candidate_num=num)
    results.append(part_losses(part, FakeEncoded(*tables), dns, BPR(), pool)[0])
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-13)
    for a, b in zip(*(gradients(value, tables) for value in results), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-13)


def assert_finite_layers(sampler, scale):
    """Learn from embeddings of 0 or of plus and minus ``scale``; all stays finite."""
    encoded, pool = ready_layers(sampler, 2)
    with torch.no_grad():
        for table in encoded.tables:
            table.copy_(torch.randn_like(table).sign() * scale)
    learned = sampler.batch_losses(batch_of(pool), encoded, pool, BPR())
    assert torch.isfinite(learned.loss)
    for gradient in gradients(learned.loss, layered_parameters(sampler, encoded)):
        assert torch.isfinite(gradient).all()


def assert_layers_with_one_negative_left(sampler):
    """A user with one negative gets no other."""
    pool = set_up(sampler, tight_pool(), 4)
    encoded, drawn = FakeLayers.random(pool, 2), recorded(pool, "draw")
    part = batch_of(pool)
    learned = sampler.double().batch_losses(part, encoded, pool, BPR())
    assert torch.isfinite(learned.loss)
    assert (drawn[0][part.user == 1] == 12).all()
    assert_no_own_item(part.user, drawn[0], pool)


def mean(rows):
    """Of a list of numbers or tensors."""
    return sum(rows) / len(rows)


def first_largest(scores):
    """Index of the largest, the first of equals."""
    return max(range(len(scores)), key=lambda j: (scores[j].item(), -j))
