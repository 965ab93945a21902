"""Loops on the CPU over what PyTorch takes several passes for, compiled by Numba.

They are called with NumPy's views of tensors. :mod:`recbole_hns.ops.threads` has parts of them run
on several threads; where rows are written at random, each part walks over all that is to be written
and takes its share of the rows, ``part`` of ``parts``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

#: Compiled loops do not look by themselves.
OUTSIDE = "an item id is not among those of the embeddings"

#: Sums may be reordered, for vector instructions; NaN and infinity stay what they are.
FAST = {"reassoc", "contract", "nsz"}

#: 2**64 over the golden ratio, for Fibonacci hashing
GOLDEN = np.uint64(0x9E3779B97F4A7C15)

#: rows that are fetched into the cache before they are wanted, and the numbers of a line of it
AHEAD, LINE = 8, 16

#: the same where several tables are read
NEXT = 3

#: scores that are compared before one of them is looked at
CHUNK = 256

#: Steps after which Adam no longer feels a gradient: 0.9**400 is 5e-19.
MEMORY = 400

#: Of a gradient, what is too little to be seen in a row.
FORGOTTEN = 1e-9

#: in the shortest type, so that it leaves the other factor's
HALF = np.float32(0.5)


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``numba.njit``, with the machine code kept on disk for the next process where it can be."""

    def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return numba.njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:  # there is no folder that can be written to
            return numba.njit(nogil=True, **options)(function)

    return compiled


@_compiled()
def _share(ids: Any, part: Any, parts: Any, places: Any) -> Any:
    """Where in ``ids`` are the rows of a part, in memory of one place more than ids.

    Neighbours are not of one part, as popular items often have low numbers. They are found
    beforehand: a branch for each in the midst of random rows has a processor wait for each.
    """
    count = 0
    for k in range(len(ids)):
        share = (np.uint64(ids[k]) * GOLDEN >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)
        places[count] = k
        count += share == np.uint64(part)
    return places[:count]


@_compiled()
def _ids_of(ids: Any, part: Any, parts: Any) -> Any:
    """Those of ``ids`` that are rows of a part."""
    return ids if parts == 1 else ids[_share(ids, part, parts, np.empty(len(ids) + 1, np.int64))]


@intrinsic
def _fetch(typing: Any, table: Any, row: Any, column: Any) -> Any:
    """Have a processor begin to fetch what is at a place into its cache; any place will do."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind, *places = signature.args
        array = context.make_array(kind)(context, builder, args[0])
        index = [
            context.cast(builder, arg, place, types.intp)
            for arg, place in zip(args[1:], places, strict=True)
        ]
        number, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        call = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [byte, *[number] * 3]),
            "llvm.prefetch.p0",
        )
        place = cgutils.get_item_pointer(context, builder, kind, array, index)
        # to be read, soon again, and no instructions
        builder.call(call, [builder.bitcast(place, byte), number(0), number(3), number(1)])
        return context.get_dummy_value()

    return types.void(table, row, column), generate


@_compiled()
def _fetch_row(table: Any, row: Any) -> None:
    for k in range(0, table.shape[1], LINE):
        _fetch(table, row, k)  # type: ignore[call-arg]


@_compiled(fastmath=FAST)
def list_products(user_e: Any, items: Any, out: Any, table: Any) -> None:
    """Inner products ``out[b, n] = user_e[b] . table[items[b, n]]``."""
    none = np.zeros(1, out.dtype)[0]
    for row in range(items.shape[0]):
        user = user_e[row]
        for column in range(items.shape[1]):
            number = items[row, column]
            if not 0 <= number < len(table):
                raise IndexError(OUTSIDE)
            # the rows of a large table lie in memory, which takes long to answer
            if column + AHEAD < items.shape[1]:
                _fetch_row(table, items[row, column + AHEAD])
            item, total = table[number], none
            for k in range(len(user)):
                total += user[k] * item[k]
            out[row, column] = total


@_compiled(fastmath=FAST)
def add_user_gradients(items: Any, grad: Any, user_grad: Any, table: Any) -> None:
    """Add to the users' gradient that of ``sum(grad * out)`` of :func:`list_products`."""
    for row in range(items.shape[0]):
        of_user = user_grad[row]
        for column in range(items.shape[1]):
            number, factor = items[row, column], grad[row, column]
            if not 0 <= number < len(table):
                raise IndexError(OUTSIDE)
            item = table[number]
            for k in range(len(item)):
                of_user[k] += factor * item[k]


