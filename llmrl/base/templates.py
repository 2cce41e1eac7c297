"""Chat templates that can be trained with, whichever a tokenizer comes with, and the token that ends a turn.

A template that can be trained with encloses in {% generation %} … {% endgeneration %} what the assistant writes
itself, up to the token that ends its turn, so that the loss covers that alone and teaches to stop. TRL has such
versions of many models' templates. Of any other that writes turns one after another, one is made here from what it
writes, and taken only where it writes the same.

A template's own switches (`enable_thinking`) are set at its top, for all who render it and do not say otherwise.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError, meta, nodes

from llmrl.base.settings import INPUTS, SPECIAL
from llmrl.errors import InputError
from llmrl.fields import meant

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
# Conversations with tools stay the original's, without marks: SFT refuses them.
TOOLS = """\
{%%- if tools or messages | selectattr('tool_calls') | list
        or messages | selectattr('role', 'equalto', 'tool') | list %%}
%s
{%%- else %%}
%s
{%%- endif %%}
"""
# On a line of its own, which Jinja takes away; TRL compares texts of templates only before this is set.
DEFAULT = "{%%- if %(name)s is not defined %%}{%%- set %(name)s = %(value)s %%}{%%- endif %%}\n"
# What templates are tried on.
SYSTEM_TURN = {"role": "system", "content": "Be brief. "}
CHAT = [{"role": "user", "content": "What is 2 + 2?\n"}, {"role": "assistant", "content": " It is\n\n4. "}] * 2
TOOL = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}}


def with_marks(tokenizer: PreTrainedTokenizerBase, source: str, switches: dict[str, Any] | None = None) -> str:
    """A template to train with that writes what the tokenizer's own does with these switches; of a tokenizer without
    one, a usual one.

    Raises InputError where there is none to be had, or it has no such switch.
    """
    from trl.chat_template_utils import get_training_chat_template, has_generation_markers

    template = tokenizer.chat_template
    if isinstance(template, dict):  # several, by name
        template = tokenizer.chat_template = template.get("default")
    switches = switches or {}
    require_switches(tokenizer, template or "", switches, f"the chat template of {source}")
    if not template:
        return usual(tokenizer, source)
    marked = None
    try:
        marked = get_training_chat_template(tokenizer) or template
    except (ValueError, TypeError, TemplateError):
        if has_generation_markers(template):  # only a conversation with tools is not as TRL wants it
            marked = template
    if marked is not None:
        require_switches(tokenizer, marked, switches, f"TRL's version (with marks) of the chat template of {source}")
    template = tokenizer.chat_template = with_defaults(marked or template, switches)
    if writes_the_date(tokenizer):
        raise InputError(
            f"{source}: its chat template writes the day's date, so that no two days would train alike; "
            "put one without into models/raw/chat_template.jinja (docs/models.md)."
        )
    if marked is not None:
        return template
    if (remade := read_off(tokenizer)) is None:
        raise InputError(
            f"{source}: its chat template has no {{% generation %}} … {{% endgeneration %}} around the assistant's "
            "text, so that the loss could not be limited to answers, and it is not simple enough to have them put in; "
            "put them into models/raw/chat_template.jinja (docs/models.md)."
        )
    return TOOLS % (template, remade) if "tools" in template else remade


def with_defaults(template: str, switches: dict[str, Any]) -> str:
    """The template with each switch set where whoever renders it does not.

    >>> print(with_defaults("{{ messages }}", {"enable_thinking": False}))
    {%- if enable_thinking is not defined %}{%- set enable_thinking = false %}{%- endif %}
    {{ messages }}
    """
    texts = {
        name: "none" if value is None else json.dumps(value, ensure_ascii=False)
        for name, value in sorted(switches.items())
    }
    defaults = "".join(DEFAULT % {"name": name, "value": text} for name, text in texts.items())
    return template if template.startswith(defaults) else defaults + template  # a model that came from here has them


def switches_of(template: str) -> set[str]:
    """The names that a template reads and does not only set itself. Raises TemplateError where it is no template."""
    from transformers.utils.chat_template_utils import _compile_jinja_template  # with the tags that templates may have

    tree = _compile_jinja_template(template).environment.parse(template)
    read = meta.find_undeclared_variables(tree) - INPUTS - SPECIAL
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}  # of which some are set in a branch
    asked = (
        one for one in tree.find_all((nodes.Test, nodes.Filter)) if one.name in ("defined", "undefined", "default")
    )
    return (read - own) | (read & {one.node.name for one in asked if isinstance(one.node, nodes.Name)})


def require_switches(tokenizer: PreTrainedTokenizerBase, template: str, switches: dict[str, Any], whose: str) -> None:
    """Raise InputError where a template has not all of these switches."""
    if not switches:
        return
    try:
        known = switches_of(template) - tokenizer.special_tokens_map.keys()
    except TemplateError as error:
        raise InputError(f"{whose} is none: {error}.") from None
    if unknown := sorted(switches.keys() - known):
        has = f"has {', '.join(sorted(known))}" if known else "has none"
        raise InputError(
            f"params.yaml: model.chat_template_kwargs.{unknown[0]} is no switch of {whose}, which {has}."
            f"{meant(unknown[0], known)}"
        )


def writes_the_date(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the template writes what day it is, in a conversation with or without a system turn or tools."""
    day = "%today%"
    conversations = [(turns, tools) for turns in (CHAT, [SYSTEM_TURN, *CHAT]) for tools in (None, [TOOL])]
    texts = (
        written(tokenizer, turns, tools=tools, strftime_now=lambda _: day, add_generation_prompt=True)
        for turns, tools in conversations
    )
    return any(day in text for text in texts)


