"""Comparisons on Ray, in one session that all tests here share."""

import locale
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import SHORT, arguments

from recbole_hns import run
from recbole_hns.cli import main
from recbole_hns.errors import UserError
from recbole_hns.results import read_run
from recbole_hns.tuning.comparison import _write_users, compare

pytestmark = pytest.mark.usefixtures("ray_session")


def test_a_comparison(toy, capsys):
    keys = {**SHORT, **toy, "epochs": 2}
    best = {**keys, "model": "BPR", "sampler": "dns_mn", "dns_m": 2, "candidate_num": 9}
    Path("best.yaml").write_text(yaml.safe_dump(best))
    shared = arguments({**keys, "seed": 7, "learning_rate": 0.01})
    command = ["--samplers=rns,ahns:candidate_num=4,dns_mn", "--settings=best.yaml", "--seeds=2"]
    assert main(["compare", *command, *shared]) == 0
    out = capsys.readouterr().out
    page = Path("comparison/table.md").read_text()
    assert page in out
    assert "mean and standard deviation of test metrics over 2 runs a sampler, seeds 7 to 8" in page
    assert r"\begin{tabular}{lrrrrr}" in Path("comparison/table.tex").read_text()
    table = pd.read_csv("comparison/table.csv").set_index(["metric", "sampler"])
    assert list(table.loc["ndcg@10"].index) == ["rns", "ahns", "dns_mn"]
    runs = pd.read_csv("comparison/runs.csv")
    settings = {"rns": {}, "ahns": {"candidate_num": 4}, "dns_mn": {"dns_m": 2, "candidate_num": 9}}
    assert list(zip(runs["sampler"], runs["seed"])) == [(s, i) for s in settings for i in (7, 8)]
    # each is what run does alone
    values = []
    for seed in (7, 8):
        given = {**keys, **settings["dns_mn"], "seed": seed, "learning_rate": 0.01}
        values.append(run(sampler="dns_mn", config_dict=given)["test_result"]["ndcg@10"])
    row = table.loc["ndcg@10", "dns_mn"]
    assert row["mean"] == pytest.approx(np.mean(values))
    assert row["std"] == pytest.approx(np.std(values, ddof=1))
    files = [f"comparison/{name}" for name in runs["result_file"]]
    assert main(["plot", *files, "--metric=NDCG@10"]) == 0
    with pytest.raises(UserError, match="holds a comparison already"):
        compare("rns", output="comparison")


def test_a_comparison_with_losses_in_the_specs(toy, capsys):
    keys = {**SHORT, **toy, "epochs": 1, "seed": 7, "loss_tau": 0.5}
    specs = "ssm,dns:loss=softmax,rns,ahns:loss=softmax,loss_tau=0.2"
    assert main(["compare", f"--samplers={specs}", "--seeds=1", *arguments(keys)]) == 0
    runs = pd.read_csv("comparison/runs.csv").set_index("sampler")
    found = {
        name: read_run(Path("comparison") / file) for name, file in runs["result_file"].items()
    }
    assert {name: result.loss for name, result in found.items()} == {
        "ssm": "softmax",
        "dns": "softmax",
        "rns": "bpr",
        "ahns": "softmax",
    }
    # ssm sets its own, rns has none
    taus = [found[name].config["loss_tau"] for name in ("ssm", "dns", "ahns")]
    assert taus == [1.0, 0.5, 0.2]
    # the table tells a loss that is not the sampler's own
    table = pd.read_csv("comparison/table.csv")
    rows = ["ssm", "dns:loss=softmax", "rns", "ahns:loss=softmax"]
    assert list(table["sampler"].unique()) == rows


