"""A stage's figures: TRL's under our names, as curves and in the end, the same when they are drawn anew."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrl.measuring.figures import SAMPLES, Figures, Seen, mean

LOGS = [
    {"reward": 0.5, "rewards/accuracy/mean": 0.25, "frac_reward_zero_std": 0.75, "learning_rate": 1e-3},
    {"eval_reward": 0.6, "eval_rewards/accuracy/mean": 0.5, "eval_rewards/reward_model/mean": -3.0, "eval_runtime": 2},
    {"reward": float("nan"), "rewards/accuracy/mean": 1.0, "frac_reward_zero_std": 0, "completions/mean_length": None},
]


def trained(out: Path, first: bool = True) -> Figures:
    """The figures of a GRPO training that logs at steps 1, 1 and 3."""
    figures = Figures("grpo", out)
    for step, logs in zip((1, 1, 3), LOGS, strict=True):
        state = SimpleNamespace(global_step=step, is_world_process_zero=first)
        figures.on_log(None, state, None, logs=logs)
    return figures


def curve(out: Path, name: str) -> list[tuple[int, float]]:
    with (out / f"plots/metrics/grpo/{name}.tsv").open() as lines:
        return [(int(row["step"]), float(row[name])) for row in csv.DictReader(lines, delimiter="\t")]


def test_what_trl_logs_is_drawn_under_our_names(tmp_path: Path) -> None:
    """Any reward under its own, a share that TRL has the rest of as ours; what is not tracked or no number is not."""
    trained(tmp_path)

    assert [(1, 0.5)] == curve(tmp_path, "train_reward")
    assert [(1, 0.25), (3, 1.0)] == curve(tmp_path, "train_accuracy")
    assert [(1, 0.25), (3, 1.0)] == curve(tmp_path, "groups_with_signal")
    assert [(1, -3.0)] == curve(tmp_path, "reward_model")
    assert {"train_reward", "train_accuracy", "groups_with_signal", "reward", "accuracy", "reward_model"} == {
        file.stem for file in tmp_path.rglob("*.tsv")
    }


def test_drawn_anew_they_are_the_same(tmp_path: Path) -> None:
    """From what is kept with the model, under TRL's names, by a process that has not trained."""
    figures, again = trained(tmp_path / "one"), Figures("grpo", tmp_path / "other")
    again.seen = Seen(**json.loads(json.dumps(asdict(figures.seen))))
    for step, point in again.seen.curves:
        again.draw(step, again.named(point))
    one, other = ({f.relative_to(d): f.read_bytes() for f in d.rglob("*.tsv")} for d in (figures.out, again.out))

    assert one == other
    assert figures.during() == again.during()
    assert {"reward", "rewards/accuracy/mean", "frac_reward_zero_std"} == again.seen.curves[0][1].keys()


def test_one_of_several_processes_draws(tmp_path: Path) -> None:
    """The others have nothing seen."""
    assert [] == trained(tmp_path, first=False).seen.curves
    assert [] == [*tmp_path.rglob("*.tsv")]


def test_the_closing_figures(tmp_path: Path) -> None:
    """Rows, the mean over the training, before and after; these end the curves, but not intervals and counts."""
    figures = trained(tmp_path)
    figures.seen.rows, figures.seen.steps = {"rows": 7, "rows_too_long": 1}, 4
    figures.write(
        {"reward": 0.4},
        (after := {"reward": 0.9, "answers": {"greedy": 0.5}, "reward_low": 0.8, "n": 9}),
        {"pairs": pa.table({"row": [0, 1]})},
        {"rows_too_long": 2, "rows_refused": 1},
    )

    # One step of a quarter, two of all.
    expected = {"rows": 7, "rows_too_long": 3, "rows_refused": 1, "groups_with_signal": 0.75}  # two and one held out
    expected |= {"reward_before": 0.4} | after
    assert {"grpo": expected, "step": 4} == json.loads((tmp_path / "metrics.json").read_text())
    assert [(1, 0.6), (4, 0.9)] == curve(tmp_path, "reward")
    assert {"metrics.json", "plots", "held_out"} == {path.name for path in tmp_path.iterdir()}
    assert [0, 1] == pq.read_table(tmp_path / "held_out/pairs.parquet")["row"].to_pylist()
    drawn = {file.stem for file in (tmp_path / "plots/metrics/grpo").iterdir()}
    assert set() == drawn & {"reward_low", "n"}


def test_a_fixed_set_of_answers_is_shown(tmp_path: Path) -> None:
    """The first twenty, one of the sampled ones each."""
    row = {"solution": None, "greedy_right": None, "greedy_tokens": 2}
    rows = [row | {"prompt": f"{number} é", "greedy": "a", "sampled": ["b", "c"]} for number in range(SAMPLES + 1)]
    figures = Figures("grpo", tmp_path)
    figures.seen.rows = {"rows": 7, "rows_too_long": 0}
    figures.write({}, {}, {"after": pa.Table.from_pylist(rows)}, {})
    text = (tmp_path / "answers.json").read_text(encoding="utf-8")
    shown = json.loads(text)

    assert "0 é" in text
    assert [f"{number} é" for number in range(20)] == [one["prompt"] for one in shown]
    assert {"prompt", "solution", "greedy", "right", "sampled", "tokens"} == shown[0].keys()
    assert "b" == shown[0]["sampled"]


def test_the_last_point_of_a_curve_is_of_the_saved_model(tmp_path: Path) -> None:
    """TRL does not evaluate after the last step: what is saved is, in the end."""
    figures = Figures("sft", tmp_path)
    for ended in (figures.on_step_end, figures.on_epoch_end):
        for step, evaluates in ((2, True), (3, False)):
            control = SimpleNamespace(should_evaluate=True)
            ended(None, SimpleNamespace(global_step=step, max_steps=3), control)
            assert evaluates == control.should_evaluate


@pytest.mark.parametrize(
    ("points", "steps", "expected"),
    [
        ([], None, None),
        ([(2, 1.0), (4, 0.0)], None, 0.5),
        ([(1, 1.0), (4, 0.0)], None, 0.25),
        ([(1, 1.0), (4, 0.0)], 3, 0.0),
        ([(1, 1.0), (4, 0.0)], 4, 0.25),
        ([(1, 1.0), (4, 0.0)], 5, None),
    ],
)
def test_the_mean_of_a_curve(points: list[tuple[int, float]], steps: int | None, expected: float | None) -> None:
    """Each point counts by the steps since the one before; with `steps`, the last points that cover so many count."""
    assert expected == mean(points, steps)
