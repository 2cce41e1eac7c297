"""Repositories of the Hub, through the real client, from a server on 127.0.0.1 that answers as the Hub does."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import hub_files
import hub_server
import pyarrow.parquet as pq
import pytest
from clone import ROOT, micro_clone
from forks import Forks
from no_network import NoNetwork
from terminals import shown_on_a_terminal

from llmrl import progress
from llmrl.data import origins, prepare
from llmrl.data.asking import opening
from llmrl.data.settings import DATA_SETS, Part
from llmrl.params import checks

COMMIT = "e235e846458bff3398a88aed812347f7f0756520"
OLDER = "066c50a88d4e14cefc056e31111db2dba17f6c68"
TOKEN = "hf_" + "verysecret" * 3
ANOTHER = "hf_" + "worthless" * 3
SETS = {
    "sft": ("trl-lib/Capybara", hub_files.capybara),
    "preference": ("trl-lib/ultrafeedback_binarized", hub_files.ultrafeedback),
    "prompts": ("trl-lib/DeepMath-103K", hub_files.deepmath),
}


IMPORTS = f"""
from pathlib import Path
from huggingface_hub import HfApi, get_cached_repo_tree, hf_hub_download, metadata_load, snapshot_download
import pandas  # which pyarrow imports
import llmrl.hub
from llmrl import params
from llmrl.data import prepare
params.experiment(Path({str(ROOT / "params.yaml")!r}))  # TRL's sources are parsed once
"""


@pytest.fixture(scope="module")
def running():
    """A Hub."""
    running = hub_server.Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def server(running):
    """The Hub with the three data sets, not yet asked for anything."""
    running.__dict__.update(asked=[], failures={}, to_the_store=set(), xet=False)
    running.repositories = {
        f"datasets/{name}": hub_server.Repository({COMMIT: files()}) for name, files in SETS.values()
    }
    return running


@pytest.fixture(scope="module")
def environment(running, tmp_path_factory):
    """That in which the Hub is the server, and nothing is in the cache."""
    apart = tmp_path_factory.mktemp("hub")
    (apart / "sitecustomize.py").write_text("import time\ntime.sleep = lambda _: None  # as in forks.py\n")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    ours = {"HF_ENDPOINT": running.endpoint, "HF_HOME": str(apart / "home"), "PYTHONPATH": str(apart)}
    return inherited | ours | {"OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def forks(environment):
    """By module, what runs it."""
    started = {}

    def of(module):
        imports = IMPORTS + ("import llmrl.base.build" if module == "llmrl.base" else "")
        if imports not in started:
            started[imports] = Forks(imports, environment)
        return started[imports]

    yield of
    for one in started.values():
        one.close()


@pytest.fixture
def hub(project, change, environment, forks):
    """Runs a module of ours in the project's copy, all of whose data are the server's."""
    whole = f"revision: {COMMIT}\n    rows: null\n    eval_rows: null\n    columns: {{}}"
    sets = [f"{name}:\n    source: {source}\n    {whole}" for name, (source, _) in SETS.items()]
    sets = [f"{one}\n    policy: data/preference" if one.startswith("preference") else one for one in sets]
    shares = ("eval_share: 0.5", "max_defective: 0.05", "max_overlap: 0")
    change("data", "\n  ".join(("", "seed: 1", "salt: llmrl", *shares, *sets)))

    def run(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return forks(module).run(project, module, *arguments, **settings)

    def alone(module: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """In a process of its own: what the client reads when it is imported can be another."""
        return subprocess.run(
            (sys.executable, "-m", module, *arguments),
            cwd=project,
            env=environment | settings,
            capture_output=True,
            text=True,
            check=False,
        )

    run.alone, run.home = alone, Path(environment["HF_HOME"])
    shutil.rmtree(run.home, ignore_errors=True)
    return run


def outcome(name):
    """The first line that a preparation says of its rows, by what source.json has counted."""
    report = json.loads(Path(f"data/{name}/source.json").read_text(encoding="utf-8"))
    rows = report["rows"]
    counted = f"{rows['train']:,} rows to train on, {rows['eval']:,} held out, of {rows['read']:,} read"
    return f"data/{name}: {counted}\n"


def prepared(run, name, **settings):
    """The rows of both sides, and the report."""
    done = run("llmrl.data.prepare", name, **settings)
    assert (0, "") == (done.returncode, done.stderr)
    assert outcome(name) in done.stdout
    sides = (pq.read_table(f"data/{name}/{side}.parquet").to_pylist() for side in ("train", "eval"))
    return *sides, json.loads(Path(f"data/{name}/source.json").read_text(encoding="utf-8"))


def refused(done, *said):
    """Require one line that says these words, and nothing of the token."""
    print(done.stderr)
    assert (2, "") == (done.returncode, done.stdout)
    assert 1 == len(done.stderr.splitlines())
    assert TOKEN not in done.stderr
    for part in said:
        assert part in done.stderr


def numbers(rows):
    """The numbers that the rows ask about."""
    return [int(re.search(r"\d+", opening(row).question)[0]) for row in rows]


@pytest.mark.parametrize("name", SETS)
def test_data_of_the_hub(hub, server, name):
    """Each format becomes the data set's one shape; what was read is recorded; the same commit gives the same bytes."""
    train, held_out, report = prepared(hub, name)
    assert set(range(120)) > set(numbers(train))
    assert set(range(120)) == {n for n in numbers(train + held_out) if n < 10_000}
    source, files = report["sources"][0], server.repositories[f"datasets/{SETS[name][0]}"].commits[COMMIT]
    shards = {path: content for path, content in files.items() if path.endswith(".parquet")}
    assert (SETS[name][0], COMMIT) == (source["source"], source["revision"])
    assert {path: hashlib.sha256(content).hexdigest() for path, content in shards.items()} == source["files"]
    assert {"read": 180, "kept": 180, "dropped": {}} == source["rows"]
    counts = report["rows"]
    assert 180 == counts["train"] + counts["eval"] + counts["of test splits, not to be trained on"]
    folder = Path("data") / name
    first = {file.name: file.read_bytes() for file in folder.iterdir()}

    shutil.rmtree(hub.home)
    prepared(hub, name)

    assert first == {file.name: file.read_bytes() for file in folder.iterdir()}


