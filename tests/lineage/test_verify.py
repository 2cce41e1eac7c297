"""Whether everything is what the recorded inputs made: faults planted in a repository of the real DVC."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clone import Clone, micro_clone, toy_clone
from dvc.repo import Repo
from safetensors.numpy import load_file, save_file

from llmrl import params, repository
from llmrl.base.record import what_made_it
from llmrl.graph import STAGES
from llmrl.lineage import again, verify
from llmrl.measuring import intervals
from llmrl.measuring.answers import SCHEMA, summary, with_origin
from llmrl.session import provenance
from llmrl.training.settings import Settings

LOCKED = "is not what dvc.lock recorded"
Verify = Callable[..., tuple[int, str]]


def make_model(folder: Path, made_by: dict) -> None:
    """A model of one tensor, which says what made it."""
    folder.mkdir(parents=True)
    save_file({"weight": np.arange(1024, dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "provenance.json").write_text(json.dumps(made_by))


def make_figures(settings: Settings) -> None:
    """What a stage measures: answers to four prompts, or the scores of four pairs, and figures counted from them."""
    name, init = settings.stage, Path(settings.own.init)
    known = {"init": str(init), "init_model": repository.digest(init), "answers": asdict(settings.answers)}
    told = {"policy": name, "prompt": "1 + 1?", "solution": "2", "greedy": "2", "sampled": ["2", "3"]}
    for way, several in (("greedy", lambda value: value), ("sampled", lambda value: [value, value])):
        told |= {f"{way}_right": several(True), f"{way}_tokens": several(3), f"{way}_ended": several(True)}
        told |= {f"{way}_marked": several(False), f"{way}_repetition": several(0.1)}
    rows = [told | {"row": row, "sampled_right": [row > 0, row > 1]} for row in range(4)]
    answers, figures, tables = pa.Table.from_pylist(rows, SCHEMA), dict[str, Any](), dict[str, pa.Table]()
    if STAGES[name].answers:
        models = {"answers": Path("models", name)} | ({"answers_before": init} if name == "sft" else {})
        for section, model in models.items():
            figures[section] = summary(answers)
            table = with_origin(answers, model=repository.digest(model), **known)
            tables["after" if section == "answers" else "before"] = table
    else:
        scores = {"chosen_score": [1.0, 2.0, 3.0, -1.0], "rejected_score": [0.0, 0.5, 1.0, 1.0]}
        tables["pairs"] = with_origin(pa.table(scores), model=repository.digest(Path("models", name)))
        low, high = intervals.wilson(0.75, 4)
        figures |= {"accuracy": 0.75, "accuracy_low": low, "accuracy_high": high, "n": 4, "margin": 0.625}
    if name == "grpo":
        policies = {one: repository.digest(Path("models", one)) for one in ("base", "sft", "dpo", "grpo")}
        scored = pa.table({"policy": [*policies], "row": [0] * 4, "sampled": [[number, 2.0] for number in range(4)]})
        tables["scores"] = with_origin(scored, models=policies)
        figures["scores"] = {"base": 1.0, "sft": 1.5, "dpo": 2.0, "grpo": 2.5}
    folder = Path("metrics", name)
    (folder / "held_out").mkdir(parents=True)
    for what, table in tables.items():
        pq.write_table(table, folder / "held_out" / f"{what}.parquet")
    (folder / "metrics.json").write_text(json.dumps({name: figures | {"loss": 0.5}}))


def committed(*target: str) -> None:
    """Have DVC record what lies here, of a stage or of all, whatever made it."""
    with Repo() as repo:
        repo.commit(*target, force=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as if its stages had run, recorded by DVC: products with next to nothing in them, models that say
    what made them, and a raw file that `dvc add` tracks.
    """
    clone = toy_clone(tmp_path_factory.mktemp("verify") / "made")
    before = Path.cwd()
    os.chdir(clone.folder)
    try:
        raw = Path("data/raw/sft/mine.jsonl")
        raw.write_text('{"prompt": "1 + 1?"}\n')
        with Repo() as repo:
            repo.add(str(raw))
        for name in ("sft", "preference", "pairs", "prompts"):
            for file in ("train.parquet", "eval.parquet", "held_out.jsonl"):
                path = Path("data", name, file)
                path.parent.mkdir(exist_ok=True)
                path.write_text(f"rows of {path}\n" * 3)
        experiment = params.experiment()
        make_model(Path("models/base"), what_made_it(experiment.model, Path("models/tiny")))
        for name in ("sft", "dpo", "reward", "grpo"):
            settings = experiment.stages[name]
            paths = [*(getattr(settings.own, one) for one in STAGES[name].models)]
            paths.append(f"{STAGES[name].folder}/train.parquet")
            inputs = {path: repository.digest(Path(path)) for path in paths}
            said = {"settings": settings.deciding, "inputs": inputs, "code": provenance.code(settings)}
            make_model(Path("models", name), said | {"versions": provenance.versions(()), "device": "cpu"})
            make_figures(settings)
        with Repo() as repo:
            for out in (Path(out.fs_path) for stage in repo.index.stages for out in stage.outs):
                if not out.exists():
                    place = out if out.suffix else out / "a.tsv"
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_text('{"sampled": 0.5}')
        committed()
        clone.commit("a run")
    finally:
        os.chdir(before)
    return clone.folder


