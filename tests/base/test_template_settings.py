"""model.chat_template_kwargs: one place for a chat template's own switches, and every rendering alike."""

from __future__ import annotations

import importlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import architectures
import pytest
import small
import torch
import transformers
from small import PAIR, QUESTION
from trl import chat_template_utils as trl_templates

from llmrl import params
from llmrl.base import build, templates
from llmrl.data.shaper import Shaper
from llmrl.errors import DefectiveError, InputError
from llmrl.measuring import held_out
from llmrl.models import loading
from llmrl.session import sample
from llmrl.training import difficulty, loop, rows, turns
from llmrl.training.run import Run

ROOT = Path(__file__).parents[2]
OFF = {"enable_thinking": False}
# One with marks and a switch that a conversation begins with, as SmolLM3's has; Qwen3's ends a prompt with its own.
BEGINNING = (
    "{%- if enable_thinking is not defined %}{%- set enable_thinking = true %}{%- endif %}\n"
    "{{- '<|im_start|>system\n' + ('/think' if enable_thinking else '/no_think') + '<|im_end|>\n' }}"
    "{%- for m in messages %}{{- '<|im_start|>' + m['role'] + '\n' }}"
    "{%- if m['role'] == 'assistant' %}{%- generation %}{{- m['content'] + '<|im_end|>' }}{%- endgeneration %}"
    "{%- else %}{{- m['content'] + '<|im_end|>' }}{%- endif %}{{- '\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TEMPLATES = {"beginning": BEGINNING, "qwen3": trl_templates.qwen3_chat_template}
ANSWER = PAIR["chosen"]


@pytest.fixture(scope="module", params=TEMPLATES)
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model whose chat template has a switch."""
    folder = tmp_path_factory.mktemp(request.param) / "source"
    named = architectures.QWEN | {"chat_template": TEMPLATES[request.param]}
    tokenizer = architectures.learned(transformers.Qwen2Tokenizer, **named)
    torch.manual_seed(0)
    config = transformers.Qwen2Config(**architectures.NARROW, vocab_size=1024)
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def based(source: Path, name: str, switches: dict[str, Any] | None = None) -> Path:
    """models/base as made of it."""
    out = source.parent / name
    out.mkdir()
    build.make_base(str(source), out, switches)
    return out


@pytest.fixture(scope="module")
def plain(source: Path) -> transformers.PreTrainedTokenizerBase:
    """The tokenizer of models/base without the setting: whoever renders with it must give the switch."""
    return transformers.AutoTokenizer.from_pretrained(based(source, "plain"))


@pytest.fixture(scope="module")
def made(source: Path) -> str:
    """models/base with the setting."""
    return str(based(source, "base", OFF))


def stage_of(folder: Path, made: str, stage: str, **own: Any) -> tuple[Any, Run]:
    """The stage's trainer on the model, and its run."""
    options: dict[str, object] = {"per_device_eval_batch_size": 2, "max_steps": 1, "eval_strategy": "no"}
    own = {"init": made, "batch": 2, "micro_batch": 2} | own
    if stage == "grpo":
        loading.load_classifier(made, 1).save_pretrained(folder / "judge")
        (folder / "completions").mkdir()
        own |= {"reward_model": str(folder / "judge")}
        options |= {"num_generations": 2, "num_generations_eval": 2, "max_completion_length": 4}
    else:
        options |= {"max_length": 200}
    chosen = small.settings(stage, own, **options)
    chosen = replace(chosen, answers=replace(chosen.answers, samples=2, max_new_tokens=4, batch=2))
    run = replace(small.run(folder, chosen, [small.ROWS[stage]] * 2), tokenizer=loading.load_tokenizer(made))
    return loop.constructed(importlib.import_module(f"stages.{stage}").trainer, run, made), run


def seen(model: torch.nn.Module) -> list[list[int]]:
    """The first row of each batch of tokens that the model will be given."""
    found: list[list[int]] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, given: found.append(given[0][0].tolist()))
    return found


def tokens(tokenizer: Any, turns: list[dict[str, str]], prompt: bool = False, **switches: Any) -> list[int]:
    asked = {"add_generation_prompt": prompt, "return_dict": False}
    return tokenizer.apply_chat_template(turns, **asked, **switches)


