"""A model card for the Hugging Face Hub, from what was recorded of a model: README.md in a folder of choice.

    python -m llmrl.report.card models/grpo ../grpo-bf16

All in it is recorded: in provenance.json, dvc.lock, metrics/ and source.json of the data. What is not known to be of
this very model is left out, which is said; what nothing here can know is marked as to be written. Nothing is asked of
the Hub. Metadata: https://huggingface.co/docs/hub/model-cards and, of the figures, modelcard.md of the repository
huggingface/hub-docs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmrl.errors import InputError, reported
from llmrl.export import not_ours
from llmrl.folders import PROVENANCE
from llmrl.graph import STAGES
from llmrl.lineage.ancestry import HELD_OUT, Facts, facts
from llmrl.measuring.answers import policy_name
from llmrl.sources import SAMPLED, of_hub

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

NAME = "README.md"
MARK = re.compile(r"\n<!-- by llmrl\.report\.card, sha256 ([0-9a-f]{64}) -->\n$")
# What Markdown or HTML may take for more than text: an underscore between letters is none.
SIGNS = re.compile(r"[^\w\s./,-]|(?<![^\W_])_|_(?![^\W_])")
# The settings of a stage that a reader asks for first; the others are in provenance.json.
TOLD = (
    *("learning_rate", "lr_scheduler_type", "max_steps", "num_train_epochs", "batch"),
    *("max_length", "max_prompt_length", "max_completion_length", "num_generations", "temperature"),
    *("beta", "loss_type", "loss_weights", "rewards", "lora", "precision", "seed"),
)
# Figures of answers, by their names in metrics.json, as a card has them.
ANSWERS = {
    "greedy": "right, greedy",
    "sampled": "right, sampled",
    "pass_at_2": "right, one of 2 samples",
    "pass_at_4": "right, one of 4 samples",
    "ended": "ended",
    "marked": "in the asked format",
    "tokens": "tokens an answer",
    "repetition": "repetition",
}
TASKS = {True: "text-generation", False: "text-classification"}  # of a policy, of a reward model
METRICS = {"greedy": "accuracy", "sampled": "accuracy", "pass_at_2": "pass@2", "pass_at_4": "pass@4"}  # the Hub's


def checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows_from(sources: list[dict[str, Any]]) -> str:
    """Where rows come from, in words."""
    found = []
    for one in sources:
        name = one["source"]
        if name == SAMPLED:
            found.append(f"right and wrong answers of {as_code(one['policy'])} to `data/prompts`")
            continue
        at = f" at {one['revision'][:7]}" if one.get("revision") else ""
        found.append(f"files of its maker's own ({name})" if name == "raw" else f"{as_code(name)}{at}")
    return ", ".join(dict.fromkeys(found))


def repositories(sources: Iterable[dict[str, Any]]) -> list[str]:
    """Those that are of the Hub, by their names there."""
    return list(dict.fromkeys(one["source"] for one in sources if of_hub(one["source"])))


def licence(base: dict[str, Any]) -> dict[str, str]:
    """What the card of a base model says of its licence, as the Hub's cache has it here: license, license_name,
    license_link. Empty where that is not known.
    """
    import huggingface_hub

    if not of_hub(base.get("source", "")):
        return {}
    file = huggingface_hub.try_to_load_from_cache(base["source"], NAME, revision=base["revision"])
    told = (huggingface_hub.metadata_load(file) or {}) if isinstance(file, str) else {}
    found = {key: told[key] for key in ("license", "license_name", "license_link") if isinstance(told.get(key), str)}
    if not found.get("license_link", "https:").startswith("https:"):
        return {}  # a file of that repository, which this one has not
    return found


def results(facts: Facts) -> list[EvalResult]:
    """The measured figures of the model as the Hub lists them."""
    from huggingface_hub import EvalResult

    file = HELD_OUT if facts.answers else facts.model.data[0]
    sources = facts.sources(file)
    hub = [one for one in sources if of_hub(one["source"])]
    figures = facts.model.figures.get("answers", {}) if facts.answers else facts.model.figures
    names = METRICS if facts.answers else {"accuracy": "accuracy"}
    known = (f"answers of {one['policy']}" if one["source"] == SAMPLED else one["source"] for one in sources)
    of = f" of {', '.join(dict.fromkeys(known))}" if sources else ""
    return [
        EvalResult(
            task_type=TASKS[facts.answers],
            dataset_type=hub[0]["source"] if hub else "unknown",
            dataset_name=f"held-out {'prompts' if facts.answers else 'pairs'}{of}",
            dataset_revision=hub[0].get("revision") if hub else None,
            metric_type=metric,
            metric_name=ANSWERS[key] if facts.answers else "pairs ranked right",
            metric_value=round(figures[key], 4),
        )
        for key, metric in names.items()
        if isinstance(figures.get(key), int | float)
    ]


def metadata(facts: Facts, name: str) -> ModelCardData:
    """The head of the card."""
    from huggingface_hub import ModelCardData

    base = facts.chain[0].settings.get("model", {})
    measured = results(facts)
    return ModelCardData(
        base_model=base["source"] if of_hub(base.get("source", "")) else None,
        datasets=repositories(one for file in facts.reports for one in facts.sources(file)) or None,
        library_name="transformers",
        pipeline_tag=TASKS[facts.answers],
        tags=["trl", *(one.stage for one in facts.chain if one.stage)],
        metrics=["accuracy"] if measured else None,  # of those that the Hub has a page of
        model_name=name,
        eval_results=measured or None,
        **licence(base),
    )


def as_code(value: Any) -> str:
    r"""A value as code, within a table too: whatever stands in it, it is shown. Where it has what would end a cell or
    the code, it is written in HTML.

    >>> as_code("a b"), as_code("a\\|b")
    ('`a b`', '<code>a&#92;&#124;b</code>')
    """
    text = " ".join((value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)).split())
    return f"`{text}`" if text and not {"`", "|"} & {*text} else f"<code>{without_markup(text)}</code>"


def without_markup(text: str) -> str:
    """A text on one line, none of which is Markdown or HTML."""
    return SIGNS.sub(lambda found: f"&#{ord(found[0])};", " ".join(text.split()))


def with_interval(figures: dict[str, Any], key: str) -> str:
    """A figure with its 95 % interval, where that is known."""
    value = figures.get(key)
    if not isinstance(value, int | float):
        return "–"
    digits = 1 if key == "tokens" else 3
    if f"{key}_low" in figures:
        return f"{value:.{digits}f} ({figures[f'{key}_low']:.{digits}f} to {figures[f'{key}_high']:.{digits}f})"
    half = f" ± {figures[f'{key}_ci95']:.{digits}f}" if f"{key}_ci95" in figures else ""
    return f"{value:.{digits}f}{half}"


def how_made(facts: Facts) -> Iterator[str]:
    """The stages that led to the model, each with what it started from, its data and its settings."""
    base = facts.chain[0].settings.get("model", {})
    source = str(base.get("source", "not known"))
    if of_hub(source):
        yield f"The base model is {as_code(source)} at commit `{base['revision']}`.\n"
    else:
        yield f"The base model is {as_code(source)}, which is not on the Hub, so that this card's head names none.\n"
    yield "| stage | trained by | from | data | settings |"
    yield "|---|---|---|---|---|"
    for one in facts.chain:
        if not (stage := STAGES.get(str(one.stage))):
            continue
        inputs = (one.record or {})["inputs"]
        data = [f"{rows_from(facts.sources(file))} ".lstrip() for file in one.data]
        rows = f"{one.figures['rows']:,} rows, " if "rows" in one.figures else ""
        hashes = [f"{text}({rows}MD5 `{inputs[file]}`)" for text, file in zip(data, one.data, strict=True)]
        models = [name.removeprefix("models/") for name in inputs if inputs[name].endswith(".dir")]
        unused = {"num_train_epochs"} if one.settings.get("max_steps", 0) > 0 else {"max_steps"}
        settings = {name: one.settings[name] for name in TOLD if one.settings.get(name) is not None}
        told = [f"{name} {as_code(value)}" for name, value in settings.items() if name not in unused]
        cells = (f"`{one.stage}`", f"`{stage.trainer}`", ", ".join(models), ", ".join(hashes), ", ".join(told))
        yield f"| {' | '.join(cells)} |"
    versions = (facts.model.record or {}).get("versions", {})
    yield (
        f"\nOn {(facts.model.record or {}).get('device', 'a device not recorded')}, with "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + f". Every setting, and hashes of all inputs and of the code, are in `{PROVENANCE}`."
    )


def seen_in_training(facts: Facts) -> str:
    """How many held-out prompts stand in the text that was trained on."""
    counts = {file: facts.reports[file]["overlap"] for one in facts.chain for file in one.data if file in facts.reports}
    said = [
        f"{count['shared']} of {count['held_out_prompts']} stand in the text of {as_code(file)}"
        for file, count in counts.items()
        if count["shared"]
    ]
    return f"{', '.join(said) or 'None of them stands in the text that was trained on'}."


def answered(facts: Facts) -> Iterator[str]:
    """The figures of the policies, a column each."""
    columns = {}
    for one in facts.chain:
        if "answers_before" in one.figures:
            columns[policy_name(one.settings["init"])] = one.figures["answers_before"]
        if "answers" in one.figures:
            columns[str(one.stage)] = one.figures["answers"]
    if columns and facts.answers:
        how = facts.measured
        source = rows_from(facts.sources(HELD_OUT)) or "a data set that is not named here"
        yield (
            f"Answers to held-out prompts of {source} (MD5 `{how['prompts']}`): one greedy, and {how.get('samples')} "
            f"sampled at temperature {how.get('temperature')}, of at most {how.get('max_new_tokens')} tokens. "
            f"{seen_in_training(facts)} With 95 % intervals, of these prompts, not of other seeds.\n"
        )
        heads = [f"{name}, n = {figures['n']}" if "n" in figures else name for name, figures in columns.items()]
        yield f"| | {' | '.join(heads)} |"
        yield f"|---|{'---|' * len(columns)}"
        for key, title in ANSWERS.items():
            if any(key in figures for figures in columns.values()):
                yield f"| {title} | {' | '.join(with_interval(figures, key) for figures in columns.values())} |"
        by_task = [figures.get("by_task", {}) for figures in columns.values()]
        for task in dict.fromkeys(task for figures in by_task for task in figures):
            for key in ("greedy", "sampled"):
                cells = (with_interval(figures.get(task, {}), key) for figures in by_task)
                yield f"| {task}: {ANSWERS[key]} | {' | '.join(cells)} |"
    for one in facts.chain:
        if one.stage and not STAGES[one.stage].answers and "accuracy" in one.figures:
            n = f" of {one.figures['n']} held-out pairs" if "n" in one.figures else " of held-out pairs"
            yield f"\nThe reward model ranks {with_interval(one.figures, 'accuracy')}{n} right."


USED = {
    True: """\
