"""Turns with more than a text: tool calls, reasoning, and those that the loss does not cover, in the four stages."""

from __future__ import annotations

import copy
import importlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import small
import trl

from llmrl.base import templates
from llmrl.errors import DefectiveError, InputError
from llmrl.graph import STAGES
from llmrl.measuring import held_out
from llmrl.models import loading
from llmrl.session import sample
from llmrl.training import rows, turns
from llmrl.training.rows import LeftOut

TOY = Path(small.TINY, "chat_template.jinja").read_text()
TEMPLATES = {
    path.stem.removesuffix("_training"): path.read_text()
    for path in (Path(trl.__file__).parent / "chat_templates").glob("*_training.jinja")
}
NO_SYSTEM = "{%- if messages[0].role == 'system' %}{{ raise_exception('no system turn') }}{% endif %}" + TOY
USER, FOUR = small.QUESTION[0], {"role": "assistant", "content": "4"}
# pandas reads 0.6 as 0.6000000000000001, and no number of more than 64 bits.
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 0.6, "b": 2**70, "c": None}}}
CALLS = {"role": "assistant", "content": "", "tool_calls": [CALL]}
GAVE = {"role": "tool", "content": "1.6", "name": "add", "tool_call_id": "123456789"}
THOUGHT = FOUR | {"reasoning_content": "Two and two."}
PARAMETERS = {"type": "object", "properties": {"a": {"type": "number", "description": "one"}}}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": PARAMETERS}}]
CHAT = [USER, CALLS, GAVE, THOUGHT]
ROLE_AND_CONTENT = [("role", pa.string()), ("content", pa.string())]


def tokenizer(template: str = TOY) -> Any:
    found = loading.load_tokenizer(small.TINY)
    found.chat_template = template
    return found


def written(row: dict[str, Any]) -> dict[str, Any]:
    """A row as data/<name>/ has it."""

    def apart(turn: dict[str, Any]) -> dict[str, Any]:
        more = {name: value for name, value in turn.items() if name not in ("role", "content")}
        return {"role": turn["role"], "content": turn["content"], "more": json.dumps(more) if more else None}

    sides = {name: [apart(turn) for turn in value] for name, value in row.items() if name != "tools"}
    return sides | {"tools": json.dumps(row["tools"]) if "tools" in row else None}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[small.Run, LeftOut]]:
    """A run of a stage on such rows, both to train on and held out, and what was left out of those to train on."""
    monkeypatch.chdir(tmp_path)

    def made(
        stage: str, some: list[dict[str, Any]], template: str = TOY, share: float = 0.0, **own: Any
    ) -> tuple[small.Run, LeftOut]:
        folder = Path(STAGES[stage].folder)
        folder.mkdir(parents=True, exist_ok=True)
        found = [written(row) for row in some]
        more = any(row["tools"] for row in found) or '"more": "' in json.dumps(found)
        turns_of = pa.list_(pa.struct(ROLE_AND_CONTENT + [("more", pa.string())] * more))
        columns = {name: turns_of for name in some[0] if name != "tools"} | ({"tools": pa.string()} if more else {})
        table = pa.Table.from_pylist(found, pa.schema(columns))
        if stage == "grpo":
            table = table.append_column("solution", pa.array(["4"] * len(some)))
        for side in ("train", "eval"):
            pq.write_table(table, folder / f"{side}.parquet")
        options: dict[str, Any] = {"max_steps": 1, "eval_strategy": "no", "per_device_eval_batch_size": 2}
        options |= {"num_generations": 2, "max_completion_length": 8} if stage == "grpo" else {"max_length": 2000}
        chosen = replace(
            small.settings(stage, {"init": small.TINY, "batch": 2, "micro_batch": 2} | own, **options),
            max_refused=share,
        )
        taken, left_out = rows.trained_on(chosen, tokenizer(template))
        held_out, _ = rows.evaluated_on(chosen, tokenizer(template))
        one = small.run(tmp_path, chosen, [])
        return replace(one, tokenizer=tokenizer(template), train_rows=taken, eval_rows=held_out), left_out

    return made


def trainer(run: small.Run) -> Any:
    return importlib.import_module(f"stages.{run.settings.stage}").trainer(run, small.TINY)


def covered(row: dict[str, Any], tokenizer: Any) -> list[str]:
    """What the loss covers, in pieces."""
    text = sample.marked(row["input_ids"], [label != -100 for label in row["labels"]], tokenizer)
    return [piece.partition("⟧")[0] for piece in text.split("⟦")[1:]]


