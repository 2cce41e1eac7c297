"""The four stages through the real `dvc` and the real TRL trainers, on a micro experiment in a temporary clone."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from clone import STAGES, Clone, micro_clone, started
from no_network import NoNetwork
from ruamel.yaml import YAML

from llmrl.measuring.answers import summary

TOKEN = "hf_" + "verysecret" * 3
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> NoNetwork:
    """What keeps the first `dvc repro` from reaching anything."""
    return NoNetwork(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory, guard: NoNetwork) -> Clone:
    """The micro experiment, committed and run once, with a token and without a network."""
    clone = micro_clone(tmp_path_factory.mktemp("pipeline") / "clone")
    usual = clone.environment
    clone.environment = guard.environment | {"PATH": usual["PATH"], "HF_TOKEN": TOKEN}
    printed = clone.run("dvc", "repro")
    assert ["base", "pairs", "prepare", "prepare", "prepare", "dpo", "grpo", "reward", "sft"] == sorted(
        started(printed), key=lambda name: (name in STAGES, name)
    )
    (clone.folder.parent / "printed.txt").write_text(printed)
    clone.environment = usual
    clone.commit("the micro experiment")
    return clone


@pytest.mark.usefixtures("clone")
def test_nothing_is_reached_for(guard: NoNetwork) -> None:
    """No stage of the built-in sources tries to reach the Hub or anything else."""
    assert not guard.attempts.exists(), guard.attempts.read_text()
    assert not (guard.home / "hub").exists()


def test_a_log_of_it_reads_well(clone: Clone) -> None:
    """Where no terminal is, there are lines, without control characters or any library's warnings."""
    printed = (clone.folder.parent / "printed.txt").read_text()

    assert "models/grpo" in printed
    assert "empty: measured when models/dpo was made, and not again" in " ".join(printed.split())
    prepared = r"^data/\w+: \d+ rows to train on, \d+ held out, of [\d,]+ read\n  recognised as: .*\n  dropped: "
    assert 3 == len(re.findall(prepared, printed, re.M))
    assert set() == {letter for letter in printed if not letter.isprintable()} - set("\n\t")
    assert [] == [line for line in printed.splitlines() if "warn" in line.lower() or len(line) > 120]


def test_a_token_is_left_nowhere(clone: Clone, guard: NoNetwork) -> None:
    """The token that all stages had in their environment is in no file: no log, run folder, figure or model."""
    written = [file for folder in (clone.folder, guard.home) for file in folder.rglob("*") if file.is_file()]
    assert {"events.log", "run.json", "metrics.json", "provenance.json"} <= {file.name for file in written}
    assert [] == [file for file in written if TOKEN.encode() in file.read_bytes()]


@pytest.mark.parametrize("stage", STAGES)
def test_figures(clone: Clone, stage: str) -> None:
    """Each stage has held-out figures before and after training, and policies those of their answers."""
    expected = {
        "sft": {"loss", "token_accuracy"},
        "reward": {"loss", "accuracy", "margin"},
        "dpo": {"loss", "accuracy", "margin"},
        "grpo": {"reward", "accuracy", "reward_model"},
    }
    figures = clone.figures(stage)

    assert set() == expected[stage] - set(figures)
    assert set() == {f"{name}_before" for name in expected[stage]} - set(figures)
    if stage != "reward":
        protocol = {f"{way}{end}" for way in ("greedy", "sampled") for end in ("", "_low", "_high")} | {"pass_at_2"}
        assert protocol | {"n", "ended", "marked", "tokens", "repetition"} == set(figures["answers"])
    assert ("answers_before" in figures) == (stage == "sft")