from transformers import AutoModelForCausalLM, AutoTokenizer

name = {name}  # of the repository, or a folder
model = AutoModelForCausalLM.from_pretrained(name)
tokenizer = AutoTokenizer.from_pretrained(name)
prompt = [{system}{{"role": "user", "content": "…"}}]
tokens = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, return_tensors="pt", return_dict=True)
answer = model.generate(**tokens, max_new_tokens={tokens})[0][tokens["input_ids"].shape[1] :]
print(tokenizer.decode(answer, skip_special_tokens=True))""",
    False: """\
from transformers import AutoModelForSequenceClassification, AutoTokenizer

name = {name}  # of the repository, or a folder
model = AutoModelForSequenceClassification.from_pretrained(name)
tokenizer = AutoTokenizer.from_pretrained(name)
turns = [{system}{{"role": "user", "content": "…"}}, {{"role": "assistant", "content": "…"}}]
tokens = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
print(model(**tokens).logits.item())  # the higher, the better the answer, beside another to the same prompt""",
}
FENCE = "```"
OPEN = "**To be written by you.**"


def used(facts: Facts, name: str) -> Iterator[str]:
    """How to use it, as it was asked when it was measured."""
    asked = facts.sources(HELD_OUT if facts.answers else facts.model.data[0])
    systems, templates = (
        list(dict.fromkeys(filter(None, (one.get(key) for one in asked)))) for key in ("system", "template")
    )
    system = f'{{"role": "system", "content": {json.dumps(systems[0])}}}, ' if len(systems) == 1 else ""
    tokens = facts.measured.get("max_new_tokens", 256)
    yield f"{FENCE}python\n{USED[facts.answers].format(name=json.dumps(name), system=system, tokens=tokens)}\n{FENCE}"
    for what, texts in {"the system text": systems[1:] and systems, "around each question": templates}.items():
        if texts:
            yield f"\nIt was asked with {what} {', or '.join(map(as_code, texts))}."