@pytest.mark.parametrize("template", ["toy", "qwen2_5", "qwen3"])
def test_the_labels_are_trl_s(run, template):
    """Of conversations with one answer or several, where all are covered."""
    text = TEMPLATES.get(template, TOY)
    some = [{"messages": [USER, FOUR]}, {"messages": [{"role": "system", "content": "Add."}, USER, FOUR, USER, FOUR]}]
    expected = trainer(run("sft", some, text)[0]).train_dataset
    found = [turns.labelled(row, tokenizer(text), last=False) for row in copy.deepcopy(some)]

    assert [(row["input_ids"], row["labels"]) for row in expected] == found


@pytest.mark.parametrize(
    ("loss_on", "second", "pieces"),
    [
        ("all", {}, ["1<|im_end|>", "2<|im_end|>", "3<|im_end|>"]),
        ("all", {"train": False}, ["1<|im_end|>", "3<|im_end|>"]),
        ("last", {}, ["3<|im_end|>"]),
    ],
)
def test_which_answers_the_loss_covers(run, loss_on, second, pieces):
    """All, all but those that are not to be trained on, or the last; and the stage trains on them, packed too."""
    said = [{"role": "assistant", "content": str(number)} for number in (1, 2, 3)]
    chat = [USER, said[0], USER, said[1] | second, USER, said[2]]
    one, left_out = run("sft", [{"messages": chat}] * 2, loss_on=loss_on)
    made = trainer(one)
    made.train()

    assert ({"rows_too_long": 0}, pieces) == (left_out.counts, covered(made.train_dataset[0], one.tokenizer))
    assert pieces[-1] in sample.text(made, one.tokenizer)
    assert loss_on == one.settings.deciding["loss_on"]
    packing = replace(one.settings, trl=one.settings.trl | {"packing": True})
    (row,) = trainer(replace(one, settings=packing)).train_dataset
    assert pieces * 2 == covered(row, one.tokenizer)


def test_without_further_fields_trl_tokenises(run):
    """What it has always been given: messages of role and content."""
    some = [{"messages": [USER, FOUR]}] * 2
    one, _ = run("sft", some)

    assert some == one.train_rows.to_list()
    assert trainer(one).args.assistant_only_loss


@pytest.mark.parametrize("family", ["qwen3", "qwen3_6"])
def test_calls_and_reasoning_are_trained_on(run, family):
    """With every number as it was; what the user and the tool say is not covered."""
    one, left_out = run("sft", [{"messages": CHAT, "tools": TOOLS}] * 2, TEMPLATES[family])
    trainer(one).train()
    call, answer = covered(one.train_rows[0], one.tokenizer)

    assert {"rows_too_long": 0} == left_out.counts
    assert [] == [part for part in ("add", "0.6", str(2**70)) if part not in call]
    assert [] == [part for part in ("Two and two.", "4<|im_end|>") if part not in answer]
    assert "Adds." in one.tokenizer.decode(one.train_rows[0]["input_ids"])


def test_calls_of_a_model_that_does_not_reason(run):
    """Qwen2.5 writes calls, and no reasoning."""
    one, _ = run("sft", [{"messages": [USER, CALLS, GAVE, FOUR], "tools": TOOLS}] * 2, TEMPLATES["qwen2_5"])
    call, answer = covered(one.train_rows[0], one.tokenizer)

    assert f'{{"name": "add", "arguments": {{"a": 0.6, "b": {2**70}, "c": null}}}}' in call
    assert "4<|im_end|>" == answer.strip()


THREE_NAMES = [
    family for family, text in TEMPLATES.items() if any(f"message.{name}" in text for name in turns.REASONING)
]


@pytest.mark.parametrize("family", THREE_NAMES)
def test_reasoning_under_three_names(family):
    """TRL's templates write it as where it has but the one name that they know."""
    names = [name for name in turns.REASONING if f"message.{name}" in TEMPLATES[family]]
    three = [USER, turns.with_more(FOUR | {"more": json.dumps({"reasoning_content": "Two."})})]
    one = [USER, FOUR | {names[0]: "Two."}]
    expected, found = (tokenizer(TEMPLATES[family]).apply_chat_template(chat, tokenize=False) for chat in (one, three))

    assert "Two." in expected
    assert expected == found


