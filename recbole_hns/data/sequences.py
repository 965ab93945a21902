"""Sequences of items as RecBole's sequential models take them, by index in place of copies.

RecBole's ``SequentialDataset`` writes, for every interaction but a user's first, a row with the
up to ``MAX_ITEM_LIST_LENGTH`` (L) interactions before it: copies of padded lists. Here the
interactions stand once, ordered by user and time (:class:`Table`), and a row is the index of its
target; its lists are made when a batch asks for them (:class:`Sequences`). What a batch holds is
RecBole's, to the last bit.

A batch is what ``dataset[index]`` gives, with ``index`` an int64 tensor of rows, ``[B]``; an
``Interaction`` with, under the names that the config has,

========================  =======================================================================
``user_id``, ``item_id``  user and target, ``[B]``, and every further column of the interactions
``item_length``           items before the target, 1 to L, ``[B]``, int64
``item_id_list``          those items, the oldest first, then zeros, ``[B, L]``, int64
``timestamp_list``, ...   likewise for every other column but the user's
========================  =======================================================================

With ``train_positions: all`` a row of the training part is a user: the lists end before the user's
last training item, which is ``item_id``, and one more column, named ``target_item_id_list``
(:func:`targets_field` gives the name), has the target of every position, ``[B, L]``, int64: item t
of ``item_id_list`` is followed by item t of ``target_item_id_list``, for t < ``item_length``; after
that both are zeros. ``train_batch_size`` counts users then.

Where all interactions of a part are wanted, such as for what a user's own items are, rows are not
enough, as a user's first interaction is none: :func:`recbole_hns.data.interactions.pairs` gives
them. A whole part moves to a device by ``dataset.inter_feat.to(device)``, which has 8 bytes for
each interaction and column.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

#: Names of columns, each with the column of a table that it is made of and None, or, if it is of
#: lists, how many interactions later than what comes before a row they are.
Names = dict[str, tuple[str, int | None]]


def targets_field(item_list_field: str) -> str:
    """Name of the column of targets, with ``train_positions: all``, by that of the items' list."""
    return f"target_{item_list_field}"


