"""Whose answers to the held-out prompts are asked for, and which are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import pyarrow.parquet as pq
import pytest
import small

from llmrl.errors import InputError
from llmrl.folders import PROVENANCE, TRAINING
from llmrl.measuring import held_out
from llmrl.measuring.answers import policy_name
from llmrl.measuring.figures import Figures
from llmrl.measuring.held_out import measure
from llmrl.training import loop
from llmrl.training.settings import Settings


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


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """GRPO's settings where sft and dpo have left their models and answers, as they do."""
    monkeypatch.chdir(tmp_path)
    held_out.HELD_OUT_PROMPTS.parent.mkdir(parents=True)
    datasets.Dataset.from_list([small.ROWS["grpo"]]).to_parquet(held_out.HELD_OUT_PROMPTS)
    shutil.copytree(small.TINY, "models/base")
    for init, stage in (("models/base", "sft"), ("models/sft", "dpo")):
        chosen = small.settings(stage, {"init": init})
        chosen = replace(chosen, answers=replace(chosen.answers, samples=1, max_new_tokens=2))
        shutil.copytree(small.TINY, f"models/{stage}")
        Path("models", stage, PROVENANCE).write_text(f'"{stage}"')
        kept = Path("metrics", stage, held_out.HELD_OUT)
        kept.mkdir(parents=True)
        run = small.run(tmp_path, chosen, [small.ROWS[stage]])
        for name, folder in (("before", init), ("after", f"models/{stage}")):
            if name == "after" or stage == "sft":
                table = measure(run, folder, policy_name(folder), *held_out.answerable(chosen, run.tokenizer))[1]
                pq.write_table(table, kept / f"{name}.parquet")
    return replace(small.settings("grpo", {"init": "models/dpo"}), answers=chosen.answers)


def policies(settings: Settings) -> list[str]:
    return [table["policy"][0].as_py() for table in held_out.ancestors(settings)]


def test_whose_answers_the_reward_model_scores(chain: Settings) -> None:
    """Those of the policies that GRPO's own comes from, whatever else lies there."""
    assert ["dpo", "sft", "base"] == policies(chain)
    assert ["sft", "base"] == policies(replace(chain, own=replace(chain.own, init="models/sft")))
    assert [] == policies(replace(chain, own=replace(chain.own, init="models/base")))


def test_a_model_that_lies_there_by_hand_has_no_answers(chain: Settings) -> None:
    """DVC has recorded none of it."""
    shutil.rmtree("metrics/sft/held_out")
    assert ["dpo"] == policies(chain)


def gone() -> None:
    shutil.rmtree("metrics/sft/held_out")
    lock = {"stages": {"sft": {"outs": [{"path": "metrics/sft/held_out", "md5": "0.dir"}]}}}
    Path("dvc.lock").write_text(json.dumps(lock))


def other_model() -> None:
    shutil.copy("metrics/dpo/held_out/after.parquet", "metrics/sft/held_out")


def other_prompts() -> None:
    datasets.Dataset.from_list([small.longer(small.ROWS["grpo"], 2)]).to_parquet(held_out.HELD_OUT_PROMPTS)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (gone, "sft, .* are not here. `dvc pull metrics/sft/held_out metrics/dpo/held_out` .* `dvc repro sft`"),
        (other_model, "metrics/sft/held_out: .* are of another model. .*`dvc repro sft`"),
        (other_prompts, "metrics/dpo/held_out: .* are to other prompts. .*`dvc repro dpo`"),
    ],
)
def test_answers_that_are_not_theirs_are_not_scored(chain: Settings, damage: Callable[[], None], said: str) -> None:
    """No dependency of GRPO names the files, so it looks what they are."""
    damage()
    with pytest.raises(InputError, match=said):
        policies(chain)


def test_answers_of_another_protocol_are_not_scored(chain: Settings) -> None:
    """As where a stage was run alone after `answers` had changed."""
    other = replace(chain, answers=replace(chain.answers, samples=2))
    with pytest.raises(InputError, match="by other settings of `answers`"):
        policies(other)