# A template that writes what is called, but not within its marks.
OUTSIDE = TOY.replace("{{- '\\n' }}", "{{- message.tool_calls | default('') }}")
TWICE = TOY.replace("{%- generation %}", "{%- generation %}{{- 'a' }}{%- endgeneration %}{{- 'b' }}{%- generation %}")
# One made here of a tokenizer's own, which has tools.
OWN = templates.TOOLS % (TOY.replace("{%- generation %}", "").replace("{%- endgeneration %}", ""), TOY)


@pytest.mark.parametrize(
    ("reason", "template", "row"),
    [
        ("does not write tools", TOY, {"messages": [USER, FOUR], "tools": TOOLS}),
        ("does not write tool calls", TOY, {"messages": CHAT[:2]}),
        ("does not write reasoning", TOY, {"messages": [USER, THOUGHT]}),
        ("does not write reasoning", TEMPLATES["qwen2_5"], {"messages": CHAT, "tools": TOOLS}),
        ("does not write reasoning", TEMPLATES["glm4moe"], {"messages": [USER, THOUGHT, USER, THOUGHT]}),
        (
            "does not write text beside tool calls",
            TEMPLATES["muse_glimmer"],
            {"messages": [USER, CALLS | {"content": "."}]},
        ),
        ("does not write what a tool gave", TEMPLATES["phi3"], {"messages": [USER, FOUR, GAVE, FOUR]}),
        ("writes tool calls outside of its generation marks", OUTSIDE, {"messages": CHAT[:2]}),
        ("has no generation marks for conversations with tools", OWN, {"messages": CHAT[:2], "tools": TOOLS}),
        ("refuses it: Conversation roles must alternate", TEMPLATES["gemma"], {"messages": CHAT}),
        (
            "refuses it: 'dict object' has no attribute",
            TOY + "{{- messages[0].name + '' }}",
            {"messages": [USER, FOUR]},
        ),
        ("does not enclose each assistant turn in one generation mark", TWICE, {"messages": [USER, FOUR]}),
    ],
)
def test_what_a_template_cannot_write_is_refused(reason, template, row):
    """By name, rather than trained on without it."""
    row = {"messages": [turns.with_more(turn) for turn in written(row)["messages"]], "tools": written(row)["tools"]}
    found = rows.or_reason(lambda: turns.labelled(row, tokenizer(template), last=False))

    assert f"the model's chat template {reason}" in found


def test_a_row_without_a_turn_to_learn():
    """Where the only answer, or the last, is not to be trained on."""
    for last in (False, True):
        with pytest.raises(DefectiveError, match="no turn that the loss may cover"):
            turns.labelled({"messages": [USER, FOUR | {"train": False}]}, tokenizer(), last)


@pytest.mark.parametrize("stage", [*STAGES])
def test_refused_rows_are_counted(run, stage):
    """By reason, with where the first stands, up to the share that may be; a longer one is no refused one."""
    template = "{%- if 'no' in messages[0].content %}{{- raise_exception('no such thing') }}{%- endif %}" + TOY
    good = {"sft": {"messages": [USER, FOUR]}, "grpo": {"prompt": [USER]}}.get(stage, small.ROWS["dpo"])
    bad = {name: [turn | {"content": turn["content"].replace("1 + 1?", "no")} for turn in good[name]] for name in good}
    one, left_out = run(stage, [good, bad, good, bad], template, share=0.5)
    file = f"{STAGES[stage].folder}/train.parquet"
    reasons = f"2 the model's chat template refuses it: no such thing (first: {file}, row 2)"

    assert (2, {"rows_too_long": 0, "rows_refused": 2}) == (len(one.train_rows), left_out.counts)
    assert reasons == left_out.reasons
    unlimited = rows.sizes_of(rows.read(Path(file)), one.tokenizer, counted=False)
    assert [False, True, False, True] == [isinstance(size, str) for size in unlimited]
    with pytest.raises(InputError, match=re.escape(f"{file}: 2 of 4 rows are refused, ")) as refused:
        run(stage, [good, bad, good, bad], template, share=0.4)
    assert f"share of 0.4: {reasons}." in str(refused.value)


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_pairs_with_calls(run, stage):
    """Tools, calls and reasoning reach the trainers, on either side."""
    pair = {"prompt": [USER, CALLS, GAVE], "chosen": [THOUGHT], "rejected": [CALLS, GAVE, FOUR], "tools": TOOLS}
    one, left_out = run(stage, [pair, pair], TEMPLATES["qwen3"])
    made = trainer(one)
    made.train()
    row = made.train_dataset[0]
    chosen, rejected = (
        one.tokenizer.decode(row.get("prompt_ids", []) + row[f"{side}_ids"]) for side in ("chosen", "rejected")
    )
    arguments = f'{{"a": 0.6, "b": {2**70}, "c": null}}'

    assert {"rows_too_long": 0} == left_out.counts
    assert [1, 2] == [side.count(arguments) for side in (chosen, rejected)]
    assert [1, 1] == [side.count("Adds.") for side in (chosen, rejected)]
    assert [1, 0] == [side.count("Two and two.") for side in (chosen, rejected)]
    assert arguments in sample.text(made, one.tokenizer)