def body(facts: Facts, name: str, has_licence: bool) -> str:
    """The text of the card."""
    model, stage = facts.model, STAGES[str(facts.model.stage)]
    what = "A language model" if facts.answers else "A reward model, which gives an answer one score,"
    chain = ", ".join(str(one.stage) for one in facts.chain if one.stage)
    exported = facts.dtype != "float32"
    figures = "\n".join(answered(facts)).strip()
    again = f"No commit has this model yet: its settings are in `{PROVENANCE}`, and its hash is `{model.hash}`."
    if facts.commit:
        again = (
            f"In a clone of the repository of the experiment, with the same versions:\n\n{FENCE}console\n"
            f"$ git checkout {facts.commit} && dvc repro {model.stage}\n{FENCE}\n\n"
            "The same kind of processor gives the same bytes, another other last bits. The model is known there by its "
            f"hash, `{model.hash}`."
        )
    parts = {
        f"# {without_markup(name)}": f"{what} made with llmrl by the stages {chain}; the last is {stage.title} "
        f"(`{stage.trainer}` of TRL). Its weights are in {facts.dtype}."
        + (" They were rounded from those in float32 that were measured." if exported else ""),
        "## Intended use": f"{OPEN} What it is for, what it is not for, in which languages, and how it may fail. What "
        "was measured is below; nothing else was.",
        "## Licence": "That of the base model, by its card; the licences of the data sets may ask for more."
        if has_licence
        else f"{OPEN} It is not known here, so that the head of this card names none: add `license:` there. The base "
        "model and the data sets may each ask for something.",
        "## How it was made": "\n".join(how_made(facts)),
        "## Figures": figures or "None that are known to be of this model.",
        "## How to use it": "\n".join(used(facts, name)),
        "## How to make it again": again,
    }
    return "\n\n".join(f"{title}\n\n{text}" for title, text in parts.items()) + "\n"


