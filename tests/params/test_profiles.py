"""profiles/: whole params.yaml files, each of which gives every trainer its configuration; `make profile` switches."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import small
import trl
from dvc.utils.hydra import apply_overrides

from bench import inputs
from llmrl import params
from llmrl.data.settings import DATA_SETS
from llmrl.graph import STAGES
from llmrl.memory import formula
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape
from llmrl.params.__main__ import received, table
from llmrl.plan import costs, fit
from llmrl.training.settings import Lora, Settings

ROOT = Path(__file__).parents[2]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
HUB = tuple(inputs.MODELS)


@cache
def experiment(profile: str) -> params.Experiment:
    if profile.startswith("sums"):
        pytest.importorskip("reasoning_gym")  # an extra, of which it takes a task
    return params.experiment(ROOT / f"profiles/{profile}.yaml")


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_trainer_has_its_configuration(profile: str, stage: str, tmp_path: Path) -> None:
    """TRL's configuration of each stage can be constructed from each profile, and has the profile's values."""
    settings = experiment(profile).stages[stage]
    made = getattr(trl, STAGES[stage].config)(**small.run(tmp_path, settings, [small.ROWS[stage]]).arguments)

    assert settings.lr == made.learning_rate
    assert settings.own.batch == made.per_device_train_batch_size * made.gradient_accumulation_steps
    assert settings.trl.items() <= {name: getattr(made, name) for name in settings.trl}.items()


@pytest.mark.parametrize("profile", PROFILES)
def test_what_each_trainer_gets_fits_a_terminal(profile: str) -> None:
    """Of 80 columns, with every value in one piece; what differs stands below its stage."""
    stages = experiment(profile).stages
    lines = printed(stages)
    (heads,) = [line for line in lines if line.startswith("each ")]
    (beta,) = [line for line in lines if line.startswith("  beta ")]

    assert 80 >= max(map(len, lines))
    for stage, settings in stages.items():
        for name, value in received(settings).items():
            assert any(line.split()[0] in (name, f"{stage}.{name}") and value in line for line in lines)
    assert [heads.index("dpo"), heads.index("grpo")] == [beta.index("0.1"), beta.rindex("0")]


def test_what_is_too_long_goes_on_below() -> None:
    """A list between two of its values; of a map each item has a line."""
    targets = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
    checkpointing = {"use_reentrant": False, "every_n_layers": 2}
    settings = small.settings("sft", {"lora": Lora(4, 8, targets=targets)}, gradient_checkpointing_kwargs=checkpointing)
    lines = printed({"sft": settings, "dpo": small.settings("dpo")})
    place = next(place for place, line in enumerate(lines) if line.startswith("  sft.lora.targets "))

    assert 80 >= max(map(len, lines))
    assert str(targets) == " ".join((lines[place][30:], lines[place + 1].strip()))
    assert "  sft.gradient_checkpointing_kwargs.every_n_layers 2" in lines


def printed(stages: dict[str, Settings]) -> list[str]:
    return "\n".join(table(stages)).splitlines()


@pytest.mark.parametrize("profile", HUB)
def test_what_comes_from_the_hub_is_pinned(profile: str) -> None:
    """Models and data of the Hub stand at a commit, or the comment says what pins them."""
    text = (ROOT / f"profiles/{profile}.yaml").read_text()
    revisions = re.findall(r"^ +source: \S+/\S+.*\n +revision:(?: ([0-9a-f]+))?(.*)", text, re.MULTILINE)

    assert 4 == len(revisions)
    for revision, comment in revisions:
        assert re.fullmatch(r"[0-9a-f]{40}", revision) or (revision == "" and "make pin" in comment)


@pytest.mark.parametrize("profile", PROFILES)
def test_dvc_changes_the_lines_of_a_setting_alone(profile: str, tmp_path: Path) -> None:
    """`dvc exp run -S` writes the whole file anew, and each line as it stands here but for the value that is set."""
    before = (ROOT / f"profiles/{profile}.yaml").read_text(encoding="utf-8")
    settings = {"train.seed=7": "seed: 7", "grpo.rewards.reward_model=0.7": "reward_model: 0.7", "run.memory_gib=7": ""}
    for setting, line in settings.items():
        (tmp_path / "params.yaml").write_text(before, encoding="utf-8")
        apply_overrides(tmp_path / "params.yaml", [setting])
        after = (tmp_path / "params.yaml").read_text(encoding="utf-8")
        old, new = before.splitlines(), after.splitlines()

        assert len(old) == len(new)
        (changed,) = (two for one, two in zip(old, new, strict=True) if one != two)
        assert line in changed


@pytest.mark.parametrize("profile", HUB)
def test_the_chain(profile: str) -> None:
    """Each stage starts from what the one before made."""
    stages = experiment(profile).stages

    assert ["models/base", "models/sft", "models/sft", "models/dpo"] == [one.own.init for one in stages.values()]
    assert "models/reward" == stages["grpo"].own.reward_model


def described(profile: str) -> dict[str, str]:
    """What the docs' table says of a profile, from its file: each row's cell."""
    found = experiment(profile)
    cells = {"model": found.model.source}
    for name, what in zip(DATA_SETS, ("conversations", "pairs", "prompts"), strict=True):
        asked = getattr(found.data, name)
        rows = "all" if asked.rows is None else f"{asked.rows:,}"
        cells[what] = f"{rows} of {asked.source}, {asked.eval_rows} held out"
    for stage, settings in found.stages.items():
        steps, batch = settings.trl["max_steps"], settings.own.batch
        unit = {"sft": "conversations", "grpo": "completions"}.get(stage, "pairs")
        total = steps * batch * STAGES[stage].sides * formula.length(settings) / 1e6
        cells[stage] = f"{steps} steps, {steps * batch:,} {unit}, {total:.1f} M tokens"
    if profile in HUB:  # on a card of the 6 GB class
        shape = Shape.of(inputs.MODELS[profile])
        how: dict[str, Any] = {"precision": "bf16", "kind": "cuda", "liger": True, "engine": "cuda_graphs"}
        planned = [Planned(shape, settings, **how) for settings in found.stages.values()]
        seconds = sum(costs.assumed(one, one.settings.trl["max_steps"], found.data)[0] for one in planned)
        most = fit.size(max(map(formula.needed, planned)))
        cells["time"] = f"{seconds / 3600:.1f} h on a card of the 6 GB class, by arithmetic; not measured yet"
        cells["GPU memory"] = f"at most {most}, by arithmetic; measured: docs/gpu.md"
    return cells


def test_the_docs_have_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their table says what the profiles' files do."""
    monkeypatch.chdir(tmp_path)  # where no rows are prepared yet
    text = (ROOT / "docs/profiles.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line[:1] == "|"]
    head, rows = lines[0], {line[0]: line[1:] for line in lines[2:]}
    said = {profile: {name: rows[name][column] for name in rows} for column, profile in enumerate(head[1:])}

    assert {"tiny", *HUB} == set(said)  # a user's own need no place there
    for profile in said:
        assert described(profile).items() <= said[profile].items()


# --- make profile ----------------------------------------------------------------------------------------------------


@pytest.fixture
def make(project: Path):
    """Runs `make profile` in a committed copy of the project, and gives the finished process."""
    for command in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "the project")):
        identity = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
        subprocess.run(("git", *identity, *command), cwd=project, check=True)

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = ("make", "--no-print-directory", "profile", f"NAME={name}")
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)

    return run