def test_prompts_with_reasoning(run, tmp_path):
    """GRPO answers the whole of a prompt; so is one that is held out. One with tool calls would end TRL's training."""
    loading.load_classifier(small.TINY, 1).save_pretrained(tmp_path / "judge")
    (tmp_path / "completions").mkdir()
    prompts = [{"prompt": [USER, *earlier, USER]} for earlier in ([THOUGHT], [CALLS, GAVE, FOUR], [THOUGHT, GAVE])]
    own = {"reward_model": str(tmp_path / "judge"), "max_prompt_length": 1000}
    one, left_out = run("grpo", prompts, TEMPLATES["qwen3"], share=0.5, **own)
    made = trainer(one)
    made.train()
    (completions,) = (tmp_path / "completions").glob("*.parquet")

    assert {"tool calls in a prompt, which TRL's record of completions cannot hold": 1} == left_out.refused
    assert 2 == len(made.train_dataset)
    assert "Two and two." in sample.text(made, one.tokenizer)
    assert "Two and two." in str(pq.read_table(completions)["prompt"][0])
    assert turns.with_more(written(prompts[0])["prompt"][1]) == one.eval_rows[0]["prompt"][1]
    assert CALLS == rows.read(Path("data/prompts/eval.parquet"))["prompt"][1][1]


def test_two_sides_left_out_together():
    """Counts are summed; of a reason the first is that of the first side."""
    one = LeftOut(1, rows.Counter(a=2), {"a": "here"}) + LeftOut(
        2, rows.Counter(a=1, b=1), {"a": "there", "b": "there"}
    )

    assert ({"rows_too_long": 3, "rows_refused": 4}, "3 a (first: here); 1 b (first: there)") == (
        one.counts,
        one.reasons,
    )


@pytest.mark.parametrize(
    ("family", "turns_of", "said"),
    [
        ("deepseekv3", [USER, {"role": "assistant", "content": "<think>Two and two.</think>4"}], "the assistant"),
        ("gptoss", [USER, FOUR, {"role": "system", "content": "Be brief."}, USER, FOUR], "the system"),
    ],
)
def test_a_text_that_a_template_leaves_out(run: Any, family: str, turns_of: list[dict[str, Any]], said: str) -> None:
    """A thought within the text, or a system turn in the middle: the row is refused, the others are kept."""
    _, left_out = run("sft", [{"messages": turns_of}, {"messages": [USER, FOUR]}], TEMPLATES[family], share=0.5)

    assert {f"the model's chat template does not write all of a turn of {said}": 1} == left_out.refused


@pytest.mark.parametrize(("share", "kept"), [(0.5, 1), (0.4, None)])
def test_held_out_prompts_that_a_template_refuses(run: Any, share: float, kept: int | None) -> None:
    """Are left out of the answers and counted; more of them than may be are said, with the reason and the first."""
    system = {"role": "system", "content": "Be brief."}
    one, _ = run("grpo", [{"prompt": [USER]}, {"prompt": [system, USER]}], NO_SYSTEM, share=0.5)
    settings = replace(one.settings, max_refused=share)
    if kept is None:
        said = r"eval\.parquet: 1 of 2 prompts are refused, .* a share of 0\.4: .*no system turn.* \(first: row 2\)"
        with pytest.raises(InputError, match=said):
            held_out.answerable(settings, one.tokenizer)
    else:
        prompts, refused = held_out.answerable(settings, one.tokenizer)
        assert ([[USER]], 1) == (prompts["prompt"][:], refused)
