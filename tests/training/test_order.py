"""Rows of like length come together: in each step the same rows, the same loss and gradient, and less padding."""

from __future__ import annotations

import importlib
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
import torch
from accelerate.data_loader import prepare_data_loader

from llmrl.training import loop, order, rows

WIDTHS = (1, 9, 3, 14, 2, 11, 7, 5, 13, 4, 8, 6, 12, 10, 15, 1, 3, 9, 2, 5, 7)  # 21 rows: two steps of 8, and 5
PAIRS = {"loss_type": ["sigmoid"], "loss_weights": None}  # the toy has a second loss, which is no mean over pairs
STAGES = ("sft", "reward", "dpo")


def wider(row: dict[str, Any], by: int) -> dict[str, Any]:
    """The row with a longer question, and longer answers."""
    row = small.longer(row, 2 * by)
    for name, times in {"messages": by, "chosen": by // 2, "rejected": by % 4}.items():
        for turn in row.get(name, [])[-1:]:
            turn["content"] += times * " 7"
    return row


def made(folder: Path, stage: str, own: dict[str, Any] | None = None, **trl: object) -> tuple[Any, Any]:
    """A stage's trainer on rows of many lengths, two epochs of them in steps of 8, and its run."""
    own = {"init": small.TINY, "batch": 8, "micro_batch": 2} | (own or {})
    options = {"max_steps": -1, "num_train_epochs": 2, "eval_strategy": "no", "logging_steps": 1, "max_length": 256}
    options |= (PAIRS if stage == "dpo" else {}) | trl
    given = [wider(small.ROWS[stage], by) for by in WIDTHS]
    run = small.run(folder, small.settings(stage, own, **options), given)
    return loop.constructed(importlib.import_module(f"stages.{stage}").trainer, run, small.TINY), run


def drawn(trainer: Any, callbacks: list[Any], processes: int) -> list[list[list[int]]]:
    """The rows that the steps of two epochs see, as micro-batches of all processes."""
    shares = []
    for process in range(processes):
        given = {"num_processes": processes, "process_index": process, "use_seedable_sampler": True}
        loader = prepare_data_loader(trainer.get_train_dataloader().base_dataloader, **given)
        for callback in callbacks:
            callback.on_train_begin(None, None, None, train_dataloader=loader)
        shares.append([])
        for epoch in range(2):
            loader.set_epoch(epoch)
            micro_batches = list(loader.batch_sampler)
            per_step = 4 // processes
            shares[-1] += [micro_batches[i : i + per_step] for i in range(0, len(micro_batches), per_step)]
    return [[*chain(*step)] for step in zip(*shares, strict=True)]


def computed(steps: list[list[list[int]]], trainer: Any) -> tuple[int, int]:
    """The tokens of all rows, and of padding."""
    sizes = order.widths(trainer.train_dataset)
    batches = [[sizes[row] for row in batch] for step in steps for batch in step]
    return sum(map(sum, batches)), sum(len(batch) * max(batch) - sum(batch) for batch in batches)


@pytest.mark.parametrize(
    ("fills", "expected"),
    [(False, [3, 0, 1, 2, 5, 6, 7, 4, 9, 8, 10]), (True, [0, 1, 3, 2, 5, 6, 7, 4, 9, 8, 10])],
)
def test_longest_first(fills: bool, expected: list[int]) -> None:
    """In steps of four rows, two of which are held at once; the last, and those that fill up, are where they were."""
    sizes = [7, 6, 5, 9, 1, 4, 3, 2, 4, 8, 9]

    assert expected == list(order.ByLength(range(11), sizes, 4, 2, fills))


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("processes", [1, 2])
def test_a_step_sees_the_rows_that_it_would(tmp_path: Path, processes: int, drop_last: bool) -> None:
    """In both epochs, and at their ends, where rows are few, dropped, or filled up with the epoch's first; with less
    padding.
    """
    trainer, run = made(tmp_path, "sft", dataloader_drop_last=drop_last)
    settings = replace(run.settings, processes=processes)
    plain, found = (drawn(trainer, some, processes) for some in ([], order.like_lengths(trainer, settings)))

    assert [sorted(chain(*step)) for step in plain] == [sorted(chain(*step)) for step in found]
    assert [[len(batch) for batch in step] for step in plain] == [[len(batch) for batch in step] for step in found]
    assert plain[:3] != plain[3:]  # each epoch has its own
    assert computed(found, trainer)[1] < 0.6 * computed(plain, trainer)[1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_row_is_as_wide_as_the_batch_that_it_makes(tmp_path: Path, stage: str) -> None:
    """As TRL's collator pads it."""
    trainer, _ = made(tmp_path, stage)
    widths = [trainer.data_collator([row])["input_ids"].shape[1] for row in trainer.train_dataset]

    assert len(set(widths)) > 10
    assert widths == order.widths(trainer.train_dataset)


def trained(folder: Path, stage: str, ordered: bool, resume: str | None = None, **trl: object) -> Any:
    """The trainer, when it has trained."""
    trainer, run = made(folder, stage, **trl)
    for callback in order.like_lengths(trainer, run.settings) if ordered else ():
        trainer.add_callback(callback)
    trainer.train(resume_from_checkpoint=resume)
    return trainer


@pytest.mark.parametrize("options", [{}, {"label_smoothing_factor": 0.1}, {"loss_type": "dft"}], ids=str)
def test_sft_learns_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    """Its loss is a mean over the tokens of a step."""
    same(tmp_path, "sft", **options)


@pytest.mark.parametrize("options", [{}, {"center_rewards_coefficient": 0.01}], ids=str)
def test_the_reward_model_learns_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    """Its loss is a mean over pairs, of which the last step's short micro-batch keeps its own."""
    same(tmp_path, "reward", **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss_type": ["apo_zero", "sigmoid_norm"], "loss_weights": [1.0, 0.5]},
        {"loss_type": ["hinge"], "ld_alpha": 0.5},
    ],
    ids=str,
)
def test_dpo_learns_the_same(tmp_path: Path, options: dict[str, Any]) -> None:
    """So is its own, whichever it is of those that are left to be ordered."""
    same(tmp_path, "dpo", **options)


def same(folder: Path, stage: str, **options: object) -> None:
    """Require the losses and gradients of rows as they are drawn, but for last bits, of each step after the other."""
    plain, found = (trained(folder / str(ordered), stage, ordered, **options) for ordered in (False, True))
    for name, within in {"loss": 1e-5, "grad_norm": 1e-3}.items():  # bits that differ, Adam makes more of
        expected, others = ([one[name] for one in t.state.log_history if name in one] for t in (plain, found))
        assert 6 == len(expected)
        assert others == pytest.approx(expected, abs=within, rel=within)
    assert found.state.total_flos < 0.9 * plain.state.total_flos


def test_a_run_that_goes_on_ends_in_the_same_bytes(tmp_path: Path) -> None:
    """In the midst of the second epoch."""
    saving = {"save_strategy": "steps", "save_steps": 4}
    whole = trained(tmp_path / "whole", "sft", ordered=True, **saving)
    found = trained(tmp_path / "again", "sft", ordered=True, resume=str(tmp_path / "whole/checkpoint-4"), **saving)

    assert all(map(torch.equal, whole.model.state_dict().values(), found.model.state_dict().values()))


@pytest.mark.parametrize(
    ("stage", "own", "options"),
    [
        ("sft", {"micro_batch": 8}, {}),
        ("sft", {}, {"train_sampling_strategy": "sequential"}),
        ("sft", {}, {"train_sampling_strategy": "batch_rebalance"}),
        ("sft", {}, {"packing": True}),
        ("sft", {}, {"neftune_noise_alpha": 5}),
        ("dpo", {}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2]}),
        ("dpo", {}, {"loss_type": ["aot"]}),
    ],
    ids=str,
)
def test_left_as_drawn(tmp_path: Path, stage: str, own: dict[str, Any], options: dict[str, Any]) -> None:
    """Where a step is one batch, an order was chosen, nothing is padded, or a micro-batch has a loss of its own."""
    trainer, run = made(tmp_path, stage, own, **options)

    assert [] == order.like_lengths(trainer, run.settings)


