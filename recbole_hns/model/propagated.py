"""Graph models whose ``forward`` propagates over the whole graph and returns all embeddings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from recbole.model.general_recommender import DGCF, NGCF, LightGCN, SpectralCF
from torch import Tensor

from recbole_hns.batch import Batch
from recbole_hns.model.base import full_precision, replaced
from recbole_hns.model.embeddings import EmbeddingAdapter, EncodedTables
from recbole_hns.ops.propagation import Adjacency, adjacencies

if TYPE_CHECKING:
    from recbole.model.abstract_recommender import GeneralRecommender


class PropagatedAdapter(EmbeddingAdapter):
    """NGCF, DGCF, SpectralCF, and LightGCN's subclasses that propagate in a way of their own.

    They propagate once a step: what is propagated for scoring the candidates is what
    ``calculate_loss`` gets of its call of ``forward``.
    """

    models: ClassVar[tuple[type, ...]] = (NGCF, DGCF, SpectralCF, LightGCN)

    def __init__(self, model: GeneralRecommender, config: Mapping[str, Any]) -> None:
        super().__init__(model, config)
        self._adjacencies: dict[str, Adjacency] = {}

    def tables(self) -> tuple[Tensor, ...]:
        """What the model propagates."""
        with adjacencies(self.model, self._adjacencies):
            return self._propagate()[:2]

    @contextmanager
    def encode(self, batch: Batch | None = None, layers: bool = False) -> Iterator[Any]:
        """Propagate once."""
        with ExitStack() as stack:
            stack.enter_context(adjacencies(self.model, self._adjacencies))
            tables = self._propagate()
            stack.enter_context(replaced(self.model, "forward", self._known(tables)))
            yield self._encoded(*tables[:2])

    def _propagate(self) -> tuple[Tensor, ...]:
        """What the model's ``forward`` returns: embeddings of all users, of all items, ..."""
        return full_precision(self.model.forward)()

    def _known(self, tables: tuple[Tensor, ...]) -> Any:
        """The ``forward`` of a model that has propagated."""
        return lambda: tables

    def _regularised_table(self, encoded: EncodedTables) -> Tensor:
        if isinstance(self.model, (NGCF, SpectralCF)):
            return encoded.items
        return super()._regularised_table(encoded)
