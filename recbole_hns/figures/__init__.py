"""Figures, one a module, each with a function ``draw`` that returns a matplotlib figure.

A new figure of result files is a new module here, whose ``draw`` takes the runs and the name of a
metric, and a line in :data:`OF_RUNS`.
"""

#: What ``recbole-hns plot`` draws: modules here, named as the files, and what they show.
OF_RUNS = {
    "negative_hardness": "mean negative hardness and the metric over the epochs "
    "(AHNS paper, Figure 5)",
}