def test_a_comparison_of_losses(toy):
    keys = {**SHORT, **toy, "seed": 7, "learning_rate": 0.1}
    keys.update(candidate_num=8, candidate_sharing="batch")
    Path("best.yaml").write_text("sampler: dns_mn\nloss: psl\npsl_surrogate: atan\ndns_m: 2\n")
    named = {"softmax": "softmax_positive=True", "psl": "loss_tau=0.2", "sl_at_k": "sl_k=5"}
    own = {"talos": "talos_k=5", "bsl": "bsl_pooled=True", "hinge": "hinge_margin=2.0"}
    specs = [f"all:loss={loss},{key}" for loss, key in {**named, **own}.items()]
    given = f"--samplers=rns dns_mn {' '.join(specs)} all"
    options = ["--seeds=2", "--settings=best.yaml", *arguments(keys)]
    assert main(["compare", given, *options]) == 0
    rows = ["rns", "dns_mn:loss=psl", *specs, "all"]
    table = pd.read_csv("comparison/table.csv")
    ndcg = table[table["metric"] == "ndcg@10"].set_index("sampler")
    assert list(ndcg.index) == rows
    assert (ndcg["runs"] == 2).all()
    # every loss learns otherwise, and is paired with the best
    assert ndcg["mean"].nunique() == len(rows)
    assert ndcg["p_value"].drop(ndcg["rank"].idxmin()).between(0, 1).all()
    page = Path("comparison/table.md").read_text()
    assert all(f"\n| {row} |" in page for row in rows)
    files = pd.read_csv("comparison/runs.csv")["result_file"][::2]
    for row, file in zip(rows, files, strict=True):
        result = read_run(Path("comparison") / file)
        assert result.loss == (row.partition("loss=")[2].partition(",")[0] or "bpr")
        assert all(f"{key}={result.config[key]}" in row for key in own_keys(row))
    assert read_run(Path("comparison/runs/dns_mn-7.json")).config["psl_surrogate"] == "atan"


def own_keys(row):
    return [part.partition("=")[0] for part in row.partition(":")[2].split(",") if part]


def test_the_loss_of_a_spec_leaves_what_the_settings_say_of_another(toy):
    Path("best.yaml").write_text("sampler: dns\nloss: softmax\nsoftmax_positive: true\n")
    keys = {**SHORT, **toy, "epochs": 1}
    options = ["--seeds=1", "--settings=best.yaml", *arguments(keys)]
    assert main(["compare", "--samplers=dns:loss=talos rns", *options]) == 0
    table = pd.read_csv("comparison/table.csv")
    assert list(table["sampler"].unique()) == ["dns:loss=talos", "rns"]
    assert read_run(Path("comparison/runs/dns-2020.json")).loss == "talos"


def test_one_loss_of_a_whole_comparison_of_one_seed_is_told_under_its_table(toy):
    keys = {**SHORT, **toy, "epochs": 1, "seed": 7, "loss": "psl"}
    assert main(["compare", "--samplers=rns,dns", "--seeds=1", *arguments(keys)]) == 0
    page = Path("comparison/table.md").read_text()
    assert "\nBPR, loss psl, on " in page
    assert "\n| rns |" in page
    assert "test metrics of one run a sampler, seed 7. Improvement: of the best over" in page
    assert "±" not in page


def test_a_comparison_of_one_sampler_with_other_settings(toy):
    keys = {**SHORT, **toy, "epochs": 1, "seed": 7}
    specs = "rns dns dns:candidate_num=2 dns:candidate_num=2,loss=softmax"
    assert main(["compare", f"--samplers={specs}", "--seeds=1", *arguments(keys)]) == 0
    table = pd.read_csv("comparison/table.csv").set_index(["metric", "sampler"])
    assert list(table.loc["ndcg@10"].index) == specs.split()
    runs = pd.read_csv("comparison/runs.csv")
    files = [f"runs/{name}-7.json" for name in ("rns", "dns-2", "dns-3", "dns-4")]
    assert list(runs["result_file"]) == files
    for file, spec in zip(files, specs.split()):
        result = read_run(Path("comparison") / file)
        assert result.test_result["ndcg@10"] == table.loc[("ndcg@10", spec), "mean"]
        assert result.loss == ("softmax" if "softmax" in spec else "bpr")


def test_settings_files_have_to_agree_on_what_is_shared():
    Path("a.yaml").write_text("sampler: ahns\ndataset: a\n")
    Path("b.yaml").write_text("sampler: dns\ndataset: b\n")
    with pytest.raises(UserError, match="dataset=b: another file has a; it must be the same"):
        compare("ahns dns", settings=["a.yaml", "b.yaml"])
    Path("b.yaml").write_text("sampler: ahns\n")
    with pytest.raises(UserError, match="another file has settings of ahns"):
        compare("ahns dns", settings=["a.yaml", "b.yaml"])


