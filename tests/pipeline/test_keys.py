"""What decides bytes is in a key, looked at from outside: change a default, and what a trainer gets; then the key."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import json
import re
import sys
import types
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from test_graph import EXEMPT, ROOT, STAGES, declared, lies_in

from llmrl import fields, params
from llmrl.base.settings import Model
from llmrl.data.settings import Part, Preference, Source
from llmrl.measuring.settings import Answers
from llmrl.session import provenance
from llmrl.session.settings import RunSettings
from llmrl.training import rows
from llmrl.training.hardware import Hardware
from llmrl.training.run import Run
from llmrl.training.settings import GrpoSettings, Lora, Settings, SftSettings, StageSettings, TrainSettings

CPU = Hardware("cpu", "CPU", "fp32")
# Where the run lies, and who is told of it.
UNDECIDING = ("output_dir", "run_name", "report_to")
NEEDED = ("rewards", "init", "reward_model")  # as their defaults say that they are missing


class Tokenizer:
    """Counts a token a letter."""

    def apply_chat_template(self, conversations: list, **_: Any) -> list[str]:
        return ["".join(turn["content"] for turn in one) for one in conversations]


TELLING = ("hub_", "trackio_", "log_", "vllm_server_", "run_name", "project", "skip_memory_metrics")  # whom, and where


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data sets of rows of one to sixty letters, and params.yaml as it is."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    monkeypatch.chdir(tmp_path)
    for file in ("params.yaml", "dvc.yaml"):
        (tmp_path / file).write_text((ROOT / file).read_text())
    for folder in ("stages", "llmrl"):
        (tmp_path / folder).symlink_to(ROOT / folder)
    for name in ("sft", "pairs", "prompts"):
        (tmp_path / "data" / name).mkdir(parents=True)
        turn, reply = ([{"role": role, "content": "x" * 30}] for role in ("user", "assistant"))
        full = [{"prompt": turn, "chosen": reply, "rejected": reply, "messages": turn + reply, "solution": "1"}]
        table = pa.Table.from_pylist(full * 12)
        chosen = {
            "sft": ["messages"],
            "pairs": ["prompt", "chosen", "rejected"],
            "prompts": ["prompt", "solution"],
        }
        for side in ("train", "eval"):
            pq.write_table(table.select(chosen[name]), tmp_path / "data" / name / f"{side}.parquet")


def given(settings: Settings) -> str:
    """All that a loader, a trainer and a preparation of rows get of a stage's settings."""
    if settings.stage == "sft" and settings.own.loss_on == "last":
        return "other labels"  # for which the tokenizer here has no marks
    eval_rows, too_long = rows.evaluated_on(settings, Tokenizer())
    run = Run(settings, CPU, Tokenizer(), eval_rows, too_long, Path("runs/1"), "1")
    arguments = {name: value for name, value in run.arguments.items() if name not in UNDECIDING}
    train_rows, more = rows.trained_on(settings, Tokenizer())
    own: list[Any] = []
    if settings.stage == "grpo":
        own = [settings.own.reward_model, settings.own.rewards, settings.answers.precision, settings.own.pass_rate]
        own += [settings.own.pass_samples, settings.answers.batch] if settings.own.pass_rate else []
    adapters = run.lora("CAUSAL_LM")
    return repr(
        (
            sorted(arguments.items()),
            run.loading,
            run.asked,
            adapters and sorted((name, str(value)) for name, value in adapters.to_dict().items()),
            settings.own.lora and (settings.own.lora.merge, settings.own.lora.load_in_4bit),
            (len(train_rows), len(eval_rows), too_long, more),
            (settings.own.init, settings.own.threads, settings.own.precision, settings.own.kernels),
            own,
        )
    )


def key(settings: Settings) -> str:
    """What of a stage's settings is recorded, and keys its checkpoints and its model."""
    return json.dumps(settings.deciding, sort_keys=True, default=str)


def experiment(without: str = "", **changes: Any) -> dict[str, Settings]:
    """The four stages by params.yaml, in which no section that a stage gets has one setting; changes are of grpo."""
    yaml = YAML()
    tree = yaml.load(Path("params.yaml"))
    tree["train"].update({name: value for name, value in changes.items() if name == "lora"})
    tree["grpo"].update({name: value for name, value in changes.items() if name != "lora"})
    for section in ("train", *STAGES, "answers", "run"):
        tree[section].pop(without, None)
    yaml.dump(tree, Path("some.yaml"))
    return params.experiment(Path("some.yaml")).stages


