"""The `model` section of params.yaml: where the base model comes from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from llmrl.fields import Field, Found, refusal

FOLDERS = {"builtin:tiny": "models/tiny", "raw": "models/raw"}  # of the sources that are no repository
# What a chat template gets of the one who renders it, beside the tokenizer's special tokens.
INPUTS = frozenset(("messages", "tools", "documents", "add_generation_prompt"))
SPECIAL = frozenset(f"{kind}_token" for kind in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"))


@dataclass(frozen=True)
class Model:
    """Where the base model comes from."""

    source: Annotated[str, "builtin:tiny, raw for your own in models/raw/, or a repository of the Hub as owner/name"]
    revision: Annotated[str | None, "the repository's commit, 40 digits; `make pin` writes it"] = None
    chat_template_kwargs: Annotated[
        dict[str, Any],
        "switches of the model's own chat template, as in {enable_thinking: false}: written into models/base as "
        "defaults, so that everything is rendered with them",
    ] = field(default_factory=dict)


def wrong(section: dict[str, Any]) -> Found:
    """Names in `chat_template_kwargs` that are no switch of any template, and lists and maps, of which no template is
    told.
    """
    switches = section.get("chat_template_kwargs")
    for name, value in switches.items() if isinstance(switches, dict) else ():
        keys = ("chat_template_kwargs", name)
        if name in INPUTS | SPECIAL:
            yield keys, " is not set here: whoever renders a conversation gives it, or the tokenizer."
        elif isinstance(value, list | dict) and (reason := refusal(value, Field((bool, float, int, str, type(None))))):
            yield keys, f": {reason}"