def test_the_switch_is_a_default(plain: Any, made: str) -> None:
    """Rendered by anybody, the template writes what the plain one does where it is told; who tells otherwise is heard.

    So it covers the same tokens of the assistant's.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    chat = [*QUESTION, *ANSWER] * 2
    masked = {"return_dict": True, "return_assistant_tokens_mask": True}
    for turns_of, prompt in ((chat, False), (chat[:1], True), (chat[:3], True)):
        assert tokens(plain, turns_of, prompt, **OFF) == tokens(tokenizer, turns_of, prompt)
        assert tokens(plain, turns_of, prompt) == tokens(tokenizer, turns_of, prompt, enable_thinking=True)
    assert tokens(plain, chat[:1], True) != tokens(tokenizer, chat[:1], True)
    assert plain.apply_chat_template(chat, **masked, **OFF).data == tokenizer.apply_chat_template(chat, **masked).data


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_rows_and_pairs(tmp_path: Path, plain: Any, made: str, stage: str) -> None:
    """TRL makes of rows and pairs the tokens that the plain template makes with the switch."""
    trainer, _ = stage_of(tmp_path, made, stage)
    row = trainer.train_dataset[0]
    start = row.get("prompt_ids", [])
    names = ["input_ids"] if stage == "sft" else ["chosen_ids", "rejected_ids"]
    sides = [start + row[name] for name in names]

    answers = [ANSWER] if stage == "sft" else [PAIR["chosen"], PAIR["rejected"]]
    assert [tokens(plain, [*QUESTION, *answer], **OFF) for answer in answers] == sides
    if stage == "dpo":
        assert tokens(plain, QUESTION, True, **OFF) == start


def test_rows_tokenised_here_and_lengths(plain: Any, made: str) -> None:
    """So does what is tokenised without TRL, and what counts lengths."""
    tokenizer = loading.load_tokenizer(made)
    expected, prompt = tokens(plain, [*QUESTION, *ANSWER], **OFF), tokens(plain, QUESTION, True, **OFF)

    assert expected == turns.labelled({"messages": [*QUESTION, *ANSWER]}, tokenizer, True)[0]
    assert [len(expected)] == rows.lengths({"messages": [[*QUESTION, *ANSWER]]}, tokenizer)
    assert [len(prompt)] == rows.lengths({"prompt": [QUESTION]}, tokenizer)


def test_practice(tmp_path: Path, plain: Any, made: str) -> None:
    """So do GRPO's prompts, by TRL's way and ours, what the reward model reads, and the sample."""
    trainer, run = stage_of(tmp_path, made, "grpo")
    prompt = tokens(plain, QUESTION, True, **OFF)
    (judge,) = (one for one in trainer.reward_funcs if isinstance(one, torch.nn.Module))
    judged, practised = seen(judge), seen(trainer.model)
    trainer.train()
    begun = tokens(plain, QUESTION, **OFF)

    assert [prompt] == trainer._tokenize_prompts([QUESTION])[0]
    assert [prompt] == trainer.rollout_func([QUESTION], trainer)["prompt_ids"]
    assert prompt == practised[0] + practised[1]  # all but its last token for both completions at once, then that
    assert begun == [token for token in judged[0] if token != run.tokenizer.pad_token_id][: len(begun)]
    assert run.tokenizer.decode(prompt) in sample.text(trainer, run.tokenizer)


@pytest.mark.parametrize("judging", [False, True], ids=["held-out", "pass_rate"])
def test_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Any, made: str, judging: bool) -> None:
    """So do the prompts by whose answers a policy is measured, and those of which it decides what is practised on."""
    _, run = stage_of(tmp_path, made, "grpo", pass_samples=2)
    policy = run.policy(made)
    monkeypatch.setattr(Run, "policy", lambda *_: policy)
    given = seen(policy)
    if judging:
        difficulty.judged(run)
    else:
        held_out.measure(run, made, "policy", run.eval_rows.select([0]).add_column("row", [0]))

    assert tokens(plain, QUESTION, True, **OFF) == (given[0] + given[1] if judging else given[0])


def test_base_of_base_is_the_same(made: str, tmp_path: Path) -> None:
    """A model that came from here keeps its template, to the byte, with the setting and without."""
    for name, switches in {"with": OFF, "without": None}.items():
        again = tmp_path / name
        again.mkdir()
        said = build.make_base(made, again, switches)

        assert (Path(made) / "chat_template.jinja").read_bytes() == (again / "chat_template.jinja").read_bytes()
        assert "chat template: as it came" in said


def test_it_is_said(source: Path, tmp_path: Path) -> None:
    """What the template is given stands in base's line."""
    assert re.search(
        r'chat template: [\w ]+, with \{"enable_thinking": false\};', build.make_base(str(source), tmp_path, OFF)
    )