def usual(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """The template for a model that has none: of the family whose tokens for turns are in its vocabulary; where there
    are none, turns are headed by words that any vocabulary can write, and ended by the end of the text.
    """
    from trl import chat_template_utils as trl_templates

    vocabulary = tokenizer.get_vocab().keys()
    head, end, start = "<|im_start|>{}\n", "<|im_end|>", ""
    if not {"<|im_start|>", "<|im_end|>"} <= vocabulary:
        if {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"} <= vocabulary:
            return trl_templates.llama3_training_chat_template
        if {"<start_of_turn>", "<end_of_turn>"} <= vocabulary:
            return trl_templates.gemma_training_chat_template
        if not tokenizer.eos_token:
            raise InputError(
                f"{source}: its tokenizer has neither a chat template nor an eos_token that could end a turn; add one "
                "as models/raw/chat_template.jinja, or set eos_token in tokenizer_config.json there (docs/models.md)."
            )
        head, end = "<|{}|>\n", tokenizer.eos_token
        start = tokenizer.bos_token if tokenizer.bos_token not in (None, end) else ""
    # Turns that differ by the role in their heads alone, as ChatML's do.
    system, user, header = (head.format(role) for role in ("system", "user", "assistant"))
    turns = {"before_user": user, "after_user": f"{end}\n", "header": header, "lead": "", "end": end, "rest": "\n"}
    return around_turns(turns | {"start": start, "before_system": start + system, "after_system": f"{end}\n"})


def read_off(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The template with marks that writes what the tokenizer's own does, or None where its turns are not simply a row.

    Read off a few short conversations, and checked on others.
    """

    def around(*roles: str, **options: Any) -> list[str]:
        """What is written before, between and after the contents of turns."""
        turns = [{"role": role, "content": f"%{role}%"} for role in roles]
        return re.split("%system%|%user%|%assistant%", written(tokenizer, turns, **options))

    *_, after_user = around("user")
    *_, after_said = around("user", "assistant")
    ends = [after_said.find(token) + len(token) for token in tokenizer.get_added_vocab() if token in after_said]
    parts = around("user", "assistant", "user", add_generation_prompt=True)
    if not ends or len(parts) != 4:
        return None
    opening, before_said, between, prompt = parts
    before_user, header = between.removeprefix(after_said), prompt.removeprefix(after_user)
    texts = {
        "start": opening.removesuffix(before_user),
        "before_user": before_user,
        "after_user": after_user,
        "header": header,
        "lead": before_said.removeprefix(after_user + header),
        "end": after_said[: min(ends)],
        "rest": after_said[min(ends) :],
    }
    conversations = [CHAT[:turns] for turns in range(1, 5)]
    before_system, *others = around("system", "user")
    if len(others) == 2 and others[0].endswith(before_user):
        texts |= {"before_system": before_system, "after_system": others[0].removesuffix(before_user)}
        conversations += [[SYSTEM_TURN, *turns] for turns in conversations]

    def checked(template: str | None) -> list[str]:
        """What a template, or the tokenizer's own, makes of other conversations."""
        return [
            written(tokenizer, turns, chat_template=template, add_generation_prompt=prompt)
            for turns in conversations
            for prompt in (False, turns[-1]["role"] == "user")
        ]

    templates = (around_turns(texts, trims) for trims in (False, True))
    return next((template for template in templates if checked(template) == checked(None)), None)


def around_turns(texts: dict[str, str], trims: bool = False) -> str:
    """The template, with marks, that writes these texts around the turns; without a `before_system` it refuses a
    system turn.

    The assistant's is header, lead, its text, end, rest: the header is what a prompt ends with, `end` the token that
    ends the turn. `start` is written where no system turn is given.
    """
    quoted = {name: json.dumps(text, ensure_ascii=False) for name, text in texts.items()}
    quoted["trim"] = " | trim" if trims else ""
    return TURNS % (quoted | {"system": (SYSTEM if "before_system" in texts else NO_SYSTEM) % quoted})


def written(tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], **options: Any) -> str:
    """What the template makes of turns; nothing where it refuses them."""
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, **options)
    except (TemplateError, TypeError, ValueError):
        return ""


def end_of_turn(tokenizer: PreTrainedTokenizerBase, source: str) -> str:
    """The token that ends an assistant's turn: the last that the template's marks enclose.

    Raises InputError where that is not one token of its own.
    """
    encoded = tokenizer.apply_chat_template(CHAT[:3], return_dict=True, return_assistant_tokens_mask=True)
    enclosed = [token for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if mask]
    texts = [tokenizer.convert_ids_to_tokens(token) for token in enclosed if tokenizer.decode([token]).strip()]
    if not texts or texts[-1] not in tokenizer.get_added_vocab():
        raise InputError(
            f"{source}: its chat template encloses no token that ends the assistant's turn in {{% generation %}} … "
            "{% endgeneration %}, so that the model would never learn to stop; enclose it (docs/models.md)."
        )
    return texts[-1]