def test_data_from_xet(hub, server):
    """The store of chunks gives the same rows, is not shown the user's token, and its faults are noticed."""
    server.xet = True
    server.fail("store", "altered")
    refused(
        hub("llmrl.data.prepare", "sft", HF_TOKEN=TOKEN),
        "data/train-00000-of-00002.parquet: what was downloaded is not",
    )
    server.failures.clear()
    stored = prepared(hub, "sft", HF_TOKEN=TOKEN)
    assert any("GET /chunks/" in asked for asked in server.asked)
    assert not any("GET /store/" in asked for asked in server.asked)
    assert {None, f"Bearer {hub_server.OF_XET}"} == server.to_the_store
    server.xet = False
    shutil.rmtree(hub.home)
    assert stored == prepared(hub, "sft")


def test_the_test_split_is_never_trained_on(hub):
    """Rows of the repository's own test split are held out, or counted and not used."""
    train, held_out, report = prepared(hub, "prompts")
    tests = [number for number in numbers(held_out) if number >= 10_000]
    assert [] == [number for number in numbers(train) if number >= 10_000]
    assert 60 == len(tests) + report["rows"]["of test splits, not to be trained on"]
    assert 10 < len(tests) < 50


def test_no_prompt_is_trained_on_here_and_held_out_there(hub):
    """The split is the same for all three sets, whose prompts partly agree."""
    both = [prepared(hub, name)[:2] for name in SETS]
    trained, held_out = ({opening(row) for rows in both for row in rows[side]} for side in (0, 1))
    assert set() == trained & held_out
    assert 120 < len(trained | held_out)


def test_a_limit_takes_a_sample(hub, server, change):
    """With limits, rows of every file are taken, which are read once; more rows have the former ones among them."""
    change("data.sft.rows", "20")
    change("data.sft.eval_rows", "10")
    few = prepared(hub, "sft")
    assert (20, 10) == (len(few[0]), len(few[1]))
    assert {True, False} == {number < 60 for number in numbers(few[0])}  # of both shards
    assert 3 == sum("GET /store" in asked for asked in server.asked)
    change("data.sft.rows", "null")
    change("data.sft.eval_rows", "null")
    many = prepared(hub, "sft")
    assert set(numbers(few[0])) < set(numbers(many[0]))
    assert few[1] == many[1][:10]


