"""What half precision changes in sampling: `python -m bench.ratios MODEL [--adapter FOLDER] [--scales 1 4 16]`.

GRPO's completions are sampled by `answering`, which casts each matrix once, with its adapters added. TRL trains with
the log-probabilities of their tokens under autocast, adapters beside the matrices. The ratios between the two are told
beside those of what differs in nothing but kernels: the sampler token by token and in one pass, the training's forward
of completions that are padded to one length and of each alone.

With adapters (a folder of peft's; B times each scale) also how far an arithmetic follows them: where B changes a
log-probability by d in float32 and by e in the arithmetic, by <d, e> / <d, d>. 1 is all of it, and 0 the model without
adapters, at which weights on bf16's grid stay where B A is below half a unit in their last place.

Prompts are sums, and the questions of `--prompts`, JSON lines. It prints JSON; docs/reproducibility.md has figures.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as Adapted
from torch import Tensor
from trl.trainer.utils import add_fused_lm_head

from llmrl.answers.generation import PADDED, answering, ends_of, up_to_end
from llmrl.models.loading import load_policy, load_tokenizer

EPSILON = 0.2  # beyond 1 +- it TRL clips a ratio


class Drawn:
    """Completions, and with which log-probabilities they were sampled: (completions, new tokens)."""

    def __init__(self, model: Any, tokenizer: Any, questions: list[str], new: int) -> None:
        self.model, ends = model, ends_of(model, tokenizer)
        self.called = model.forward  # with TRL's head, which `answering` takes off a model without adapters
        asked = [[{"role": "user", "content": question}] for question in questions]
        texts = [tokenizer.apply_chat_template(one, tokenize=False, add_generation_prompt=True) for one in asked]
        inputs = tokenizer(texts, add_special_tokens=False, **PADDED).to(model.device)
        how = {"do_sample": True, "top_k": 0, "max_new_tokens": new, "eos_token_id": ends}
        with answering(model, "bf16", seed=1):
            told = model.generate(**inputs, **how, return_dict_in_generate=True, output_logits=True)
        said = told.sequences[:, inputs["input_ids"].shape[1] :]
        logps = torch.stack(told.logits, 1).float().log_softmax(-1)  # (completions, new tokens, vocabulary)
        self.sampled = logps.gather(2, said[..., None])[..., 0]
        self.counts = torch.zeros_like(said, dtype=torch.bool)
        for row, tokens in zip(self.counts, said.tolist(), strict=True):
            row[: len(up_to_end(tokens, ends))] = True
        self.tokens, self.mask = told.sequences, torch.cat([inputs["attention_mask"], self.counts.long()], 1)

    def forward(self, size: int | None = None) -> Tensor:
        """Log-probabilities as TRL's head has them, of all completions or `size` at once, padded to their longest."""
        new, found = self.counts.shape[1], []
        labels = self.tokens.masked_fill(self.mask == 0, -100)
        labels[:, :-new] = -100
        parts = (part.split(size or len(part)) for part in (self.tokens, self.mask, labels))
        for ids, mask, wanted in zip(*parts, strict=True):
            first = int(mask.argmax(1).min())
            given = {"input_ids": ids, "attention_mask": mask, "labels": wanted}
            out = self.called(**{name: part[:, first:] for name, part in given.items()}, fused_lm_head=True)
            found.append(out.log_probs[:, -new:])
        return torch.cat(found)

    def trained(self, precision: str, size: int | None = None) -> Tensor:
        """As training has them."""
        half = precision == "bf16"
        with torch.no_grad(), torch.autocast(self.model.device.type, torch.bfloat16, enabled=half):
            return self.forward(size)

    def answered(self) -> Tensor:
        """As the sampler has them, in one pass."""
        with answering(self.model, "bf16"):
            return self.forward()

    def difference(self, old: Tensor, new: Tensor) -> Tensor:
        """Of the log-probabilities of all tokens, one after the other."""
        return (new - old)[self.counts].double()

    def ratios(self, old: Tensor, new: Tensor) -> dict[str, float]:
        """The probability by `new` over that by `old`; `kl` is k3 of http://joschu.net/blog/kl-approx.html."""
        d = self.difference(old, new)
        whole = ((new - old) * self.counts).sum(1).double()
        found = {
            "abs_log": d.abs().mean(),
            "kl": (d.exp() - 1 - d).mean(),
            "p1": d.quantile(0.01).exp(),
            "p99": d.quantile(0.99).exp(),
            "beyond_epsilon": ((d.exp() - 1).abs() > EPSILON).double().mean(),
            "completion_p5": whole.quantile(0.05).exp(),
            "completion_p95": whole.quantile(0.95).exp(),
        }
        return {name: round(value.item(), 7) for name, value in found.items()}


def nearest(weights: Tensor) -> Tensor:
    """Weights on bf16's grid."""
    return weights.bfloat16().float()


def stochastic(weights: Tensor) -> Tensor:
    """Each weight at one of its two neighbours on bf16's grid, drawn so that their mean is the weight."""
    bits = weights.contiguous().view(torch.int32)
    return ((bits + torch.randint_like(bits, 1 << 16)) & -(1 << 16)).view(torch.float32)