def test_make_profile(make, project: Path) -> None:
    """A profile becomes params.yaml, what changed is shown, and another may follow."""
    for name in ("qwen2.5-0.5b", "smollm2-135m", "tiny"):
        done = make(name)

        assert (0, "") == (done.returncode, done.stderr)
        assert (project / f"profiles/{name}.yaml").read_bytes() == (project / "params.yaml").read_bytes()
        assert ("params.yaml" in done.stdout) == (name != "tiny")  # tiny is what is committed


def test_make_profile_keeps_edits(make, project: Path) -> None:
    """An edit that is not committed, staged or not, is not lost."""
    edited = (project / "params.yaml").read_text().replace("lr: 0.001", "lr: 0.002")
    (project / "params.yaml").write_text(edited)
    for stage in (False, True):
        if stage:
            subprocess.run(("git", "add", "params.yaml"), cwd=project, check=True)
        done = make("smollm2-135m")

        assert 0 != done.returncode
        assert "params.yaml has edits that are not committed" in done.stderr
        assert edited == (project / "params.yaml").read_text()


@pytest.mark.parametrize("name", ["", "smollm2", "../params"])
def test_make_profile_lists_what_there_is(make, project: Path, name: str) -> None:
    """An unknown name is answered with the known ones, and changes nothing."""
    before = (project / "params.yaml").read_bytes()
    done = make(name)

    assert 0 != done.returncode
    assert "gsm8k-smollm2-135m qwen2.5-0.5b smollm2-135m sums-smollm2-135m tiny" in done.stderr
    assert before == (project / "params.yaml").read_bytes()
