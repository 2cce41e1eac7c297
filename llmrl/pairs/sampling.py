"""A policy's answers to data/prompts, judged as GRPO judges, and the pairs that become of them.

    models/sft + data/prompts/{train,eval}.parquet -> data/pairs/{train,eval}.parquet

Prompts are asked in an order that is drawn, so that the first of them are a sample, a few batches at a time (a chunk),
each of which draws its answers by a seed of its own: so one can go on after any of them, and no random state is kept.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from llmrl.answers import gym, tasks
from llmrl.answers.generation import answering, generate
from llmrl.data.overlap import HeldOut
from llmrl.errors import InputError
from llmrl.models import loading
from llmrl.pairs import choosing
from llmrl.pairs.choosing import Candidates, Pair, Said
from llmrl.training import rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmrl.training.hardware import Hardware
    from llmrl.training.settings import Settings

SIDES = ("train", "eval")
Judge = tuple[str | None, str | None]  # a prompt's solution, and the further columns of a task that has a scorer
# What decides the pairs, and what is written beside them, with what these import.
RUNS = ("llmrl.pairs.sampling", "llmrl.pairs.summary", "llmrl.training.hardware")
BATCHES = 4  # of a chunk: what is lost where a run is killed, and within which prompts of like length are answered
ANSWERS = pa.schema(  # of a chunk, a row a prompt: its row in data/prompts, and what is told of each answer
    {
        "row": pa.int32(),
        "text": pa.list_(pa.string()),
        "tokens": pa.list_(pa.int32()),
        "ended": pa.list_(pa.bool_()),
        "right": pa.list_(pa.bool_()),
    }
)
# What of `train` decides an answer, beside the model and `answers`.
OWN, TRLS = ("precision", "kernels", "threads", "attn_implementation"), ("tf32", "full_determinism")


@dataclass(frozen=True)
class Questions:
    """A side of data/prompts: the rows to ask, in order, and why others are not asked, counted."""

    side: str
    prompts: Dataset
    judges: list[Judge]
    order: list[int]
    chunk: int  # prompts
    not_asked: Counter[str] = field(default_factory=Counter)

    @property
    def path(self) -> Path:
        return path_of(self.side)

    @property
    def chunks(self) -> list[list[int]]:
        return [self.order[start : start + self.chunk] for start in range(0, len(self.order), self.chunk)]


def path_of(side: str) -> Path:
    return Path("data/prompts", f"{side}.parquet")


def judged_by(asked: list[Questions]) -> list[str]:
    """The packages that judge these prompts, beside those that every stage takes."""
    scored = any(extra for one in asked for _, extra in one.judges)
    return [gym.PACKAGE] if scored else []


def decide_answers(settings: Settings, samples: int) -> dict[str, Any]:
    """The settings that decide a policy's answers, and which are right."""
    own = {f"train.{name}": getattr(settings.own, name) for name in OWN}
    own |= {f"train.{name}": settings.chosen.get(name) for name in TRLS}
    protocol = {f"answers.{name}": value for name, value in asdict(settings.answers).items() if name != "samples"}
    return {"policy": settings.own.init, "samples": samples} | own | protocol