def layers(model: Any) -> list[Adapted]:
    return [module for module in model.modules() if isinstance(module, Adapted)]


def scale(model: Any, by: float) -> None:
    """Have the adapters count so many times."""
    for layer in layers(model):
        layer.set_scale("default", by)


@contextmanager
def merged(model: Any, by: float, cast: Callable[[Tensor], Tensor]) -> Iterator[dict[str, float]]:
    """Adapters added to the matrices, and the sums cast. Tells the root mean square of what was added, the share of it
    that is in the sums, and that of the weights that stayed where they were.
    """
    kept: list[tuple[Any, Tensor]] = []
    square, inside, still, count = 0.0, 0.0, 0, 0
    for layer in layers(model):
        base: Any = layer.get_base_layer()
        added = layer.get_delta_weight("default")
        weights: Tensor = base.weight.data
        kept.append((base, weights))
        base.weight.data = cast(weights + added)
        moved = base.weight.data - nearest(weights)
        square, inside = square + added.square().sum().item(), inside + (moved * added).sum().item()
        still, count = still + int((moved == 0).sum()), count + moved.numel()
    scale(model, 0)
    yield {"rms": (square / count) ** 0.5, "followed": inside / square, "unmoved": still / count}
    scale(model, by)
    for base, weights in kept:
        base.weight.data = weights


def adapted(drawn: Drawn, by: float) -> dict[str, Any]:
    """How far sampling, training and other ways to round follow adapters."""
    model = drawn.model
    after = {"training": drawn.trained("bf16"), "sampling": drawn.answered()}
    whole, weights = drawn.trained("fp32"), {}
    for cast in (nearest, stochastic):
        with merged(model, by, cast) as weights[cast.__name__]:
            after[cast.__name__] = drawn.answered()
    scale(model, 0)
    start, trained, answered = drawn.trained("fp32"), drawn.trained("bf16"), drawn.answered()
    scale(model, by)
    d, followed = drawn.difference(start, whole), {}
    for name, logps in after.items():
        e = drawn.difference(trained if name == "training" else answered, logps)
        share = e @ d / (d @ d)
        error = ((e - share * d).square().mean() / (d @ d)).sqrt()
        followed[name] = [round(share.item(), 3), round(error.item(), 3)]
    drift = drawn.ratios(start, whole)
    stepped = drawn.ratios(after["stochastic"], after["training"])
    return {"weights": weights, "drift": drift, "followed": followed, "stochastic to training": stepped}


def measured(model: Any, tokenizer: Any, questions: list[str], new: int, by: float | None) -> dict[str, Any]:
    """The ratios of one policy; `by` is what its adapters count, None where it has none."""
    drawn = Drawn(model, tokenizer, questions, new)
    sampled, trained, whole = drawn.sampled, drawn.trained("bf16"), drawn.trained("fp32")
    ratios = {
        "sampling to training": drawn.ratios(sampled, trained),
        "sampling to training in float32": drawn.ratios(sampled, whole),
        "sampling, token by token to one pass": drawn.ratios(sampled, drawn.answered()),
        "training, padded to not": drawn.ratios(trained, drawn.trained("bf16", 1)),
        "float32, padded to not": drawn.ratios(whole, drawn.trained("fp32", 1)),
    }
    more = adapted(drawn, by) if by else {}
    return {"scale": by, "tokens": int(drawn.counts.sum()), "ratios": ratios} | more


def main() -> None:
    """Measure one model folder, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--adapter")
    parser.add_argument("--scales", type=float, nargs="+", default=[1.0])
    parser.add_argument("--prompts", type=Path, help="JSON lines with `question`, beside as many sums")
    parser.add_argument("--count", type=int, default=12, help="prompts of each kind")
    parser.add_argument("--new", type=int, default=32, help="tokens of a completion")
    parser.add_argument("--smoke", action="store_true", help="of two prompts and four tokens: that it runs")
    asked = parser.parse_args()
    count, new = (2, 4) if asked.smoke else (asked.count, asked.new)
    draw = random.Random(1)
    questions = [f"What is {draw.randint(10, 99)} + {draw.randint(10, 99)}?" for _ in range(count)]
    if asked.prompts:
        questions += [json.loads(line)["question"] for line in asked.prompts.read_text().splitlines()[:count]]
    model: Any = load_policy(asked.model).to("cuda" if torch.cuda.is_available() else "cpu")
    add_fused_lm_head(model)
    tokenizer = load_tokenizer(asked.model)
    found = []
    if asked.adapter:
        model = PeftModel.from_pretrained(model, asked.adapter)
        for by in asked.scales:
            scale(model, by)
            found.append(measured(model, tokenizer, questions, new, by))
    else:
        found.append(measured(model, tokenizer, questions, new, None))
    about = {"model": Path(asked.model).name, "device": str(model.device), "torch": torch.__version__}
    print(json.dumps(about | {"measured": found}, indent=1))


if __name__ == "__main__":
    main()
