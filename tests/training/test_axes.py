"""Source, similarity, selection and loss in combination, against literal ones."""

import copy
import math

import numpy as np
import pytest
import torch
from conftest import QUIET, first_batch, prepared, step

from recbole_hns import load_data_and_model, run
from recbole_hns.errors import UserError
from recbole_hns.loss import LOSSES as LOSSES_BY_NAME
from recbole_hns.loss import Loss
from recbole_hns.model.embeddings import EncodedTables
from recbole_hns.sampler import SAMPLERS

#: Keys that suit 40 items, of samplers with other defaults.
KEYS = {
    "dns_mn": {"dns_m": 3, "candidate_num": 9},
    "softmax_v": {"candidate_num": 9},
    "warp": {"warp_max_trials": 9},
    "adasir": {"adasir_pool_size": 10, "adasir_sample_size": 20},
}
SCORED = [name for name, cls in SAMPLERS.items() if cls.needs != "layers"]
SHARING = [name for name in SCORED if SAMPLERS[name].can_share]
LOSSES = ["bpr", "hinge", "softmax"]


@pytest.fixture
def float64():
    """RecBole's EmbLoss adds up in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def ready(size=None, **keys):
    """A trainer with scores that are no rounding errors, and a batch."""
    _, train, _, trainer = prepared(embedding_size=5, **keys)
    network = trainer.model.to(torch.get_default_dtype())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(0, 0.7)
    if keys.get("model") == "LightGCN":
        network.norm_adj_matrix = network.norm_adj_matrix.to(torch.get_default_dtype())
    batch = first_batch(trainer, train, size)
    trainer._start_epoch(0)
    return trainer, batch


def literal_loss(trainer, pos, negs, m, name):
    """The loss of one positive with the ``m`` highest of ``negs``, 1 / m each."""
    order = sorted(range(len(negs)), key=lambda j: -negs[j].item())[:m]
    picked = [negs[j] for j in order]
    if not picked:
        return 0 * pos
    if name == "bpr":
        return sum(-torch.log(torch.sigmoid(pos - n)) for n in picked) / len(picked)
    if name == "hinge":
        return sum(torch.relu(1 - pos + n) for n in picked) / len(picked)
    tau = trainer.loss.loss_tau
    return torch.log(sum(torch.exp((n - pos) / tau) for n in picked))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("sampler", ["all", "dns_mn"])
@pytest.mark.parametrize("source", ["uniform", "popularity", "in_batch"])
@pytest.mark.parametrize(
    ("model", "in_parts"), [("BPR", False), ("BPR", True), ("LightGCN", False)]
)
def test_gradient_with_shared_candidates(
    model, source, sampler, similarity, loss, in_parts, toy, float64, monkeypatch
):
    keys = {"candidate_sharing": "batch", "candidate_distribution": source, "candidate_num": 12}
    more = {"n_layers": 2, "reg_weight": 0.0} if model == "LightGCN" else {}
    more["dns_m"] = 3
    trainer, batch = ready(
        40, model=model, sampler=sampler, similarity=similarity, loss=loss, **keys, **more, **toy
    )
    if in_parts:
        monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", 2**20 * 2)
    m = 3 if sampler == "dns_mn" else 10**6
    network, pool = trainer.model, trainer.pool

    torch.manual_seed(3)
    items = batch.pos_item if source == "in_batch" else pool.draw_shared(12, batch.user.device)
    torch.manual_seed(3)
    found, _ = step(trainer, batch)
    found.sum().backward()
    gradients = [p.grad.clone() for p in network.parameters()]
    network.zero_grad()

    users, table = network.user_embedding.weight, network.item_embedding.weight
    if model == "LightGCN":
        users, table = network.forward()
    if similarity == "cosine":
        users, table = (t / t.norm(dim=1, keepdim=True) for t in (users, table))
    expected = 0
    for u, i in zip(batch.user.tolist(), batch.pos_item.tolist(), strict=True):
        own = pool.used[u] | {0}
        negs = [users[u] @ table[j] for j in items.tolist() if j not in own]
        expected = expected + literal_loss(trainer, users[u] @ table[i], negs, m, loss) / 40
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    for gradient, parameter in zip(gradients, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize(
    "keys",
    [
        {"loss": "softmax"},
        {"loss": "softmax", "softmax_positive": True, "model": "LightGCN", "reg_weight": 0.01},
        {"loss": "softmax", "loss_tau": 0.001},
        {"loss": "sl_at_k", "sl_k": 3, "similarity": "cosine"},
        {"loss": "bsl", "bsl_pooled": True, "candidate_distribution": "popularity"},
        {"loss": "bsl", "candidate_distribution": "in_batch", "similarity": "cosine"},
        {"sampler": "ssm", "ssm_negatives": "popularity", "candidate_num": 30},
        {"sampler": "ssm", "ssm_negatives": "in_batch", "ssm_similarity": "cosine"},
    ],
    ids=str,
)
def test_scores_that_are_not_made_are_as_if_they_were(keys, in_parts, toy, float64, monkeypatch):
    """Some users' own items are all that was drawn, one of three times."""
    made = []
    score = EncodedTables.score
    monkeypatch.setattr(EncodedTables, "score", lambda *args: made.append(score(*args)) or made[-1])
    keys = {"sampler": "all", "candidate_sharing": "batch", "candidate_num": 3, **keys}
    trainer, batch = ready(40, **keys, **toy)
    if in_parts:
        monkeypatch.setattr(trainer.adapter, "pairs_in_memory", lambda _=0: 3 * 7)
    alone = trainer.pool.used[batch.user[0].item()]
    drawn = torch.tensor(sorted(alone)[:3])
    if keys["candidate_num"] == 3:
        monkeypatch.setattr(trainer.pool, "draw_shared", lambda num, device: drawn)
    results = []
    for takes_all in (True, False):
        monkeypatch.setattr(type(trainer.sampler), "takes_all", takes_all)
        trainer.model.zero_grad()
        torch.manual_seed(3)
        losses, sums = step(trainer, batch)
        losses.sum().backward()
        assert bool(made) != takes_all
        gradients = [p.grad.clone() for p in trainer.model.parameters()]
        results.append((losses.detach(), sums, *gradients))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-11)


