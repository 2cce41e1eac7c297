"""What a terminal and a log file show of what a stage is doing."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from clone import micro_clone
from rich.console import Console
from small import TINY, made, settings
from terminals import shown_on_a_terminal

from llmrl import progress
from llmrl.measuring import held_out
from llmrl.session import record, screen
from llmrl.training import difficulty, loop, rows
from llmrl.training.run import Run


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> record.Folder:
    """The folder of a run of sft, in which a line is due whenever there is something to say."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(progress, "LINE_EVERY", 0.0)
    return record.Folder(settings("sft"))


def few(run: Run) -> Run:
    """The run with four answers at once, of at most four tokens; a greedy one and two sampled ones a prompt."""
    answers = replace(run.settings.answers, batch=4, samples=2, max_new_tokens=4)
    return replace(run, settings=replace(run.settings, answers=answers))


def counts(said: str) -> list[str]:
    """The lines of a log, but for times."""
    return re.sub(r", \d+ s left", "", said).splitlines()


def test_grpo_s_bar_fits_a_terminal(tmp_path: Path) -> None:
    """Of 80 columns, with its bar, its reward, the share with a signal, memory and time; a log says it in words."""
    terminal = screen.Terminal(tmp_path / "console.log", Console(file=StringIO(), width=80, force_terminal=True))
    bar = screen.TrainingProgress(terminal, "grpo")
    state = SimpleNamespace(global_step=0, max_steps=200)
    with terminal.progress("grpo", "training") as shown:
        bar.on_train_begin(None, state, None)
        bar.on_log(None, state, None, {"reward": -10.8554, "frac_reward_zero_std": 0.22})
        state.global_step = 200
        bar.on_step_end(None, state, None)
        bar.on_train_end(None, state, None)
    plain = Console(file=StringIO(), width=80)
    plain.print(shown.drawn.get_renderable())
    (line,) = plain.file.getvalue().splitlines()

    assert line.startswith("grpo ━━━━━")
    assert " 200/200 left 0:00:00 reward -10.855  signal 78%" in line
    assert "GiB" in line
    assert "…" not in line
    assert "reward -10.855  78% of groups with signal  0 s left" in (tmp_path / "console.log").read_text()


def test_a_batch_that_no_reward_judges_has_none(folder: record.Folder) -> None:
    """TRL logs None as its mean reward, and training goes on."""
    bar = screen.TrainingProgress(folder.terminal, "grpo")
    bar.on_log(None, None, None, {"reward": None, "frac_reward_zero_std": 0.0})

    assert "reward none" == bar.loss


def test_a_log_says_how_many_answers_there_are(folder: record.Folder, tmp_path: Path, capsys) -> None:
    """Of how many, greedy and sampled ones together; console.log has what was printed."""
    _, run = made(tmp_path, "sft")
    run = few(run)
    prompts = run.eval_rows.map(lambda row, place: {"prompt": row["messages"][:1], "row": place}, with_indices=True)
    prompts = prompts.add_column("solution", ["2"] * len(prompts)).add_column("extra", [None] * len(prompts))
    capsys.readouterr()
    with folder.phase("answering after") as shown:
        held_out.measure(run, TINY, "tiny", prompts, 0, shown.counting)
    said = capsys.readouterr().out

    assert [f"sft: answering after: {n} of 12 answers" for n in (0, 4, 8)] == [
        line for line in counts(said) if line.endswith("answers")
    ]
    assert re.search(r"^sft: answering after: 8 of 12 answers, \d+ s left$", said, re.MULTILINE)
    assert said == (folder.path / "console.log").read_text()


def test_prompts_are_counted_as_they_are_judged(folder: record.Folder, tmp_path: Path, capsys) -> None:
    """Each with all of its answers."""
    _, run = made(tmp_path, "grpo", {"pass_samples": 2})
    capsys.readouterr()
    with folder.phase("judging prompts") as shown:
        difficulty.judged(few(run), shown.counting)

    expected = [f"sft: judging prompts: {n} of 8 answers" for n in (0, 4)]
    assert expected == [line for line in counts(capsys.readouterr().out) if line.endswith("answers")]


def test_rows_are_counted_as_they_are_tokenised(folder: record.Folder, tmp_path: Path, monkeypatch, capsys) -> None:
    """Whether as lengths or as tokens."""
    _, run = made(tmp_path, "sft")
    monkeypatch.setattr(rows, "BATCH", 2)
    capsys.readouterr()
    with folder.phase("tokenising") as shown:
        rows.sizes_of(run.eval_rows, run.tokenizer, True, shown.counting)
        rows.tokenised(run.eval_rows, run.tokenizer, True, shown.counting)

    expected = [f"sft: tokenising: {n} of 4 rows" for n in (0, 2)]
    assert [*expected, *expected] == [line for line in counts(capsys.readouterr().out) if line.endswith("rows")]


