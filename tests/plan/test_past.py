"""How long a stage takes: by the records of past runs, and by arithmetic."""

from __future__ import annotations

import json
import platform
from dataclasses import asdict, fields, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from small import ROOT, experiment, settings
from tensors import QWEN

from llmrl import params
from llmrl.data.settings import Data
from llmrl.measuring.settings import Answers
from llmrl.memory.formula import Planned
from llmrl.memory.shape import Shape
from llmrl.plan import costs, past
from llmrl.session.settings import RunSettings
from llmrl.training.settings import Lora, Settings

AROUND = {"loading": 1.0, "measuring before": 3.0, "training": 12.0, "measuring after": 4.0, "answering after": 2.0}
# All that past.FREE does not name. A setting that is in neither counts as one that costs time, until it is decided.
COSTING = """
    activation_offloading answers.batch answers.engine answers.max_new_tokens answers.precision answers.samples
    answers.temperature attn_implementation average_tokens_across_devices batch cache_implementation
    cast_lm_head_to_fp32 dataloader_drop_last dataloader_multiprocessing_context dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor dataset_num_proc
    ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_static_graph debug disable_dropout
    entropy_coef eval_delay eval_packing eval_rows eval_steps eval_strategy full_determinism generation_batch_size
    generation_kwargs gradient_checkpointing gradient_checkpointing_kwargs grpo.beta include_num_input_tokens_seen init
    kernels label_smoothing_factor lora lora.dropout lora.load_in_4bit lora.merge lora.rank lora.targets loss_on
    max_completion_length max_length max_prompt_length max_tool_calling_iterations micro_batch min_p
    neftune_noise_alpha num_generations num_generations_eval num_iterations off_policy_mask_threshold optim optim_args
    optim_target_modules packing packing_strategy pad_to_multiple_of pass_rate pass_samples per_device_eval_batch_size
    precision precompute_ref_batch_size precompute_ref_log_probs processes ref_model_sync_steps remove_unused_columns
    repetition_penalty reward_model rewards router_aux_loss_coef run.save_steps sft.loss_type steps_per_generation
    sync_ref_model temperature tf32 threads top_entropy_quantile top_k top_p torch_compile torch_compile_backend
    torch_compile_mode torch_empty_cache_steps train_sampling_strategy transformers_continuous_batching_config
    use_adaptive_entropy use_cache use_transformers_continuous_batching use_vllm use_weighting vllm_enable_sleep_mode
    vllm_gpu_memory_utilization vllm_group_port vllm_importance_sampling_cap vllm_importance_sampling_clip_max
    vllm_importance_sampling_clip_min vllm_importance_sampling_correction vllm_importance_sampling_mode
    vllm_max_model_length vllm_mode vllm_model_impl vllm_structured_outputs_regex vllm_tensor_parallel_size
"""
COSTS = set(COSTING.split())


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without past runs."""
    monkeypatch.chdir(tmp_path)


def planned(chosen: Settings) -> Planned:
    return Planned(Shape.of(QWEN), chosen, "fp32", "cpu")


def record(one: Planned, name: str = "first", steps: int = 6, data: Data | None = None, **more: Any) -> Path:
    """What a run of the stage has left, of so many steps of two seconds each and ten seconds around them."""
    file, number = Path("runs", name, "run.json"), len([*Path("runs").glob("*")])
    file.parent.mkdir(parents=True)
    written = one.settings.deciding | {"run": asdict(one.settings.run), "answers": asdict(one.settings.answers)}
    about = {"id": name, "stage": one.settings.stage, "machine": platform.node(), "kind": one.kind, "exit": 0}
    about |= {"settings": written, "parameters": one.parameters, "phases": AROUND, "seconds": 22.0}
    about |= {"data": asdict(data or experiment().data), "device": "CPU, 2 threads, fp32; adamw, layers by torch"}
    about |= {"started": f"2026-01-01T{number:02}:00:00+00:00"}
    file.write_text(json.dumps(about | more))
    lines = [json.dumps({"step": step, "seconds": 2.0 * step, "loss": 1.0}) for step in range(1, steps + 1)]
    (file.parent / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return file


def told(one: Planned, number: int = 100, data: Data | None = None, device: str = "CPU") -> tuple[float | None, str]:
    return past.by_past_runs(one, number, data or experiment().data, device)


def test_the_last_run_tells() -> None:
    """Its seconds a step, and all that it did around them; also where it ended early, of what it was told to do."""
    one = planned(settings("grpo"))
    record(one)
    record(one, "second")
    record(planned(settings("sft")), "third")

    assert (past.START + 210.0, "second, 2.00 s a step") == told(one)


def test_evaluations_are_counted() -> None:
    """A run of 6 steps that evaluates after each third did so once between its logs, in 5 seconds, and took 2 a step
    beside; of 100 steps 33 are evaluated after. One that came to none was evaluated before its training.
    """
    one = planned(settings("sft", eval_strategy="steps", eval_steps=3))
    log = record(one).with_name("metrics.jsonl")
    logged = [json.loads(line) for line in log.read_text().splitlines()]
    before, later = {"step": 0, "seconds": 0.0, "eval_runtime": 4.0}, {"step": 3, "eval_runtime": 5.0}
    lines = [before, *logged[:3], later, *({**line, "seconds": line["seconds"] + 5} for line in logged[3:])]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    whole = told(one)
    log.write_text("".join(f"{json.dumps(line)}\n" for line in [before, *logged[:2]]))

    assert (past.START + 200.0 + 33 * 5.0 + 10.0, "first, 2.00 s a step") == whole
    assert past.START + 200.0 + 33 * 4.0 + 10.0 == told(one)[0]
    assert [0, 1, 4] == [
        past.evaluations(settings("sft", eval_strategy=how, eval_steps=steps), number)
        for how, steps, number in (("no", 3, 9), ("steps", 3, 5), ("steps", 0.25, 10**3))
    ]


@pytest.mark.parametrize(
    ("stage", "own", "options", "differs"),
    [
        ("dpo", {"seed": 7}, {"beta": 0.5}, ""),
        ("dpo", {}, {"loss_type": ["ipo"], "loss_weights": None, "label_smoothing": 0.1}, ""),
        ("dpo", {}, {"precompute_ref_log_probs": True}, "precompute_ref_log_probs"),
        ("dpo", {}, {"max_length": 64}, "max_length"),
        ("dpo", {"micro_batch": 4}, {"eval_steps": 3}, "eval_steps, micro_batch"),
        ("sft", {}, {"packing": True}, "packing"),
        ("sft", {}, {"loss_type": "dft"}, "loss_type"),
        ("grpo", {"init": "models/sft"}, {"max_steps": 9}, ""),
        ("grpo", {"init": "models/base"}, {}, "init"),
        ("grpo", {"reward_model": "models/other"}, {}, "reward_model"),
        ("grpo", {}, {"lr_scheduler_type": "linear", "warmup_steps": 3, "num_train_epochs": 1}, ""),
        ("grpo", {}, {"lr_scheduler_kwargs": {"num_cycles": 2}}, ""),
        ("grpo", {"rewards": {"accuracy": 2.0, "reward_model": 0.5}}, {"logging_steps": 1}, ""),
        ("grpo", {"rewards": {"accuracy": 1.0}}, {}, "rewards"),
        ("grpo", {}, {"epsilon": 0.3, "loss_type": "dr_grpo", "scale_rewards": "none"}, ""),
        ("grpo", {}, {"num_generations": 4}, "num_generations"),
        ("grpo", {}, {"max_completion_length": 16}, "max_completion_length"),
        ("grpo", {}, {"beta": 0.1}, "beta"),
        ("grpo", {"kernels": "torch"}, {}, "kernels"),
        ("grpo", {"attn_implementation": "eager"}, {}, "attn_implementation"),
        ("grpo", {"pass_rate": [0.1, 0.9]}, {}, "data.prompts.rows, pass_rate"),
        ("grpo", {"lora": Lora(4, 8)}, {}, "lora"),
        ("grpo", {"threads": 1}, {}, "threads"),
        (
            "grpo",
            {"threads": 1, "precision": "bf16"},
            {"tf32": True, "top_k": 5},
            "precision, tf32, threads and 1 more",
        ),
        ("grpo", {}, {"torch_compile": True}, "torch_compile"),
        ("grpo", {}, {"of_a_newer_trl": 1}, "of_a_newer_trl"),
    ],
)
def test_what_a_run_must_share(stage: str, own: dict, options: dict, differs: str) -> None:
    """All that may decide seconds, which is named, and nothing that does not."""
    record(planned(settings(stage)))
    seconds, why = told(planned(settings(stage, own, **options)))

    assert why == (f"first had another {differs}" if differs else "first, 2.00 s a step")
    assert (seconds is None) == bool(differs)


def test_within_a_map_and_between_two_values() -> None:
    """Of adapters and of a reference it is told which part costs time."""
    lora = {"lora": Lora(4, 8)}
    record(planned(settings("grpo", lora, beta=0.1)))

    assert told(planned(settings("grpo", {"lora": Lora(4, 16)}, beta=0.2)))[0]
    assert "first had another lora.rank" == told(planned(settings("grpo", {"lora": Lora(8, 8)}, beta=0.1)))[1]


def test_the_learning_rate_costs_no_time() -> None:
    """Nor does anything that is only shown or kept; a checkpoint every step does."""
    one = planned(settings("sft"))
    record(one)
    run = one.settings.run
    slower = replace(one.settings, lr=1e-5, run=replace(run, verbosity="quiet", min_signal=0.5, report_to="wandb"))

    assert told(planned(slower))[0]
    every = replace(one.settings, run=replace(run, save_steps=1))
    assert "first had another run.save_steps" == told(planned(every))[1]


def test_every_setting_is_decided() -> None:
    """Whether it costs time: one that TRL adds is to be decided here, and costs time until then."""
    names = {(name, one) for name, found in experiment().stages.items() for one in found.deciding}
    sections = {"lora": Lora, "run": RunSettings, "answers": Answers}
    names |= {("", f"{section}.{one.name}") for section, kind in sections.items() for one in fields(kind)}
    undecided = [(stage, one) for stage, one in names if not {one, f"{stage}.{one}"} & (past.FREE | COSTS)]

    assert not undecided
    assert not past.FREE & COSTS
    assert not (past.FREE | COSTS) - {one for _, one in names} - {f"{stage}.{one}" for stage, one in names}


def test_the_protocol_of_answers_counts_where_there_are_any() -> None:
    """By it a policy is measured around the training, with other seconds; which seed it has and what marks an answer
    costs none. A reward model answers nothing.
    """
    for stage in ("sft", "reward"):
        one = planned(settings(stage))
        record(one, stage)
        protocol = one.settings.answers
        shorter, alike = replace(protocol, samples=9), replace(protocol, seed=9, marks=["boxed"])
        seconds, why = told(planned(replace(one.settings, answers=shorter)))

        assert "sft had another answers.samples" == why if stage == "sft" else seconds
        assert told(planned(replace(one.settings, answers=alike)))[0]


@pytest.mark.parametrize(
    ("name", "changes", "of"),
    [
        ("sft", {"source": "raw"}, ["sft"]),
        ("sft", {"template": "{question} Briefly."}, ["sft"]),
        ("sft", {"eval_rows": 7}, ["sft"]),
        ("preference", {"system": "Answer."}, ["dpo", "reward"]),
        ("prompts", {"eval_rows": 7}, ["dpo", "grpo", "sft"]),
        ("prompts", {"source": "raw"}, ["dpo", "grpo", "sft"]),
        ("sft", {"rows": 9}, []),
        ("prompts", {"rows": 9}, []),
    ],
)
def test_the_rows_count(name: str, changes: dict, of: list[str]) -> None:
    """How long they are, which is another with another source or another way to ask; and how many are measured. More
    rows to train on cost no step.
    """
    data, found = experiment().data, []
    other = replace(data, seed=9, salt="other", **{name: replace(getattr(data, name), **changes)})
    for stage in experiment().stages:
        record(planned(settings(stage)), stage)
        seconds, why = told(planned(settings(stage)), data=other)
        assert seconds or f"data.{name}.{next(iter(changes))}" in why
        found += [] if seconds else [stage]

    assert of == sorted(found)


def test_the_rows_that_are_judged_count() -> None:
    """Where GRPO chooses among its prompts each of them is answered; where epochs decide when it evaluates, too."""
    data = experiment().data
    fewer = replace(data, prompts=replace(data.prompts, rows=9))
    for name, one in {
        "chosen": planned(settings("grpo", {"pass_rate": [0.1, 0.9]})),
        "epochs": planned(settings("grpo", eval_strategy="epoch")),
    }.items():
        record(one, name)
        assert f"{name} had another data.prompts.rows" == told(one, data=fewer)[1]


@pytest.mark.parametrize(
    ("recorded", "device", "same"),
    [
        ("NVIDIA H200, bf16; adafactor, layers by liger", "NVIDIA H200", True),
        ("NVIDIA H200, bf16; adafactor, layers by liger", "NVIDIA H200 NVL", False),
        ("NVIDIA H200, bf16; adafactor, layers by liger", "CPU", False),
        ("NVIDIA A100-SXM4-80GB MIG 3g.40gb, bf16; x", "MIG 3g.40gb of NVIDIA A100-SXM4-80GB", True),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb, bf16; x", "MIG 3g.40gb of NVIDIA A100-SXM4-80GB", False),
        ("Apple GPU, fp32; x", "Apple GPU", True),
    ],
)
def test_another_device(recorded: str, device: str, same: bool) -> None:
    """Of this machine or of another: what one takes tells nothing of the other."""
    one = planned(settings("sft"))
    record(one, device=recorded)
    seconds, why = told(one, device=device)

    assert same == (seconds is not None)
    assert same or why == "first had another device"
    record(one, "elsewhere", machine="another", device=device)
    assert (seconds, why) == told(one, device=device)


def test_another_size_of_model() -> None:
    one = planned(settings("sft"))
    record(one, parameters=7)

    assert (None, "first had another parameters") == told(one)


def test_the_nearest_is_named() -> None:
    """Of several unlike runs the one that differs in the least, and of these the last."""
    one = planned(settings("sft"))
    record(planned(settings("sft", {"threads": 1})), "a")
    record(planned(settings("sft", {"threads": 3})), "b")
    record(planned(settings("sft", {"threads": 1, "micro_batch": 4})), "c")
    record(planned(settings("sft")), "d", steps=1)  # of which no step is known

    assert (None, "b had another threads") == told(one)


def test_a_run_in_several_pieces() -> None:
    """One that was interrupted, went on from its checkpoint, and was measured in a third: each tells what it did."""
    one, stopped = planned(settings("grpo", {"pass_rate": [0.1, 0.9]})), "InterruptedError: at step 6"
    begun = {"loading": 9.0, "judging prompts": 50.0, "measuring before": 3.0, "training": 12.0}
    record(one, "a", phases=begun, exit=stopped)
    unfinished = told(one)
    record(one, "b", phases={"loading": 1.0, "training": 12.0, "saving": 2.0}, exit=stopped)
    record(one, "c", steps=0, phases={"loading": 1.0, "measuring after": 4.0, "answering after": 5.0})

    around = past.START + 200.0 + 62.0
    assert (around, "a, 2.00 s a step, without measuring after: no such run has come so far") == unfinished
    assert (past.START + 200.0 + 1.0 + 50.0 + 3.0 + 2.0 + 4.0 + 5.0, "b, 2.00 s a step") == told(one)


def test_a_run_that_was_killed() -> None:
    """Its steps tell, though its last line is cut short; what is around them does not, and that is said."""
    one = planned(settings("sft"))
    killed = record(one, "a", phases={"loading": 1.0})
    kept = {name: value for name, value in json.loads(killed.read_text()).items() if name not in ("exit", "seconds")}
    killed.write_text(json.dumps(kept))
    with killed.with_name("metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "seco')
    seconds, said = told(one)

    assert past.START + 200.0 + 1.0 == seconds
    assert said == "a, 2.00 s a step, without measuring before, measuring after: no such run has come so far"


def test_beside_another_run() -> None:
    """Two at once are slower than one: rather one that was alone counts; where there is none that is said."""
    one = planned(settings("sft"))
    record(one, "a", started="2026-01-01T00:00:00+00:00")
    record(planned(settings("dpo")), "b", started="2026-01-01T00:00:21+00:00")
    beside = told(one)
    record(one, "c", started="2026-01-01T00:00:43+00:00")
    record(one, "d", started="2026-01-01T01:01:10+01:00")
    record(one, "e", started="2026-01-01T00:01:10+00:00")

    assert (past.START + 210.0, "a, 2.00 s a step beside another run") == beside
    assert "c, 2.00 s a step" == told(one)[1]


def test_logs_are_read_of_no_more_runs_than_are_needed() -> None:
    """A log may be long: of runs that all went on at once the last one's is, and no other."""
    one = planned(settings("sft"))
    for name in "abc":
        log = record(one, name, started="2026-01-01T00:00:00+00:00").with_name("metrics.jsonl")
        log.write_text("read\n")
    record(one, "d", started="2026-01-01T00:00:01+00:00")

    assert "d, 2.00 s a step beside another run" == told(one)[1]