@pytest.fixture
def clone(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A copy of it; the test stands in it."""
    shutil.copytree(made, tmp_path / "clone", ignore=shutil.ignore_patterns("bench", "docs", "tests"))
    monkeypatch.chdir(tmp_path / "clone")
    return Clone(tmp_path / "clone")


@pytest.fixture
def verified(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Runs the command, and gives its exit status and what it printed."""

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["verify", *arguments])
        with pytest.raises(SystemExit) as ended:
            verify.main()
        return int(ended.value.code or 0), "".join(capsys.readouterr())

    return run


def changed(file: str, byte: int = -1) -> None:
    """Flip one bit of a file, and leave it the size and times it had."""
    path = Path(file)
    was, content = path.stat(), bytearray(path.read_bytes())
    content[byte] ^= 1
    path.chmod(0o644)  # DVC's objects are read-only
    path.write_bytes(content)
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))


def replaced(file: str, old: str, new: str) -> None:
    text = Path(file).read_text()
    assert old in text
    Path(file).write_text(text.replace(old, new, 1))


def last(printed: str) -> str:
    return printed.splitlines()[-1]


@pytest.mark.usefixtures("clone")
def test_whole(verified: Verify) -> None:
    """All is as it was recorded, and so it is said, with how many files were read."""
    status, printed = verified()

    assert 0 == status, printed
    assert re.fullmatch(
        r"Everything is what the recorded inputs made: \d{3} files of \d\.\d\d MiB hashed\.", last(printed)
    )
    assert "✗" not in printed
    assert "–" not in printed
    for name in ("base", "prepare@sft", *STAGES, "data/raw/sft/mine.jsonl.dvc"):
        assert re.search(rf"^{name} .*✓$", printed, re.MULTILINE), name


def test_one_bit(clone: Clone, verified: Verify) -> None:
    """Of a figure and of a weight: it is named, and what the message tells to do mends it."""
    files = ["models/sft/model.safetensors", "metrics/grpo/metrics.json"]
    for file in files:
        changed(file)
    for file in files:
        status, printed = verified()
        assert 1 == status
        assert f": {file} {LOCKED}. `" in last(printed)
        clone.run("sh", "-c", re.findall("`(.+?)`", last(printed))[0])
    assert 0 == verified()[0]