# --- templates that are not marked by TRL ----------------------------------------------------------------------------


@pytest.fixture
def tokenizer() -> transformers.PreTrainedTokenizerBase:
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    special = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return architectures.learned(transformers.GPT2Tokenizer, special, **named)


def test_a_template_that_is_read_off(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Where marks are put in here, what is written with the switch is what is read off; with tools, the original is."""
    unmarked = re.sub(r"\{%- (end)?generation %\}", "", BEGINNING)
    tokenizer.chat_template = "{% if tools %}{{ tools | tojson }}{% endif %}" + unmarked
    chat = [*QUESTION, *ANSWER] * 2
    given = [{}, {"add_generation_prompt": True}, {"tools": [templates.TOOL]}]
    before = [templates.written(tokenizer, chat, **more, **OFF) for more in given]
    tokenizer.chat_template = templates.with_marks(tokenizer, "here", OFF)

    assert "{%- generation %}" in tokenizer.chat_template
    assert all("/no_think" in text for text in before)
    assert before == [templates.written(tokenizer, chat, **more) for more in given]


def test_a_date_of_ones_own(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Llama 3.2's template writes the day's date, and is refused, but where the setting gives one."""
    folder = Path(trl_templates.__file__).parent / "chat_templates"
    text = (folder / "llama3_2.jinja").read_text(encoding="utf-8")
    tokenizer.chat_template = text
    with pytest.raises(InputError, match="the day's date"):
        templates.with_marks(tokenizer, "here")
    tokenizer.chat_template = text
    tokenizer.chat_template = templates.with_marks(tokenizer, "here", {"date_string": "26 Jul 2024"})

    assert "Today Date: 26 Jul 2024" in templates.written(tokenizer, [*QUESTION, *ANSWER])


@pytest.mark.parametrize("name", ["gptoss", "muse_glimmer"])
def test_the_date_of_a_template_of_trls(tokenizer: transformers.PreTrainedTokenizerBase, name: str) -> None:
    """TRL's versions with marks write the day's date too, where their originals do."""
    tokenizer.chat_template = getattr(trl_templates, f"{name}_chat_template")
    with pytest.raises(InputError, match="the day's date"):
        templates.with_marks(tokenizer, "here")


VALUES = ["a 'b' \"c\"\n\\ {% endif %} {{ x }} é 😀\u2028", "", True, False, None, 0, -3, 1e-05, 1.5, 10**20]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values(tokenizer: transformers.PreTrainedTokenizerBase, value: Any) -> None:
    """Every plain value arrives as it stands, and the template behind it writes as before, its first line break too."""
    tokenizer.chat_template = templates.with_defaults(
        "\n  {% if x is defined %}{{ [x] | tojson }}{% endif %}\n ", {"x": value}
    )
    before = {"chat_template": "\n  {% if x is defined %}{{ [x] | tojson }}{% endif %}\n "}

    assert templates.written(tokenizer, QUESTION, x=value, **before) == templates.written(tokenizer, QUESTION)


def test_names_that_templates_set_themselves_are_no_switches() -> None:
    """Of what Qwen3's reads, one name is its user's to give; of what Nemotron's sets by default, that is."""
    assert {"enable_thinking"} == templates.switches_of(trl_templates.qwen3_chat_template)
    assert {"enable_thinking", "truncate_history_thinking"} <= templates.switches_of(
        trl_templates.nemotron_3_nano_chat_template
    )


# --- what is refused -------------------------------------------------------------------------------------------------

UNUSED = {
    "misspelt": (
        trl_templates.qwen3_chat_template,
        {"enable_thinkin": False},
        "params.yaml: model.chat_template_kwargs.enable_thinkin is no switch of the chat template of here, which has "
        "enable_thinking. Did you mean enable_thinking?",
    ),
    "the template's own": (trl_templates.qwen3_chat_template, {"content": "a"}, "content is no switch of the chat tem"),
    "none": (
        trl_templates.qwen2_5_chat_template,
        OFF,
        "enable_thinking is no switch of the chat template of here, whi",
    ),
    "no template": (None, OFF, "enable_thinking is no switch of the chat template of here, which has none."),
    "not in TRL's version": (
        trl_templates.qwen3_6_chat_template,
        {"preserve_thinking": True},
        "preserve_thinking is no switch of TRL's version (with marks) of the chat template of here, which has",
    ),
    "broken": ("{% if %}", OFF, "the chat template of here is none: "),
}


@pytest.mark.parametrize(("template", "switches", "said"), UNUSED.values(), ids=UNUSED)
def test_a_switch_that_the_template_has_not(tokenizer: Any, template: str, switches: dict, said: str) -> None:
    """It is named, with the nearest that there is."""
    tokenizer.chat_template = template
    with pytest.raises(InputError, match=re.escape(said)):
        templates.with_marks(tokenizer, "here", switches)


SETTINGS = {
    "a list": ("[1]", "model.chat_template_kwargs: [1] is a list, not a map."),
    "a list inside": ("{a: [1]}", "model.chat_template_kwargs.a: [1] is a list, not true or false or a number or a"),
    "a date": ("{date_string: 2024-07-26}", 'date_string: "2024-07-26" is a date; a text that looks like one'),
    "no number": ("{a: .nan}", "model.chat_template_kwargs.a: NaN is not finite."),
    "an input": ("{messages: hi}", "model.chat_template_kwargs.messages is not set here: whoever renders"),
    "a special token": ("{bos_token: hi}", "model.chat_template_kwargs.bos_token is not set here: "),
}


def experiment_with(folder: Path, section: str, line: str) -> params.Experiment:
    file, text = folder / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace(f"\n{section}:", f"\n{section}:\n  {line}", 1), encoding="utf-8")
    return params.experiment(file)