def test_a_split_to_measure_by(hub, change):
    """The split that `eval` names is held out whole; of the other rows none is, and those that the hash would hold out
    for the other sets are trained on in none.
    """
    change("data.prompts.columns", "{}\n    eval: test")
    train, held_out, report = prepared(hub, "prompts")
    assert set(range(10_000, 10_060)) == set(numbers(held_out))
    counted = report["rows"]["held out by the hash, where data.eval names others"]
    assert (120, True) == (len(train) + counted, 30 < counted < 90)
    assert ["data/test-00000-of-00001.parquet"] == report["sources"][0]["held_out_files"]
    change("data.prompts.eval", "dev")
    refused(hub("llmrl.data.prepare", "prompts"), "has no split 'dev', but train, test: name another as `eval`")


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def test_subsets_columns_and_other_files(hub, server, change):
    """A subset is found by README.md's configs, with JSON Lines and CSV in it; our columns are mapped to its own."""
    card = (
        b"---\nconfigs:\n- config_name: easy\n  data_files: easy/*.jsonl\n- config_name: hard\n  data_dir: hard\n---\n"
    )
    questions = [f"question,answer\nWhat of {number}?,{number}\n" for number in range(40)]
    files = {
        "README.md": card,
        "easy/a.jsonl": lines({"question": f"What of {number}?", "answer": str(number)} for number in range(40)),
        "hard/train.csv": ("question,answer\n" + "".join(one.split("\n")[1] + "\n" for one in questions)).encode(),
        "hard/validation.csv": b"question,answer\nWhat of 10000?,1\nWhat of 10001?,1\nWhat of 10002?,1\n",
    }
    server.repositories["datasets/some/tasks"] = hub_server.Repository({COMMIT: files})
    change("data.prompts.source", "some/tasks")
    refused(hub("llmrl.data.prepare", "prompts"), "some/tasks@e235e84: has several subsets: name one of easy, hard")
    change("data.prompts.columns", "{prompt: question, solution: answer}\n    subset: easy")
    easy = prepared(hub, "prompts")
    assert set(range(40)) == set(numbers(easy[0] + easy[1]))
    change("data.prompts.subset", "hard")
    hard = prepared(hub, "prompts")
    assert easy[0] == hard[0]
    assert ["hard/train.csv", "hard/validation.csv"] == list(hard[2]["sources"][0]["files"])
    change("data.prompts.subset", "herd")
    refused(hub("llmrl.data.prepare", "prompts"), "has no subset 'herd': name one of easy, hard")


def test_a_format_and_how_it_is_asked(hub, server, change):
    """Apply to a repository as to files: GSM8K as it is, by its format, with a system text and a template."""
    rows = ({"question": f"Half of {2 * n}?", "answer": f"It is {2 * n}/2={n}.\n#### {n}"} for n in range(40))
    server.repositories["datasets/some/gsm"] = hub_server.Repository({COMMIT: {"train.jsonl": lines(rows)}})
    settings = 'format: gsm8k\n    system: Think.\n    template: "{question} Box it."'
    for name in ("prompts", "sft"):
        change(f"data.{name}.source", f"some/gsm\n    {settings}")
        train, held_out, report = prepared(hub, name)
        asked = (row.get("prompt") or row["messages"] for row in train + held_out)
        assert {("Think.", f"Half of {2 * n}? Box it.") for n in range(40)} == {
            (turns[0]["content"], turns[1]["content"]) for turns in asked
        }
        assert {"gsm8k": 40} == report["sources"][0]["recognised"]
    assert {f"It is {2 * n}/2={n}.\n\\boxed{{{n}}}" for n in range(40)} == {
        row["messages"][-1]["content"] for row in train + held_out
    }