@pytest.mark.usefixtures("clone")
def test_all_that_differs(verified: Verify) -> None:
    """Every file of every kind of product is looked at, and what others are made of comes first."""
    files = {
        "data/prompts/train.parquet": "data/dvc.lock",
        "models/base/model.safetensors": "models/dvc.lock",
        "data/raw/sft/mine.jsonl": "data/raw/sft/mine.jsonl.dvc",
        "metrics/data/sft.json": "data/dvc.lock",
        "metrics/sft/plots/a.tsv": "dvc.lock",
        "models/grpo/provenance.json": "dvc.lock",
    }
    for file in files:
        changed(file, byte=3)
    status, printed = verified()

    assert 1 == status
    said = {f"✗ {file} is not what {lock} recorded" for file, lock in files.items()}
    assert said <= {*printed.splitlines()}
    assert f". What differs first, of {printed.count('✗ ')}: data/raw/sft/mine.jsonl is not what " in last(printed)


@pytest.mark.usefixtures("clone")
def test_dvc_sees_no_bit() -> None:
    """Why every byte is read here."""
    for _ in range(2):
        with Repo() as repo:
            assert {} == repo.status()
        changed("models/sft/model.safetensors")


@pytest.mark.usefixtures("clone")
def test_what_is_missing_or_one_more(verified: Verify) -> None:
    """In a folder that is here."""
    Path("models/dpo/config.json").unlink()
    Path("models/sft/notes.txt").write_text("mine")
    Path("metrics/reward/metrics.json").unlink()
    status, printed = verified()

    assert 1 == status
    assert "✗ models/dpo/config.json is missing\n" in printed
    assert "✗ models/sft/notes.txt is one more than was made\n" in printed
    assert "✗ metrics/reward/metrics.json is missing\n" in printed
    assert "What differs first, of 3: models/sft/notes.txt is one more" in last(printed)


@pytest.mark.usefixtures("clone")
@pytest.mark.parametrize("path", ["models/base", "data/sft/train.parquet"])
def test_a_lock_that_was_edited(verified: Verify, path: str) -> None:
    """An input that is not what the stage above made: a model, or a file of a folder."""
    made = repository.digest(Path(path))
    replaced("dvc.lock", made, made[::-1] if path.endswith("parquet") else f"{made[:32][::-1]}.dir")
    status, printed = verified()

    assert 1 == status
    assert f"sft was made of another {path}: dvc.lock has {made[:32][::-1]}" in printed
    assert f"inputs ({path})" in printed  # of provenance.json, which has it as it was


@pytest.mark.usefixtures("clone")
def test_a_model_that_says_otherwise(verified: Verify) -> None:
    """Also where DVC was told to record it so."""
    said = "models/grpo/provenance.json is not what the locks and the files here say: "
    for name in ("learning_rate", "models/dpo", "stages/grpo.py"):
        replaced("models/grpo/provenance.json", f'"{name}": ', f'"{name}0": ')
    replaced("models/base/provenance.json", '"config.json": "', '"config.json": "0')
    committed()
    status, printed = verified()
    assert 1 == status
    parts = "inputs (models/dpo); settings (learning_rate0, learning_rate); code (stages/grpo.py0, stages/grpo.py)"
    assert f"✗ {said}{parts}\n" in printed
    assert (
        "✗ models/base/provenance.json is not what the locks and the files here say: inputs (config.json)\n" in printed
    )
    assert last(printed).endswith("`dvc repro --force models/dvc.yaml:base` makes the model anew.")

    replaced("models/grpo/provenance.json", '"settings"', '"set"')
    committed("grpo")
    assert "✗ models/grpo/provenance.json is not what a stage writes: KeyError('settings')\n" in verified()[1]