@pytest.mark.parametrize(
    ("stage", "trl", "expected"),
    [
        ("sft", {}, ["sft: loading weights: 0 of 38", "sft: tokenizing train dataset: 0 of 4"]),
        (
            "dpo",
            {"precompute_ref_log_probs": True},
            ["sft: tokenizing eval dataset: 0 of 4", "sft: computing reference log probs for train dataset: 0 of 2"],
        ),
    ],
)
def test_what_libraries_count_is_shown_as_ours(
    stage: str, trl: dict, expected: list[str], folder: record.Folder, tmp_path: Path, capfd
) -> None:
    """Weights that are loaded, rows that TRL's trainer tokenises, log-probabilities of DPO's reference: a line now and
    then, in place of tqdm's bars; and outside of a phase none.
    """
    with folder.phase("loading the model"):
        made(tmp_path, stage, **trl)
        print("a warning", file=sys.stderr)
    inside = capfd.readouterr()
    made(tmp_path, "sft")

    assert set(expected) <= set(counts(inside.out))
    assert "a warning\n" == inside.err
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", inside.out)
    assert ("", "") == capfd.readouterr()


def test_evaluations_count_their_batches(folder: record.Folder, tmp_path: Path, capsys) -> None:
    """Before a training; and within, beside its step, after which its own line is back."""
    trainer, _ = made(tmp_path, "sft", max_steps=3, eval_strategy="steps", eval_steps=2, logging_steps=1)
    trainer.add_callback(folder.progress)
    capsys.readouterr()
    with folder.phase("measuring before"):
        loop.evaluated(trainer)
    assert "sft: measuring before: 1 of 2 batches" in counts(capsys.readouterr().out)
    with folder.phase("training"):
        trainer.train()
    said = [line for line in capsys.readouterr().out.splitlines() if " step 2/3" in line]

    assert ["sft step 2/3  evaluating 1/2", "sft step 2/3  evaluating 2/2"] == said[1:3]
    assert said[0].startswith("sft step 2/3  loss ")


def test_a_bar_says_that_it_evaluates_and_goes_back(tmp_path: Path) -> None:
    """What is between two steps stands in place of loss and memory."""
    terminal = screen.Terminal(tmp_path / "console.log", Console(file=StringIO(), width=80, force_terminal=True))
    bar = screen.TrainingProgress(terminal, "sft")
    state = SimpleNamespace(global_step=0, max_steps=9)
    frames = []
    with terminal.progress("sft", "training") as shown:
        bar.on_train_begin(None, state, None)
        state.global_step = 3
        bar.on_step_end(None, state, None)
        frames.append(shown.words)
        bar.on_prediction_step(None, state, None, eval_dataloader=range(12))
        bar.on_prediction_step(None, state, None, eval_dataloader=range(12))
        frames.append(shown.words)
        bar.on_evaluate(None, state, SimpleNamespace(should_save=True))
        frames.append(shown.words)
        bar.on_step_begin(None, state, None)
        frames.append(shown.words)

    assert ["3/9 evaluating 2/12", "3/9 saving a checkpoint"] == frames[1:3]
    assert frames[0] == frames[3] != frames[1]
    assert re.match(r"3/9 left \S+ .*GiB", frames[0])


def test_what_is_not_counted_says_for_how_long(folder: record.Folder, monkeypatch, capsys) -> None:
    """In a log, where it takes long; else nothing."""
    monkeypatch.setattr(progress, "POLL", 0.01)
    monkeypatch.setattr(progress, "LINE_EVERY", 600.0)
    with folder.phase("copying the model"):
        time.sleep(0.1)  # for many looks
    assert "" == capsys.readouterr().out
    monkeypatch.setattr(progress, "LINE_EVERY", 0.1)
    said, end = "", time.monotonic() + 60
    with folder.phase("saving"):
        while not said and time.monotonic() < end:
            time.sleep(0.02)
            said = capsys.readouterr().out

    assert re.fullmatch(r"(sft: saving: \d+ s so far\n)+", said)


@pytest.mark.usefixtures("folder")
def test_one_of_several_processes_shows_something(monkeypatch, capsys) -> None:
    """The first; the others count for themselves."""
    monkeypatch.setenv("RANK", "1")
    other = record.Folder(settings("sft"))
    with other.phase("tokenising") as shown:
        shown.counting(4, "rows")(2)

    assert "" == capsys.readouterr().out


@pytest.mark.slow
def test_a_terminal_shows_a_bar_for_each_phase(tmp_path: Path) -> None:
    """By its name; and at the end the training's is left, and the cursor is back."""
    clone = micro_clone(tmp_path / "clone")
    clone.run("dvc", "repro", "data/dvc.yaml", "models/dvc.yaml")
    raw = shown_on_a_terminal("dvc", "repro", "sft", cwd=clone.folder, environment=clone.environment)
    (run,) = clone.runs()

    said = re.sub(r"\x1b\[[\d;?]*\w", "", raw)
    assert [] == [phase for phase in run["phases"] if not re.search(f"sft: {phase} ━", said)]
    assert {"tokenising", "measuring before"} <= run["phases"].keys()
    for phase in ("answering before", "answering after"):
        assert re.search(rf"sft: {phase} [━╸╺]+ 8 of 24 answers", said)
    assert re.search(r"sft ━+ 3/3 left", said)
    assert raw.rindex("\x1b[?25h") > raw.rindex("\x1b[?25l")
    console = (run["folder"] / "console.log").read_text()
    assert ["sft step 3/3"] == re.findall(r"^sft[ :].*3/3", console, re.MULTILINE)
    assert "\x1b" not in console