LISTED = {
    "configs": [
        {
            "config_name": "default",
            "data_files": [{"split": "train_sft", "path": ["a/*", "b/**"]}, {"split": "test_sft", "path": "a/t-*.csv"}],
        }
    ]
}
TWO = {"configs": [{"config_name": "en", "data_dir": "en", "default": True}, {"config_name": "de", "data_dir": "de"}]}
# Files, the head of README.md, what params.yaml says, and the files that are trained on, the tests', those not read.
SPLITS = {
    "by name": (
        ["train.csv", "test.csv", "notes.txt"],
        {},
        {},
        (["train.csv"], ["test.csv"], {"notes.txt": "of no split"}),
    ),
    "by folder": (["dev/a.jsonl", "training/b.jsonl"], {}, {}, (["training/b.jsonl"], ["dev/a.jsonl"], {})),
    "shards": (
        ["train-00000-of-00002.parquet", "train-00001-of-00002-abc1.parquet", "validation-00000-of-00001.parquet"],
        {},
        {},
        (
            ["train-00000-of-00002.parquet", "train-00001-of-00002-abc1.parquet"],
            ["validation-00000-of-00001.parquet"],
            {},
        ),
    ),
    "another split": (
        ["train_sft-00000-of-00001.parquet", "test_sft-00000-of-00001.parquet", "test_gen-00000-of-00001.parquet"],
        {},
        {"split": "train_sft"},
        (
            ["train_sft-00000-of-00001.parquet"],
            ["test_sft-00000-of-00001.parquet"],
            {"test_gen-00000-of-00001.parquet": "of the split test_gen"},
        ),
    ),
    "a split to measure by": (
        ["train.csv", "test.csv", "validation.csv", "README.md"],
        {},
        {"eval": "validation"},
        (["train.csv"], ["validation.csv"], {"test.csv": "of the split test"}),
    ),
    "no word in the name": (["a.jsonl", "b.jsonl"], {}, {}, (["a.jsonl", "b.jsonl"], [], {})),
    "a subset's folder": (
        ["one/a.csv", "two/a.csv"],
        {},
        {"subset": "two"},
        (["two/a.csv"], [], {"one/a.csv": "not of two"}),
    ),
    "patterns": (
        ["a/t-1.csv", "a/u.csv", "b/c/d.csv"],
        LISTED,
        {"split": "train_sft"},
        (["a/u.csv", "b/c/d.csv"], ["a/t-1.csv"], {}),
    ),
    "the marked subset": (
        ["en/train.csv", "de/train.csv"],
        TWO,
        {},
        (["en/train.csv"], [], {"de/train.csv": "of no split"}),
    ),
    "the named subset": (
        ["en/train.csv", "de/train.csv", "de/test.csv"],
        TWO,
        {"subset": "de"},
        (["de/train.csv"], ["de/test.csv"], {"en/train.csv": "not of de"}),
    ),
}


@pytest.mark.parametrize(("paths", "card", "named", "expected"), SPLITS.values(), ids=SPLITS)
def test_which_files_are_trained_on(paths, card, named, expected):
    """Splits are those of README.md's head, or go by the names of files; what a test split has is never trained on."""
    found = origins.files_of(paths, card, Part("some/set", COMMIT, **named))
    assert expected == found


def test_files_of_no_rows(hub, server, change):
    """A repository without README.md works; one with nothing that can be read says what it has."""
    server.repositories["datasets/some/bare"] = bare = hub_server.Repository({COMMIT: {}})
    change("data.sft.source", "some/bare")
    bare.commits[COMMIT] = {"a.jsonl": lines({"prompt": f"What of {n}?", "completion": "yes"} for n in range(50))}
    assert 50 == prepared(hub, "sft")[2]["rows"]["read"]
    bare.commits = {OLDER: {"script.py": b"raise Exception", "rows.xlsx": b"rows"}}
    change("data.sft.revision", f"{OLDER}\n    subset: easy")
    refused(hub("llmrl.data.prepare", "sft"), "some/bare@066c50a: has no subset 'easy'")
    change("data.sft.subset", "null")
    refused(
        hub("llmrl.data.prepare", "sft"),
        "some/bare@066c50a: has no file of rows in it (.jsonl, ",
        ", .arrow), but rows.xlsx, script.py; use another data set",
    )


