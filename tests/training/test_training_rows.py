"""Reading what was prepared: rows that are too long are left out, and held-out ones of a batch that is not whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small import TINY, settings

from llmrl.data.spool import SCHEMAS
from llmrl.errors import InputError
from llmrl.graph import STAGES
from llmrl.models.loading import load_tokenizer
from llmrl.training import rows

USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
ROWS = {
    "sft": {"messages": [USER, FOUR]},
    "reward": {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
    "dpo": {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
    "grpo": {"prompt": [USER], "solution": "4", "extra": '{"tests": [4]}'},
}


@pytest.fixture(scope="module")
def tokenizer():
    """The built-in model's tokenizer."""
    return load_tokenizer(TINY)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes one side of a stage's data set, in a folder in which the test stands."""
    monkeypatch.chdir(tmp_path)

    def rows_of(stage, side, some):
        folder, data = tmp_path / STAGES[stage].folder, STAGES[stage].data
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(some, schema=SCHEMAS[data]), folder / f"{side}.parquet")

    return rows_of


def length(row, tokenizer):
    return rows.lengths({name: [value] for name, value in row.items()}, tokenizer)[0]


def long(stage, words):
    """The stage's row with so many more numbers in what is asked or answered."""
    row = ROWS[stage]
    part = next(reversed([column for column in row if column not in ("solution", "extra")]))
    return row | {part: [row[part][0] | {"content": "1 " * words}, *row[part][1:]]}


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
def test_rows_beyond_the_limit_are_left_out(write, tokenizer, stage):
    """Rows of at most so many tokens are kept whole, on both sides; longer ones are left out and counted."""
    row, longer = ROWS[stage], long(stage, 50)
    for side, some in {"train": [row, longer, row], "eval": [row, longer]}.items():
        write(stage, side, some)

    def kept(limit):
        grpo = stage == "grpo"
        chosen = settings(
            stage, {"max_prompt_length": limit} if grpo else {}, **({} if grpo else {"max_length": limit})
        )
        sides = (rows.short_enough(chosen, tokenizer, side) for side in ("train", "eval"))
        return [(found.to_list(), left_out.too_long) for found, left_out in sides]

    limit = length(row, tokenizer)
    assert [([row, row], 1), ([row], 1)] == kept(limit)
    assert [([row, longer, row], 0), ([row, longer], 0)] == kept(None)
    with pytest.raises(InputError, match=rf"train.parquet: none of its 3 rows is at most {limit - 1} tokens long"):
        kept(limit - 1)


def test_a_pair_is_as_long_as_its_longer_side(tokenizer):
    """The length of a preference is that of the prompt with the longer answer."""
    longer = ROWS["dpo"] | {"rejected": [FIVE | {"content": "5" * 30}]}
    assert length({"messages": longer["prompt"] + longer["rejected"]}, tokenizer) == length(longer, tokenizer)


def test_a_truncated_file_is_named(tmp_path):
    """A prepared file that cannot be read is named, with the way to make it anew."""
    path = tmp_path / "train.parquet"
    pq.write_table(pa.Table.from_pylist([ROWS["sft"]], schema=SCHEMAS["sft"]), path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"train.parquet cannot be read: .*`dvc repro`"):
        rows.read(path)


@pytest.mark.parametrize(
    ("metadata", "names"), [({}, []), ({"extra_columns": '["task", "\\u00e9"]', "other": "a"}, ["task", "é"])]
)
def test_the_data_says_what_rewards_are_given(write, metadata, names):
    """All of its names, in order, whatever its rows have; none where it says none, or is not there."""
    assert [] == rows.extra_columns()
    write("grpo", "train", [ROWS["grpo"]])
    table = pq.read_table("data/prompts/train.parquet")
    pq.write_table(table.replace_schema_metadata(metadata), "data/prompts/train.parquet")
    assert names == rows.extra_columns()
    assert ["prompt", "solution", "extra"] == rows.read(Path("data/prompts/train.parquet")).column_names


