"""Each architecture of the profiles, and one of none: what models/base makes of it, and all four stages on it."""

from __future__ import annotations

import importlib
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import architectures
import pytest
import torch
import transformers
from clone import ROOT, Clone, micro, micro_clone

from llmrl.base import build, templates
from llmrl.data.settings import DATA_SETS
from llmrl.errors import InputError
from llmrl.folders import architecture as architecture_of
from llmrl.graph import STAGES
from llmrl.models.loading import load_tokenizer
from llmrl.params import checks, experiment
from llmrl.session import sample
from llmrl.training import hardware, rows
from llmrl.training.run import Run

CONVERSATION = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "It is 4."},
    {"role": "user", "content": "And 3 + 3?"},
    {"role": "assistant", "content": "6"},
]
ENDS = {"qwen2": "<|im_end|>", "llama": "<|im_end|>", **dict.fromkeys(("gemma", "gemma3"), "<end_of_turn>")}
OTHER_ENDS = {"qwen2": "<|endoftext|>", "llama": "<|endoftext|>", **dict.fromkeys(("gemma", "gemma3"), "<eos>")}
PADS = {"qwen2": "<|endoftext|>", "llama": "<|endoftext|>", **dict.fromkeys(("gemma", "gemma3"), "<pad>")}

# --- models/base -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=architectures.ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def source(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as its makers have it."""
    folder = tmp_path_factory.mktemp(architecture) / "source"
    architectures.make(architecture, folder)
    return folder


@pytest.fixture(scope="module")
def made(source: Path) -> Path:
    """models/base as made of it."""
    out = source.parent / "base"
    out.mkdir()
    build.make_base(str(source), out)
    return out


def test_tokens(architecture: str, made: Path) -> None:
    """A turn ends with the template's own token and rows are padded with another; all three files say so. `generate`
    stops at what ended a text before, too.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    config, generation = (json.loads((made / f"{name}.json").read_text()) for name in ("config", "generation_config"))
    ends = set(tokenizer.convert_tokens_to_ids([ENDS[architecture], OTHER_ENDS[architecture]]))

    assert (ENDS[architecture], PADS[architecture]) == (tokenizer.eos_token, tokenizer.pad_token)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (config["eos_token_id"], config["pad_token_id"])
    assert (ends, tokenizer.pad_token_id) == ({*generation["eos_token_id"]}, generation["pad_token_id"])


def test_no_token_is_new(source: Path, made: Path) -> None:
    """All of it is done with tokens that the model has."""
    before, after = (transformers.AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (source, made))

    assert before == after


def test_the_template_writes_what_it_wrote(source: Path, made: Path) -> None:
    """Marks do not change what a conversation is turned into."""
    before, after = (transformers.AutoTokenizer.from_pretrained(folder) for folder in (source, made))
    for length in range(1, 5) if before.chat_template else ():
        for prompt in (False, True):
            texts = [
                one.apply_chat_template(CONVERSATION[:length], tokenize=False, add_generation_prompt=prompt)
                for one in (before, after)
            ]
            assert texts[0] == texts[1]


def test_the_mask_covers_the_assistant(architecture: str, made: Path) -> None:
    """What the marks enclose is what the assistant says, to the end of each turn, and nothing else."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    encoded = tokenizer.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    tokens = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    said = tokenizer.decode([token for token, mask in tokens if mask])
    end = ENDS[architecture]

    assert ["It is 4.", "6", ""] == [part.strip() for part in said.split(end)]


