"""The figures of answers to the held-out prompts, and whose answers are asked for."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pytest
import small

from llmrl.folders import PROVENANCE, TRAINING
from llmrl.measuring import held_out
from llmrl.measuring.figures import Figures
from llmrl.measuring.held_out import measure, summary
from llmrl.training import loop


def test_the_figures_of_a_table_of_answers() -> None:
    """Accuracy and its interval are over the prompts that have a solution; ends and lengths over all."""
    row = {"solution": "4", "ended": 1.0, "tokens": 2}
    rows = [
        row | {"greedy_right": 1.0, "sampled_right": 0.5},
        row | {"greedy_right": 0.0, "sampled_right": 0.5, "tokens": 4},
        {"solution": None, "greedy_right": None, "sampled_right": None, "ended": 0.4, "tokens": 6},
    ]
    expected = {"greedy": 0.5, "greedy_ci95": 0.98, "sampled": 0.5, "sampled_ci95": 0.0, "n": 2}
    assert expected | {"ended": 0.8, "tokens": 4} == pytest.approx(summary(rows))


def test_without_solutions_there_is_no_accuracy() -> None:
    """Prompts without a solution are generated for and not judged."""
    rows = [{"solution": None, "greedy_right": None, "sampled_right": None, "ended": 1.0, "tokens": 3}]
    assert {"n": 0, "ended": 1.0, "tokens": 3} == summary(rows)


def test_a_whole_temperature(tmp_path: Path) -> None:
    """As params.yaml may have it: transformers' sampling takes none but a float."""
    chosen = small.settings("sft", {"init": small.TINY})
    chosen = replace(chosen, answers=replace(chosen.answers, temperature=2, max_new_tokens=2, samples=1))
    run = small.run(tmp_path, chosen, [small.ROWS["grpo"]])

    assert 1 == measure(run, small.TINY, run.eval_rows)[0]["n"]


@pytest.mark.parametrize("init", ["models/base", "models/mine", "models/sft", "models/sft/"])
def test_what_a_stage_made_was_measured_then(init: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other model is measured before it is trained, whatever records lie in its folder: the base has some, and a
    model that this tool made elsewhere.
    """
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small.TINY, init)
    for record in (PROVENANCE, TRAINING):
        Path(init, record).write_text("{}")
    held_out.HELD_OUT_PROMPTS.parent.mkdir(parents=True)
    datasets.Dataset.from_list([small.ROWS["grpo"]]).to_parquet(held_out.HELD_OUT_PROMPTS)
    chosen = small.settings("sft", {"init": init}, max_length=64, per_device_eval_batch_size=2)
    run = small.run(tmp_path, replace(chosen, answers=replace(chosen.answers, max_new_tokens=2)), [small.ROWS["sft"]])
    monkeypatch.setattr(loop, "evaluation", lambda *_: {})
    phase = nullcontext(SimpleNamespace(counting=lambda *_: lambda _: None))
    figures = Figures("sft", tmp_path)
    _, _, tables = held_out.before_and_after(run, lambda *_: None, figures, small.TINY, lambda _: phase)

    assert ({"after"} if "sft" in init else {"before", "after"}) == set(tables)
