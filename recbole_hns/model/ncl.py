"""NCL, which clusters users and items between epochs and warms up without them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from logging import getLogger
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from recbole.model.general_recommender import NCL
from torch import Tensor

from recbole_hns.errors import UserError
from recbole_hns.model.propagated import PropagatedAdapter

if TYPE_CHECKING:
    from recbole.config import Config
    from recbole.data.dataset import Dataset
    from recbole.model.abstract_recommender import GeneralRecommender


class NCLAdapter(PropagatedAdapter):
    """NCL, with what RecBole's ``NCLTrainer`` does."""

    models: ClassVar[tuple[type, ...]] = (NCL,)
    kept_between_epochs = ("user_centroids", "user_2cluster", "item_centroids", "item_2cluster")

    @classmethod
    def check(cls, config: Config, dataset: Dataset) -> None:
        """See that faiss is there, and that there are no more clusters than users or items.

        Raises:
            UserError: if not.
        """
        if importlib.util.find_spec("faiss") is None:
            raise UserError.of("model", "NCL", "needs faiss: pip install recbole-hns[ncl]")
        clusters, most = config["num_clusters"], min(dataset.user_num, dataset.item_num)
        if not (isinstance(clusters, int) and 0 < clusters <= most):
            allowed = f"must be an integer > 0 and <= {most}, the smaller number of users and items"
            raise UserError.of("num_clusters", clusters, allowed)

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        super().__init__(model, config)
        self._m_step, self._warm_up_step = config["m_step"], config["warm_up_step"]

    def start_epoch(self, epoch: int) -> None:
        """Cluster anew where it is time, RecBole's E-step."""
        if epoch % self._m_step == 0:
            getLogger().info("Running E-step ! ")
            self.model.e_step()

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Give the model its clusters, if they are of all users and items."""
        for side, size in (("user", self.model.n_users), ("item", self.model.n_items)):
            centroids, cluster = kept[f"{side}_centroids"], kept[f"{side}_2cluster"]
            fits = cluster.shape == (size,) and cluster.dtype == torch.int64
            fits &= centroids.shape[1:] == (self.model.latent_dim,)
            if not (fits and cluster.min() >= 0 and cluster.max() < len(centroids)):
                raise ValueError(f"its clusters are not of {size} {side}s")
        super().restore(kept)

    def active(self, losses: tuple[Tensor, ...], epoch: int) -> tuple[Tensor, ...]:
        """All but the loss of the clusters while the model warms up."""
        return losses[:-1] if epoch < self._warm_up_step else losses