def test_a_mixture(hub, change):
    """Several sources are mixed by their weights, the same every time, as far as each of them goes."""
    part = f"revision: {COMMIT}, columns: {{prompt: prompt}}"
    change(
        "data.prompts.source", f"\n      - {{source: trl-lib/DeepMath-103K, {part}, weight: 3}}\n      - source: raw"
    )
    change("data.prompts.revision", "null")
    Path("data/raw/prompts/mine.jsonl").write_bytes(lines({"prompt": f"What of {n}?"} for n in range(20_000, 20_100)))
    train, held_out, report = prepared(hub, "prompts")
    assert ["trl-lib/DeepMath-103K", "raw"] == [source["source"] for source in report["sources"]]
    assert (180, 100) == tuple(source["rows"]["kept"] for source in report["sources"])
    mine = [number >= 20_000 for number in numbers(train)]
    assert round(len(mine) / 4) == sum(mine)  # all of the first's, and a third as many
    unused = report["rows"]["more than rows and eval_rows ask for"]
    assert 100 == sum(mine) + sum(n >= 20_000 for n in numbers(held_out)) + unused
    assert [] == [number for number in numbers(train) if 10_000 <= number < 20_000]
    first = Path("data/prompts/train.parquet").read_bytes()
    prepared(hub, "prompts")
    assert first == Path("data/prompts/train.parquet").read_bytes()
    assert len(held_out) == report["rows"]["eval"]


# --- commits ---------------------------------------------------------------------------------------------------------


def test_a_commit_is_required(hub, change):
    """A source of the Hub without a whole commit stops, and `make pin` is named."""
    for text, said in {"null": "it is missing", "main": "'main' is none", "e235e84": "'e235e84' is none"}.items():
        change("data.sft.revision", text)
        refused(hub("llmrl.data.prepare", "sft"), "trl-lib/Capybara", "40 hexadecimal digits", said, "`make pin`")
    change("model.source", "Qwen/Qwen2.5-0.5B")
    refused(hub("llmrl.base"), "Qwen/Qwen2.5-0.5B", "it is missing", "`make pin`")


def test_pin(hub, server, project, change):
    """`make pin` writes the commits that are missing, and changes nothing else."""
    server.repositories["models/Qwen/Qwen2.5-0.5B"] = hub_server.Repository({OLDER: {}, COMMIT: {}})
    old = hub_server.Repository({OLDER: {}, COMMIT: {}}, branches={"v1": OLDER}, token=TOKEN)
    server.repositories["datasets/trl-lib/DeepMath-103K"] = old
    change("model.source", "Qwen/Qwen2.5-0.5B   # a base model")
    change("model.revision", "null   # of the model")
    change(
        "data.sft.source",
        "\n      - {source: trl-lib/Capybara, weight: 2} # one\n      - source: trl-lib/Capybara # two",
    )
    change("data.sft.revision", "null")
    change("data.preference.revision", OLDER)
    change("data.prompts.revision", "'v1' # a tag")
    before = (project / "params.yaml").read_text(encoding="utf-8")

    refused(hub("llmrl.params.pin"), "no such data set at", "trl-lib/DeepMath-103K")
    assert before == (project / "params.yaml").read_text(encoding="utf-8")
    done = hub("llmrl.params.pin", HF_TOKEN=TOKEN)

    assert (0, "") == (done.returncode, done.stderr)
    assert f"data.prompts: trl-lib/DeepMath-103K at {OLDER}" in done.stdout
    expected = before.replace("revision: null   # of", f"revision: {COMMIT}   # of")
    expected = expected.replace("trl-lib/Capybara, weight", f"trl-lib/Capybara, revision: {COMMIT}, weight")
    expected = expected.replace("Capybara # two\n", f"Capybara # two\n        revision: {COMMIT}\n").replace(
        "'v1'", OLDER
    )
    assert expected == (project / "params.yaml").read_text(encoding="utf-8")
    checks.check(project / "params.yaml")
    assert "every source of the Hub has its commit" in hub("llmrl.params.pin").stdout


def test_pin_without_a_network(hub, server, project, change):
    """Where the Hub cannot be asked, one line says so, and nothing is written."""
    change("data.sft.revision", "null")
    before = (project / "params.yaml").read_bytes()
    refused(hub.alone("llmrl.params.pin", HF_HUB_OFFLINE="1"), "trl-lib/Capybara", "HF_HUB_OFFLINE")
    server.fail("revision", "dropped")
    refused(hub("llmrl.params.pin"), "trl-lib/Capybara", "connection", "failed")
    server.fail("revision", "500")
    refused(hub("llmrl.params.pin"), "trl-lib/Capybara", "out of order (500)")
    assert before == (project / "params.yaml").read_bytes()


# --- what can go wrong -----------------------------------------------------------------------------------------------

