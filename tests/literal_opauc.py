"""NormOPAUC pair by pair, for the tests of metrics and of evaluation."""

import math

import numpy as np

#: The score of an item that is not ranked.
EXCLUDED = -math.inf


def literal_norm_opauc(positives, negatives, beta):
    """NormOPAUC(beta) pair by pair; None where there is no pair."""
    k = beta * len(negatives)
    misordered = 0.0
    for r_i in positives:
        for rank, r_j in enumerate(sorted(negatives, reverse=True)):
            share = min(max(k - rank, 0.0), 1.0)
            misordered += share * ((r_i < r_j) + 0.5 * (r_i == r_j))
    return 1 - misordered / (len(positives) * k) if positives and negatives else None


def literal_of_matrix(scores, positive, betas):
    rows = []
    for row, is_positive in zip(np.asarray(scores), np.asarray(positive)):
        negatives = row[~is_positive & (row > EXCLUDED)].tolist()
        rows.append([literal_norm_opauc(row[is_positive].tolist(), negatives, b) for b in betas])
    return np.array(rows, dtype=np.float64)