def test_what_makes_its_own_choice_or_loss_has_the_scores_made():
    class Chosen(SAMPLERS["all"]):
        def select(self, scores, candidates, part):
            return super().select(scores, candidates, part)

    class Doubled(LOSSES_BY_NAME["softmax"]):
        def row_losses(self, scores, negatives, part):
            return 2 * super().row_losses(scores, negatives, part)

    class Summed(LOSSES_BY_NAME["bsl"]):
        def forward(self, scores, negatives, part):
            return scores.neg.sum()

    assert not Chosen.takes_all
    assert not Doubled.sums_only
    assert not Summed.sums_only
    assert type("Same", (SAMPLERS["all"],), {}).takes_all


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", ["BPR", "LightGCN"])
def test_gradient_with_own_candidates_by_cosine(model, loss, toy, float64):
    more = {"n_layers": 1, "reg_weight": 0.0} if model == "LightGCN" else {}
    keys = {"sampler": "dns_mn", "candidate_num": 9, "dns_m": 4, "similarity": "cosine"}
    trainer, batch = ready(30, model=model, loss=loss, **keys, **more, **toy)
    torch.manual_seed(3)
    items = trainer.pool.draw(batch.user, 9)
    torch.manual_seed(3)
    found, _ = step(trainer, batch)
    found.sum().backward()
    gradients = [p.grad.clone() for p in trainer.model.parameters()]
    trainer.model.zero_grad()
    users, table = trainer.model.user_embedding.weight, trainer.model.item_embedding.weight
    if model == "LightGCN":
        users, table = trainer.model.forward()
    users, table = (t / t.norm(dim=1, keepdim=True) for t in (users, table))
    expected = 0
    for u, i, row in zip(*(ids.tolist() for ids in (batch.user, batch.pos_item, items))):
        negs = [users[u] @ table[j] for j in row]
        expected = expected + literal_loss(trainer, users[u] @ table[i], negs, 4, loss) / 30
    expected.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    for gradient, parameter in zip(gradients, trainer.model.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-8, atol=1e-11)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("similarity", ["inner", "cosine"])
