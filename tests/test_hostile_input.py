"""What comes from outside can be anything: it ends in success or in one line, and leaves no mess.

``pytest --hypothesis-show-statistics`` tells how many cases there were and how each ended.
"""

import contextlib
import io
import json
import pickle
import shutil
import signal
import string
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
import yaml
from conftest import QUIET
from hypothesis import HealthCheck, assume, currently_in_test_context, event, given, settings
from hypothesis import strategies as st

from recbole_hns import load, run
from recbole_hns.cli import main
from recbole_hns.config import Config
from recbole_hns.config.yaml_files import literal, read_yaml
from recbole_hns.convert import convert
from recbole_hns.errors import UserError
from recbole_hns.quick_start import load_data_and_model
from recbole_hns.recommendation.export import export
from recbole_hns.recommendation.tables import read_users
from recbole_hns.results import read_run
from recbole_hns.serving import Recommender

#: Longer than any of these cases may take, on a busy machine too.
SECONDS = 60


def cases(number):
    """Settings of a test of so many generated cases, which share what its fixtures made."""
    shared = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(max_examples=number, suppress_health_check=shared)


@contextlib.contextmanager
def no_hang():
    def ring(*args):
        raise AssertionError(f"still running after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def ended(how):
    if currently_in_test_context():
        event(how)


def ends_well(function, *args):
    """Call ``function``; it may return, or raise a UserError of one line. Returns the latter."""
    told = None
    with no_hang():
        try:
            function(*args)
        except UserError as error:
            told = str(error)
    ended("success" if told is None else "one line")
    assert told is None or (told and "\n" not in told)
    return told


def command_ends_well(*arguments):
    """Run a command; exit status 0, or 2 with one line on stderr. Returns what stderr holds."""
    err = io.StringIO()
    try:
        with no_hang(), contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            status = main(list(arguments))
        lines = err.getvalue().splitlines()
        told = [line for line in lines if line.startswith("recbole-hns: error:")]
        assert (status, len(told)) in ((0, 0), (2, 1)), err.getvalue()
        # what replace_file was writing when it was stopped
        assert not [path for path in Path().rglob(".*") if path.is_file()]
        for path in Path().glob("saved/*.json"):
            json.loads(path.read_text())
            torch.load(path.with_suffix(".pth"), weights_only=True)
    finally:
        shutil.rmtree("saved", ignore_errors=True)
    ended("one line" if status else "success")
    return err.getvalue()


# --- values on the command line and in YAML -------------------------------------------------------

EVIL = "__import__('pathlib').Path('pwned').touch()"

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**30, -1, 0, 2**31, 2**63, 1e308, 5e-324, "", "\0", "🙂", EVIL, "/", ".."])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
    ),
    max_leaves=12,
)
#: Beside values as Python spells them, text that only looks as if it were one.
texts = (
    values.map(repr)
    | st.text(max_size=60)
    | st.text(alphabet="()[]{}'\"\\,:+-*.0123456789ejx_ #\n", max_size=60)
    | st.sampled_from(["(" * 10**5, "-" * 10**5 + "1", "9" * 10**5, "[" * 50 + "]" * 50, "'''"])
)
#: Keys of RecBole's and this package's. Another data set would be downloaded.
KEYS = sorted({*Config().final_config_dict, "sampler", "opauc_beta", "dns_m"} - {"dataset"})


@cases(200)
@given(texts)
def test_no_text_is_evaluated(text):
    with no_hang():
        literal(text)
    assert not Path("pwned").exists()


@cases(400)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=12), texts, max_size=3))
def test_command_line_values(keys):
    ends_well(lambda: Config(command_line=keys))
    assert not Path("pwned").exists()


yaml_texts = (
    st.dictionaries(st.sampled_from(KEYS) | scalars.filter(bool), values, max_size=4).map(
        lambda keys: yaml.dump(keys, allow_unicode=True).encode(errors="surrogatepass")
    )
    | st.text(alphabet="ab:-[]{}&*!|>'\"%#? \n0123456789.", max_size=80).map(str.encode)
    | st.binary(max_size=80)
)


