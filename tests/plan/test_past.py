"""How long a stage takes: by the records of past runs, and by arithmetic."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from small import ROOT, experiment, settings
from tensors import QWEN

from llmrl import params
from llmrl.plan import costs
from llmrl.plan.memory import Planned
from llmrl.plan.shape import Shape
from llmrl.training.settings import Lora, Settings


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without past runs."""
    monkeypatch.chdir(tmp_path)


def planned(chosen: Settings) -> Planned:
    return Planned(Shape.of(QWEN), chosen, "fp32", "cpu")


def record(one: Planned, name: str = "20260101_000000_aaaa", **more: Any) -> Path:
    """What a run of the stage has left, of six steps of two seconds each and ten seconds around them."""
    file = Path("runs", name, "run.json")
    file.parent.mkdir(parents=True)
    written = one.settings.deciding | {"run": asdict(one.settings.run), "answers": asdict(one.settings.answers)}
    about = {"id": name, "stage": one.settings.stage, "machine": platform.node(), "kind": one.kind, "exit": 0}
    about |= {"settings": written, "parameters": one.parameters, "phases": {"training": 12.0}, "seconds": 22.0}
    file.write_text(json.dumps(about | more))
    lines = [{"step": step, "seconds": 2.0 * step, "loss": 1.0} for step in range(1, 7)]
    (file.parent / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return file


def test_the_last_run_tells() -> None:
    """Its seconds a step, and all that it did around them."""
    one = planned(settings("grpo"))
    record(one)
    record(one, "20260102_000000_bbbb")
    record(one, "20260103_000000_cccc", exit="InputError: no")

    assert (210.0, "from 20260102_000000_bbbb, 2.00 s a step") == costs.by_past_runs(one, 100)


@pytest.mark.parametrize(
    ("own", "options", "same"),
    [
        ({"seed": 7, "init": "models/other", "reward_model": "models/other"}, {"max_steps": 9}, True),
        ({}, {"lr_scheduler_type": "linear", "warmup_steps": 3, "num_train_epochs": 1}, True),
        ({"rewards": {"accuracy": 2.0, "reward_model": 0.5}}, {}, True),
        ({"rewards": {"accuracy": 1.0}}, {}, False),
        ({"kernels": "torch"}, {}, False),
        ({"attn_implementation": "eager"}, {}, False),
        ({"pass_rate": [0.1, 0.9]}, {}, False),
        ({"lora": Lora(4, 8)}, {}, False),
        ({"micro_batch": 32}, {}, False),
        ({"threads": 1}, {}, False),
        ({}, {"use_vllm": True}, False),
        ({}, {"gradient_checkpointing": True}, False),
        ({}, {"beta": 0.1}, False),
        ({}, {"torch_compile": True}, False),
    ],
)
def test_what_a_run_must_share(own: dict, options: dict, same: bool) -> None:
    """All that may decide seconds, and nothing that does not."""
    record(planned(settings("grpo")))

    assert same == bool(costs.by_past_runs(planned(settings("grpo", own, **options)), 1))


def test_the_protocol_of_answers_and_the_machine_count() -> None:
    """By them a policy is measured around the training, with other seconds."""
    one = planned(settings("sft"))
    record(one, machine="another")
    assert costs.by_past_runs(one, 1) is None
    record(one, "20260102_000000_bbbb")
    other = replace(one.settings, answers=replace(one.settings.answers, samples=9))

    assert costs.by_past_runs(one, 1) is not None
    assert costs.by_past_runs(planned(other), 1) is None


def test_records_that_tell_nothing_are_passed_over() -> None:
    """One that was cut short, by a machine that went down say, and one of a version that recorded less."""
    one = planned(settings("sft"))
    record(one)
    for number, left in enumerate(("", '{"stage": "sft", "sett')):
        record(one, f"20260102_000000_000{number}").write_text(left)
    before = json.loads(record(one, "20260103_000000_aaaa").read_text())
    before["settings"] = {"batch": 16, "lora": None, "run": {}, "answers": {}}
    record(one, "20260103_000000_bbbb", **before | {"id": "20260103_000000_bbbb"})
    Path("runs/20260103_000000_aaaa/run.json").unlink()

    assert (12.0, "from 20260101_000000_aaaa, 2.00 s a step") == costs.by_past_runs(one, 1)


def test_hours_of_judging() -> None:
    """Where GRPO judges its prompts, what they take is counted: each is answered as often as is asked."""
    profile = params.experiment(ROOT / "profiles/qwen2.5-0.5b.yaml")
    chosen = profile.stages["grpo"]
    without = replace(chosen, own=replace(chosen.own, pass_rate=None))
    hours = [
        costs.assumed(Planned(Shape.of(QWEN), one, "bf16", "cuda"), 300, profile.data)[0] / 3600
        for one in (without, chosen)
    ]
    rounds = profile.data.prompts.rows * chosen.own.pass_samples / chosen.answers.batch

    assert hours[1] - hours[0] == pytest.approx(rounds * chosen.option("max_completion_length") * 0.024 / 3600)


@pytest.mark.parametrize(("init", "times"), [("models/base", 2), ("models/sft", 1)])
def test_answers_before_count_where_no_stage_has_given_them(init: str, times: int) -> None:
    """What a stage made was measured when it was made."""
    data = experiment().data
    free, held_out = replace(data, prompts=replace(data.prompts, eval_rows=None)), data.prompts.eval_rows
    one = planned(settings("dpo", {"init": init, "threads": 1}))
    protocol = one.settings.answers
    rounds = -(-held_out * (1 + protocol.samples) // protocol.batch)
    token = max(0.0005 * one.shape.layers, 2 * one.parameters * protocol.batch / costs.CORE)

    found = costs.assumed(one, 1, data)[0] - costs.assumed(one, 1, free)[0]
    assert found == pytest.approx(times * rounds * protocol.max_new_tokens * token)