def write_card(folder: Path, out: Path) -> list[str]:
    """Write the card of a model into a folder; what is to be said of it, a line each.

    Raises InputError where the folder is no place for it, and where it has a README.md that was not written by this, or
    has been edited since.
    """
    from huggingface_hub import ModelCard

    into = not_ours(out)
    file = into / NAME
    if file.exists() and not is_ours(file.read_text(encoding="utf-8")):
        raise InputError(
            f"{out / NAME} was not written by this, or was edited since: it would be lost. Move it away to have it "
            "anew."
        )
    found = facts(folder, into)
    name = " ".join(into.name.split())
    head = metadata(found, name)
    text = str(ModelCard(f"---\n{head}\n---\n\n{body(found, name, head.license is not None)}"))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{text}\n<!-- by llmrl.report.card, sha256 {checksum(text)} -->\n", encoding="utf-8")
    unsaid = ["what it is for"] + ([] if head.license else ["its licence"])
    return [str(out / NAME), *found.missing, f"to be written by you: {', '.join(unsaid)}"]


def is_ours(text: str) -> bool:
    """Whether a card is as this has written it."""
    mark = MARK.search(text)
    return mark is not None and checksum(text[: mark.start()]) == mark[1]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m llmrl.report.card", description="A model card for the Hub.")
    parser.add_argument("model", type=Path, help="a model's folder, models/grpo for one, or an export of it")
    parser.add_argument("out", type=Path, help="the folder to write README.md into, that of an export for one")
    arguments = parser.parse_args()
    with reported():
        said, *further = write_card(arguments.model, arguments.out)
        print(said)
        sys.stderr.writelines(f"  {line}\n" for line in further)


if __name__ == "__main__":
    main()