def to_ask(side: str, tokenizer: PreTrainedTokenizerBase, settings: Settings, samples: int) -> Questions:
    """What there is to ask of a side. Raises InputError where nothing tells a right answer to any prompt, or the
    model's chat template refuses more than may be.
    """
    path = path_of(side)
    prompts = rows.read(path)
    sizes = rows.sizes_of(prompts, tokenizer, False)
    refused = [row for row, size in enumerate(sizes) if isinstance(size, str)]
    if len(refused) > settings.max_refused * len(prompts):
        raise InputError(
            f"{path}: {len(refused)} of {len(prompts)} prompts are refused, and data.max_defective in params.yaml "
            f"allows a share of {settings.max_refused:g}: {sizes[refused[0]]} (first: row {refused[0] + 1}). Leave "
            "such rows out of the data, or change chat_template.jinja in the model's folder."
        )
    extras = prompts["extra"] if "extra" in prompts.column_names else [None] * len(prompts)
    scored = (extra if tasks.maker_of(extra) else None for extra in extras)
    judges = [*zip(prompts["solution"], scored, strict=True)]
    told = [row for row, one in enumerate(judges) if any(part is not None for part in one)]
    order = sorted({*told} - {*refused})
    if not order:
        raise InputError(
            f"data.preference.source: sampled in params.yaml takes prompts that can be judged, and no row of {path} "
            "has a solution: data.prompts.columns names the column that has them, as in {solution: answer}."
        )
    random.Random(f"{settings.answers.seed} {side}").shuffle(order)
    counts = Counter({"without_a_solution": len(prompts) - len(told), "refused": len({*refused} & {*told})})
    return Questions(side, prompts, judges, order, BATCHES * max(1, settings.answers.batch // samples), counts)


@dataclass
class Policy:
    """A policy, to be asked; loaded as it first is."""

    settings: Settings
    hardware: Hardware
    tokenizer: PreTrainedTokenizerBase
    samples: int
    model: PreTrainedModel | None = None

    def loaded(self) -> PreTrainedModel:
        if self.model is None:
            liger = self.hardware.kernels == "liger"
            how = loading.Loading(self.settings.own.attn_implementation, liger, frozen=self.hardware.answers)
            self.model = loading.load_policy(self.settings.own.init, how).to(self.hardware.kind)
        return self.model

    def answers(self, asked: Questions, number: int, counted: Callable[[int], None]) -> pa.Table:
        """The answers to a chunk of prompts, each judged: ANSWERS."""
        protocol, chosen = self.settings.answers, asked.chunks[number]
        seed = int.from_bytes(hashlib.sha256(f"{protocol.seed} {asked.side} {number}".encode()).digest()[:4])
        sampling: dict[str, Any] = {"do_sample": True, "num_return_sequences": self.samples, "top_k": 0, "top_p": 1.0}
        sampling |= {"temperature": float(protocol.temperature), "max_new_tokens": protocol.max_new_tokens}
        model, prompts = self.loaded(), asked.prompts.select(chosen)["prompt"]
        with answering(model, self.hardware.answers, seed):
            given = (model, self.tokenizer, prompts, protocol.batch, counted, self.hardware.engine)
            several = generate(*given, **sampling)
        return pa.Table.from_pylist(
            [
                {
                    "row": row,
                    "text": [one.text for one in found],
                    "tokens": [one.tokens for one in found],
                    "ended": [one.ended for one in found],
                    "right": [tasks.is_right(one.text, *asked.judges[row], protocol.marks) for one in found],
                }
                for row, found in zip(chosen, several, strict=True)
            ],
            ANSWERS,
        )


def candidates(answers: pa.Table) -> Iterator[Candidates]:
    """Of each prompt the answers that a pair may be made of: such as ended by themselves, and say something. A text
    that was cut off would be trained on as if it ended there.
    """
    for row in answers.to_pylist():
        told = [*zip(row["text"], row["tokens"], row["ended"], row["right"], strict=True)]
        whole = [(Said(text, tokens), right) for text, tokens, ended, right in told if ended and text.strip()]
        sides = ([one for one, right in whole if right is wanted] for wanted in (True, False))
        yield Candidates(*map(choosing.distinct, sides))


def enough_answers(asked: Questions, each: int, most: int | None, chunk: Callable[[int], pa.Table]) -> pa.Table:
    """The answers to a side's prompts, chunk by chunk; no more are asked for when there are `most` pairs, at most
    `each` of a prompt.
    """
    tables, pairs = list[pa.Table](), 0
    for number in range(len(asked.chunks)):
        if most is not None and pairs >= most:
            break
        tables.append(chunk(number))
        pairs += sum(choosing.possible(one, each) for one in candidates(tables[-1]))
    return pa.concat_tables(tables)


def write_pairs(
    asked: Questions, answers: pa.Table, each: int, most: int | None, out: Path
) -> tuple[dict[str, float], list[Pair]]:
    """Choose a side's pairs, at most `each` of a prompt and `most` in all, and write them as `prepare` would: prompt,
    chosen and rejected, each a list of turns. What became of its prompts and answers, and the pairs. Raises InputError
    where there are none.
    """
    found = [*candidates(answers)]
    pairs = choosing.choose_pairs(found, each, most)
    told = counts(asked, answers, found, pairs)
    if not pairs:
        raise InputError(
            f"data/pairs: of the policy's answers to {asked.path} no pair can be "
            f"made: {told['prompts']:,} prompts, {told['without_a_right_answer']:,} without a right answer and "
            f"{told['without_a_wrong_answer']:,} without a wrong one; {told['cut_off']:,} of {told['answers']:,} "
            "answers were cut off. In params.yaml data.preference.samples gives more answers, data.preference.policy "
            "another policy, and answers.max_new_tokens longer answers."
        )
    prompts, places = pq.read_table(asked.path, columns=["prompt"])["prompt"], answers["row"].to_pylist()
    columns = {"prompt": prompts.take(pa.array([places[pair.prompt] for pair in pairs], pa.int64()))}
    for name in ("chosen", "rejected"):
        said = [[{"role": "assistant", "content": getattr(pair, name).text}] for pair in pairs]
        columns[name] = pa.array(said, prompts.type)
    pq.write_table(pa.table(columns), out / asked.path.name, compression="zstd", row_group_size=1000)
    return told, pairs


def counts(asked: Questions, answers: pa.Table, found: list[Candidates], pairs: list[Pair]) -> dict[str, float]:
    """What became of a side's prompts and answers."""
    texts, ended, right = (answers[name].combine_chunks().flatten().to_pylist() for name in ("text", "ended", "right"))
    return {
        "prompts": len(answers),
        "not_asked": len(asked.order) - len(answers),
        **asked.not_asked,
        "without_a_right_answer": sum(not one.right for one in found),
        "without_a_wrong_answer": sum(not one.wrong for one in found),
        "answers": len(texts),
        "right": sum(right),
        "cut_off": len(ended) - sum(ended),
        "empty": sum(end and not text.strip() for end, text in zip(ended, texts, strict=True)),
        "pairs": len(pairs),
        **(choosing.told_by_length(pairs) if pairs else {}),
    }


def held_out_in(trained: Path, held_out: Questions) -> dict[str, int]:
    """How many of the held-out prompts stand in the text of the pairs to train on, as `prepare` counts them."""
    turns = ((turn["content"] for turn in prompt if turn["role"] == "user") for prompt in held_out.prompts["prompt"])
    index, table = HeldOut([next(asked, "") for asked in turns]), pq.read_table(trained)
    for column in table.column_names:
        index.look_up(table[column].combine_chunks().flatten().field("content"))
    return {"held_out_prompts": index.num_prompts, "exact": index.exact, "shared": index.shared}