@pytest.mark.parametrize("sharing", ["row", "batch"])
@pytest.mark.parametrize("sampler", SCORED)
def test_every_combination_learns_or_is_refused(sampler, sharing, similarity, loss, toy):
    keys = {**toy, **KEYS.get(sampler, {}), "loss": loss, "similarity": similarity}
    keys.update(sampler=sampler, candidate_sharing=sharing)
    if sharing == "batch" and sampler not in SHARING:
        with pytest.raises(UserError, match="draws for each row by itself"):
            ready(**keys)
        return
    trainer, batch = ready(**keys)
    seen, select = [], trainer.sampler.select

    def watched(scores, candidates, part):
        seen.append((scores, candidates, part))
        return select(scores, candidates, part)

    trainer.sampler.select = watched
    losses, sums = step(trainer, batch)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(sums).all()
    for scores, candidates, part in seen:
        items = candidates.items.expand(len(part.user), -1)
        for u, row, values in zip(part.user.tolist(), items.tolist(), scores.neg.tolist()):
            for j, value in zip(row, values, strict=True):
                assert (j in trainer.pool.used[u] | {0}) == (value == -math.inf)


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ({"model": "ConvNCF", "similarity": "cosine"}, "similarity=cosine: needs a model"),
        ({"model": "ConvNCF", "eval_similarity": "cosine"}, "eval_similarity=cosine: needs a"),
        ({"model": "ConvNCF", "candidate_sharing": "batch"}, "candidate_sharing=batch: needs a"),
        ({"sampler": "mixgcf", "similarity": "cosine"}, "similarity=cosine: must be inner"),
        ({"sampler": "dens", "candidate_sharing": "batch"}, "draws for each row by itself"),
        (
            {"model": "ConvNCF", "candidate_distribution": "in_batch"},
            "candidate_distribution=in_batch: needs a",
        ),
        ({"loss": "recbole_hns.loss.base:Loss"}, "must be a subclass of Loss"),
        ({"similarity": "dot"}, "similarity=dot: must be inner or cosine"),
        ({"loss": "sofmax"}, "loss=sofmax: must be one of advinfonce, bpr"),
        ({"sampler": "ssm", "loss_tau": 0.2}, "loss_tau=0.2: sampler=ssm sets it"),
    ],
)
def test_what_has_no_meaning_is_refused(keys, text):
    with pytest.raises(UserError, match=text):
        run(config_dict={**QUIET, **keys}, saved=False)


class Logistic(Loss):
    """A loss of the user's own, with a hyperparameter, state between epochs and a parameter."""

    logistic_scale: float = 1.5

    def setup(self, model, epochs):
        self.register_buffer("epochs_started", torch.tensor(0))
        self.bias = torch.nn.Parameter(torch.tensor(0.1))

    def start_epoch(self, epoch, encoded, pool):
        self.epochs_started += 1
        assert encoded.user_table.shape[0] == pool.user_num

    def row_losses(self, scores, negatives, part):
        apart = self.logistic_scale * (scores.pos - scores.neg) + self.bias
        return torch.nn.functional.softplus(-apart).mean(dim=1) * self.epochs_started


def test_a_loss_of_the_users_own_trains_and_is_resumed(toy, tmp_path):
    keys = {**QUIET, **toy, "train_batch_size": 64, "logistic_scale": 2.0}
    whole = run(loss=Logistic, sampler="dns", config_dict={**keys, "epochs": 4})
    part = {**keys, "epochs": 2, "checkpoint_dir": "part"}
    run(loss=Logistic, sampler="dns", config_dict=part)
    (checkpoint,) = (tmp_path / "part").glob("*.pth")
    again = run(resume=checkpoint, loss=Logistic, config_dict={"epochs": 4})
    assert again["test_result"] == whole["test_result"]
    with pytest.raises(UserError, match="give the loss beside the checkpoint"):
        run(resume=checkpoint, config_dict={"epochs": 5})


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "NGCF", "SGL"])
def test_what_is_trained_by_cosine_is_evaluated_by_it(model, toy, tmp_path):
    keys = {**QUIET, **toy, "epochs": 2, "similarity": "cosine", "message_dropout": 0.0}
    run(model, sampler="all", loss="softmax", config_dict=keys)
    (checkpoint,) = (tmp_path / "saved").glob("*.pth")
    _, network, _, train, _, test = load_data_and_model(checkpoint)
    network.eval()
    graph = (network.train_graph,) if model == "SGL" else ()
    with torch.no_grad():
        if model == "BPR":
            users, items = network.user_embedding.weight, network.item_embedding.weight
        else:
            users, items = network.forward(*graph)[:2]
        interaction, *_ = next(iter(test))
        found = network.full_sort_predict(interaction).view(-1, len(items))
    for row, u in zip(found, interaction["user_id"].tolist(), strict=True):
        for j in (1, 7, len(items) - 1):
            cosine = users[u] @ items[j] / (users[u].norm() * items[j].norm())
            assert row[j].item() == pytest.approx(cosine.item(), abs=1e-5)
    assert train.dataset.item_num == len(items)