def test_grpo_is_left_alone(tmp_path: Path) -> None:
    """Each of its completions is padded to the longest of a round."""
    trainer, run = small.made(tmp_path, "grpo")

    assert [] == order.like_lengths(trainer, run.settings)


def test_several_processes_share_the_tokens_of_a_step(tmp_path: Path) -> None:
    """Where each counts its own, a row counts by its company."""
    trainer, run = made(tmp_path, "sft", average_tokens_across_devices=False)
    two = replace(run.settings, processes=2)

    assert [] == order.like_lengths(trainer, two)
    assert 1 == len(order.like_lengths(trainer, run.settings))


def test_experts_are_balanced_in_the_company_that_they_had(tmp_path: Path) -> None:
    """A mixture of experts has a loss of its own, of each micro-batch."""
    trainer, run = made(tmp_path, "sft")
    trainer.aux_loss_enabled = True  # as TRL has it of such a model

    assert [] == order.like_lengths(trainer, run.settings)


class Attendant:
    """Attends a training without showing, recording or keeping anything; has the trainer."""

    def phase(self, name: str) -> Any:
        return nullcontext(SimpleNamespace(counting=rows.unseen))

    def loaded(self, run: Any, trainer: Any, counts: Any, left_out: Any) -> None:
        self.trainer = trainer

    def measured(self, before: Any) -> None: ...

    @contextmanager
    def training(self, trainer: Any) -> Any:
        yield []


def test_a_stage_trains_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes no more than the order's padding."""
    monkeypatch.chdir(tmp_path)
    trainer, run = made(tmp_path, "sft")
    (tmp_path / "data/sft").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(list(run.train_rows)), "data/sft/train.parquet")
    attendant = Attendant()
    loop.train(run, importlib.import_module("stages.sft").trainer, attendant, tmp_path / "store", None)
    steps = drawn(trainer, order.like_lengths(trainer, run.settings), 1)

    weights = trainer.model.num_parameters(exclude_embeddings=True)
    assert attendant.trainer.state.total_flos == 6 * weights * sum(computed(steps, trainer))