def ranges(start: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """``count`` whole numbers from each ``start`` on, one range after the other.

    Args:
        start: ``[n]``, int64.
        count: likewise.

    Returns:
        For every number, the index of its range, int64, and the number itself.
    """
    row = torch.arange(len(count), device=count.device).repeat_interleave(count)
    place = torch.arange(len(row), device=row.device)
    return row, place + (start - (count.cumsum(0) - count))[row]


class Table(NamedTuple):
    """The interactions of all parts, ordered by user, those of one by time.

    Attributes:
        columns: by name, ``[n, ...]``.
        user: name of the column of users.
        length: name of the column of how many interactions a list has that ends before each one,
            ``[n]``, int64: at most :attr:`most`, and 0 of a user's first.
        most: L, the longest that a list may be.
    """

    columns: dict[str, Tensor]
    user: str
    length: str
    most: int

    def first(self, user: Tensor) -> Tensor:
        """Where the interactions of each user begin, or would, ``[n]``, int64."""
        return torch.searchsorted(self.columns[self.user], user)

    def before(self, column: str, target: Tensor, shift: int = 0) -> Tensor:
        """The values of a column before each target, the oldest first, then zeros.

        Args:
            column: name of the column, ``[n, ...]``.
            target: indices of interactions, of any shape.
            shift: take what stands so many interactions later.

        Returns:
            ``[*target.shape, L, ...]``.
        """
        return self.ending_at(column, target, self.columns[self.length][target], shift)

    def ending_at(self, column: str, end: Tensor, length: Tensor, shift: int = 0) -> Tensor:
        """Likewise the ``length`` values before each ``end``."""
        values = self.columns[column]
        step = torch.arange(self.most, device=end.device)
        outside = step >= length.unsqueeze(-1)
        index = ((end - length + shift).unsqueeze(-1) + step).masked_fill_(outside, 0)
        lists = values[index]
        return lists.masked_fill_(outside.view(*outside.shape, *[1] * (values.dim() - 1)), 0)


class Sequences(Interaction):
    """Rows of a :class:`Table`, in place of RecBole's ``Interaction`` of padded lists.

    ``self[index]`` makes the ``Interaction`` of some rows, and ``self[name]`` a column of all:
    a tensor, or, of lists, a :class:`ListColumn`.

    Args:
        columns: the rows' columns.
        member: which interactions belong to the part, rows or not, ``[n]``, bool.
    """

    interaction: Columns

    def __init__(self, columns: Columns, member: Tensor) -> None:
        self.interaction, self.member = columns, member
        self.length = len(columns.target)

    @classmethod
    def of(cls, table: Table, names: Names, target: Tensor) -> Sequences:
        """Those of some targets, which are all that belongs to their part.

        Args:
            table: the interactions.
            names: of the rows' columns.
            target: ``[rows]``, int64, indices of interactions.
        """
        member = torch.zeros_like(table.columns[table.length], dtype=torch.bool)
        member[target] = True
        return cls(Columns(table, names, target), member)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return self.interaction[index]
        columns = self.interaction
        target = columns.target[index]
        return Interaction({name: columns.of(name, target) for name in columns})

    def _reindex(self, index: Any) -> None:
        # RecBole's `sort` and `shuffle` end in this
        self.interaction = self.interaction.with_target(self.interaction.target[index])

    def to(self, device: torch.device | str, selected_field: Any = None) -> Sequences:
        """The same on a device, where its batches are made then."""
        table, target = self.interaction.table, self.interaction.target
        columns = {name: column.to(device) for name, column in table.columns.items()}
        moved = Columns(table._replace(columns=columns), self.interaction.names, target.to(device))
        return Sequences(moved, self.member.to(device))

    def rows(self, index: Tensor) -> Sequences:
        """Some of the rows, ``[rows]``, as a part of their own."""
        columns = self.interaction
        return Sequences.of(columns.table, columns.names, columns.target[index])

    @staticmethod
    def joined(parts: Sequence[Sequences]) -> Sequences:
        """Several parts as one, their rows one after the other."""
        columns = [part.interaction for part in parts]
        target = torch.cat([each.target for each in columns])
        member = torch.stack([part.member for part in parts]).any(dim=0)
        return Sequences(columns[0].with_target(target), member)

    def with_firsts(self) -> Sequences:
        """The same rows of a part to which a user's first interaction belongs if the next does."""
        first = self._length == 0
        member = self.member.clone()
        member[:-1] |= first[:-1] & self.member[1:] & ~first[1:]
        return Sequences(self.interaction, member)

    def all_before(self, name: str, index: Tensor) -> tuple[Tensor, Tensor]:
        """What comes before the targets of some rows, however long it is.

        Args:
            name: of a column of the table.
            index: of the rows, ``[B]``, int64.

        Returns:
            For every interaction of the user before each target, the index of its row in
            ``index``, int64, and its value in the column.
        """
        table, target = self.interaction.table, self.interaction.target[index]
        first = table.first(table.columns[table.user][target])
        row, entry = ranges(first, target - first)
        return row, table.columns[name][entry]

    def every(self, name: str) -> Tensor:
        """A column of the interactions that belong to the part, rows or not, ordered as the table.

        Args:
            name: of a column of the table.
        """
        return self.interaction.table.columns[name][self.member]

    def every_target(self, name: str) -> Tensor:
        """Likewise without each user's first, before which there is nothing."""
        return self.interaction.table.columns[name][self.member & (self._length > 0)]

    @property
    def _length(self) -> Tensor:
        table = self.interaction.table
        return table.columns[table.length]

    def last_of_each_user(self, name: str, item: str) -> Sequences:
        """Each user's last row alone, with a column of the target of every position.

        Args:
            name: of that column.
            item: of the column of items.
        """
        columns = self.interaction
        target, _ = columns.target.sort()
        user = columns.table.columns[columns.table.user][target]
        last = torch.ones_like(user, dtype=torch.bool)
        last[:-1] = user[1:] != user[:-1]
        names = {**columns.names, name: (item, 1)}
        return Sequences(Columns(columns.table, names, target[last]), self.member)


class Columns(MutableMapping[str, Any]):
    """The columns of rows, made when they are asked for.

    Args:
        table: the interactions.
        names: of the columns.
        target: ``[rows]``, int64, the interaction of each row.
    """

    def __init__(self, table: Table, names: Names, target: Tensor) -> None:
        self.table, self.names, self.target = table, names, target

    def of(self, name: str, target: Tensor) -> Tensor:
        """A column of the rows of some targets."""
        column, shift = self.names[name]
        if shift is None:
            return self.table.columns[column][target]
        return self.table.before(column, target, shift)

    def with_target(self, target: Tensor) -> Columns:
        """The same columns of other rows."""
        return Columns(self.table, self.names, target)

    def __getitem__(self, name: str) -> Any:
        _, shift = self.names[name]
        return self.of(name, self.target) if shift is None else ListColumn(self, name)

    def __setitem__(self, name: str, values: Any) -> None:
        raise TypeError(f"{name}: rows that are made of indices take no column from outside")

    def __delitem__(self, name: str) -> None:
        self.names = {each: how for each, how in self.names.items() if each != name}

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


class ListColumn:
    """A column of lists, of which those of some rows are made: ``column[index]``.

    All else that a tensor has is that of the whole column, which is made for it.
    """

    def __init__(self, columns: Columns, name: str) -> None:
        self._columns, self._name = columns, name

    def __getitem__(self, index: Any) -> Tensor:
        return self._columns.of(self._name, self._columns.target[index])

    def __len__(self) -> int:
        return len(self._columns.target)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self[:], name)
