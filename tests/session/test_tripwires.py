"""What looks wrong of a stage: planted in tables made here, and, slowly, in pipelines that are made wrong."""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clone import LOCKS, Clone, toy_clone

from llmrl.graph import STAGES
from llmrl.session.tripwires import LEAST, LOOKS, Evidence, by_figure, looks, trend, tripped

PROMPTS = 100
STEPS = range(5, 65, 5)
GROUPS = 8  # of completions a step


def answers(right: float, tokens: float = 20, ended: float = 1, repetition: float = 0.01, **more: object) -> pa.Table:
    """Answers of a policy to 100 prompts, four sampled ones a prompt, such a share of them right and ended."""
    drawn = random.Random(1)
    rows = [
        {
            "row": row,
            "prompt": f"What is {row} + 1?",
            "greedy_right": drawn.random() < right,
            "sampled_right": [drawn.random() < right for _ in range(4)],
            "sampled_tokens": [round(tokens * drawn.uniform(0.8, 1.2)) for _ in range(4)],
            "sampled_ended": [drawn.random() < ended for _ in range(4)],
            "sampled_repetition": [repetition * drawn.uniform(0.5, 1.5) for _ in range(4)],
        }
        | more
        for row in range(PROMPTS)
    ]
    return pa.Table.from_pylist(rows)


def scores(by: dict[str, pa.Table], right: float, wrong: float, **more: float) -> pa.Table:
    """The reward model's scores of the policies' answers, so much a right and a wrong one, with noise; and so much more
    of all of a policy.
    """
    drawn = random.Random(2)
    rows = []
    for policy, table in by.items():
        for row in table.to_pylist():
            greedy, *sampled = (
                (right if one else wrong) + more.get(policy, 0.0) + drawn.gauss(0, 1)
                for one in (row["greedy_right"], *row["sampled_right"])
            )
            rows.append({"policy": policy, "row": row["row"], "greedy": greedy, "sampled": sampled})
    return pa.Table.from_pylist(rows)


def pairs(preferred: float, wins: float, n: int = 200) -> pa.Table:
    """Held-out pairs of which the longer is the chosen one in such a share, and scored higher in another."""
    rows = []
    for row in range(n):
        chosen, won = row / n < preferred, (row * 7 % n) / n < wins
        rows.append(
            {
                "row": row,
                "chosen_tokens": 30 if chosen else 20,
                "rejected_tokens": 20 if chosen else 30,
                "chosen_score": float(chosen == won),
                "rejected_score": float(chosen != won),
            }
        )
    return pa.Table.from_pylist(rows)


def curve(first: float, last: float, noise: float = 0.01) -> list[tuple[int, float]]:
    """A curve of 12 points from one value to another, with noise."""
    drawn = random.Random(3)
    return [(step, first + (last - first) * (step - 5) / 55 + drawn.gauss(0, noise)) for step in STEPS]


GOOD, BETTER = answers(0.3), answers(0.7)
POLICIES = {"init": GOOD, "grpo": BETTER}
RIGHTLY = scores(POLICIES, 2, -2)


def elsewhere(table: pa.Table) -> pa.Table:
    """The same answers, to other prompts."""
    other = pa.array([f"What is {row} − 1?" for row in range(len(table))])
    return table.set_column(table.column_names.index("prompt"), "prompt", other)


def lacks(stage: str, tables: dict[str, pa.Table], figures: dict | None = None, curves: dict | None = None) -> dict:
    """Why each look has too little to go by, by the name of the look."""
    evidence = Evidence(stage, figures or {}, curves or {}, tables, "init", GROUPS)
    found = [one.lacks for one in looks(evidence)]
    return dict(zip([look.__name__ for look in LOOKS[STAGES[stage].trainer]], found, strict=True))


def names(stage: str, figures: dict | None = None, curves: dict | None = None, **tables: pa.Table) -> list[str]:
    """The tripwires that trip; of a policy that started from init."""
    return [one.name for one in tripped(stage, figures or {}, curves or {}, tables, "init", GROUPS)]


@pytest.mark.parametrize("stage", STAGES)
def test_nothing_known_trips_nothing(stage: str) -> None:
    """Of an older revision there are no tables, and figures without intervals."""
    assert [] == names(stage)
    assert [] == names(stage, {"accuracy": 0.4, "loss": 0.7, "token_accuracy": 0.1, "chosen_logp": -900})