def test_prompts_are_beginnings(made: Path) -> None:
    """What a prompt is turned into begins what the whole is turned into, so that all stages see the same tokens."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(made)
    for length in (1, 3):
        prompt = tokenizer.apply_chat_template(CONVERSATION[:length], return_dict=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template(CONVERSATION[: length + 1], return_dict=False)

        assert prompt == whole[: len(prompt)]


def test_base_of_base_is_the_same(made: Path, tmp_path: Path) -> None:
    """What is right is left as it is, to the byte."""
    again = tmp_path / "again"
    again.mkdir()
    build.make_base(str(made), again)

    assert {f.name: f.read_bytes() for f in made.iterdir()} == {f.name: f.read_bytes() for f in again.iterdir()}


def test_plain_generate_stops(made: Path, tmp_path: Path) -> None:
    """A model that says nothing but its end of turn is stopped there by plain `generate`, loaded as anyone would."""
    folder = Path(shutil.copytree(made, tmp_path / "model"))
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear) and layer is not model.lm_head:
                layer.weight.zero_()
        model.get_input_embeddings().weight.fill_(1.0)  # the output's too: they are tied
        model.get_input_embeddings().weight[tokenizer.eos_token_id] = 2.0
    model.save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(CONVERSATION[:1], add_generation_prompt=True, return_tensors="pt")
    tokens = model.generate(**prompt, max_new_tokens=20, do_sample=False)

    assert [tokenizer.eos_token_id] == tokens[0, prompt["input_ids"].shape[1] :].tolist()


# --- templates that TRL does not know --------------------------------------------------------------------------------

TEMPLATES = {
    "ChatML with a greeting": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n"
        "{% endif %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    "Mistral": (
        "{{ '<s>' }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + '</s>' }}"
        "{% else %}{{ raise_exception('no such role') }}{% endif %}{% endfor %}"
    ),
    "Llama 2": (
        "{% if messages[0]['role'] == 'system' %}{% set s = '<<SYS>>' + messages[0]['content'] + '<</SYS>>' %}"
        "{% set rest = messages[1:] %}{% else %}{% set s = '' %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m['role'] == 'user' %}"
        "{{ '<s>[INST] ' + (s if loop.first else '') + m['content'] | trim + ' [/INST]' }}"
        "{% else %}{{ ' ' + m['content'] | trim + ' </s>' }}{% endif %}{% endfor %}"
    ),
    "Zephyr": (
        "{% for m in messages %}{{ '<|' + m['role'] + '|>\n' + m['content'] + '</s>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
    ),
    "Llama 3": (
        "{% for m in messages %}{{ ('<s>' if loop.first else '') + '<|start_header_id|>' + m['role'] "
        "+ '<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
}


@pytest.fixture
def tokenizer() -> transformers.PreTrainedTokenizerBase:
    """One with the special tokens of several families."""
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    special = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    return architectures.learned(transformers.GPT2Tokenizer, special, **named)


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_is_given_marks(name: str, tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """A template that writes turns one after another is given marks, and writes what it wrote."""
    tokenizer.chat_template = TEMPLATES[name]
    before = [templates.written(tokenizer, templates.CHAT[:turns]) for turns in range(1, 5)]
    tokenizer.chat_template = templates.with_marks(tokenizer, "here")
    encoded = tokenizer.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    tokens = zip(encoded["input_ids"], encoded["assistant_masks"], strict=True)
    said = tokenizer.decode([token for token, mask in tokens if mask])
    end = templates.end_of_turn(tokenizer, "here")

    assert "{%- generation %}" in tokenizer.chat_template
    assert before == [templates.written(tokenizer, templates.CHAT[:turns]) for turns in range(1, 5)]
    assert ["It is 4.", "6", ""] == [part.strip() for part in said.split(end)]
    assert end == {"ChatML with a greeting": "<|im_end|>", "Llama 3": "<|eot_id|>"}.get(name, "</s>")


def test_a_system_turn_that_is_no_turn_is_refused(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Where a system turn is written into another one, it is refused rather than written otherwise."""
    tokenizer.chat_template = TEMPLATES["Llama 2"]
    system = [{"role": "system", "content": "Be brief."}, *CONVERSATION]

    assert templates.written(tokenizer, system)
    tokenizer.chat_template = templates.with_marks(tokenizer, "here")
    assert "" == templates.written(tokenizer, system)