def test_every_held_out_answer_is_kept(clone: Clone) -> None:
    """As a product of the stage that gave it, which its figures are counted from: a folder that DVC keeps and git does
    not, from which a report can be made of any experiment.
    """
    lock = YAML(typ="safe").load(clone.folder / "dvc.lock")["stages"]
    tables = {
        stage: {file.stem: pq.read_table(file) for file in (clone.folder / f"metrics/{stage}/held_out").iterdir()}
        for stage in STAGES
    }

    for stage in STAGES:
        assert f"metrics/{stage}/held_out" in [out["path"] for out in lock[stage]["outs"]]
    assert {"sft": {"before", "after"}, "reward": {"pairs"}, "dpo": {"after"}, "grpo": {"after", "scores"}} == {
        stage: set(found) for stage, found in tables.items()
    }
    for stage in ("sft", "dpo", "grpo"):
        assert summary(tables[stage]["after"]) == pytest.approx(clone.figures(stage)["answers"])
    pairs = tables["reward"]["pairs"].to_pylist()
    ranked = sum(row["chosen_score"] > row["rejected_score"] for row in pairs) / len(pairs)
    assert (8, ranked) == (len(pairs), clone.figures("reward")["accuracy"])
    assert ["base", "sft", "dpo", "grpo"] == [*clone.figures("grpo")["scores"]]
    assert "" == clone.run("git", "status", "--porcelain")


@pytest.mark.parametrize("stage", STAGES)
def test_product(clone: Clone, stage: str) -> None:
    """A product loads with plain transformers, ends its turn in generate, and tells what made it."""
    import transformers

    folder = clone.folder / "models" / stage
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    provenance = json.loads((folder / "provenance.json").read_text())

    (record,) = (run for run in clone.runs() if run["stage"] == stage)

    assert ("fp32", False) == (record["answers_in"], record["cudnn_attention"])
    assert {"settings", "inputs", "code", "versions", "device"} == set(provenance)
    assert sorted(provenance["inputs"]) == sorted(
        {
            "sft": ["models/base", "data/sft/train.parquet", "data/sft/eval.parquet, 8 rows"],
            "reward": ["models/sft", "data/pairs/train.parquet", "data/pairs/eval.parquet, 8 rows"],
            "dpo": ["models/sft", "data/pairs/train.parquet", "data/pairs/eval.parquet, 8 rows"],
            "grpo": [
                *("models/dpo", "models/reward", "data/prompts/train.parquet", "data/prompts/eval.parquet, 8 rows"),
            ],
        }[stage]
    )
    assert set() == {file.name for file in folder.iterdir()} - {
        "model.safetensors",
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "provenance.json",
        "training.json",
    }
    training = json.loads((folder / "training.json").read_text())
    assert (3, 64, 0) == (training["steps"], training["rows"]["rows"], training["rows"]["rows_too_long"])
    if stage == "reward":
        model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
        assert 1 == model.config.num_labels
        assert tokenizer.pad_token_id == model.config.pad_token_id
    else:
        model = transformers.AutoModelForCausalLM.from_pretrained(folder)
        ends = model.generation_config.eos_token_id
        assert tokenizer.eos_token_id in (ends if isinstance(ends, list) else [ends])
        assert tokenizer.pad_token_id == model.generation_config.pad_token_id


@pytest.mark.parametrize("stage", STAGES)
def test_run_folder(clone: Clone, stage: str) -> None:
    """A run's folder tells what ran, how it ended, and every step with its time and memory."""
    record = next(record for record in clone.runs() if record["stage"] == stage)
    lines = [json.loads(line) for line in (record["folder"] / "metrics.jsonl").read_text().splitlines()]

    assert 0 == record["exit"]
    assert record["peak_gib"]["resident"] > 0
    assert record["id"] == record["folder"].name
    assert stage in record["id"]  # by which TensorBoard lists it
    assert [] == record["changed"]
    lock = YAML().load(clone.folder / "dvc.lock")
    outs = lock["stages"][stage]["outs"]
    assert record["model"] == next(out["md5"] for out in outs if out["path"] == f"models/{stage}")
    assert {1, 2, 3} <= {line["step"] for line in lines}
    assert all(line["seconds"] >= 0 and line["peak_gib"]["resident"] > 0 for line in lines)
    # What trackers get, too: the trainer's arguments, by which wandb and mlflow name the run.
    (events,) = record["folder"].glob("events.out.tfevents.*")
    assert f'"run_name": "{record["id"]}"'.encode() in events.read_bytes()
    assert "\x1b" not in (record["folder"] / "console.log").read_text()
    assert f"models/{stage}" in (record["folder"] / "console.log").read_text()


def test_completions(clone: Clone) -> None:
    """GRPO keeps the completions of each step with each reward; the reward model is one that differs by completion."""
    import pyarrow.parquet as pq

    folder = next(record["folder"] for record in clone.runs() if record["stage"] == "grpo")
    files = sorted((folder / "completions").glob("*.parquet"))
    table = pq.read_table(files[-1])

    assert {"prompt", "completion", "accuracy", "reward_model"} <= set(table.column_names)
    assert len(set(table["reward_model"].to_pylist())) > 1


