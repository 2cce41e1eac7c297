"""Whose answers to the held-out prompts are asked for, and which are refused."""

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
from llmrl.measuring.held_out import measure
from llmrl.training import loop


def test_a_whole_temperature(tmp_path: Path) -> None:
    """As params.yaml may have it: transformers' sampling takes none but a float."""
    chosen = small.settings("sft", {"init": small.TINY})
    chosen = replace(chosen, answers=replace(chosen.answers, temperature=2, max_new_tokens=2, samples=1))
    run = small.run(tmp_path, chosen, [small.ROWS["grpo"]])

    assert 1 == measure(run, small.TINY, "tiny", run.eval_rows.add_column("row", [0]))[0]["n"]


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
