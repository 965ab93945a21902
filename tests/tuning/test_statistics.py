"""Statistics of a comparison against SciPy, and its table in Markdown and LaTeX."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recbole_hns.tuning.comparison_page import latex, markdown
from recbole_hns.tuning.statistics import compared


def runs(values, metric="ndcg@10"):
    """Rows of finished runs from ``{sampler: values by seed}``; None is a run that failed."""
    return pd.DataFrame(
        [
            {"sampler": sampler, "seed": seed, f"test_{metric}": value}
            for sampler, row in values.items()
            for seed, value in enumerate(row)
            if value is not None
        ]
    )


#: Of training, by sampler.
TAKEN = pd.Series({"a": 2.0, "b": 3.0, "dns_mn": 60.24, "rns": 7.0, "ahns": 8.0})
SECONDS = pd.DataFrame({"train_seconds": TAKEN, "train_cpu_seconds": 2 * TAKEN})

FINE = st.lists(st.floats(0.01, 1), min_size=4, max_size=4)


@given(st.lists(FINE, min_size=2, max_size=4))
def test_statistics_are_those_of_scipy(rows):
    values = {f"s{i}": row for i, row in enumerate(rows)}
    table = compared(runs(values)).set_index("sampler")
    means = {name: np.mean(row) for name, row in values.items()}
    for name, row in values.items():
        assert table.loc[name, "mean"] == pytest.approx(means[name])
        assert table.loc[name, "std"] == pytest.approx(np.std(row, ddof=1))
        assert table.loc[name, "runs"] == 4
    best = table.index[table["rank"] == 1].item()
    assert means[best] == pytest.approx(max(means.values()))
    assert table.loc[best, ["improvement_percent", "p_value"]].isna().all()
    for name in table.index.drop(best):
        gain = 100 * (means[best] / means[name] - 1)
        assert table.loc[name, "improvement_percent"] == pytest.approx(gain, abs=1e-9)
        if np.ptp(np.subtract(values[best], values[name])) > 1e-6:
            expected = stats.ttest_rel(values[best], values[name]).pvalue
            assert table.loc[name, "p_value"] == pytest.approx(expected, nan_ok=True)


def test_the_correction_is_holms_for_all_pairs():
    values = {"a": [0.5, 0.6, 0.8, 0.9], "b": [0.3, 0.5, 0.5, 0.7], "c": [0.1, 0.5, 0.2, 0.3]}
    table = compared(runs(values)).set_index("sampler")
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    raw = {pair: stats.ttest_rel(*(values[name] for name in pair)).pvalue for pair in pairs}
    least, expected = 0.0, {}
    for place, pair in enumerate(sorted(raw, key=raw.get)):
        least = expected[pair] = max(least, min(1.0, (3 - place) * raw[pair]))
    assert table["p_holm"].isna().tolist() == [True, False, False]
    for name in "bc":
        assert table.loc[name, "p_value"] == pytest.approx(raw["a", name])
        assert table.loc[name, "p_holm"] == pytest.approx(expected["a", name])


def test_pairs_are_of_the_seeds_that_both_have():
    values = {"a": [0.5, 0.7, 0.9, None], "b": [0.4, 0.5, None, 0.2]}
    table = compared(runs(values)).set_index("sampler")
    assert list(table["runs"]) == [3, 3]
    expected = stats.ttest_rel([0.5, 0.7], [0.4, 0.5]).pvalue
    assert table.loc["b", "p_value"] == pytest.approx(expected)


def test_smaller_is_better_where_it_is():
    table = compared(runs({"a": [4.0, 5.0], "b": [2.0, 2.5]}, "averagepopularity@10"))
    table = table.set_index("sampler")
    assert table.loc["b", "rank"] == 1
    assert table.loc["a", "improvement_percent"] == pytest.approx(50)


def test_too_little_for_a_number_gives_none():
    single = compared(runs({"a": [0.2], "b": [0.1]}))
    assert single[["std", "p_value"]].isna().all(axis=None)
    alone = compared(runs({"a": [0.2, 0.3]}))
    assert alone["improvement_percent"].isna().all()
    assert "| a | **0.2500** ± 0.0707 | 2.0 | 4.0 |" in markdown(alone, SECONDS, "")
    same = compared(runs({"a": [0.2, 0.3], "b": [0.1, 0.2]}))
    assert same["p_value"].isna().all()
    equal = compared(runs({"a": [0.2, 0.3], "b": [0.2, 0.3]}))
    assert list(equal["p_value"].dropna()) == [1]
    assert "| b | <u>0.2500</u> ± 0.0707 † | 3.0 | 6.0 |" in markdown(equal, SECONDS, "")
    shown = markdown(single, SECONDS, "")
    assert "| a | **0.2000** | 2.0 |" in shown
    assert "| improvement, % | +100.00 |  |" in shown
    assert "| p-value | - |  |  |" in shown
    assert "| p-value, Holm | - |  |  |" in shown


@pytest.fixture
def statistics():
    table = pd.concat(
        [
            runs({"dns_mn": [0.3, 0.32], "rns": [0.1, 0.11], "ahns": [0.2, 0.25]}),
            runs({"dns_mn": [0.3, 0.3], "rns": [0.4, 0.5], "ahns": [0.1, 0.2]}, "recall@5"),
        ]
    )
    return compared(table.groupby(["sampler", "seed"], sort=False).first().reset_index())


def test_markdown(statistics):
    lines = markdown(statistics, SECONDS, "What it is.").splitlines()
    assert lines[0] == "| sampler | ndcg@10 | recall@5 | seconds | CPU seconds |"
    assert lines[2] == "| dns_mn | **0.3100** ± 0.0141 | <u>0.3000</u> ± 0.0000 † | 60.2 | 120.5 |"
    assert lines[3] == "| rns | 0.1050 ± 0.0071 | **0.4500** ± 0.0707 | 7.0 | 14.0 |"
    assert lines[4] == "| ahns | <u>0.2250</u> ± 0.0354 † | 0.1500 ± 0.0707 | 8.0 | 16.0 |"
    assert lines[5] == "| improvement, % | +37.78 | +50.00 |  |  |"
    assert lines[-1] == "What it is."


def test_latex(statistics):
    text = latex(statistics, SECONDS, "What it is.")
    assert text.startswith("% What it is.\n\\begin{tabular}{lrrrr}\n\\toprule\n")
    dns_mn = r"\textbf{0.3100} $\pm$ 0.0141 & \underline{0.3000} $\pm$ 0.0000$^\dagger$"
    assert rf"dns\_mn & {dns_mn} & 60.2 & 120.5 \\" in text
    assert r"improvement, \% & +37.78 & +50.00 &  &  \\" in text
    assert text.endswith("\\bottomrule\n\\end{tabular}\n")