def test_curves(clone: Clone) -> None:
    """A curve's step is the optimizer step, from before training to the model as saved."""
    for stage, name in (("sft", "loss"), ("reward", "accuracy"), ("dpo", "accuracy"), ("grpo", "reward")):
        lines = (clone.folder / f"metrics/{stage}/plots/metrics/{stage}/{name}.tsv").read_text().splitlines()

        assert ["step", "0", "2", "3"] == [line.split("\t")[0] for line in lines]
        assert clone.figures(stage)[name] == float(lines[-1].split("\t")[1])


def test_samples(clone: Clone) -> None:
    """Each policy leaves its answers to the same prompts to read."""
    prompts = []
    for stage in ("sft", "dpo", "grpo"):
        rows = json.loads((clone.folder / f"metrics/{stage}/answers.json").read_text())
        prompts.append([row["prompt"] for row in rows])

    assert 8 == len(prompts[0])
    assert prompts[0] == prompts[1] == prompts[2]


def test_dvc_yaml_is_left_alone(clone: Clone) -> None:
    """No run writes to dvc.yaml or to any other file in git."""
    assert "" == clone.run("git", "status", "--porcelain")


def test_nothing_to_do(clone: Clone) -> None:
    """Where nothing changed, nothing runs."""
    assert [] == clone.stages("dvc", "repro")
    assert "up to date" in clone.run("dvc", "repro")


def test_same_bytes(unchanged: Clone) -> None:
    """The same experiment run again gives the same three locks, figures and curves, to the byte."""
    before = unchanged.products()
    ran = unchanged.stages("dvc", "repro", "--force")

    assert 9 == len(ran)
    assert before == unchanged.products()


def test_run_section_changes_nothing(unchanged: Clone) -> None:
    """A setting of `run` reruns no stage."""
    assert [] == unchanged.stages("dvc", "exp", "run", "-S", "run.verbosity=quiet")


@pytest.mark.slow
def test_one_dial(unchanged: Clone) -> None:
    """`-S train.lr=1e-5` reaches the optimizer of all four stages, each times its lr_scale, and reruns nothing else."""
    known = {record["id"] for record in unchanged.runs()}
    ran = unchanged.stages("dvc", "exp", "run", "-S", "train.lr=1e-5")
    scale = {s: YAML().load(unchanged.folder / "params.yaml")[s]["lr_scale"] for s in STAGES}
    rates = {}
    for record in unchanged.runs():
        if record["id"] not in known:
            lines = [json.loads(line) for line in (record["folder"] / "metrics.jsonl").read_text().splitlines()]
            rates[record["stage"]] = next(line["learning_rate"] for line in reversed(lines) if "learning_rate" in line)

    assert [*STAGES, "pairs"] == sorted(ran, key=[*STAGES, "pairs"].index)  # these are handed on, the same
    assert {stage: pytest.approx(1e-5 * scale[stage]) for stage in STAGES} == rates


def test_only_what_changed_and_back(unchanged: Clone) -> None:
    """In a temporary checkout, dpo.beta reruns dpo and grpo, whose records come home; going back trains nothing."""
    before, known = unchanged.products(), {record["id"] for record in unchanged.runs()}
    ran = unchanged.stages("dvc", "exp", "run", "--temp", "-n", "beta", "-S", "dpo.beta=0.3")
    new = [record for record in unchanged.runs() if record["id"] not in known]

    assert ["dpo", "grpo"] == ran
    assert {("dpo", "beta"), ("grpo", "beta")} == {(record["stage"], record["experiment"]) for record in new}
    assert all(record["id"].endswith(f"_{record['stage']}_beta") for record in new)
    assert all(["params.yaml"] == record["changed"] for record in new)
    unchanged.run("dvc", "exp", "apply", "beta")
    assert before != unchanged.products()
    unchanged.run("git", "checkout", "-q", ".")
    assert [] == unchanged.stages("dvc", "repro")
    assert before == unchanged.products()


