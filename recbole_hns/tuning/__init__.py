"""Many runs on Ray Tune: sweeps over hyperparameters, and samplers over seeds.

``space`` says which points a sweep has, ``trial`` is the run at one of them, ``trials`` has Ray do
all, ``sweep`` and ``comparison`` are the two jobs, ``report``, ``statistics`` and
``comparison_page`` what they leave.
"""

from recbole_hns.tuning.sweep import tune

__all__ = ["tune"]