def test_what_is_as_it_should_be_trips_nothing() -> None:
    """More right answers, by a reward that rises with them."""
    figures = {"signal_accuracy": 0.8, "token_accuracy_before": 0.7, "token_accuracy": 0.9}
    curves = {"train_reward": curve(0.3, 0.9), "train_accuracy": curve(0.3, 0.7), "train_entropy": curve(0.4, 0.2)}
    for stage in ("sft", "dpo", "grpo"):
        assert [] == names(stage, figures, curves, before=GOOD, after=BETTER, init=GOOD, scores=RIGHTLY)
    assert [] == names("reward", {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.93, "n": 300})
    assert [] == names("reward", pairs=pairs(0.6, 0.6))
    assert [] == names("dpo", {"chosen_logp_before": -100, "chosen_logp": -130})


@pytest.mark.parametrize("stage", ["sft", "dpo", "grpo"])
@pytest.mark.parametrize(
    ("after", "name"),
    [
        (answers(0.3, tokens=40), "longer, and no better"),
        (answers(0.3, ended=0.6), "cut off"),
        (answers(0.7, repetition=0.5), "repeats itself"),
    ],
)
def test_a_policy_that_changes_for_the_worse(stage: str, after: pa.Table, name: str) -> None:
    """Set against the one it started from, wherever that was measured."""
    assert [name] == names(stage, before=GOOD, after=after)
    assert [name] == names(stage, init=GOOD, after=after)
    assert [] == names(stage, init=after, after=after)


def test_longer_answers_that_are_better_are_no_fault() -> None:
    """Working takes tokens."""
    assert [] == names("dpo", init=GOOD, after=answers(0.7, tokens=40, ended=0.7))


def test_answers_that_nothing_judges() -> None:
    """That DPO's grow is said, and that nothing judges them; SFT teaches a length."""
    unjudged = {"greedy_right": None, "sampled_right": [None] * 4}
    tables = {"before": answers(0, **unjudged), "after": answers(0, tokens=40, **unjudged)}
    (said,) = tripped("dpo", {}, {}, tables)

    assert "none judged (n = 100)" in said.seen
    assert [] == tripped("sft", {}, {}, tables)
    assert "sft teaches a length, and too few answers are judged" == lacks("sft", tables)["longer"]


def test_few_prompts_say_nothing() -> None:
    """With fewer than LEAST, noise would trip; and that it was not looked at is known."""
    few = {"init": GOOD.slice(0, LEAST - 1), "after": answers(0.3, tokens=60, ended=0.2, repetition=0.6)}

    assert [] == names("grpo", **few)
    assert "there are fewer than 20 prompts that both init and grpo answered: 19" == lacks("grpo", few)["longer"]


def test_other_prompts_are_not_compared() -> None:
    """A row is another prompt's where the data changed between two stages."""
    worse = answers(0.3, tokens=60, ended=0.2, repetition=0.6)

    assert ["longer, and no better", "cut off", "repeats itself"] == names("grpo", init=GOOD, after=worse)
    assert [] == names("grpo", init=elsewhere(GOOD), after=worse)
    assert (
        "there are fewer than 20 prompts that both init and grpo answered: 0"
        == lacks("grpo", {"init": elsewhere(GOOD), "after": worse})["repetitive"]
    )
    # By rows alone, one policy's right answers would stand against the other's wrong ones.
    apart = {"init": elsewhere(answers(1.0)), "grpo": answers(0.0)}
    given = scores(apart, 2, -2)
    assert (
        "there are fewer than 20 prompts with a right and a wrong answer that have scores: 0"
        == lacks("grpo", {"init": apart["init"], "after": apart["grpo"], "scores": given})["misjudges"]
    )


@pytest.mark.parametrize("stage", STAGES)
def test_what_could_not_be_looked_at_says_why(stage: str) -> None:
    """Of nothing that is recorded, no look found that all is in order."""
    assert all(lacks(stage, {}).values())
    assert all(one.lacks for one in looks(Evidence(stage, {"accuracy": 0.4}, {}, {})))