def test_the_last_runs_tell() -> None:
    """Of a stage so many are looked at; those of other stages do not count among them."""
    one, other = planned(settings("sft")), planned(settings("sft", {"threads": 1}))
    days = [f"{date(2025, 1, 1) + timedelta(days=day)}T00:00:00+00:00" for day in range(past.LATEST + 1)]
    record(one, "first", started=days[0])
    for day in days[1:-1]:
        record(other, f"other_{day}", started=day)
        record(planned(settings("dpo")), f"dpo_{day}", started=day.replace("T00", "T12"))
    within = told(one)[1]
    record(other, "last", started=days[-1])

    assert "first, 2.00 s a step" == within
    assert "last had another threads" == told(one)[1]


def test_records_that_tell_nothing_are_passed_over() -> None:
    """One that was cut short, by a machine that went down say, and one of a version that recorded less."""
    one = planned(settings("sft"))
    for number, left in enumerate(("", '{"stage": "sft", "sett')):
        record(one, f"cut{number}").write_text(left)
    before = record(one, "before")
    less = json.loads(before.read_text())
    for name in ("data", "device", "parameters"):
        before.write_text(json.dumps({key: value for key, value in less.items() if key != name}))
        assert (None, "no run of it is recorded here") == told(one)
    before.write_text(json.dumps(less | {"settings": {"batch": 16, "lora": None, "run": {}, "answers": {}}}))
    record(one)

    assert (past.START + 12.0, "first, 2.00 s a step") == told(one, 1)