FAULTS = {
    "wrong token": ("tree", "401", ["does not know your token (401)", "/settings/tokens"]),
    "no permission": ("tree", "403", ["forbids it (403)", "permission"]),
    "nothing there": ("tree", "404", ["nothing there (404)"]),
    "too many requests": ("tree", "429", ["too many requests (429)", "wait"]),
    "out of order": ("tree", "500", ["out of order (500)", "later"]),
    "dropped connection": ("tree", "dropped", ["the connection", "failed", "run this again"]),
    "wrong token for a file": ("resolve", "401", ["does not know your token (401)"]),
    "no permission for a file": ("resolve", "403", ["forbids it (403)"]),
    "a file that is gone": ("resolve", "404", ["nothing there (404)"]),
    "too many requests for a file": ("resolve", "429", ["too many requests (429)"]),
    "out of order for a file": ("resolve", "500", ["out of order (500)"]),
    "dropped connection for a file": ("resolve", "dropped", ["the connection", "failed"]),
    "store out of order": ("store", "500", ["out of order (500)"]),
    "cut file": ("store", "cut", ["the connection", "failed"]),
    "truncated file": ("store", "truncated", ["came incomplete", "run this again"]),
    "altered file": ("store", "altered", ["data/train-00000-of-00002.parquet: what was downloaded is not", "deleted"]),
}  # fmt: skip


