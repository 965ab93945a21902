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