@pytest.mark.parametrize(("engine", "token"), [("transformers", 0.048), ("cuda_graphs", 0.00843)])
def test_hours_of_judging(engine: str, token: float) -> None:
    """Where GRPO judges its prompts, what they take is counted: each is answered as often as is asked. Recorded, a
    token of 64 sequences takes what the arithmetic does.
    """
    profile = params.experiment(ROOT / "profiles/qwen2.5-0.5b.yaml")
    chosen = profile.stages["grpo"]
    without = replace(chosen, own=replace(chosen.own, pass_rate=None))
    hours = [
        costs.assumed(Planned(Shape.of(QWEN), one, "bf16", "cuda", engine=engine), 300, profile.data)[0] / 3600
        for one in (without, chosen)
    ]
    rounds = profile.data.prompts.rows * chosen.own.pass_samples / chosen.answers.batch
    expected = rounds * chosen.option("max_completion_length") * token / 3600

    assert hours[1] - hours[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("init", "times"), [("models/base", 2), ("models/sft", 1)])
def test_answers_before_count_where_no_stage_has_given_them(init: str, times: int) -> None:
    """What a stage made was measured when it was made."""
    data = experiment().data
    free, held_out = replace(data, prompts=replace(data.prompts, eval_rows=0)), data.prompts.eval_rows
    one = planned(settings("dpo", {"init": init, "threads": 1}))
    protocol = one.settings.answers
    rounds = -(-held_out * (1 + protocol.samples) // protocol.batch)
    token = max(0.0005 * one.shape.layers, 2 * one.parameters * protocol.batch / costs.CORE)

    found = costs.assumed(one, 1, data)[0] - costs.assumed(one, 1, free)[0]
    assert found == pytest.approx(times * rounds * protocol.max_new_tokens * token)


def test_a_run_that_was_too_short_is_said() -> None:
    """Of one logged step no time a step follows; that there was a run is not denied. The one that asks is none yet."""
    one = planned(settings("reward"))
    file = record(one, steps=1)
    assert (None, "its runs here logged too few steps to tell") == told(one)
    asking = json.loads(file.read_text())
    del asking["exit"]
    file.write_text(json.dumps(asking))
    assert (None, "no run of it is recorded here") == told(one)