def test_names_that_cannot_be_read_are_named(write):
    """As rows that cannot."""
    write("grpo", "train", [ROWS["grpo"]])
    path = Path("data/prompts/train.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"train.parquet cannot be read: .*`dvc repro`"):
        rows.extra_columns()


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_without_a_limit_the_trainers_own_holds(write, tokenizer, stage):
    """A row longer than TRL would cut is left out where max_length is not set, too: a cut answer teaches not to end."""
    chosen = settings(stage)
    chosen = replace(chosen, trl={name: value for name, value in chosen.trl.items() if name != "max_length"})
    for side in ("train", "eval"):
        write(stage, side, [long(stage, 500), long(stage, 2000)])

    assert [(1, 1), (1, 1)] == [
        (len(found), left_out.too_long)
        for found, left_out in (rows.trained_on(chosen, tokenizer), rows.evaluated_on(chosen, tokenizer))
    ]


@pytest.mark.parametrize(("held_out", "used"), [(30, 30), (25, 20), (6, 6)])
def test_evaluation_gets_whole_batches(write, tokenizer, held_out, used):
    """TRL takes the mean over batches, so held-out rows that would make a smaller last one are left out."""
    write("reward", "eval", [ROWS["reward"]] * held_out)
    found, _ = rows.evaluated_on(settings("reward", per_device_eval_batch_size=10), tokenizer)

    assert used == len(found)


@pytest.mark.parametrize(
    ("own", "trl", "processes", "used"),
    [
        ({"eval_rows": 40}, {"num_generations_eval": 4, "per_device_eval_batch_size": 64}, 1, 32),
        ({"eval_rows": None}, {"num_generations_eval": 4, "per_device_eval_batch_size": 64}, 2, 32),
        ({"eval_rows": 40}, {"num_generations_eval": 4, "per_device_eval_batch_size": 2}, 1, 40),
    ],
)
def test_grpo_counts_completions(write, tokenizer, own, trl, processes, used):
    """A batch, of all processes, is of completions, several a prompt; eval_rows bounds the prompts."""
    write("grpo", "eval", [ROWS["grpo"]] * 50)
    found, _ = rows.evaluated_on(replace(settings("grpo", own, **trl), processes=processes), tokenizer)

    assert used == len(found)


@pytest.mark.parametrize(
    ("asked", "own"),
    [
        ("rewards.accuracy", {"rewards": {"accuracy": 1.0}}),
        ("pass_rate", {"rewards": {"reward_model": 1.0}, "pass_rate": [0.1, 0.9]}),
    ],
)
def test_what_judges_needs_a_solution(write, tokenizer, asked, own):
    """One at least, be it not the first row's; that there is none is said before a model is loaded."""
    without = ROWS["grpo"] | {"solution": None}
    write("grpo", "train", [without, ROWS["grpo"]])
    assert 2 == len(rows.trained_on(settings("grpo", own), tokenizer)[0])
    write("grpo", "train", [without] * 2)
    with pytest.raises(InputError, match=rf"grpo\.{asked} in params.yaml needs solutions, and no row of data/prompts"):
        rows.trained_on(settings("grpo", own), tokenizer)
    alone = settings("grpo", {"rewards": {"reward_model": 1.0}})
    assert 2 == len(rows.trained_on(alone, tokenizer)[0])


def test_what_a_task_of_reasoning_gym_scores_needs_none(write, tokenizer):
    """Its reward does, and so do pass_rate and a reward beside it; without such rows that reward judges nothing."""
    made = {"task": "rush_hour", "options": {}, "seed": 1, "index": 0, "digest": "0"}
    scored = ROWS["grpo"] | {"solution": None, "extra": json.dumps({"reasoning_gym": made})}
    beside = {"rewards": {"reasoning_gym": 1.0, "accuracy": 1.0}, "pass_rate": [0.1, 0.9]}
    write("grpo", "train", [scored] * 2)
    assert 2 == len(rows.trained_on(settings("grpo", beside), tokenizer)[0])
    with pytest.raises(InputError, match=r"grpo\.rewards\.accuracy in params.yaml needs solutions"):
        rows.trained_on(settings("grpo", {"rewards": {"accuracy": 1.0}}), tokenizer)
    write("grpo", "train", [ROWS["grpo"]] * 2)
    with pytest.raises(InputError, match=r"grpo\.rewards\.reasoning_gym .* no row of data/prompts is of one"):
        rows.trained_on(settings("grpo", beside), tokenizer)


@pytest.mark.parametrize(
    ("solution", "extra", "told"), [("4", None, True), (None, '{"reasoning_gym": {}}', True), (None, None, False)]
)
def test_prompts_to_make_pairs_of_must_be_judged(write, solution, extra, told):
    """By a solution or by a task's scorer, of one row at least: said before anything is trained."""
    rows.require_judged("data.preference.source: sampled")  # nothing is prepared yet
    write("grpo", "train", [ROWS["grpo"] | {"solution": None}, ROWS["grpo"] | {"solution": solution, "extra": extra}])
    if told:
        rows.require_judged("data.preference.source: sampled")
    else:
        with pytest.raises(InputError, match=r"source: sampled in params.yaml takes prompts that can be judged"):
            rows.require_judged("data.preference.source: sampled")
