"""SGL, which contrasts two augmented graphs and scores by the whole one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar

from recbole.model.general_recommender import SGL
from torch import Tensor

from recbole_hns.batch import Batch
from recbole_hns.errors import UserError
from recbole_hns.model.base import Losses, NegativeRows, full_precision, replaced
from recbole_hns.model.embeddings import EncodedLayers, EncodedTables, emb_loss_with
from recbole_hns.model.propagated import PropagatedAdapter

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender

    from recbole_hns.config import Config
    from recbole_hns.data.dataset import Dataset


#: RecBole's ``type``: edges or nodes are dropped, or edges in each layer anew.
AUGMENTATIONS = ("ED", "ND", "RW")


class SGLAdapter(PropagatedAdapter):
    """SGL: its pairwise loss is a sum over the batch, computed in a method of its own."""

    models: ClassVar[tuple[type, ...]] = (SGL,)

    @classmethod
    def check(cls, config: Config, dataset: Dataset) -> None:
        """See that the augmentation is one that there is; RecBole takes others for none.

        Raises:
            UserError: if not.
        """
        if config["type"] not in AUGMENTATIONS:
            raise UserError.of("type", config["type"], f"must be one of {', '.join(AUGMENTATIONS)}")

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        super().__init__(model, config)
        self.summed = True

    def _propagate(self) -> tuple[Tensor, ...]:
        return full_precision(self.model.forward)(self.model.train_graph)

    def _known(self, tables: tuple[Tensor, ...]) -> Any:
        forward, graph = full_precision(self.model.forward), self.model.train_graph

        def known(other: Any) -> Any:
            return tables if other is graph else forward(other)

        return known

    def _model_loss(
        self,
        encoded: EncodedTables | EncodedLayers,
        batch: Batch,
        neg_item: Tensor,
        pairwise: Tensor,
        negative_rows: NegativeRows | None,
    ) -> Losses:
        model = self.model

        def bpr_and_l2(user_emd: Tensor, item_emd: Tensor, *ids: Tensor) -> Tensor:
            rows = (table(id_) for table, id_ in zip(ego_tables, ids, strict=True))
            return pairwise + model.reg_weight * model.reg_loss(*rows)

        ego_tables = (model.user_embedding, model.item_embedding, model.item_embedding)
        with ExitStack() as stack:
            stack.enter_context(replaced(model, "calc_bpr_loss", bpr_and_l2))
            if negative_rows is not None:
                stack.enter_context(self._emb_loss(emb_loss_with(negative_rows)))
            return model.calculate_loss(self._interaction(batch.user, batch.pos_item, neg_item))