def test_tools_are_left_to_the_original(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """A template that writes tools still does."""
    tokenizer.chat_template = "{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATES["ChatML with a greeting"]
    tool = {"type": "function", "function": {"name": "add", "description": "adds", "parameters": {}}}
    before = templates.written(tokenizer, CONVERSATION, tools=[tool])
    tokenizer.chat_template = templates.with_marks(tokenizer, "here")

    assert "adds" in before
    assert before == templates.written(tokenizer, CONVERSATION, tools=[tool])


@pytest.mark.parametrize(
    ("special", "eos", "end"),
    [
        (["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"], "<|end_of_text|>", "<|eot_id|>"),
        (["<start_of_turn>", "<end_of_turn>"], "<eos>", "<end_of_turn>"),
        (["<unk>"], "</s>", "</s>"),
    ],
)
def test_a_model_without_a_template_is_given_one(special: list[str], eos: str, end: str) -> None:
    """It is of the family whose tokens are in the vocabulary; of plain words where there are none."""
    named = {"unk_token": eos, "bos_token": "<s>", "eos_token": eos}
    tokenizer = architectures.learned(transformers.GPT2Tokenizer, special, **named)
    build.complete(tokenizer, 1000, "here")
    begun = tokenizer.apply_chat_template(CONVERSATION, tokenize=False)

    assert end == tokenizer.eos_token
    assert tokenizer.pad_token not in (None, end)
    assert begun.startswith("<s>")
    assert 2 <= begun.count(end)


def test_a_pad_token_in_an_embedding_to_spare() -> None:
    """Where no token is left to pad with, one takes an embedding that no token has; where none is left, it is said."""
    named = dict.fromkeys(("unk_token", "bos_token", "eos_token"), "</s>")
    for size in (2000, None):
        tokenizer = architectures.learned(transformers.GPT2Tokenizer, [], **named)
        if size:
            build.complete(tokenizer, size, "here")
            assert "<pad>" == tokenizer.pad_token
            assert tokenizer.eos_token_id < tokenizer.pad_token_id < size
        else:
            with pytest.raises(InputError, match="none to spare"):
                build.complete(tokenizer, len(tokenizer), "here")


def test_nothing_to_end_a_turn_with() -> None:
    """A tokenizer with neither a template nor a token that could end a turn is refused."""
    tokenizer = architectures.learned(transformers.GPT2Tokenizer, [], **dict.fromkeys(("unk_token",), "<unk>"))
    tokenizer.eos_token = None

    with pytest.raises(InputError, match=r"^here: its tokenizer has neither a chat template nor an eos_token"):
        build.complete(tokenizer, 1000, "here")


def test_a_refused_conversation_is_one_message(tokenizer: transformers.PreTrainedTokenizerBase) -> None:
    """Data with a turn that the template refuses is left out by what the template says."""
    tokenizer.chat_template = TEMPLATES["Mistral"]
    tokenizer.chat_template = templates.with_marks(tokenizer, "here")
    refused = {"messages": [[{"role": "system", "content": "Be brief."}, *CONVERSATION]]}

    expected = "the model's chat template refuses it: this chat template has no system turn"
    assert expected == rows.or_reason(lambda: rows.lengths(refused, tokenizer))


# --- all four stages -------------------------------------------------------------------------------------------------


def set_up(architecture: str, clone: Clone) -> None:
    """Make params.yaml the architecture's profile, with a few steps on the built-in task."""
    shutil.copy(ROOT / f"profiles/{architectures.PROFILE[architecture]}.yaml", clone.folder / "params.yaml")
    micro(clone)
    here = {"source": "builtin:arithmetic", "revision": None}
    sets = checks.read(clone.folder / "params.yaml")["data"]
    clone.params(
        model={"source": "raw", "revision": None},
        data={name: sets[name] | here for name in DATA_SETS},
        grpo={"pass_rate": [0.0, 1.0]},  # nobody has pretrained these weights: they answer nothing rightly
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone that has its data sets, and nothing else yet."""
    clone = micro_clone(tmp_path_factory.mktemp("prepared") / "clone")
    for name in DATA_SETS:
        clone.run("python", "-m", "llmrl.data.prepare", name)
    clone.run("python", "-m", "llmrl.pairs")
    return clone


@pytest.mark.parametrize("stage", STAGES)
def test_a_few_steps(
    architecture: str, made: Path, stage: str, prepared: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each stage's own trainer, with the profile's settings, trains the model; the sample shows where the loss ends."""
    set_up(architecture, prepared)
    few = {"batch": 2, "micro_batch": 2, "max_steps": 2, "eval_strategy": "no"}  # the large vocabularies cost
    prepared.params(**{stage: few})
    prepared.params(grpo={"num_generations": 2, "max_completion_length": 4, "rewards": {"reward_model": 100.0}})
    monkeypatch.chdir(prepared.folder)
    settings = experiment().stages[stage]
    judge = {"reward_model": str(made)} if stage == "grpo" else {}
    settings = replace(settings, own=replace(settings.own, init=str(made), **judge))
    tokenizer = load_tokenizer(str(made))
    if stage == "grpo":  # most of a large vocabulary has no words here: all answers would be one, and so their rewards
        unlearned = list(range(len(tokenizer), architectures.VOCABULARY[architecture]))
        settings.trl["generation_kwargs"] = {"suppress_tokens": unlearned}
    train, held_out = (rows.read(Path(STAGES[stage].folder, f"{side}.parquet")) for side in ("train", "eval"))
    run = Run(settings, hardware.detect(settings), tokenizer, held_out, 0, tmp_path, "run", train_rows=train)
    trainer = importlib.import_module(f"stages.{stage}").trainer(run, str(made))
    before = {name: weights.detach().clone() for name, weights in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    read = sample.text(trainer, tokenizer)

    assert [] == [name for name, weights in trainer.model.named_parameters() if not weights.isfinite().all()]
    assert settings.trl["max_steps"] == len(losses)
    assert all(map(math.isfinite, losses))
    assert any(not weights.equal(before[name]) for name, weights in trainer.model.named_parameters())
    assert {"sft": 1, "dpo": 2}.get(stage, 0) == len(re.findall(rf"{re.escape(ENDS[architecture])}\n?⟧", read))


@pytest.fixture(scope="module")
def clone(architecture: str, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The architecture's profile, of a few steps, on the built-in task, run once by `dvc repro`."""
    clone = micro_clone(tmp_path_factory.mktemp(f"{architecture}-stages") / "clone")
    set_up(architecture, clone)
    clone.params(
        train={"lr": 0.01},
        sft={"max_steps": 30, "eval_steps": 30},
        dpo={"lr_scale": 0.05},  # or these few steps undo what it has learned
        grpo={"lr_scale": 0.05},
        answers={"batch": 16},
    )
    architectures.make(architecture, clone.folder / "models/raw", architectures.FEW)
    clone.commit("another model")
    clone.run("dvc", "repro")
    return clone


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_products(clone: Clone, stage: str) -> None:
    """What each stage made loads with plain transformers, whole, and names the tokens of models/base."""
    folder = clone.folder / "models" / stage
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    kind = "SequenceClassification" if stage == "reward" else "CausalLM"
    model = getattr(transformers, f"AutoModelFor{kind}").from_pretrained(folder)
    first = transformers.AutoTokenizer.from_pretrained(clone.folder / "models/base")

    assert architecture_of(str(folder)).endswith(kind)
    assert (first.eos_token, first.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)
    assert first.chat_template == tokenizer.chat_template
    assert tokenizer.pad_token_id == model.config.pad_token_id
    if stage != "reward":
        ends = model.generation_config.eos_token_id
        assert tokenizer.eos_token_id in (ends if isinstance(ends, list) else [ends])
        assert tokenizer.pad_token_id == model.generation_config.pad_token_id


@pytest.mark.slow
def test_it_learns_to_stop(clone: Clone) -> None:
    """Fine-tuned on answers that end, it ends its own, and so do those that start from it."""
    assert 0.1 > clone.figures("sft")["answers_before"]["ended"]
    for stage in ("sft", "dpo", "grpo"):
        assert 0.3 < clone.figures(stage)["answers"]["ended"]


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_sample(architecture: str, clone: Clone, stage: str) -> None:
    """The run's folder holds what the stage trained on, with the assistant's part marked."""
    folder = next(record["folder"] for record in clone.runs() if record["stage"] == stage)
    text = (folder / "sample.txt").read_text()
    prompts = text.count("What") + text.count("Work out") + text.count("?")
    marked = [part.split("⟧")[0] for part in text.split("⟦")[1:]]

    assert prompts or "user" in text
    if stage in ("sft", "dpo"):
        marked = marked[1:]  # the first is the sentence that explains them
        assert {"sft": 1, "dpo": 2}[stage] == len(marked)
        assert all(part.strip().endswith(ENDS[architecture]) and part.count(ENDS[architecture]) == 1 for part in marked)
        assert not any("user\n" in part or "assistant\n" in part or "model\n" in part for part in marked)
    else:
        assert [] == marked