def test_baselines_stand_beside_samplers_and_users_are_compared(write_split):
    keys = {**write_split("train", "valid", "test"), "epochs": 1, "metrics": ["MRR", "NDCG"]}
    command = ["--samplers=rns,dns", "--seeds=2", "--baselines=Pop EASE", *arguments(keys)]
    assert main(["compare", *command]) == 0
    runs = pd.read_csv("comparison/runs.csv")
    # a ready split is the same with every seed
    assert list(runs["sampler"]) == ["rns", "rns", "dns", "dns", "Pop", "EASE"]
    table = pd.read_csv("comparison/table.csv").set_index(["metric", "sampler"])
    ndcg = table.loc["ndcg@5"]
    assert list(ndcg.index) == ["rns", "dns", "Pop", "EASE"]
    found = read_run("comparison/runs/EASE-2020.json")
    assert ndcg.loc["EASE", "mean"] == found.test_result["ndcg@5"]
    assert ndcg.loc["EASE", "std"] == 0
    users = pd.read_csv("comparison/users.csv")
    assert (users.groupby("metric").size() == 6).all()
    assert set(users["users"]) == {9}
    pair = users[(users["metric"] == "ndcg@5") & (users["first"] == "EASE")].iloc[0]
    means = [
        pd.concat(pd.read_parquet(path).set_index("user")["ndcg@5"] for path in paths)
        .groupby(level=0)
        .mean()
        for paths in (
            [f"comparison/runs/{name}-{seed}.users.parquet" for seed in seeds]
            for name, seeds in (("EASE", [2020]), (pair["second"], own_seeds(pair["second"])))
        )
    ]
    assert pair["difference"] == pytest.approx((means[0] - means[1]).mean())
    page = Path("comparison/table.md").read_text()
    assert "BPR on split, split ready: mean and standard deviation" in page
    assert "Pop, EASE: fitted with every setting of a small grid" in page
    assert "Pop, EASE: the same with every seed of this split, so run once." in page
    assert "| p-value, Holm |" in page
    assert "mrr@5 over 9 users" in page
    assert Path("comparison/table.tex").read_text().count(r"\begin{tabular}") == 2
    assert Path("comparison/critical_difference.pdf").exists()
    files = [f"comparison/{name}" for name in runs["result_file"]]
    assert main(["plot", *files, "--metric=NDCG@5"]) == 0
    # what has finished is taken over, and the tables are the same
    assert main(["compare", "--resume", *command]) == 0
    assert Path("comparison/table.md").read_text() == page
    with pytest.raises(UserError, match="baselines=ALS: the comparison was started with Pop EASE"):
        compare(baselines="ALS", resume=True)


def own_seeds(name):
    return [2020] if name in ("Pop", "EASE") else [2020, 2021]


def user_runs():
    Path("runs").mkdir()
    for number, name in enumerate(("rns", "dns")):
        values = {"user": ["a", "b", "c"], "ndcg@10": [0.1, 0.2, 0.3 + number]}
        pd.DataFrame(values).to_parquet(f"runs/{name}-1.users.parquet")
    files = ["runs/rns-1.json", "runs/dns-1.json"]
    columns = {"sampler": ["rns", "dns"], "seed": 1, "status": "finished", "result_file": files}
    return pd.DataFrame(columns)


def test_users_are_not_compared_where_all_runs_failed():
    runs = user_runs().assign(status="failed")
    assert _write_users(runs, ["EASE"], Path(), "ndcg@10") == ""
    assert not Path("users.csv").exists()


def test_rows_without_users_metrics_are_named():
    """As of runs that a version without them has left."""
    runs = user_runs()
    old = runs[:1].assign(sampler="old", result_file="runs/old-1.json")
    for kind in ("md", "tex"):
        Path(f"table.{kind}").write_text("")
    page = _write_users(pd.concat([runs, old]), [], Path(), "ndcg@10")
    assert page.endswith(" No users' metrics were kept of old.\n")
    assert "dns over" in page
    alone = _write_users(pd.concat([runs[:1], old]), [], Path(), "ndcg@10")
    assert alone == "No users' metrics were kept of old.\n"


def test_tables_are_utf_8_in_every_locale():
    runs = user_runs()
    for kind in ("md", "tex"):
        Path(f"table.{kind}").write_text("0.1 ± 0.0 †\n", encoding="utf-8")
    before = locale.setlocale(locale.LC_CTYPE)
    locale.setlocale(locale.LC_CTYPE, "C")
    try:
        page = _write_users(runs, [], Path(), "ndcg@10")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    assert Path("table.md").read_text(encoding="utf-8") == f"0.1 ± 0.0 †\n\n{page}"