@cache
def usual() -> dict[str, tuple[str, str]]:
    """What the four stages get by params.yaml as it is, and their keys."""
    return {stage: (given(settings), key(settings)) for stage, settings in experiment().items()}


def another(value: Any, choices: tuple[str, ...] = ()) -> Any:
    """Another value of the same type."""
    if choices:
        return next(choice for choice in reversed(choices) if choice != value)
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return f"{value}x"
        case re.Pattern():
            return re.compile(f"{value.pattern}another")
        case None:
            return 7
        case dict():
            return value | {"another": 1}
        case _:
            return type(value)([*value[1:], "another"])


def defaults(*classes: type) -> list[Any]:
    """Each field of settings dataclasses that has a default."""
    return [
        pytest.param(cls, name, id=f"{cls.__name__}.{name}")
        for cls in classes
        for name, one in fields.fields_of(cls).items()
        if one.default is not ...
    ]


@pytest.mark.parametrize(
    ("cls", "name"), defaults(Lora, TrainSettings, StageSettings, SftSettings, GrpoSettings, Answers, RunSettings)
)
def test_a_default_of_ours(cls: type, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another default in the code, for what params.yaml leaves out, is another key, or reaches no trainer."""
    changes: dict[str, Any] = {"lora": {"rank": 2, "alpha": 2}} if cls is Lora else {}
    changes |= {"pass_rate": [0.1, 0.9]} if name == "pass_samples" else {}
    without = "" if name in NEEDED or name in changes else name
    before = experiment(without, **changes)
    one = fields.fields_of(cls)[name]
    value = another(one.default, one.choices)
    value = {"lora": Lora(1, 1), "max_prompt_length": 40, "pass_rate": [0.1, 0.9], "attn_implementation": "eager"}.get(
        name, value
    )
    for owner in {cls, *(heir for heir in (StageSettings, SftSettings, GrpoSettings) if issubclass(heir, cls))}:
        order = [name for name, one in fields.fields_of(owner).items() if one.default is not ...]
        changed = list(owner.__init__.__defaults__)
        changed[order.index(name)] = value
        monkeypatch.setattr(owner.__init__, "__defaults__", tuple(changed))
    after = experiment(without, **changes)

    for stage in STAGES:
        assert given(before[stage]) == given(after[stage]) or key(before[stage]) != key(after[stage]), stage
    if cls is not RunSettings and name not in NEEDED:
        assert any(key(before[stage]) != key(after[stage]) for stage in STAGES), "the change does nothing"


@pytest.mark.parametrize(
    ("module", "cls"),
    [
        ("llmrl.data.prepare", Part),
        ("llmrl.data.prepare", Source),
        ("llmrl.pairs", Preference),
        ("llmrl.base", Model),
    ],
)
def test_a_default_of_what_is_prepared(module: str, cls: type) -> None:
    """Such a default stands in a file that its stage depends on: DVC hashes it."""
    file = str(Path(inspect.getfile(cls)).relative_to(ROOT))
    assert any(one.default is not ... for one in fields.fields_of(cls).values())
    assert lies_in(file, declared()[module]["deps"])


@pytest.mark.parametrize("stage", STAGES)
def test_a_default_of_trl_s(stage: str) -> None:
    """Another default of TRL's or transformers' is another key, unless it only says who is told of a run."""
    settings = experiment()[stage]
    for name, value in settings.defaults.items():
        changed = dataclasses.replace(settings, defaults=settings.defaults | {name: another(value)})
        decides = name not in settings.trl and not hasattr(settings.own, name) and not name.startswith(TELLING)
        assert decides == (key(settings) != key(changed)), name


def test_what_is_recorded_is_what_the_config_has() -> None:
    """TRL's defaults, as read from its source, are those of the config that is constructed."""
    import trl

    from llmrl import graph

    for stage, settings in experiment().items():
        run = Run(settings, CPU, Tokenizer(), None, 0, Path("runs/1"), "1")
        config = getattr(trl, graph.STAGES[stage].config)(**run.arguments)
        for name, value in settings.deciding.items():
            if not hasattr(config, name):  # ours
                continue
            found = getattr(config, name)
            found = getattr(found, "value", found)  # of an enumeration
            # What the config itself fills in or turns into something else.
            settled = {"debug", "include_for_metrics", "eval_steps", "steps_per_generation", "generation_batch_size"}
            settled |= {"accelerator_config", "pad_to_multiple_of", "local_rank", "do_eval"}
            assert value == found or name in settled, (name, value, found)


def constants() -> list[Any]:
    """Every constant of the modules that are exempt from the keys."""
    found = []
    for place in EXEMPT:
        path = ROOT / place
        for file in sorted(path.rglob("*.py") if path.is_dir() else [path]):
            module = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            for node in ast.parse(file.read_text()).body:
                names = [node.targets[0]] if isinstance(node, ast.Assign) else []
                names += [node.target] if isinstance(node, ast.AnnAssign) else []
                found += [
                    pytest.param(module, name.id, id=f"{module}.{name.id}")
                    for name in names
                    if isinstance(name, ast.Name) and name.id.isupper()
                ]
    return found


@pytest.mark.parametrize(("module", "name"), constants())
def test_a_constant_of_what_is_exempt(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another constant in what no key holds reaches no trainer: the exemptions are true."""
    before = usual()
    loaded = importlib.import_module(module)
    value = getattr(loaded, name)
    if (
        isinstance(value, types.FunctionType | type)
        or inspect.ismodule(value)
        or not isinstance(value, str | int | float | tuple | list | dict | re.Pattern)
    ):
        pytest.skip("no plain value")
    monkeypatch.setattr(loaded, name, another(value) if name != "PATH" else value)
    for other in [one for one in sys.modules.values() if getattr(one, "__name__", "").startswith("llmrl")]:
        if getattr(other, name, None) is value:
            monkeypatch.setattr(other, name, another(value))
    fields.fields_of.cache_clear()
    try:
        after = {stage: (given(settings), key(settings)) for stage, settings in experiment().items()}
    except params.checks.InputError:
        return  # refused, and so nothing is trained
    finally:
        fields.fields_of.cache_clear()

    for stage in STAGES:
        assert before[stage][0] == after[stage][0] or before[stage][1] != after[stage][1]


@pytest.mark.parametrize("stage", STAGES)
def test_code_that_decides(stage: str) -> None:
    """A model's code is its script, the loop and what these import: nothing that attends, and of GRPO what its rewards
    use.
    """
    settings = experiment()[stage]
    code = provenance.code(settings)

    of_grpo = {"difficulty", "reward_functions"}  # the first with a pass_rate alone
    files = [file for folder in ("training", "models") for file in (ROOT / "llmrl" / folder).glob("*.py")]
    other = {"__init__", "settings", "options"} | of_grpo
    needed = {str(file.relative_to(ROOT)) for file in files if file.stem not in other}
    assert needed | {f"stages/{stage}.py"} <= set(code)
    assert ("llmrl/training/reward_functions.py" in code) == (stage == "grpo")
    assert ("llmrl/answers/generation.py" in code) == (stage == "grpo")
    assert "llmrl/training/difficulty.py" not in code
    assert "llmrl/graph.py" not in code
    assert [] == [file for file in code if file.startswith(("llmrl/session", "llmrl/plan", "llmrl/params", "llmrl/w"))]
    judging = {f"llmrl/answers/{file.name}" for file in (ROOT / "llmrl/answers").glob("[!_]*.py")}
    judging = {"llmrl/rewards.py", *judging} - {"llmrl/answers/generation.py", "llmrl/answers/decoding.py"}
    assert (judging if stage == "grpo" else set()) == judging & set(code)
    if stage == "grpo":
        asks = dataclasses.replace(settings.own, pass_rate=[0.1, 0.9])
        assert "llmrl/training/difficulty.py" in provenance.code(dataclasses.replace(settings, own=asks))
        own = dataclasses.replace(settings.own, rewards={"reward_model": 1.0})
        assert set() == judging & set(provenance.code(dataclasses.replace(settings, own=own)))


def test_what_a_line_does(tmp_path: Path) -> None:
    """Comments, docstrings and the texts of errors are in no key; anything else is."""
    settings = experiment()["sft"]
    for folder in ("stages", "llmrl"):
        (tmp_path / folder).unlink()
    import shutil

    for folder in ("stages", "llmrl"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    before = provenance.code(settings)
    file = tmp_path / "llmrl/training/rows.py"
    text = file.read_text()
    same = {"Raise the limit in": "Increase the limit in", "The rows a stage": "Rows a stage", "\n\n\n": "\n\n# So\n\n"}
    for old, new in same.items():
        assert old in text
        file.write_text(text.replace(old, new))
        assert before == provenance.code(settings), old
    other = {"tokens <= limit": "tokens < limit", "raise InputError(": "raise ValueError("}
    for old, new in other.items():
        assert old in text
        file.write_text(text.replace(old, new))
        assert before != provenance.code(settings), old
    file.write_text(f"{text}\n\nif TYPE_CHECKING:\n    OTHER = 1\nelse:\n    OTHER = 2\n")
    assert before != provenance.code(settings)