def edited(stage: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a stage's figures, and what dvc.lock has of them."""
    file = Path("metrics", stage, "metrics.json")
    before = (f"md5: {repository.digest(file)}", f"size: {file.stat().st_size}")
    found = json.loads(file.read_text())
    change(found[stage])
    file.write_text(json.dumps(found))
    after = (f"md5: {repository.digest(file)}", f"size: {file.stat().st_size}")
    text = Path("dvc.lock").read_text()
    at = text.index(before[0])
    Path("dvc.lock").write_text(text[:at] + text[at:].replace(before[0], after[0], 1).replace(before[1], after[1], 1))
    with Repo() as repo:
        assert {} == repo.status(stage)


@pytest.mark.usefixtures("clone")
def test_figures_edited_with_their_lock(verified: Verify) -> None:
    """They are counted anew from what is held out, and named; that the lock is not the commit's, too."""
    edited("sft", lambda own: own["answers_before"].pop("n"))
    edited("sft", lambda own: own["answers"].update(greedy_low=0.9, refused=3))
    edited("reward", lambda own: own.update(accuracy=1.0, accuracy_low=0.7, margin=0.7))
    edited("dpo", lambda own: own["answers"].update(best=1.0, tokens="three"))
    edited("grpo", lambda own: own["scores"].update(sft=-1.5))
    edited("grpo", lambda own: own.pop("answers"))
    status, printed = verified()

    assert 1 == status, printed
    said = [
        "sft.answers_before.n is missing, and metrics/sft/held_out gives 4",
        "sft.answers.greedy_low is 0.9, and metrics/sft/held_out gives 0.510109",
        "reward.accuracy is 1.0, and metrics/reward/held_out gives 0.75",
        "reward.margin is 0.7, and metrics/reward/held_out gives 0.625",
        "reward.accuracy_low is 0.7, and metrics/reward/held_out gives 0.510109",
        "dpo.answers.tokens is three, and metrics/dpo/held_out gives 3",
        "dpo.answers.best is 1.0, which nothing in metrics/dpo/held_out gives",
        "grpo.scores.sft is -1.5, and metrics/grpo/held_out gives 1.5",
        "grpo.answers.greedy is missing, and metrics/grpo/held_out gives 1",
    ]
    lines = printed.splitlines()
    assert {*said} <= {line.partition("metrics.json: ")[2] for line in lines if line.startswith("✗ metrics/")}
    assert last(printed).endswith("`rm metrics/sft/metrics.json && dvc repro sft` measures anew.")
    assert "– dvc.lock: what it has of dpo, grpo, reward, sft is not what the last commit has" in lines


@pytest.mark.usefixtures("clone")
def test_figures_that_cannot_be_counted(verified: Verify) -> None:
    """Where the answers are not here that is said; where figures or answers are none, it is a fault."""
    edited("dpo", lambda own: own.update(answers=None))
    Path("metrics/sft/held_out/after.parquet").write_text("none")
    committed("sft")
    shutil.rmtree("metrics/grpo/held_out")
    shutil.rmtree(".dvc/cache")
    status, printed = verified()

    assert 1 == status
    assert "– metrics/grpo/metrics.json: not counted anew, as metrics/grpo/held_out is not here\n" in printed
    are_not = "are not what a stage writes"
    assert f"✗ metrics/dpo/metrics.json and metrics/dpo/held_out {are_not}: AttributeError(" in printed
    assert f"✗ metrics/sft/metrics.json and metrics/sft/held_out {are_not}: ArrowInvalid(" in printed


@pytest.mark.usefixtures("clone")
def test_answers_of_another_model(verified: Verify) -> None:
    """Tables say whose answers they have; also where figures and lock agree with them."""

    def of_others(file: str, **other: Any) -> None:
        table = pq.read_table(file)
        known = json.loads(table.schema.metadata[b"origin"])
        pq.write_table(with_origin(table, **known | other), file)

    of_others("metrics/sft/held_out/before.parquet", model="0.dir")
    of_others("metrics/dpo/held_out/after.parquet", init_model="0.dir")
    of_others("metrics/grpo/held_out/after.parquet", answers={"samples": 1})
    of_others("metrics/grpo/held_out/scores.parquet", models={"sft": "0.dir", "/elsewhere": "1.dir"})
    for stage in ("sft", "dpo", "grpo"):
        committed(stage)
    status, printed = verified()

    assert 1 == status
    assert [
        "✗ metrics/sft/held_out/before.parquet is of another models/base",
        "✗ metrics/dpo/held_out/after.parquet is of a policy trained from another models/sft",
        "✗ metrics/grpo/held_out/after.parquet is of other settings of `answers`",
        "✗ metrics/grpo/held_out/scores.parquet is of another models/sft, of no models/grpo",
    ] == [line for line in printed.splitlines() if line.startswith("✗")]


@pytest.mark.usefixtures("clone")
def test_a_link_to_nothing(verified: Verify) -> None:
    """In place of a file, as one more, and in place of a whole folder."""
    for link in ("models/grpo/model.safetensors", "models/sft/more", "metrics/dpo/metrics.json"):
        Path(link).unlink(missing_ok=True)
        Path(link).symlink_to("/nowhere/at/all")
    Path("models/reward").rename("kept")
    Path("models/reward").symlink_to("/nowhere/at/all")
    status, printed = verified()

    assert 1 == status
    for link in ("models/grpo/model.safetensors", "models/sft/more", "metrics/dpo/metrics.json", "models/reward"):
        assert f"✗ {link} is a link to nothing\n" in printed
    mended = re.findall("`(.+?)`", last(printed))[0]
    assert "rm -r models/sft && dvc checkout models/sft" == mended
    assert 2 == verified("--again", "grpo")[0]


@pytest.mark.usefixtures("clone")
def test_commands_that_can_be_copied(verified: Verify) -> None:
    """The name of a file may hold what a shell would run."""
    name = "data/raw/sft/x;touch pwn;.jsonl"
    Path(name).write_text("rows")
    with Repo() as repo:
        repo.add(name)
    changed(name)

    assert f"`rm -r '{name}' && dvc checkout '{name}'` brings it back." in last(verified()[1])


@pytest.mark.usefixtures("clone")
def test_locks_that_are_not_committed(clone: Clone, verified: Verify) -> None:
    """Each that git has otherwise is named, with its stages; where git has no commit nothing is said."""
    replaced("data/dvc.lock", "prepare@sft:", "prepare@other:")
    assert "– data/dvc.lock: what it has of prepare@other, prepare@sft is not what the last commit has" in verified()[1]
    clone.commit("another")
    assert "the last commit" not in verified()[1]
    shutil.rmtree(".git")
    assert "the last commit" not in verified()[1]


@pytest.mark.usefixtures("clone")
def test_what_changed_since(verified: Verify) -> None:
    """Settings, code and raw files that are others now: they are named, each as what it is."""
    replaced("params.yaml", "beta: 0.1", "beta: 0.3")
    with Path("stages/grpo.py").open("a") as file:
        file.write("# more\n")
    Path("models/raw/more.txt").write_text("more")
    status, printed = verified()

    assert 1 == status
    assert "✗ params.yaml: dpo.beta changed since dpo was made\n" in printed
    assert "✗ stages/grpo.py: code changed since grpo was made\n" in printed
    assert "✗ models/raw: input changed since base was made\n" in printed
    assert last(printed).endswith("of 3: models/raw: input changed since base was made. `dvc repro` makes it anew.")


@pytest.mark.usefixtures("clone")
def test_what_lies_in_the_cache(verified: Verify) -> None:
    """A model that is not checked out is looked for there, and read as well: a corrupt object is found."""
    weights = repository.digest(Path("models/grpo/model.safetensors"))
    shutil.rmtree("models/grpo")
    status, printed = verified()
    assert 0 == status
    assert "– models/grpo: not checked out; whole in the cache of DVC\n" in printed

    there = f".dvc/cache/files/md5/{weights[:2]}/{weights[2:]}"
    changed(there)
    status, printed = verified()
    assert 1 == status
    assert f"models/grpo/model.safetensors: what DVC's cache has of it is corrupt, {there}. `rm -f {there}`" in last(
        printed
    )


@pytest.mark.usefixtures("clone")
def test_a_list_in_the_cache(verified: Verify) -> None:
    """The list of a folder's files may be corrupt, or gone; then a file cannot be named."""
    made = repository.digest(Path("models/grpo"))
    there = Path(f".dvc/cache/files/md5/{made[:2]}/{made[2:]}")
    changed("models/grpo/config.json")
    changed(str(there))
    assert f"models/grpo: what DVC's cache has of it is corrupt, {there}." in last(verified()[1])

    there.unlink()
    said = (
        "models/grpo is not what dvc.lock recorded (in which file, DVC's cache cannot tell). `rm -r models/grpo && dvc"
    )
    assert said in last(verified()[1])


@pytest.mark.usefixtures("clone")
def test_what_was_not_pulled(verified: Verify) -> None:
    """It is not checked, and said with how much; the rest is. Where there is nothing, nothing is verified."""
    shutil.rmtree(".dvc/cache")
    shutil.rmtree("models/sft")
    shutil.rmtree("data/prompts")
    Path("data/raw/sft/mine.jsonl").unlink()
    status, printed = verified()
    assert 0 == status, printed
    assert "– models/sft: not here\n" in printed
    stages = "prepare@preference, sft, pairs, dpo, grpo"
    assert f"– data/prompts: whether {stages} was made of its files cannot be told without it\n" in printed
    assert "– data/raw/sft/mine.jsonl: not here, and not checked\n" in printed  # of what data/sft was made of
    assert last(printed).startswith("What is here is what the recorded inputs made: ")
    assert re.search(r"; 3 of \d+ products, 0\.0\d MiB, are not here, and not checked: `dvc pull` brings them", printed)

    changed("models/dpo/config.json")
    assert "models/dpo is not what dvc.lock recorded" in last(verified()[1])

    for lock in repository.LOCKS:
        lock.unlink()
    Path("data/raw/sft/mine.jsonl.dvc").unlink()
    models = (f"models/{name}" for name in ("base", *STAGES))
    for folder in ("data/sft", "data/preference", "data/pairs", *models, "metrics"):
        shutil.rmtree(folder, ignore_errors=True)
    status, printed = verified()
    assert 2 == status
    assert "There is nothing to verify" in printed


@pytest.mark.usefixtures("clone")
def test_a_run_that_was_not_recorded(verified: Verify) -> None:
    Path("dvc.lock").unlink()
    assert "models/sft is of a run that dvc.lock has not recorded" in verified()[1]


@pytest.mark.usefixtures("clone")
def test_a_lock_that_cannot_be_read(verified: Verify) -> None:
    Path("dvc.lock").write_text("stages: [")
    status, printed = verified()

    assert 2 == status
    assert printed.startswith("DVC cannot read what it recorded: ")


def test_it_needs_no_torch(clone: Clone) -> None:
    """Nor anything else that costs seconds."""
    code = "import sys\nfrom llmrl.lineage import chain, verify\nwith chain.looked_at(): pass\n"
    code += "print({'torch', 'transformers', 'trl', 'datasets'} & {*sys.modules})"

    assert "set()\n" == clone.run(sys.executable, "-c", code)


def test_in_what_files_differ(tmp_path: Path) -> None:
    """Of weights the tensor and by how much, of figures their names."""
    before, after = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_file({"one": np.zeros(4, np.float32), "two": np.ones((2, 2), np.float32)}, before)
    save_file({"one": np.full(4, 1e-3, np.float32), "two": np.array([[1, 1], [1.5, 1]], np.float32)}, after)
    assert again.how(before, after) == "2 of 2 tensors differ, two the most, by up to 0.5"
    save_file({"one": np.zeros(4, np.float32)}, after)
    assert again.how(before, after) == "other tensors, as two"
    save_file({"one": np.zeros(4, np.float32), "two": np.ones(4, np.float32)}, after)
    assert again.how(before, after) == "two is float32 (4,), and was float32 (2, 2)"
    after.write_bytes(before.read_bytes()[:-1])
    assert again.how(before, after).startswith("other bytes, ")

    before, after = tmp_path / "a.json", tmp_path / "b.json"
    before.write_text('{"grpo": {"reward": 1, "loss": 2}}')
    after.write_text('{"grpo": {"reward": 1, "loss": 3}}')
    assert again.how(before, after) == "other grpo.loss"
    after.write_text('{"grpo": ')
    assert again.how(before, after) == "other bytes, 9 of them, which were 34"
    assert again.how(None, after) == "made anew, there is one more"
    assert again.how(after, None) == "made anew, there is none"


@pytest.mark.usefixtures("clone")
def test_what_is_not_made_again(verified: Verify) -> None:
    """A stage that there is not, or of other inputs than it was made of, or of what is not here."""
    status, printed = verified("--again", "grop")
    assert 2 == status
    assert printed.startswith("--again grop: is none of base, prepare@prompts, ")

    changed("models/sft/config.json")
    status, printed = verified("--again", "models/dpo")
    assert 2 == status
    assert f"dpo would not be made of what it was made of: models/sft/config.json {LOCKED}. `rm -r" in printed

    shutil.rmtree(".dvc/cache")
    shutil.rmtree("models/sft")
    status, printed = verified("--again", "dpo")
    assert 2 == status
    assert "models/sft: not here, and dpo is made of it. `dvc pull` brings it." in printed


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The micro experiment, run and committed."""
    clone = micro_clone(tmp_path_factory.mktemp("again") / "clone")
    clone.run("dvc", "repro")
    clone.commit("run")
    return clone


def command(clone: Clone, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        (sys.executable, "-m", "llmrl.lineage.verify", *arguments),
        cwd=clone.folder,
        env=clone.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", ["grpo", "reward", "models/base", "data/preference"])
def test_again(ran: Clone, name: str) -> None:
    """Made anew, it comes out in the same bytes; it was trained, not taken, and nothing is left of it here."""
    assert "Everything is what the recorded inputs made" in command(ran)[1]
    before, runs = ran.products(), ran.runs()
    status, printed = command(ran, "--again", name)

    assert 0 == status, printed
    assert re.search(r", made anew of the same inputs, came out in the same bytes: \d+ files\.$", printed)
    assert "trained already" not in printed
    assert ("3 steps of 8 sequences" in printed) == (name in STAGES)
    assert (before, runs) == (ran.products(), ran.runs())
    assert not [*ran.folder.glob(".llmrl/again-*")]
    assert "" == ran.run("git", "status", "--short")


@pytest.mark.slow
def test_a_figure_is_measured_anew(ran: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was edited with its lock comes out as it was, by the command that is said; nothing is trained."""
    monkeypatch.chdir(ran.folder)
    edited("dpo", lambda own: own["answers"].update(sampled=0.9))
    status, printed = command(ran)
    assert 1 == status
    assert "dpo.answers.sampled is 0.9, and metrics/dpo/held_out gives " in last(printed)

    said = ran.run("sh", "-c", re.findall("`(.+?)`", last(printed))[0])
    assert "3 steps of 8 sequences" not in said
    assert "" == ran.run("git", "status", "--short")
    assert 0 == command(ran)[0]


@pytest.mark.slow
def test_again_is_other(ran: Clone) -> None:
    """A model that something else has made, and was recorded as the stage's: its answers tell, and making it anew how
    it differs.
    """
    file = ran.folder / "models/grpo/model.safetensors"
    tensors = load_file(file)
    name = min(tensors)
    tensors[name] = tensors[name] + np.float32(0.25)
    save_file(tensors, file, metadata={"format": "pt"})
    said = ran.folder / "models/grpo/provenance.json"
    said.write_text(re.sub(r'"torch": "[^"]+"', '"torch": "0.1"', said.read_text()))
    ran.run("dvc", "commit", "-q", "-f", "grpo")
    assert "✗ metrics/grpo/held_out/after.parquet is of another models/grpo" in command(ran)[1]

    status, printed = command(ran, "--again", "grpo")
    assert 1 == status, printed
    total = len(tensors)
    how = f"1 of {total} tensors differ, {name} the most, by up to 0.25; 1 more of its files differ"
    assert f"models/grpo/model.safetensors: {how}" in printed
    assert "grpo, made anew of the same inputs, came out otherwise. Likely because of torch 0.1, now " in printed
    assert not [*ran.folder.glob(".llmrl/again-*")]
