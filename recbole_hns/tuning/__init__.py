"""Many runs on Ray Tune: sweeps over hyperparameters, and samplers over seeds.

``space`` says which runs a sweep has, ``trial`` is one run, ``trials`` has Ray do all, ``sweep``
and ``comparison`` are the two commands, ``report`` and ``statistics`` what they leave.
"""

from recbole_hns.tuning.sweep import tune

__all__ = ["tune"]