def test_evaluation_follows_the_parameters(toy):
    """Tables that are kept for evaluation are computed anew after a step."""
    keys = {**toy, "similarity": "cosine", "sampler": "dns", "embedding_size": 5}
    _, train, valid, trainer = prepared(**keys)
    results = []
    for epoch in range(2):
        trainer.pool = trainer._pool_of(train)
        trainer._train_epoch(train, epoch)
        users, items = trainer.model.user_embedding.weight, trainer.model.item_embedding.weight
        expected = torch.nn.functional.cosine_similarity(users[1:2], items[3:4])
        interaction = next(iter(valid))[0]
        interaction["user_id"][:] = 1
        trainer.model.eval()
        found = trainer.model.full_sort_predict(interaction).view(-1, len(items))[0, 3]
        torch.testing.assert_close(found, expected[0])
        results.append(found.item())
    assert results[0] != results[1]


@pytest.mark.parametrize("sharing", ["row", "batch"])
def test_a_loss_that_pools_a_users_positives_is_the_same_in_parts(
    sharing, toy, float64, monkeypatch
):
    """Here the mean over a user's rows of the largest of their losses, times their number."""

    class Pooled(Loss):
        pools_users = True

        def forward(self, scores, negatives, part):
            losses = (scores.neg - scores.pos).exp().mean(dim=1)
            users, of = part.user.unique(return_inverse=True)
            largest = torch.zeros(len(users)).scatter_reduce(0, of, losses, "amax")
            return largest[of].sum() / part.size

    keys = {"candidate_num": 4, "candidate_sharing": sharing}
    trainer, batch = ready(60, sampler="all", loss=Pooled, **keys, **toy)
    fixed = torch.arange(1, 5)
    trainer.pool.draw = lambda user, num: (user.unsqueeze(1) + fixed) % 39 + 1
    trainer.pool.draw_shared = lambda num, device: fixed
    monkeypatch.setattr(trainer.pool, "own_columns", lambda user, items: None)
    results = []
    for pairs in (10**6, 4 * 7):
        monkeypatch.setattr(trainer.adapter, "pairs_in_memory", lambda _=0, pairs=pairs: pairs)
        trainer.model.zero_grad()
        losses, _ = step(trainer, batch)
        losses.backward()
        gradients = [p.grad.clone() for p in trainer.model.parameters()]
        results.append((losses.detach(), *gradients))
    expected = 0
    users, items = trainer.model.user_embedding.weight, trainer.model.item_embedding.weight
    by_user = {}
    for u, i in zip(batch.user.tolist(), batch.pos_item.tolist()):
        negs = fixed if sharing == "batch" else (u + fixed) % 39 + 1
        each = sum(torch.exp(users[u] @ items[j] - users[u] @ items[i]) for j in negs) / 4
        by_user.setdefault(u, []).append(each.item())
    expected = sum(max(losses) * len(losses) for losses in by_user.values()) / 60
    assert results[0][0].item() == pytest.approx(expected)
    for whole, in_parts in zip(*results, strict=True):
        torch.testing.assert_close(whole, in_parts)


def test_a_copy_of_a_model_that_predicts_cosines_predicts_by_its_own_parameters(toy):
    trainer, _ = ready(model="BPR", sampler="dns", similarity="cosine", **toy)
    model = trainer.model.eval()
    interaction = {"user_id": torch.tensor([1]), "item_id": torch.tensor([3])}
    before = model.predict(interaction)
    other = copy.deepcopy(model)
    with torch.no_grad():
        other.item_embedding.weight.neg_()
    torch.testing.assert_close(other.eval().predict(interaction), -before)
    torch.testing.assert_close(model.predict(interaction), before)
    model.load_state_dict(other.state_dict())
    torch.testing.assert_close(model.predict(interaction), -before)


def test_an_infinite_loss_ends_the_run(toy):
    class Infinite(Loss):
        def row_losses(self, scores, negatives, part):
            return scores.pos.sum(dim=1) * 0 + math.inf

    with pytest.raises(UserError, match="Training loss is inf"):
        run(loss=Infinite, config_dict={**QUIET, **toy, "epochs": 1}, saved=False)


def test_shared_candidates_are_drawn_once_a_batch(toy, monkeypatch):
    trainer, batch = ready(sampler="all", candidate_sharing="batch", candidate_num=7, **toy)
    monkeypatch.setattr("recbole_hns.model.base.PAIR_BYTES", 2**24)
    seen, propose = [], trainer.sampler.propose

    def watched(part, encoded, pool):
        seen.append(propose(part, encoded, pool).items)
        return propose(part, encoded, pool)

    trainer.sampler.propose = watched
    step(trainer, batch)
    assert len(seen) > 1
    assert all(torch.equal(items, seen[0]) for items in seen)
    assert np.isin(seen[0].numpy(), np.arange(1, 41)).all()
