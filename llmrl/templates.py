"""Chat templates that can be trained with, whichever a tokenizer comes with, and the token that ends a turn.

A template that can be trained with encloses in {% generation %} … {% endgeneration %} what the assistant writes
itself, up to the token that ends its turn, so that the loss covers that alone and teaches to stop. TRL has such
versions of many models' templates. Of any other that writes turns one after another, one is made here from what it
writes, and taken only where it writes the same.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from llmrl.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

SYSTEM = "{{- %(before_system)s + messages[0]['content']%(trim)s + %(after_system)s }}"
NO_SYSTEM = "{{- raise_exception('this chat template has no system turn') }}"
TURNS = """\
{%%- if messages[0]['role'] == 'system' %%}
%(system)s
{%%- else %%}
{{- %(start)s }}
{%%- endif %%}
{%%- for message in messages %%}
{%%- if message['role'] == 'user' %%}
{{- %(before_user)s + message['content']%(trim)s + %(after_user)s }}
{%%- elif message['role'] == 'assistant' %%}
{{- %(header)s }}
{%%- generation %%}
{{- %(lead)s + message['content']%(trim)s + %(end)s }}
{%%- endgeneration %%}
{{- %(rest)s }}
{%%- elif message['role'] != 'system' or not loop.first %%}
{{- raise_exception('this chat template has no turn of ' + message['role'] + ' here') }}
{%%- endif %%}
{%%- endfor %%}
{%%- if add_generation_prompt %%}
{{- %(header)s }}
{%%- endif %%}
"""
# Conversations with tools stay the original's: they are not trained on here.
TOOLS = """\
{%%- if tools or messages | selectattr('tool_calls') | list
        or messages | selectattr('role', 'equalto', 'tool') | list %%}