def test_what_was_looked_at_lacks_nothing() -> None:
    """A score of one answer that is no number costs that prompt alone."""
    curves = {name: curve(0.3, 0.7) for name in ("train_reward", "train_accuracy", "train_entropy")}
    rows = RIGHTLY.to_pylist()
    rows[0]["sampled"][0] = float("nan")
    tables = {"init": GOOD, "after": BETTER, "scores": pa.Table.from_pylist(rows)}

    assert not any(lacks("grpo", tables, {"signal_accuracy": 0.8}, curves).values())
    assert [] == names("grpo", {"signal_accuracy": 0.8}, curves, **tables)


def test_sft_that_unlearns() -> None:
    """What is held out is predicted worse."""
    assert ["token accuracy fell"] == names("sft", {"token_accuracy_before": 0.6, "token_accuracy": 0.55})


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.06, 0.13, ["ranks pairs the wrong way round"]),
        (0.46, 0.58, ["ranks pairs as chance does"]),
        (0.52, 0.63, []),
    ],
)
@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_pairs_that_are_ranked_wrong(stage: str, low: float, high: float, expected: list[str]) -> None:
    """By chance, or the wrong way round, as of pairs that are swapped."""
    figures = {"accuracy": (low + high) / 2, "accuracy_low": low, "accuracy_high": high, "n": 300}

    assert expected == names(stage, figures)
    assert [] == names(stage, figures | {"n": 8})


def test_a_reward_model_that_prefers_length() -> None:
    """The longer wins more often than it is preferred, whatever that is."""
    (said,) = tripped("reward", {}, {}, {"pairs": pairs(0.5, 0.8)})

    assert "prefers length" == said.name
    assert "the longer answer wins in 80% of the held-out pairs and is preferred in 50% (n = 200)" == said.seen
    assert [] == names("reward", pairs=pairs(0.8, 0.8))
    assert [] == names("reward", pairs=pairs(0.5, 0.55))


def test_likelihood_displacement() -> None:
    """The chosen answers fall far."""
    assert ["chosen answers became unlikely"] == names("dpo", {"chosen_logp_before": -100, "chosen_logp": -180})


@pytest.mark.parametrize(
    ("right", "wrong", "name"),
    [
        (0, 0, "the reward model does not tell right from wrong"),
        (-1, 1, "the reward model prefers wrong answers"),
    ],
)
def test_a_reward_model_that_the_judge_contradicts(right: float, wrong: float, name: str) -> None:
    """By answers to one prompt of which some are right."""
    assert [name] == names("grpo", init=BETTER, after=BETTER, scores=scores(POLICIES, right, wrong))


def test_reward_up_and_right_answers_down() -> None:
    """From one policy to the next, be it an earlier stage; and over the steps of a training."""
    worse = {"init": BETTER, "grpo": GOOD}
    given = scores(worse, 2, 1, grpo=3)
    assert [] == [one for one in names("grpo", init=elsewhere(BETTER), after=GOOD, scores=given) if "up" in one]
    assert "reward up, right answers down" in names("grpo", init=BETTER, after=GOOD, scores=given)
    assert [] == names("grpo", init=BETTER, after=GOOD, scores=scores(worse, 2, 1))
    policies = {"dpo": GOOD, "sft": BETTER, "base": GOOD, "grpo": BETTER}  # in the order in which they are recorded
    given = scores(policies, 2, 1, dpo=3, grpo=3)
    (said,) = tripped("grpo", {}, {}, policies | {"after": BETTER, "scores": given}, "dpo")
    assert ("reward up, right answers down", "from sft to dpo: ") == (said.name, said.seen[:17])

    name = "reward up, right completions down"
    assert [name] == names("grpo", curves={"train_reward": curve(0, 1), "train_accuracy": curve(0.8, 0.5)})
    assert [name] == names("grpo", curves={"train_reward_model": curve(0, 1), "train_accuracy": curve(0.8, 0.5)})
    assert [] == names("grpo", curves={"train_reward": curve(0, 1), "train_accuracy": curve(0.8, 0.78, noise=0.1)})
    assert [] == names("grpo", curves={"train_reward": curve(0, 1)[:5], "train_accuracy": curve(0.8, 0.5)[:5]})