@_compiled(fastmath=FAST)
def add_item_gradients(
    user_e: Any, items: Any, grad: Any, item_grad: Any, part: Any, parts: Any
) -> None:
    """Add to the items' gradient that of ``sum(grad * out)`` of :func:`list_products`."""
    places = np.empty(items.shape[1] + 1, np.int64)
    ahead = max(AHEAD // items.shape[1], 1)
    for row in range(items.shape[0]):
        user = user_e[row]
        if parts == 1 and row + ahead < items.shape[0]:
            for item in items[row + ahead]:
                _fetch_row(item_grad, item)
        for column in _share(items[row], part, parts, places):
            number, factor = items[row, column], grad[row, column]
            if not 0 <= number < len(item_grad):
                raise IndexError(OUTSIDE)
            of_item = item_grad[number]
            for k in range(len(user)):
                of_item[k] += factor * user[k]


@_compiled()
def add_rows(table: Any, ids: Any, rows: Any, part: Any, parts: Any) -> None:
    """Add ``rows[b]`` to ``table[ids[b]]``, for all b."""
    own = _share(ids, part, parts, np.empty(len(ids) + 1, np.int64))
    for place in range(len(own)):
        if place + AHEAD < len(own):
            _fetch_row(table, ids[own[place + AHEAD]])
        row = own[place]
        of_id, added = table[ids[row]], rows[row]
        for k in range(len(added)):
            of_id[k] += added[k]


@_compiled(fastmath=FAST)
def finite_sums(values: Any, out: Any) -> None:
    """Sum of each row of ``values``, minus infinity left out."""
    none = np.zeros(1, out.dtype)[0]
    for row in range(len(values)):
        of_row, total = values[row], none
        for k in range(len(of_row)):
            total += of_row[k] if of_row[k] != -np.inf else none
        out[row] = total


@_compiled()
def leave_out(values: Any, start: Any, row: Any, column: Any, sums: Any) -> None:
    """Set ``values[row[b] - start, column[b]]`` to minus infinity, for all b of these rows.

    What it was is added to ``sums[row[b]]``.
    """
    for k in range(len(row)):
        place = row[k] - start
        if 0 <= place < len(values):
            sums[row[k]] += values[place, column[k]]
            values[place, column[k]] = -np.inf


@_compiled(fastmath=FAST, error_model="numpy")
def unit_rows(rows: Any, out: Any, length: Any, smallest: Any) -> None:
    """Write to ``length`` that of each row, at least ``smallest``, and to ``out`` the row over it.

    NaN stays.
    """
    none, least = np.zeros(1, out.dtype)[0], np.full(1, smallest, out.dtype)[0]
    for row in range(len(rows)):
        of_row, of_out, squares = rows[row], out[row], none
        for k in range(len(of_row)):
            squares += of_row[k] * of_row[k]
        found = np.sqrt(squares)
        found = least if found < least else found
        length[row] = found
        for k in range(len(of_row)):
            of_out[k] = of_row[k] / found


@_compiled(fastmath=FAST, error_model="numpy")
def unit_rows_gradient(out: Any, length: Any, grad: Any, into: Any, smallest: Any) -> None:
    """Write to ``into`` the gradient of ``sum(grad * out)`` of :func:`unit_rows` in the rows."""
    none, least = np.zeros(1, out.dtype)[0], np.full(1, smallest, out.dtype)[0]
    for row in range(len(out)):
        of_out, of_grad, of_into, along = out[row], grad[row], into[row], none
        # a length that is held does not change with the row
        if length[row] != least:
            for k in range(len(of_out)):
                along += of_out[k] * of_grad[k]
        for k in range(len(of_out)):
            of_into[k] = (of_grad[k] - along * of_out[k]) / length[row]


@_compiled()
def clear_rows(ids: Any, table: Any) -> None:
    """Set ``table[ids[b]]`` to 0, for all b."""
    for row in range(len(ids)):
        if row + AHEAD < len(ids):
            _fetch_row(table, ids[row + AHEAD])
        of_id = table[ids[row]]
        for k in range(len(of_id)):
            of_id[k] = 0


@_compiled(error_model="numpy")
def sparse_adam(
    table: Any,
    grad: Any,
    first: Any,
    second: Any,
    rate: Any,
    rest1: Any,
    rest2: Any,
    eps: Any,
    ids: Any,
    seen: Any,
    part: Any,
    parts: Any,
) -> None:
    """Adam's step for each of the rows ``ids`` whose gradient is not 0, once for each.

    ``rate`` has the bias correction in it; ``rest1`` and ``rest2`` are 1 - beta. ``seen`` is of
    False before and after.
    """
    own = _ids_of(ids, part, parts)
    for place in range(len(own)):
        if place + NEXT < len(own):
            for array in (table, grad, first, second):
                _fetch_row(array, own[place + NEXT])
        each = own[place]
        g = grad[each]
        if seen[each] or not g.any():
            continue
        seen[each] = True
        row, m, v = table[each], first[each], second[each]
        for k in range(len(row)):
            m[k] += (g[k] - m[k]) * rest1
            v[k] += (g[k] * g[k] - v[k]) * rest2
            row[k] -= rate * m[k] / (np.sqrt(v[k]) + eps)
    for each in own:
        seen[each] = False


@_compiled(error_model="numpy")
def adam_rows(
    table: Any,
    grad: Any,
    first: Any,
    second: Any,
    rate: Any,
    root: Any,
    rest1: Any,
    rest2: Any,
    eps: Any,
    ids: Any,
    last: Any,
    count: Any,
    part: Any,
    parts: Any,
) -> None:
    """Adam's step number ``count`` for each of the rows ``ids``, once for each.

    ``rate`` and ``root`` have the bias correction of the moments in them; ``rest1`` and ``rest2``
    are 1 - beta. ``last`` is the last step of each row.
    """
    own = _ids_of(ids, part, parts)
    for place in range(len(own)):
        if place + NEXT < len(own):
            for array in (table, grad, first, second):
                _fetch_row(array, own[place + NEXT])
        each = own[place]
        if last[each] == count:
            continue
        last[each] = count
        row, g, m, v = table[each], grad[each], first[each], second[each]
        for k in range(len(row)):
            m[k] += (g[k] - m[k]) * rest1
            v[k] += (g[k] * g[k] - v[k]) * rest2
            row[k] -= rate * m[k] / (np.sqrt(v[k]) * root + eps)


@_compiled(error_model="numpy")
def catch_up(
    table: Any,
    first: Any,
    second: Any,
    ids: Any,
    last: Any,
    count: Any,
    sums: Any,
    steps: Any,
    early: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    part: Any,
    parts: Any,
) -> None:
    """Give the rows ``ids`` Adam's steps after ``last`` up to ``count``, without gradient.

    ``sums[:, last]`` are those of :mod:`recbole_hns.ops.lazy_adam`, and ``steps[:, step]`` rate and
    root of each step, which rows with a ``last`` below ``early`` are given one by one.
    """
    # of the table's type
    c, a, variance, least = np.zeros(4, table.dtype)
    numbers, decays = np.zeros(4, table.dtype), np.zeros(2, table.dtype)
    roots = np.empty(table.shape[1], table.dtype)
    numbers[3] = eps
    own = _ids_of(ids, part, parts)
    for place in range(len(own)):
        if place + NEXT < len(own):
            for array in (table, first, second):
                _fetch_row(array, own[place + NEXT])
        each = own[place]
        lacks = count - last[each]
        if lacks == 0:
            continue
        at = last[each]
        last[each] = count
        row, m, v = table[each], first[each], second[each]
        # less would be a number that takes a processor long
        decays[0] = beta1**lacks if lacks < MEMORY else 0.0
        decays[1] = beta2**lacks
        if at < early:
            roots[:] = np.sqrt(v)
            left1, left2 = 1.0, 1.0
            for step in range(at, count):
                left1, left2 = left1 * beta1, left2 * beta2
                if left1 < FORGOTTEN:
                    break
                numbers[0], numbers[1] = steps[0, step] * left1, steps[1, step] * np.sqrt(left2)
                c, a, variance, least = numbers
                for k in range(len(row)):
                    row[k] -= m[k] * c / (a * roots[k] + least)
        else:
            mean = sums[1, at] / sums[0, at]
            numbers[0], numbers[1] = sums[0, at], mean
            numbers[2] = sums[2, at] / sums[0, at] - mean * mean
            c, a, variance, least = numbers
            for k in range(len(row)):
                root = np.sqrt(v[k])
                over = np.float32(1) / (a * root + least)
                part = root * over
                row[k] -= m[k] * c * over * (np.float32(1) + variance * part * part)
        for k in range(len(row)):
            m[k] *= decays[0]
            v[k] *= decays[1]


@_compiled(error_model="numpy")
def rowwise_adagrad(
    table: Any,
    grad: Any,
    total: Any,
    rate: Any,
    eps: Any,
    ids: Any,
    seen: Any,
    part: Any,
    parts: Any,
) -> None:
    """A step of Adagrad with a number a row, ``total``, for each of the rows ``ids``, once."""
    none = np.zeros(1, table.dtype)[0]
    dim = none + np.float32(table.shape[1])
    own = _ids_of(ids, part, parts)
    for each in own:
        if seen[each]:
            continue
        seen[each] = True
        row, g, squares = table[each], grad[each], none
        for k in range(len(g)):
            squares += g[k] * g[k]
        if squares == none:
            continue
        total[each] += squares / dim
        factor = rate / (np.sqrt(total[each]) + eps)
        for k in range(len(row)):
            row[k] -= factor * g[k]
    for each in own:
        seen[each] = False


@_compiled()
def highest_columns(scores: Any, maximum: Any, num: Any, columns: Any) -> None:
    """Write the columns of the ``num[b]`` highest scores of each row to ``columns[b, :num[b]]``.

    ``maximum`` is the highest finite number that a row may have. NaN is above all numbers.
    """
    found = np.empty(scores.shape[1] + 1, columns.dtype)
    for row in range(len(scores)):
        values, wanted = scores[row], num[row]
        threshold = _threshold(values, maximum[row], wanted)
        count = 0
        # without a branch, which would often be predicted wrongly
        for k in range(len(values)):
            found[count] = k
            count += not values[k] <= threshold
        for k in range(len(values)):
            if count >= wanted:
                break
            found[count] = k
            count += values[k] == threshold
        # minus infinity, where there is not enough else
        for k in range(len(values)):
            if count >= wanted:
                break
            found[count] = k
            count += values[k] < threshold
        columns[row, :wanted] = found[:wanted]


@_compiled()
def _threshold(values: Any, high: Any, num: int) -> Any:
    """A number that ``num`` values are above, or fewer, the next lower ones being equal to it.

    Found by bisection: vector instructions count faster than anything sorts.
    """
    low = _lowest(values[:16], high)
    count = _above(values, low)
    if count < num:
        low, high = _lowest(values, low), low
        count = _above(values, low)
        if count < num:
            return low
    middle = low
    while count != num:
        if count > num:
            low = middle
        else:
            high = middle
        # halved before the sum, which could be infinite
        middle = low * HALF + high * HALF
        if not low < middle < high:
            return high
        count = _above(values, middle)
    return middle


@_compiled()
def _lowest(values: Any, start: Any) -> Any:
    """The lowest of ``start`` and the values, minus infinity left out."""
    for value in values:
        if -np.inf < value < start:
            start = value
    return start


@_compiled()
def _above(values: Any, threshold: Any) -> Any:
    """How many values are above the threshold, NaN included."""
    count = np.int32(0)
    # by index, as a loop over the values themselves is not made one of vector instructions
    for k in range(len(values)):
        count += np.int32(not values[k] <= threshold)
    return count


@_compiled()
def nearest_columns(scores: Any, target: Any, columns: Any, moved: Any) -> None:
    """Write the column of each row's score nearest to its target to ``columns``, the first of two.

    A target outside the row's scores, minus infinity left out, is moved to them, which ``moved``
    counts. NaN is nearest.
    """
    infinite = np.full(1, np.inf, scores.dtype)[0]
    for row in range(len(scores)):
        values, wanted = scores[row], target[row]
        high, low = -infinite, infinite
        for k in range(len(values)):
            high = values[k] if values[k] > high else high
            low = values[k] if -infinite < values[k] < low else low
        if wanted > high:
            wanted = high
        if wanted < low:
            wanted = low
        moved[row] = wanted != target[row]
        best, place = np.abs(values[0] - wanted), 0
        for k in range(1, len(values)):
            distance = np.abs(values[k] - wanted)
            if distance < best or (distance != distance and best == best):
                best, place = distance, k
        columns[row] = place


@_compiled()
def add_highest(
    scores: Any, row: Any, best: Any, item: Any, first: int, offset: Any, known: Any
) -> None:
    """Take the highest scores of a block into the lists of the highest so far.

    Args:
        scores: of the items ``first``, ``first + 1`` and so on, ``[B, N]``; NaN is left out.
        row: row of each list among those of ``offset``, ``[B]``.
        best: the scores of the lists, falling, ``[B, k]``; changed.
        item: their items, ``[B, k]``; changed. An equal score comes after those that were first.
        first: see there.
        offset: ``known[offset[r]:offset[r + 1]]``, ascending, are the items that are left out.
        known: see there.
    """
    for b in range(len(scores)):
        values, top, at = scores[b], best[b], item[b]
        last = len(top) - 1
        start, end = offset[row[b]], offset[row[b] + 1]
        for chunk in range(0, len(values), CHUNK):
            part = values[chunk : chunk + CHUNK]
            # nearly always none, which vector instructions find out
            if not _above(part, top[last]):
                continue
            for k in range(len(part)):
                value, number = part[k], first + chunk + k
                if not value > top[last] or _holds(known, start, end, number):
                    continue
                place = last
                while place > 0 and top[place - 1] < value:
                    top[place], at[place] = top[place - 1], at[place - 1]
                    place -= 1
                top[place], at[place] = value, number


@_compiled()
def _place(pair: Any, shift: Any) -> Any:
    """The bit of a pair's number: its hash's first 64 - ``shift`` bits, or itself with shift 0."""
    return np.uint64(pair) * GOLDEN >> shift if shift else np.uint64(pair)


@_compiled()
def _bit(mask: Any, place: Any) -> Any:
    return mask[place >> np.uint64(3)] >> np.uint8(place & np.uint64(7)) & 1


@_compiled()
def set_bits(mask: Any, pair: Any, shift: Any) -> None:
    """Set the bit of every pair."""
    for each in pair:
        place = _place(each, shift)
        mask[place >> np.uint64(3)] |= np.uint8(1) << np.uint8(place & np.uint64(7))


@_compiled()
def find_used(
    mask: Any, shift: Any, offset: Any, used: Any, item_num: Any, user: Any, items: Any, found: Any
) -> int:
    """Write to ``found`` where in the flattened ``items`` a user's used items are; how many."""
    num = 0
    for row in range(items.shape[0]):
        first = user[row] * item_num
        for column in range(items.shape[1]):
            item = items[row, column]
            if _bit(mask, _place(first + item, shift)):
                start, end = offset[user[row]], offset[user[row] + 1]
                # a bit that is a pair's own says enough; the test stands here and below, as a
                # call of a function for every candidate takes three times as long
                if not shift or _holds(used, start, end, item):
                    found[num] = row * items.shape[1] + column
                    num += 1
    return num


@_compiled()
def find_shared(
    offset: Any, users: Any, user: Any, items: Any, last: Any, before: Any, row: Any, column: Any
) -> int:
    """Write to ``row`` and ``column`` which rows' users are among those of shared items; how many.

    The users of an item are ``users[offset[item]:offset[item + 1]]``. ``last`` has -1 for each
    user, before and after, and ``before`` has room for each row. What does not fit is counted and
    not written.
    """
    for each in range(len(user)):
        before[each], last[user[each]] = last[user[each]], each
    num = 0
    for k in range(len(items)):
        for entry in range(offset[items[k]], offset[items[k] + 1]):
            each = last[users[entry]]
            while each >= 0:
                if num < len(row):
                    row[num], column[num] = each, k
                num += 1
                each = before[each]
    for each in user:
        last[each] = -1
    return num


@_compiled()
def draw_unused(
    mask: Any,
    shift: Any,
    offset: Any,
    used: Any,
    item_num: Any,
    user: Any,
    items: Any,
    seed: Any,
    skip: Any,
) -> None:
    """Fill ``items`` with draws from those that each row's user has not used, id 0 left out.

    A draw from all items that hits a used one is made anew, from the others alone. The first
    ``skip`` numbers of the seed's sequence are left out.
    """
    state = np.uint64(seed) + np.uint64(skip) * GOLDEN
    for row in range(items.shape[0]):
        first = user[row] * item_num
        for column in range(items.shape[1]):
            state += GOLDEN
            items[row, column] = 1 + _below(state, item_num - 1)
        for column in range(items.shape[1]):
            item = items[row, column]
            if _bit(mask, _place(first + item, shift)):
                start, end = offset[user[row]], offset[user[row] + 1]
                if not shift or _holds(used, start, end, item):
                    state += GOLDEN
                    number = _below(state, item_num - 1 - (end - start))
                    items[row, column] = _unused(used, start, end, number)


@_compiled()
def _below(state: Any, num: Any) -> int:
    """A random number in [0, num), from one state of SplitMix64."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state = state ^ (state >> np.uint64(31))
    return int((state >> np.uint64(11)) * 2.0**-53 * num)


@_compiled()
def _holds(used: Any, start: Any, end: Any, item: Any) -> bool:
    """Whether an item is in the ascending ``used[start:end]``."""
    last = end
    while start < end:
        middle = (start + end) // 2
        if used[middle] < item:
            start = middle + 1
        else:
            end = middle
    return start < last and used[start] == item


@_compiled()
def _unused(used: Any, start: Any, end: Any, number: Any) -> int:
    """The item with ``number`` items below it that are not in ``used[start:end]`` nor id 0."""
    first = start
    while start < end:
        middle = (start + end) // 2
        if used[middle] - 1 - (middle - first) <= number:
            start = middle + 1
        else:
            end = middle
    return number + 1 + start - first