@cases(250)
@given(yaml_texts)
def test_yaml_files(content):
    Path("a.yaml").write_bytes(content)
    ends_well(lambda: Config(config_file_list=["a.yaml"]))
    assert not Path("pwned").exists()


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi")
)


@pytest.mark.parametrize(
    "text",
    [
        "a: !!python/object/apply:os.system ['touch pwned']",
        "a: !!python/name:os.system",
        LAUGHS,
        "a: &a [*a]",
        "a: " + "[" * 10**4,
        "epochs: " + "9" * 10**5,
        "a: 2001-99-99",
        "? [a, b]\n: 1",
        "<<: 3",
        "a: 1\n\x07",
    ],
    ids=lambda text: text[:24],
)
def test_yaml_that_does_harm(text):
    Path("a.yaml").write_text(text)
    assert ends_well(read_yaml, "a.yaml")
    assert not Path("pwned").exists()


#: What a run of a few users can be given without becoming long for good reason.
LONG = {"epochs", "stopping_step", "worker"}


@cases(100)
@given(st.sampled_from(sorted(set(KEYS) - LONG)), texts | st.integers(-3, 200).map(str))
def test_runs_with_any_value_of_a_key(toy, key, text):
    keys = {**toy, **QUIET, "epochs": 1, "embedding_size": 4, key: text}
    arguments = [f"--{k}={v}" for k, v in keys.items()]
    command_ends_well("run", *arguments)
    assert not Path("pwned").exists()


# --- checkpoints ----------------------------------------------------------------------------------


@pytest.fixture
def checkpoint(toy):
    """The bytes of a checkpoint after one of two epochs, to be resumed where its data are."""
    run(config_dict={**QUIET, **toy, "epochs": 1, "embedding_size": 4})
    (path,) = Path("saved").glob("*.pth")
    content = path.read_bytes()
    shutil.rmtree("saved")
    return content


def resumed_ends_well(content):
    # a loaded checkpoint may have said to save the data there
    shutil.rmtree("saved", ignore_errors=True)
    Path("saved").mkdir()
    Path("saved/a.pth").write_bytes(content)
    arguments = ["--resume=saved/a.pth", "--epochs=2", "--show_progress=False", "--state=ERROR"]
    return command_ends_well("run", *arguments)


def saved_bytes(state):
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


class Bomb:
    def __reduce__(self):
        return Path.touch, (Path("pwned"),)


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(Bomb()), pickle.dumps(Bomb(), 0), saved_bytes(Bomb()), saved_bytes([Bomb()])],
    ids=["pickle", "text pickle", "torch", "torch list"],
)
def test_a_bomb_in_place_of_a_checkpoint(content, toy):
    assert "must be a checkpoint" in resumed_ends_well(content)
    assert not Path("pwned").exists()


def test_a_bomb_within_a_checkpoint(checkpoint):
    state = torch.load(io.BytesIO(checkpoint), weights_only=True)
    for place in (state, state["config"], state["last"], state["other_parameter"]):
        place["bomb"] = Bomb()
        assert "must be a checkpoint" in resumed_ends_well(saved_bytes(state))
        del place["bomb"]
    assert not Path("pwned").exists()


def test_bombs_beside_a_checkpoint(checkpoint):
    """RecBole would load them: its saved data sets and data loaders."""
    Path("saved").mkdir()
    for name in ("toy-Dataset", "toy-for-BPR-dataloader"):
        Path(f"saved/{name}.pth").write_bytes(pickle.dumps(Bomb()))
    Path("saved/a.pth").write_bytes(checkpoint)
    run(resume="saved/a.pth", config_dict={"epochs": 2, **QUIET})
    assert not Path("pwned").exists()


@cases(100)
@given(st.data())
def test_truncated_and_altered_checkpoints(checkpoint, data):
    content = bytearray(checkpoint)
    if data.draw(st.booleans(), "truncated"):
        content = content[: data.draw(st.integers(0, len(content)), "length")]
    else:
        for _ in range(data.draw(st.integers(1, 4), "bytes")):
            place = data.draw(st.integers(0, len(content) - 1), "place")
            content[place] = data.draw(st.integers(0, 255), "byte")
    resumed_ends_well(bytes(content))