%s
{%%- else %%}
%s
{%%- endif %%}
"""


@dataclass(frozen=True)
class Form:
    """What a template writes around the turns; `before_system` None: it knows no system turn.

    The assistant's is header, lead, its text, end, rest: the header is what a prompt ends with, `end` the token that
    ends the turn.
    """

    before_user: str
    after_user: str
    header: str
    end: str
    rest: str = "\n"
    lead: str = ""
    start: str = ""  # where no system turn is given
    before_system: str | None = None
    after_system: str = ""
    trims: bool = False

    def template(self) -> str:
        """The chat template, with generation marks."""
        texts = {name: json.dumps(text, ensure_ascii=False) for name, text in asdict(self).items()}
        texts["trim"] = " | trim" if self.trims else ""
        return TURNS % (texts | {"system": NO_SYSTEM if self.before_system is None else SYSTEM % texts})


CHATML = Form(
    before_system="<|im_start|>system\n",
    after_system="<|im_end|>\n",
    before_user="<|im_start|>user\n",
    after_user="<|im_end|>\n",
    header="<|im_start|>assistant\n",
    end="<|im_end|>",
)


def plain(start: str, end: str) -> Form:
    """Turns headed by words that any vocabulary can write, ended by the end of the text."""
    return Form(
        start=start,
        before_system=f"{start}<|system|>\n",
        after_system=f"{end}\n",
        before_user="<|user|>\n",
        after_user=f"{end}\n",
        header="<|assistant|>\n",
        end=end,
    )


def marked(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """A template to train with that writes what the tokenizer's own does; of a tokenizer without one, a usual one.

    Raises InputError where there is none to be had.
    """
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, by name
        template = tokenizer.chat_template = template.get("default")
    if not template:
        return usual(tokenizer, source)
    try:
        return get_training_chat_template(tokenizer) or template
    except (ValueError, TypeError, TemplateError):
        if has_generation_markers(template):  # only a conversation with tools is not as TRL wants it
            return template
    if "strftime_now" in template:
        raise InputError(
            f"{source}: its chat template writes the day's date, so that no two days would train alike; "
            "put one without into models/raw/chat_template.jinja (docs/models.md)."
        )
    if (form := read(tokenizer)) is None:
        raise InputError(
            f"{source}: its chat template has no {{% generation %}} … {{% endgeneration %}} around the assistant's "
            "text, so that the loss could not be limited to answers, and it is not simple enough to have them put in; "
            "put them into models/raw/chat_template.jinja (docs/models.md)."
        )
    return TOOLS % (template, form.template()) if "tools" in template else form.template()


def usual(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """The template for a model that has none: of the family whose tokens for turns are in its vocabulary."""
    from trl import chat_template_utils as trl_templates

    for tokens, template in (
        (("<|im_start|>", "<|im_end|>"), CHATML.template()),
        (("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), trl_templates.llama3_training_chat_template),
        (("<start_of_turn>", "<end_of_turn>"), trl_templates.gemma_training_chat_template),
    ):
        if set(tokens) <= tokenizer.get_vocab().keys():
            return template
    if not tokenizer.eos_token:
        raise InputError(
            f"{source}: its tokenizer has neither a chat template nor an eos_token that could end a turn; add one as "
            "models/raw/chat_template.jinja, or set eos_token in tokenizer_config.json there (docs/models.md)."
        )
    start = tokenizer.bos_token if tokenizer.bos_token not in (None, tokenizer.eos_token) else ""
    return plain(start, tokenizer.eos_token).template()


def read(tokenizer: PreTrainedTokenizerBase) -> Form | None:
    """What the tokenizer's template writes around the turns, or None where they are not simply a row.

    Read off a few short conversations, and checked on others.
    """
    system, ask = message("system", "%the system%"), message("user", "%asked%")
    say, more = message("assistant", "%said%"), message("user", "%asked more%")
    asked, prompt, said, continued = (
        written(tokenizer, [ask]),
        written(tokenizer, [ask], add_generation_prompt=True),
        written(tokenizer, [ask, say]),
        written(tokenizer, [ask, say, more]),
    )
    if asked is None or prompt is None or said is None or continued is None:
        return None
    opening, _, after_user = asked.partition(ask["content"])
    header = prompt.partition(ask["content"])[2].removeprefix(after_user)
    before_said, _, after_said = said.partition(ask["content"])[2].removeprefix(after_user).partition(say["content"])
    before_user = continued.partition(say["content"])[2].partition(more["content"])[0].removeprefix(after_said)
    ends = [after_said.find(token) + len(token) for token in tokenizer.get_added_vocab() if token in after_said]
    if not ends or not before_said.startswith(header):
        return None
    before, _, rest = (written(tokenizer, [system, ask]) or "").partition(system["content"])
    after, has_system, _ = rest.partition(before_user + ask["content"])
    form = Form(
        start=opening.removesuffix(before_user),
        before_system=before if has_system else None,
        after_system=after,
        before_user=before_user,
        after_user=after_user,
        header=header,
        lead=before_said.removeprefix(header),
        end=after_said[: min(ends)],
        rest=after_said[min(ends) :],
        trims="\tspaced\t" not in (written(tokenizer, [message("user", "\tspaced\t")]) or ""),
    )
    template = form.template()
    for turns in conversations(with_system=bool(has_system)):
        for prompted in (False, turns[-1]["role"] == "user"):
            options: dict[str, Any] = {"add_generation_prompt": prompted}
            if written(tokenizer, turns, **options) != written(tokenizer, turns, chat_template=template, **options):
                return None
    return form


def message(role: str, content: str) -> Message:
    return {"role": role, "content": content}


def conversations(with_system: bool) -> list[list[Message]]:
    """Conversations of one to four turns, each with and without a system turn."""
    user, assistant = message("user", "What is 2 + 2?\n"), message("assistant", " It is\n\n4. ")
    found = [([user, assistant] * 2)[:turns] for turns in range(1, 5)]
    return found + [[message("system", "Be brief. "), *turns] for turns in found if with_system]


def written(tokenizer: PreTrainedTokenizerBase, turns: list[Message], **options: Any) -> str | None:
    """What the template makes of turns; None where it refuses them."""
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, **options)
    except (TemplateError, TypeError, ValueError):
        return None


def end_of_turn(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """The token that ends an assistant's turn: the last that the template's marks enclose.

    Raises InputError where that is not one token of its own.
    """
    turns = [message("user", "2 + 2?"), message("assistant", "4"), message("user", "3 + 3?")]
    encoded = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    enclosed = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    texts = [tokenizer.convert_ids_to_tokens(token) for token in enclosed if tokenizer.decode([token]).strip()]
    if not texts or texts[-1] not in tokenizer.get_added_vocab():
        raise InputError(
            f"{source}: its chat template encloses no token that ends the assistant's turn in {{% generation %}} … "
            "{% endgeneration %}, so that the model would never learn to stop; enclose it (docs/models.md)."
        )
    return texts[-1]