@pytest.mark.parametrize(("value", "said"), SETTINGS.values(), ids=SETTINGS)
def test_what_is_no_plain_value_or_no_switch(tmp_path: Path, value: str, said: str) -> None:
    """It is refused before anything is loaded, with its line."""
    with pytest.raises(InputError, match=re.escape(said)):
        experiment_with(tmp_path, "model", f"chat_template_kwargs: {value}")


def test_it_is_read(tmp_path: Path) -> None:
    """Plain values are taken; where nothing is said there are none."""
    found = experiment_with(tmp_path, "model", "chat_template_kwargs: {a: false, b: x, c: 1.5, d: null}")

    assert {"a": False, "b": "x", "c": 1.5, "d": None} == found.model.chat_template_kwargs
    assert {} == params.experiment(ROOT / "params.yaml").model.chat_template_kwargs


@pytest.mark.parametrize("section", ["grpo", "train", "sft", "answers"])
def test_trls_own_name_says_where(tmp_path: Path, section: str) -> None:
    """TRL's setting reaches GRPO's prompts alone, so it is not set."""
    said = (
        f"{section}.chat_template_kwargs is not set here: model.chat_template_kwargs (for training and answers alike)"
    )
    with pytest.raises(InputError, match=re.escape(said)):
        experiment_with(tmp_path, section, "chat_template_kwargs: {enable_thinking: false}")


ROWS = {
    "sft": {"prompt": "2 + 2?", "completion": "4"},
    "preference": {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
    "prompts": {"prompt": "2 + 2?", "solution": "4"},
}


@pytest.mark.parametrize("name", ROWS)
def test_a_row_with_switches_of_its_own(name: str) -> None:
    """TRL would read them of rows and pairs, and nobody of prompts: such a row is left out by name."""
    with pytest.raises(DefectiveError, match="chat_template_kwargs, which would be lost"):
        Shaper(name, {}, None).shape(ROWS[name] | {"chat_template_kwargs": OFF})

    assert Shaper(name, {}, None).shape(ROWS[name] | {"chat_template_kwargs": None})