def test_init_rewires_the_graph(unchanged: Clone) -> None:
    """`init` and `reward_model` are dependencies: changed, they rewire what feeds what."""
    unchanged.params(dpo={"init": "models/base"}, grpo={"init": "models/sft"})
    drawn = unchanged.run("dvc", "dag", "--mermaid")
    names = dict(line.strip().removesuffix('"]').split('["') for line in drawn.splitlines() if '["' in line)
    edges = {tuple(names[node] for node in line.strip().split("-->")) for line in drawn.splitlines() if "-->" in line}

    assert ("models/dvc.yaml:base", "dpo") in edges
    assert ("sft", "dpo") not in edges
    assert ("sft", "grpo") in edges
    assert ("reward", "grpo") in edges


def test_rewards_rerun_grpo_alone(unchanged: Clone) -> None:
    """An edit in llmrl/rewards.py concerns grpo and nothing else."""
    with (unchanged.folder / "llmrl/rewards.py").open("a") as file:
        file.write("\n\ndef mine(completions, **_):\n    return [0.0] * len(completions)\n")

    assert ["grpo"] == unchanged.stages("dvc", "repro", "--dry")


def test_a_reward_that_fails_stops_the_stage(unchanged: Clone) -> None:
    """A reward that gives no number is named with step, row and value, and the old product stays as it is."""
    before = (unchanged.folder / "models/grpo/model.safetensors").read_bytes()
    with (unchanged.folder / "llmrl/rewards.py").open("a") as file:
        file.write("\n\ndef mine(completions, **_):\n    return [float('nan')] * len(completions)\n")
    unchanged.params(grpo={"rewards": {"mine": 1.0}})
    said = unchanged.run(sys.executable, "-m", "stages.grpo", check=False)

    assert re.search(r"grpo: step 1: the reward mine returned nan, in row 1 of the batch \(prompt '.+', compl", said)
    assert "Traceback" not in said
    assert before == (unchanged.folder / "models/grpo/model.safetensors").read_bytes()


def test_a_diverged_training_is_no_success(unchanged: Clone) -> None:
    """A training that is not finite any more stops with what to change, and leaves the old product as it is."""
    before = (unchanged.folder / "models/reward/model.safetensors").read_bytes()
    unchanged.params(reward={"lr_scale": 1e30})
    said = unchanged.run(sys.executable, "-m", "stages.reward", check=False)

    assert re.search(r"reward: the (loss|gradient) of step \d is not finite \(.+\), first in the row '", said)
    assert "Lower train.lr or reward.lr_scale in params.yaml" in said
    assert "Traceback" not in said
    assert before == (unchanged.folder / "models/reward/model.safetensors").read_bytes()


def test_readme_commands(unchanged: Clone) -> None:
    """README's daily commands run, and what they print fits 120 columns."""
    daily = (ROOT / "README.md").read_text().split("## Every day")[1].split("```")[1]
    commands = re.findall(r"^\$ (dvc (?:\\\n|[^#\n])*)", daily, re.MULTILINE)
    unchanged.params(dpo={"beta": 0.3})
    measured = unchanged.folder / "metrics/grpo/metrics.json"  # as another training would leave it
    measured.write_text(re.sub(r'"sampled": [\d.]+', '"sampled": 0.125', measured.read_text()))
    for command in commands:
        if "exp run" not in command:  # other tests run experiments
            said = unchanged.run("bash", "-c", command.replace("\\\n", " ").replace("dvc repro", "dvc repro --dry"))
            assert 120 >= max(map(len, said.splitlines()), default=0)
            if "grep" in command:
                assert re.search(r"^grpo\.answers\.sampled .* 0\.125 ", said, re.MULTILINE)

    assert {"repro", "params", "metrics", "exp"} == {command.split()[1] for command in commands}


def test_a_mistake_loses_nothing(unchanged: Clone) -> None:
    """A mistake in the last section stops the first stage; undoing it restores all without training."""
    before = unchanged.products()
    unchanged.params(train={"lr": 0.5}, grpo={"betta": 0.1})
    said = unchanged.run("dvc", "repro", check=False)
    unchanged.run("git", "checkout", "-q", "params.yaml")

    assert "grpo.betta" in said
    assert "Did you mean grpo.beta?" in said
    assert "Traceback" not in said
    assert [] == unchanged.stages("dvc", "repro")
    assert before == unchanged.products()