@pytest.mark.parametrize(("where", "how", "said"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_said_in_one_line(hub, server, project, where, how, said):
    """Each fault ends in one line that tells what to do, leaves the former data, and has left no trace afterwards."""
    former = project / "data/sft/former"
    former.parent.mkdir()
    former.touch()
    server.fail(where, how)
    refused(hub("llmrl.data.prepare", "sft", HF_TOKEN=TOKEN), "trl-lib/Capybara@e235e84", *said)
    assert former.exists()
    server.failures.clear()
    assert 180 == prepared(hub, "sft")[2]["rows"]["read"]


def test_a_download_goes_on(hub, server):
    """A connection that drops once costs nothing: the rest is asked for."""
    server.fail("store", "cut once")
    assert 180 == prepared(hub, "sft")[2]["rows"]["read"]


def test_what_is_not_there_is_named(hub, change):
    """A misspelt repository, a commit it has not got, and a split it has not got."""
    change("data.sft.source", "trl-lib/Capibara")
    refused(hub("llmrl.data.prepare", "sft"), "trl-lib/Capibara@e235e84", "no such data set", "HF_TOKEN=…")
    refused(hub("llmrl.data.prepare", "sft", HF_TOKEN=TOKEN), "no such data set", "your token may not read it")
    change("data.sft.source", "trl-lib/Capybara")
    change("data.sft.revision", OLDER)
    refused(hub("llmrl.data.prepare", "sft"), "trl-lib/Capybara@066c50a", "no such commit", "`make pin`")
    change("data.sft.revision", f"{COMMIT}\n    split: train_sft")
    refused(hub("llmrl.data.prepare", "sft"), "has no split 'train_sft', but train, test")


def test_a_private_repository(hub, server, project, environment, monkeypatch):
    """A token of the environment or .env opens it, goes to the Hub alone, and is written nowhere."""
    repository = server.repositories["datasets/trl-lib/Capybara"]
    repository.token = TOKEN
    refused(hub("llmrl.data.prepare", "sft"), "no such data set", "or it is private", "HF_TOKEN=…")
    refused(hub("llmrl.data.prepare", "sft", HF_TOKEN=ANOTHER), "your token may not read it")
    repository.gated = True
    refused(hub("llmrl.data.prepare", "sft"), "is gated: ask for access at", "/datasets/trl-lib/Capybara", "HF_TOKEN=…")
    refused(hub("llmrl.data.prepare", "sft", HF_TOKEN=ANOTHER), "is gated, and your token has no access")
    assert 180 == prepared(hub, "sft", HF_TOKEN=TOKEN)[2]["rows"]["read"]
    (project / ".env").write_text(f"HF_TOKEN={TOKEN}\nHF_HOME={hub.home}/of-env\n")
    monkeypatch.delitem(environment, "HF_HOME")
    prepared(hub.alone, "sft")
    assert list((hub.home / "of-env/hub").glob("datasets--trl-lib--Capybara"))
    assert {None} == server.to_the_store
    written = [path for folder in (project, hub.home) for path in folder.rglob("*") if path.is_file()]
    assert [project / ".env"] == [path for path in written if TOKEN.encode() in path.read_bytes()]


def test_dvc_knows_a_commit(server, tmp_path):
    """Under DVC the commit is a dependency: another one is prepared anew, the same one is not; the token is nowhere."""
    server.repositories["datasets/trl-lib/Capybara"] = hub_server.Repository(
        {OLDER: hub_files.capybara(train=60), COMMIT: hub_files.capybara()}, token=TOKEN
    )
    clone = micro_clone(tmp_path / "clone")
    clone.environment |= {"HF_ENDPOINT": server.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN}
    clone.environment["HF_HUB_OFFLINE"] = "0"
    source = {"source": "trl-lib/Capybara", "rows": None, "eval_rows": None}
    # It is prepared after the two others, which have no part in it afterwards.
    for commit, ran in ((COMMIT, ["prepare"] * 3), (COMMIT, []), (OLDER, ["prepare"])):
        clone.params(data={"sft": source | {"revision": commit}, "eval_share": 0.5})
        assert ran == clone.stages("dvc", "repro", "data/dvc.yaml:prepare@sft")
    report = json.loads((clone.folder / "data/sft/source.json").read_text())
    assert (OLDER, 120) == (report["sources"][0]["revision"], report["rows"]["read"])
    requests = len(server.asked)
    clone.params(data={"sft": source | {"revision": COMMIT}})
    assert [] == clone.stages("dvc", "repro", "data/dvc.yaml:prepare@sft")  # it lies in DVC's cache
    assert requests == len(server.asked)
    assert [] == [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


def test_a_token_that_cannot_be_sent_is_not_shown(hub):
    """A token with a stray character, which the client refuses with the token in its text."""
    for stray in ("é", "\x0b", "\x0b\N{SNOWMAN}"):
        done = hub("llmrl.data.prepare", "sft", HF_TOKEN=f"{TOKEN}{stray}{TOKEN}")
        refused(done, "trl-lib/Capybara@e235e84", "HF_TOKEN", "a character in it that no token has")


def test_without_a_network(hub, server):
    """With a filled cache nothing is asked for; with an empty one a line says what is missing."""
    offline = hub.alone("llmrl.data.prepare", "sft", HF_HUB_OFFLINE="1")
    refused(offline, "not in the Hub's cache", "HF_HUB_OFFLINE", "with a network")
    unreachable = hub.alone("llmrl.data.prepare", "sft", HF_ENDPOINT="http://127.0.0.1:9")
    refused(unreachable, "the connection to http://127.0.0.1:9 failed", "check network")
    online = prepared(hub, "sft")
    requests = len(server.asked)
    assert online == prepared(hub.alone, "sft", HF_HUB_OFFLINE="1")
    assert online == prepared(hub, "sft")
    assert requests == len(server.asked)


# --- models ----------------------------------------------------------------------------------------------------------


def test_a_model_of_the_hub(hub, server, project, change):
    """The base model is made of the safetensors, config and tokenizer of the commit; pickles and code stay there."""
    tiny = {path.name: path.read_bytes() for path in (project / "models/tiny").iterdir()}
    others = ("pytorch_model.bin", "modeling_tiny.py", "onnx/model.json", "consolidated.safetensors", "README.md")
    files = tiny | {path: path.encode() for path in others}
    server.repositories["models/some/tiny"] = hub_server.Repository({COMMIT: files}, token=TOKEN)
    assert 0 == hub("llmrl.base").returncode
    builtin, hashes = model_and_inputs(project)
    change("model.source", "some/tiny")
    change("model.revision", COMMIT)
    done = hub("llmrl.base", HF_TOKEN=TOKEN)
    assert (0, "") == (done.returncode, done.stderr)
    assert (builtin, hashes) == model_and_inputs(project)
    made = json.loads((project / "models/base/provenance.json").read_text())
    assert {"source": "some/tiny", "revision": COMMIT}.items() <= made["settings"]["model"].items()
    wanted = {path for path in tiny if path.endswith((".json", ".safetensors", ".jinja"))}
    fetched = {path.name for path in hub.home.rglob(f"snapshots/{COMMIT}/*")}
    assert wanted <= fetched <= wanted | {"README.md"}
    assert {".gitignore"} == {path.name for path in (project / "models").glob(".*")}
    del files["model.safetensors"]
    server.repositories["models/some/tiny"] = hub_server.Repository({OLDER: files})
    change("model.revision", OLDER)
    refused(hub("llmrl.base"), "some/tiny@066c50a has no weights as model.safetensors", "pytorch_model.bin")
    assert (builtin, hashes) == model_and_inputs(project)


def model_and_inputs(project):
    """The bytes of models/base, and the hashes of what it was made of."""
    files = {path.name: path.read_bytes() for path in (project / "models/base").iterdir()}
    return files, json.loads(files.pop("provenance.json"))["inputs"]


# --- what is shown ---------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
def test_a_terminal_shows_a_bar(project, environment):
    """The file that is downloaded and how much of it, on one line that is gone at the end."""
    command = (sys.executable, "-m", "llmrl.data.prepare", "sft")
    said = re.sub(r"\x1b\[[\d;?]*\w", "", shown_on_a_terminal(*command, cwd=project, environment=environment))
    assert re.search(r"data/sft: trl-lib/Capybara data/t\S+\.parquet .* 0\.0 MB of 0\.0 MB", said)


def test_a_log_shows_a_line_now_and_then(change, monkeypatch, capsys):
    """What is read, compared and written, and what is downloaded, with the time between two lines."""
    change("data.sft.source", "raw")
    change("data.sft.rows", "null")
    Path("data/raw/sft/a.jsonl").write_bytes(lines({"prompt": f"{n}?", "completion": "yes"} for n in range(5500)))
    prepare.main("sft")
    assert outcome("sft") in capsys.readouterr().out
    monkeypatch.setattr(progress, "LINE_EVERY", 0)
    prepare.main("sft")
    thousands = [f"{number},000" for number in range(1, 6)]
    expected = [f"data/sft: raw: {number} rows read" for number in thousands]
    expected += [f"data/sft: {number} of 5,500 rows compared with held-out prompts" for number in (0, *thousands)]
    said = re.findall("data/sft: .*", re.sub(r", \d+ s left", "", capsys.readouterr().out))
    assert expected == said[:11]
    assert len(said) > 13
    assert all(re.fullmatch(r"data/sft: [\d,]+ of 5,\d+ rows written", line) for line in said[11:-1])
    assert outcome("sft").rstrip() == said[-1]
    monkeypatch.setattr(progress, "LINE_EVERY", 60)
    shown = progress.Progress("models/base")
    shown.said -= progress.FIRST_LINE - 1
    shown.received("some/model model.safetensors", 10_000_000, 270_000_000)
    shown.said -= 2
    shown.received("some/model model.safetensors", 20_000_000, 270_000_000)
    shown.said -= 58
    shown.received("some/model model.safetensors", 30_000_000, 270_000_000)
    assert "models/base: some/model model.safetensors: 20.0 MB of 270.0 MB\n" == capsys.readouterr().out


# --- nothing of the Hub ----------------------------------------------------------------------------------------------


def test_the_default_needs_no_network(project, tmp_path_factory):
    """Built-in data and model are made without the Hub's client, or an attempt to reach anything."""
    guard = NoNetwork(tmp_path_factory.mktemp("guard"))

    def run(code: str) -> list[str]:
        """The modules that matter which the code has loaded."""
        code = f"import sys\n{code}\nprint(*{{'huggingface_hub', 'httpx', 'llmrl.hub'}} & set(sys.modules))"
        command = (sys.executable, "-c", code)
        printed = subprocess.check_output(command, cwd=project, env=guard.environment, text=True)
        return printed.splitlines()[-1].split()  # what the code itself prints stands above

    data = f"from llmrl.data import prepare; [prepare.main(name) for name in {DATA_SETS}]"
    assert [] == run(f"{data}; from llmrl.params import pin; pin.pin()")
    assert "llmrl.hub" not in run("from llmrl.base import __main__; __main__.main()")  # transformers has the client
    assert not guard.attempts.exists()
    assert not (guard.home / "hub").exists()


def test_the_guard_sees_an_attempt(tmp_path):
    """What the tests of the default rely on."""
    guard = NoNetwork(tmp_path)
    attempt = "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run((sys.executable, "-c", attempt), env=guard.environment, check=False, capture_output=True)
    assert (1, True) == (done.returncode, guard.attempts.exists())