def places(value, path=()):
    """The paths to everything inside nested dictionaries, and to the first things of lists."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, (list, tuple)):
        inner = enumerate(value[:2])
    else:
        inner = ()
    for key, part in inner:
        yield (*path, key)
        yield from places(part, (*path, key))


def replaced_at(value, path, new):
    if not path:
        return new
    key, *rest = path
    if isinstance(value, dict):
        return {**value, key: replaced_at(value[key], rest, new)}
    return [replaced_at(part, rest, new) if i == key else part for i, part in enumerate(value)]


@pytest.mark.parametrize(
    "path",
    [
        ("epoch",),
        ("cur_step",),
        ("best_valid_score",),
        ("best_valid_result", "mrr@10"),
        ("config", "seed"),
        ("last", "epoch"),
        ("last", "epochs", 0, "epoch"),
    ],
    ids=str,
)
def test_a_tensor_is_no_number(path, checkpoint):
    state = torch.load(io.BytesIO(checkpoint), weights_only=True)
    content = saved_bytes(replaced_at(state, path, torch.tensor(2)))
    assert "error: resume=saved/a.pth: must be a checkpoint" in resumed_ends_well(content)


@cases(200)
@given(st.data())
def test_checkpoints_that_hold_something_else(checkpoint, data):
    state = torch.load(io.BytesIO(checkpoint), weights_only=True)
    # a resumed run of more epochs is long for good reason
    paths = [p for p in places(state) if p not in LONG_PLACES]
    path = data.draw(st.sampled_from(paths))
    value = data.draw(values | st.sampled_from([torch.zeros(3), torch.tensor(2), {}, [], "x"]))
    try:
        content = saved_bytes(replaced_at(state, path, value))
    except Exception:  # lone surrogates and the like, which no file can hold
        assume(False)
    resumed_ends_well(content)
    Path("a.pth").write_bytes(content)
    ends_well(load_data_and_model, "a.pth")
    ends_well(lambda: load("a.pth").recommend(k=3))
    assert not Path("pwned").exists()


LONG_PLACES = {("config", key) for key in ("dataset", *LONG)}


# --- what lists are made of -----------------------------------------------------------------------


@cases(150)
@given(st.binary(max_size=80) | st.text(max_size=60).map(lambda text: text.encode()))
def test_files_of_users(content):
    for name in ("users.csv", "users.parquet", "users.jsonl"):
        Path(name).write_bytes(content)
        ends_well(read_users, name)


@pytest.fixture
def exported(toy):
    """An export, its files and their bytes."""
    keys = {**QUIET, **toy, "epochs": 1, "embedding_size": 4}
    export(run(config_dict=keys).checkpoint, "served")
    return {path: path.read_bytes() for path in Path("served").iterdir()}


@cases(200)
@given(st.data())
def test_exports_with_another_byte(exported, data):
    path = data.draw(st.sampled_from(sorted(exported)))
    content = bytearray(exported[path])
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])

    def serve():
        model = Recommender.load("served")
        model.recommend_from([f"i{item}" for item in range(40)], 3)
        for user in ("u1", "u2"):
            if user in model:
                model.recommend(user, 3)

    ends_well(serve)
    for other, before in exported.items():
        other.write_bytes(before)


# --- result files ---------------------------------------------------------------------------------

RESULT = {
    "run": "a",
    "sampler": "dns",
    "config": {"model": "BPR", "dataset": "toy", "valid_metric": "NDCG@10", "seed": 1},
    "epochs": [{"epoch": 0, "hardness": 0.5, "ndcg@10": 0.1}, {"epoch": 1, "hardness": 0.4}],
}
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def altered_result(draw):
    path = draw(st.sampled_from(list(places(RESULT))))
    return json.dumps(replaced_at(RESULT, path, draw(json_values))).encode()


result_bytes = (
    st.composite(altered_result)()
    | st.integers(0, len(json.dumps(RESULT))).map(lambda size: json.dumps(RESULT)[:size].encode())
    | st.binary(max_size=60)
    | json_values.map(lambda value: json.dumps(value).encode())
)


@cases(250)
@given(result_bytes)
def test_result_files(content):
    Path("a.json").write_bytes(content)
    ends_well(read_run, "a.json")


@cases(25)
@given(st.composite(altered_result)())
def test_plots_of_result_files(content):
    Path("a.json").write_bytes(content)
    command_ends_well("plot", "a.json")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 10**5,
        json.dumps(RESULT).replace("0.4", "9" * 400),
        json.dumps(RESULT).replace("1,", "1e999,"),
        "null",
    ],
    ids=lambda text: text[:24],
)
def test_result_files_that_do_harm(text):
    Path("a.json").write_text(text)
    command_ends_well("plot", "a.json")


# --- data files -----------------------------------------------------------------------------------

NUMBERS = ["1", "2", "-1", "0", "0.5", "nan", "inf", "-inf", "1e308", str(2**63), "9" * 60]
WORDS = ["u1", "u2", "i1", "i2", "", " ", '"', "a b", "NULL", "\0", "\ufeff", "🙂", "x" * 300]
cells = st.sampled_from(NUMBERS + WORDS) | st.text(alphabet=string.printable, max_size=6)
types = st.sampled_from(["token", "float", "token_seq", "float_seq", "int", "", "token:token"])
headers = st.tuples(types, types).map(lambda t: f"user_id:{t[0]}\titem_id:{t[1]}")
good_rows = [f"u{u}\ti{i}" for u in range(12) for i in range(u, u + 8)]
bad_rows = st.lists(st.lists(cells, max_size=4).map("\t".join), max_size=6)


@st.composite
def inter_files(draw):
    """A ``.inter`` file: often a good one in which something is not."""
    header = draw(st.just("user_id:token\titem_id:token") | headers | st.text(max_size=30))
    rows = [*(good_rows if draw(st.booleans()) else []), *draw(bad_rows)]
    content = "\n".join([header, *rows]).encode(errors="surrogatepass")
    if draw(st.booleans()):
        place = draw(st.integers(0, len(content)))
        content = content[:place] + draw(st.binary(max_size=4)) + content[place:]
    return content


def data_ends_well(content, *arguments):
    folder = Path("dataset/wild")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "wild.inter").write_bytes(content)
    keys = {
        **QUIET,
        "dataset": "wild",
        "epochs": 1,
        "embedding_size": 4,
        "topk": 2,
        "valid_metric": "MRR@2",
    }
    return command_ends_well("run", *(f"--{k}={v}" for k, v in keys.items()), *arguments)


@cases(200)
@given(inter_files())
def test_data_files(content):
    data_ends_well(content)


@cases(50)
@given(inter_files())
def test_data_files_of_chosen_columns(content):
    data_ends_well(content, "--load_col={'inter':['user_id','item_id']}")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"user_id:token\titem_id:token",
        b"user_id:token\titem_id:token\n",
        b"\xff\xfe\x00\x01",
        b"user_id:float\titem_id:float\n" + b"1e18\t1e18\n" * 9,
        b"user_id:token\titem_id:token\n" + b"\xff\xff\t\xfe\n" * 9,
        b"user_id:token\titem_id:token\n" + b"u\ti\n" * 9,
        b"user_id,item_id\n1,2\n",
    ],
    ids=["empty", "header", "header and newline", "binary", "huge ids", "latin", "one", "csv"],
)
def test_data_files_that_cannot_be_used(content):
    told = data_ends_well(content)
    assert "error: dataset=wild: " in told


# --- data that is converted -----------------------------------------------------------------------

FIELDS = ["user", "customer", "item", "rating", "when", "time", "x", "", "user_id:token"]
TIMES = ["2024-01-01", "2024-01-01T10:00:00.5+02:00", "0000-01-01", "9999-12-31T23:59Z", "2024"]
NAMED = st.lists(st.sampled_from(FIELDS), max_size=5)
contents = st.sampled_from(NUMBERS + WORDS + TIMES) | st.integers() | st.floats() | scalars


def converts_well(source, **how):
    """Convert; it succeeds, or leaves nothing."""
    told = ends_well(lambda: convert(source, "converted", validation=0, **how))
    assert Path("converted").exists() == (told is None)
    assert not [path for path in Path().iterdir() if path.name.startswith(".")]
    shutil.rmtree("converted", ignore_errors=True)
    return told


@st.composite
def lines_of_objects(draw):
    """JSON lines: often good ones among which something is not."""
    rows = [{"user": f"u{u}", "item": i, "when": "2024-01-01"} for u in range(3) for i in range(5)]
    rows = rows if draw(st.booleans()) else []
    fields = st.dictionaries(st.sampled_from(FIELDS), values | contents, max_size=4)
    bad = draw(st.lists(fields, max_size=4))
    texts = [json.dumps(row, default=str) for row in [*rows, *bad]]
    texts += draw(st.lists(st.text(max_size=20), max_size=1))
    return "\n".join(texts).encode(errors="surrogatepass")


@cases(150)
@given(lines_of_objects() | st.binary(max_size=60))
def test_json_lines_that_are_converted(content):
    Path("x.jsonl").write_bytes(content)
    converts_well("x.jsonl")


@cases(150)
@given(NAMED, st.lists(st.lists(cells | st.sampled_from(TIMES), max_size=5), max_size=4), st.data())
def test_csv_that_is_converted(header, rows, data):
    if data.draw(st.booleans()):
        good = [[f"u{u}", f"i{i}", "2024-01-01"] for u in range(3) for i in range(5)]
        header, rows = ["user", "item", "when"], [*good, *(row for row in rows if len(row) == 3)]
    text = "\n".join(",".join(row) for row in [header, *rows])
    Path("x.csv").write_bytes(text.encode(errors="surrogatepass"))
    converts_well("x.csv")


@cases(100)
@given(st.lists(st.lists(cells, max_size=5).map(" ".join), max_size=4), st.binary(max_size=9))
def test_sequences_that_are_converted(lines, bad):
    text = "\n".join(["1 2 3 4", *lines]).encode(errors="surrogatepass")
    Path("x.txt").write_bytes(text + bad)
    converts_well("x.txt", format="sequence")


@st.composite
def frames(draw):
    """Columns of any values, some of one type, of which names may be there twice."""
    count = draw(st.integers(0, 12))
    kinds = [contents, st.integers(), st.floats(), st.datetimes(), st.text(max_size=3), values]
    column = st.one_of([st.lists(kind, min_size=count, max_size=count) for kind in kinds])
    names = draw(NAMED)
    columns = [pd.Series(draw(column), dtype=draw(st.sampled_from([object, None]))) for _ in names]
    if draw(st.booleans()):
        names += ["customer", "product"]
        columns += [pd.Series(["u"] * count), pd.Series(range(count))]
    frame = pd.concat(columns, axis=1) if columns else pd.DataFrame()
    frame.columns = names
    return frame


@cases(200)
@given(frames())
def test_frames_that_are_converted(frame):
    converts_well(frame)
    with contextlib.suppress(Exception):  # what neither Arrow nor a file can hold
        pa.parquet.write_table(pa.Table.from_pandas(frame), "x.parquet")
        converts_well("x.parquet")


@cases(100)
@given(st.data())
def test_parquet_with_another_byte(data):
    table = pa.table({"user": ["u", "v"] * 9, "item": list(range(18)), "when": [1.5] * 18})
    pa.parquet.write_table(table, "x.parquet")
    content = bytearray(Path("x.parquet").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    Path("x.parquet").write_bytes(content[: data.draw(st.none() | st.integers(0, len(content)))])
    converts_well("x.parquet")


@cases(15)
@given(frames())
def test_frames_that_are_trained_on(frame):
    keys = {**QUIET, "epochs": 1, "embedding_size": 4, "topk": 1, "valid_metric": "MRR@1"}
    ends_well(lambda: run(dataset=frame, config_dict=keys))
