"""What the reward model says of held-out pairs and of answers: each text's own score, whatever it is beside."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow as pa
import pytest
import small
import torch
import transformers

from llmrl.measuring import scoring
from llmrl.measuring.answers import HELD_OUT_PROMPTS, mean_scores
from llmrl.models import loading
from llmrl.training.rows import unseen
from llmrl.training.run import Run


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A reward model, whose head is new."""
    folder = tmp_path_factory.mktemp("judge")
    loading.load_classifier(small.TINY, 1).save_pretrained(folder)
    return str(folder)


def alone(judge: str, run: Run, conversation: list[dict[str, str]]) -> tuple[float, int]:
    """Score and tokens of one conversation by plain transformers."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(judge).eval()
    tokens = run.tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=False)
    model.config.pad_token_id = run.tokenizer.pad_token_id
    with torch.no_grad():
        return model(tokens).logits.item(), tokens.shape[1]


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_each_side_of_a_pair_has_its_own_score(micro_batch: int, judge: str, tmp_path: Path) -> None:
    """As alone and unpadded, with the tokens of the conversation."""
    chosen = small.settings("reward", {"init": small.TINY, "micro_batch": micro_batch})
    run = small.run(tmp_path, chosen, [small.longer(small.ROWS["reward"], by) for by in (9, 0, 4)])
    table = scoring.pairs(run, judge, unseen).to_pylist()

    assert scoring.PAIRS.names == [*table[0]]
    for number, (row, given) in enumerate(zip(run.eval_rows, table, strict=True)):
        assert (number, "2", "3") == (given["row"], given["chosen"], given["rejected"])
        for side in ("chosen", "rejected"):
            score, tokens = alone(judge, run, row["prompt"] + row[side])
            assert score == pytest.approx(given[f"{side}_score"], abs=1e-5)
            assert tokens == given[f"{side}_tokens"]


def test_every_answer_of_every_policy_is_scored(judge: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the prompt that it was given to, by its place in the file."""
    monkeypatch.chdir(tmp_path)
    HELD_OUT_PROMPTS.parent.mkdir(parents=True)
    rows = [small.longer(small.ROWS["grpo"], by) for by in (0, 5)]
    datasets.Dataset.from_list(rows).to_parquet(HELD_OUT_PROMPTS)
    chosen = small.settings("grpo", {"init": small.TINY, "micro_batch": 2})
    run = small.run(tmp_path, replace(chosen, own=replace(chosen.own, reward_model=judge)), rows)
    given = [{"policy": one, "row": 1, "greedy": f"{one} 7", "sampled": ["8", "9 and more"]} for one in ("sft", "dpo")]
    table = scoring.answers(run, [pa.Table.from_pylist([row]) for row in given], unseen)

    assert scoring.SCORED == table.schema
    for row, scored in zip(given, table.to_pylist(), strict=True):
        texts = [row["greedy"], *row["sampled"]]
        expected = [alone(judge, run, [*rows[1]["prompt"], {"role": "assistant", "content": one}])[0] for one in texts]
        assert expected == pytest.approx([scored["greedy"], *scored["sampled"]], abs=1e-5)
    means = mean_scores(table)
    assert {row["policy"]: sum(row["sampled"]) / 2 for row in table.to_pylist()} == pytest.approx(means)


def test_what_is_said_often_is_scored_once(judge: str, tmp_path: Path) -> None:
    """A score of each text, and all of them are counted."""
    run = small.run(tmp_path, small.settings("reward", {"init": small.TINY, "micro_batch": 1}), [])
    counted: list[int] = []
    one, other, *others = scoring.scored(run, judge, ["1 + 1", "2", "1 + 1", "2", "1 + 1"], counted.append)

    assert [2, 3] == counted
    assert [one, other, one] == others
    assert one != other