@pytest.mark.parametrize("share", [0.002, 0.01, 0.3, 0.99])
@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("points", [6, 20])
def test_noise_alone_is_no_fall(points: int, alike: bool, share: float) -> None:
    """Of trainings whose score rises and whose share of right completions does not change, next to none trips: be the
    8 completions of a group right or wrong together, or each by itself.
    """
    random, steps, each = np.random.default_rng(1), range(5, 5 * points + 1, 5), 8 if alike else 1
    trainings = random.binomial(32 // each, share, (1000, points)) * each / 32
    rising = [(step, float(step)) for step in steps]
    alarms = [
        one
        for values in trainings.tolist()
        for one in tripped(
            "grpo",
            {},
            {"train_reward": rising, "train_accuracy": [*zip(steps, values, strict=True)]},
            {},
            groups=32 / 8 / 5,
        )
    ]

    assert len(alarms) <= 3


def test_a_fall_that_is_none_of_noise() -> None:
    """At once, and for good, be it at the second point already; where it is known how many completions a point has."""
    name, rising = "reward up, right completions down", {"train_reward": curve(0, 1)}
    late = [(step, 0.5 if step < 60 else 0.3) for step in range(5, 105, 5)]
    early = [(step, value) for step, value in zip(range(5, 45, 5), [0.47, 0.04, *[0.0] * 6], strict=True)]

    assert [name] == names("grpo", curves=rising | {"train_accuracy": late})
    assert [name] == names("grpo", curves=rising | {"train_accuracy": early})
    assert [] == [one.name for one in tripped("grpo", {}, rising | {"train_accuracy": late}, {}, groups=0.1)]
    assert [] == [one.name for one in tripped("grpo", {}, rising | {"train_accuracy": late}, {})]
    assert (0.0, 0.0) == trend([(step, 0.0) for step in range(20)], 32)


def test_entropy_that_is_gone() -> None:
    """Of that at the beginning next to nothing is left."""
    assert ["entropy collapsed"] == names("grpo", curves={"train_entropy": curve(0.5, 0.001, noise=0)})
    assert [] == names("grpo", curves={"train_entropy": curve(0.5, 0.1, noise=0)})


def test_groups_that_say_nothing_of_right_and_wrong() -> None:
    """The judged reward by itself, whatever the sum of all does."""
    assert ["most groups say nothing of right and wrong"] == names(
        "grpo", {"signal_accuracy": 0.1, "groups_with_signal": 1.0}
    )


def test_a_line_says_what_was_seen_and_where_to_look() -> None:
    """In lines that a terminal shows."""
    (said,) = tripped("sft", {"token_accuracy_before": 0.6, "token_accuracy": 0.55}, {}, {})

    assert [
        "sft: looks wrong: token accuracy fell: 0.550 of the held-out tokens are predicted, where 0.600 were;",
        "  train.lr or sft.lr_scale may be too high, or the training rows of another kind",
    ] == said.said("sft")


def test_every_line_is_short() -> None:
    """Also of large figures; and none has the word by which a log is searched for what libraries say."""
    unlike = scores(POLICIES, 0, 0)
    worse, grown = {"init": BETTER, "grpo": GOOD}, answers(0.3, tokens=12345, ended=0.1, repetition=0.5)
    curves = {"train_reward_model": curve(0, 100), "train_accuracy": curve(0.8, 0.1), "train_entropy": curve(9, 0, 0)}
    pair = {"accuracy": 0.5, "accuracy_low": 0.45, "accuracy_high": 0.55, "n": 100_000}
    token, likely = (
        {"token_accuracy_before": 0.6, "token_accuracy": 0.5},
        {"chosen_logp_before": -1e3, "chosen_logp": -1e4},
    )
    wires = [
        *tripped("sft", token, {}, {"before": answers(0.3, tokens=1234), "after": grown}),
        *tripped("reward", pair, {}, {"pairs": pairs(0.5, 0.8)}),
        *tripped("reward", pair | {"accuracy_high": 0.46}, {}, {}),
        *tripped("dpo", pair | likely, {}, {}),
        *tripped(
            "grpo",
            {"signal_accuracy": 0.1},
            curves,
            {"init": BETTER, "after": BETTER, "scores": unlike},
            "init",
            GROUPS,
        ),
        *tripped("grpo", {}, {}, {"init": BETTER, "after": GOOD, "scores": scores(worse, 1, 2, grpo=300)}, "init"),
    ]

    assert 14 == len({wire.name for wire in wires})
    assert [] == [wire.line for wire in wires if len(wire.line) > 180 or "warn" in wire.line.lower()]
    assert [] == [line for wire in wires for line in wire.said("reward") if len(line) > 100]


def test_curves_of_points() -> None:
    """Each figure has the steps at which it was logged."""
    points: Sequence = [(5, {"train_reward": 0.5}), (10, {"train_reward": 0.6, "train_entropy": 0.1})]

    assert {"train_reward": [(5, 0.5), (10, 0.6)], "train_entropy": [(10, 0.1)]} == by_figure(points)


# --- planted in the pipeline -----------------------------------------------------------------------------------------

LENGTH = """

def length(completion_ids: list[list[int]], **_: Any) -> list[float]:
    return [len(one) / 32 for one in completion_ids]
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, str]:
    """The toy as it is, trained, and what that printed."""
    clone = toy_clone(tmp_path_factory.mktemp("toy") / "project")
    return clone, clone.run("dvc", "repro")


@pytest.fixture
def toy(trained: tuple[Clone, str], tmp_path: Path) -> Clone:
    """The trained toy in a folder of its own, to make wrong."""
    shutil.copytree(trained[0].folder, tmp_path / "project", symlinks=True)
    return Clone(tmp_path / "project")


def said(clone: Clone, stage: str) -> list[str]:
    """The tripwires that a stage names at its end: started by hand, and nothing recorded of what it is made from, as
    that was changed.
    """
    for lock in LOCKS:
        (clone.folder / lock).unlink(missing_ok=True)
    shutil.rmtree(clone.folder / f"metrics/{stage}", ignore_errors=True)
    return tripped_in(clone.run(sys.executable, "-m", f"stages.{stage}"))


def tripped_in(printed: str) -> list[str]:
    """The tripwires in what was printed."""
    return re.findall(r"^\w+: looks wrong: (.+?): ", printed, re.MULTILINE)


def rewritten(file: Path, change: dict[str, str] | None = None, answer: str = "") -> None:
    """The rows of a file with columns renamed, or with another answer in place of each."""
    table = pq.read_table(file)
    if change:
        table = table.rename_columns([change.get(name, name) for name in table.column_names])
    if answer:
        rows = table.to_pylist()
        for row in rows:
            row["messages"] = [
                turn | ({"content": answer.format(n)} if turn["role"] == "assistant" else {})
                for n, turn in enumerate(row["messages"], 10)
            ]
        table = pa.Table.from_pylist(rows, table.schema)
    pq.write_table(table, file)


SWAPPED = {"chosen": "rejected", "rejected": "chosen"}


@pytest.mark.slow
def test_the_toy_trips_nothing(trained: tuple[Clone, str]) -> None:
    """Of four stages that are as they should be nothing is said."""
    assert [] == tripped_in(trained[1])


@pytest.mark.slow
def test_a_reward_that_pays_for_length(toy: Clone) -> None:
    """Completions grow until they are cut off, and fewer are right."""
    with (toy.folder / "llmrl/rewards.py").open("a") as file:
        file.write(LENGTH)
    toy.params(grpo={"rewards": {"accuracy": 0.1, "length": 3.0}, "lr_scale": 1.0, "max_steps": 40})
    names = said(toy, "grpo")

    assert "cut off" in names
    assert "reward up, right completions down" in names


@pytest.mark.slow
def test_a_reward_model_trained_on_flipped_pairs(toy: Clone) -> None:
    """The held-out pairs tell, where they are not flipped too; else the judge, by what it says of the answers."""
    preference = toy.folder / "data/pairs"
    rewritten(preference / "train.parquet", SWAPPED)
    assert ["ranks pairs the wrong way round"] == said(toy, "reward")

    rewritten(preference / "eval.parquet", SWAPPED)
    assert [] == said(toy, "reward")
    toy.params(grpo={"max_steps": 1})
    assert "the reward model prefers wrong answers" in said(toy, "grpo")


@pytest.mark.slow
def test_a_policy_that_repeats_itself(toy: Clone) -> None:
    """As the text does that it learns from."""
    rewritten(toy.folder / "data/sft/train.parquet", answer="{0} " * 8)
    assert "repeats itself" in said(toy, "sft")
