"""profiles/: whole params.yaml files, each of which gives every trainer its configuration; `make profile` switches."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from clone import STAGES

from bench import inputs
from llmrl import checks, fit, memory, params, past

ROOT = Path(__file__).parents[1]
PROFILES = sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml"))
HUB = tuple(inputs.MODELS)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("stage", STAGES)
def test_every_trainer_has_its_configuration(profile: str, stage: str, tmp_path: Path) -> None:
    """TRL's configuration of each stage can be constructed from each profile, and has the profile's values."""
    import trl

    from llmrl import hardware, training

    settings = params.stage(stage, ROOT / f"profiles/{profile}.yaml")
    machine = hardware.Hardware("cpu", "CPU", "fp32")
    nothing = trl  # neither tokenizer nor rows matter to a configuration
    run = training.Run(settings, machine, nothing, nothing, nothing, tmp_path, "run")
    configs = {"sft": trl.SFTConfig, "reward": trl.RewardConfig, "dpo": trl.DPOConfig, "grpo": trl.GRPOConfig}
    made = configs[stage](**run.arguments)

    assert settings.lr == made.learning_rate
    assert settings.own.batch == made.per_device_train_batch_size * made.gradient_accumulation_steps
    assert settings.trl.items() <= {name: getattr(made, name) for name in settings.trl}.items()


@pytest.mark.parametrize("profile", HUB)
def test_what_comes_from_the_hub_is_pinned(profile: str) -> None:
    """Models and data of the Hub stand at a commit, or the comment says what pins them."""
    text = (ROOT / f"profiles/{profile}.yaml").read_text()
    revisions = re.findall(r"^ +source: \S+/\S+.*\n +revision: (\S+)(.*)", text, re.MULTILINE)

    assert 4 == len(revisions)
    for revision, comment in revisions:
        assert re.fullmatch(r"[0-9a-f]{40}", revision) or (revision == "null" and "make pin" in comment)


@pytest.mark.parametrize("profile", HUB)
def test_the_chain(profile: str) -> None:
    """Each stage starts from what the one before made."""
    tree = checks.check(ROOT / f"profiles/{profile}.yaml")

    assert {
        "sft": "models/base",
        "reward": "models/sft",
        "dpo": "models/sft",
        "grpo": "models/dpo",
    } == {stage: tree[stage]["init"] for stage in STAGES}
    assert "models/reward" == tree["grpo"]["reward_model"]


def described(profile: str) -> dict[str, str]:
    """What README's table says of a profile, from its file: each row's cell."""
    tree = checks.check(ROOT / f"profiles/{profile}.yaml")
    sets = {name: tree["data"][name] for name in ("sft", "preference", "prompts")}
    cells = {"model": tree["model"]["source"]}
    for name, what in {"sft": "conversations", "preference": "pairs", "prompts": "prompts"}.items():
        rows, source = sets[name]["rows"], sets[name]["source"]
        cells[what] = f"{'all' if rows is None else f'{rows:,}'} of {source}, {sets[name]['eval_rows']} held out"
    for stage in STAGES:
        settings = params.stage(stage, ROOT / f"profiles/{profile}.yaml")
        steps, batch = settings.trl["max_steps"], settings.own.batch
        if stage == "grpo":
            tokens = [settings.own.max_prompt_length, settings.trl["max_completion_length"]]
        else:
            tokens = [settings.trl["max_length"]] * (1 if stage == "sft" else 2)
        unit = {"sft": "conversations", "grpo": "completions"}.get(stage, "pairs")
        total = steps * batch * sum(tokens) / 1e6
        cells[stage] = f"{steps} steps, {steps * batch:,} {unit}, {total:.1f} M tokens"
    if profile in HUB:
        cells |= expected(profile)
    return cells


def expected(profile: str) -> dict[str, str]:
    """What it takes on a card of the 6 GB class, by arithmetic."""
    path, shape = ROOT / f"profiles/{profile}.yaml", memory.Shape.of(inputs.MODELS[profile])
    stages = [memory.Stage(shape, params.stage(name, path), "bf16", "cuda", liger=True) for name in STAGES]
    prompts = params.source("prompts", path)[1]
    given = (1, prompts.rows, prompts.eval_rows)
    seconds = sum(past.expected(one, one.settings.trl["max_steps"], *given).seconds for one in stages)
    return {
        "time": f"{seconds / 3600:.1f} h on a card of the 6 GB class, by arithmetic; not measured yet",
        "GPU memory": f"at most {fit.size(max(map(fit.total, stages)))}, by arithmetic; measured: docs/gpu.md",
    }


def test_readme_has_the_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """README's table says what the profiles' files do."""
    monkeypatch.chdir(tmp_path)  # where no past run tells how long one takes
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Profiles\n")[1].split("\n## ")[0]
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line[:1] == "|"]
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
    assert "qwen2.5-0.5b smollm2-135m tiny" in done.stderr
    assert before == (project / "params.yaml").read_bytes()
