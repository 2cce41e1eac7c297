"""A report as GitHub-flavoured Markdown, to paste into a pull request.

What models and data say stays text there: no markup, link, picture, formula or emoji comes of it, nobody is mentioned,
and no issue referred to (GitHub finds the last in the rendered text, so no backslash helps: U+2060, a joiner of words
that is not seen, does). Examples stand in fenced blocks, where nothing acts.
https://github.github.com/gfm/, https://docs.github.com/get-started/writing-on-github
"""

from __future__ import annotations

import re
from html import escape

from llmrl.report.document import Block, Chart, Command, Grid, Heading, Quotes, Reader, Report, Words, with_signs

LONGEST = 65536  # characters of a pull request's text on GitHub
EXCERPT = 600  # characters of an example
JOINER = "\u2060"
# Signs that reorder a line (Unicode's Bidi_Control): there is no isolating a text in Markdown.
BIDI = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
# What acts on GitHub in rendered text: mentions and addresses, references, addresses of the web, emoji by name.
ACTING = re.compile(
    r"(?<!\w)@(?=\w)|@(?=[\w-]+\.\w|[\da-f]{7})|#(?=\d)|\bGH-(?=\d)|:(?=//)|\bwww\.|\b(?:mailto|xmpp):|:(?=[\w+-]+:)",
    re.IGNORECASE,
)
MARKUP = re.compile(r"[\\`*_\[\]|~]")
OPENING = re.compile(r"^(?:(\d+)(?=[.)](?:\s|$))|(?=[-+=#]))")  # of a list, a heading, a rule


def pasted(report: Report) -> str:
    """The report as Markdown."""
    parts = [f"# {inline(report.title)}", inline(report.subtitle)]
    for section in report.sections:
        parts.append(f"## {inline(section.title)}" + f" ({inline(section.of)})" * bool(section.of))
        parts += [text for block in section.blocks if (text := block_text(block))]
    return "\n\n".join(parts) + "\n"


def block_text(block: Block) -> str:
    """One block."""
    match block:
        case Words(text, tone):
            sign = {"good": "✓ ", "bad": "**!** "}.get(tone, "")
            return sign + coded_spans(text)
        case Heading(text):
            return f"### {inline(text)}"
        case Command(line, what):
            return (f"{coded_spans(what)}:\n\n" if what else "") + fenced(line, "sh")
        case Grid():
            return grid_text(block)
        case Chart(title, _, words):
            return f"**{inline(title)}**: {inline(words)}"
        case Quotes(title, quotes):
            said = [f"### {inline(title)}"]
            for quote in quotes:
                head = [f"**{inline(quote.heading)}**"] * bool(quote.heading) + [inline(quote.facts)] * bool(
                    quote.facts
                )
                said += [*(["; ".join(head)] if head else []), fenced(excerpt(quote.text))]
            return "\n\n".join(said)
        case Reader(policies, prompts, left_out):
            answers = sum(len(asked.answers) for asked in prompts)
            return (
                f"{len(prompts):,} prompts with {answers:,} answers of {inline(', '.join(policies))}: on the page they "
                "are read side by side, searched and filtered."
            ) + f" {inline(left_out)}" * bool(left_out)


def grid_text(grid: Grid) -> str:
    """A table, folded where it is on the page."""
    marks = ["---:" if number else "---" for number in grid.numeric()]
    lines = [list(map(inline, grid.columns)), marks, *(list(map(inline, row)) for row in grid.rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    if grid.folded:
        summary = escape(guarded(grid.caption or ", ".join(grid.columns)))
        return f"<details><summary>{summary}</summary>\n\n{table}\n\n</details>"
    return f"{coded_spans(grid.caption)}\n\n{table}" if grid.caption else table


def guarded(text: str) -> str:
    """A text in one line, in which nothing acts that GitHub finds after Markdown is done."""
    text = BIDI.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", " ".join(with_signs(text).split()))
    return ACTING.sub(lambda found: found[0] + JOINER, text)


def inline(text: str) -> str:
    """A text as it is, within a line of Markdown."""
    text = OPENING.sub(lambda found: f"{found[1] or ''}\\", MARKUP.sub(r"\\\g<0>", guarded(text)))
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
    return text.replace("$", "<span>$</span>")  # a formula's bounds


def coded_spans(text: str) -> str:
    """A paragraph, with what stands in backticks as code."""
    parts = re.split("`([^`\n]+)`", text)
    said = [f"`{' '.join(with_signs(part).split())}`" if at % 2 else inline_part(part) for at, part in enumerate(parts)]
    return "".join(said)


def inline_part(text: str) -> str:
    """A part of a paragraph, with the blanks it begins and ends with."""
    blank = " " if text[:1].isspace() else "", " " if text[-1:].isspace() and text.strip() else ""
    return f"{blank[0]}{inline(text)}{blank[1]}"


def excerpt(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…\n({len(text):,} characters)"


def fenced(text: str, language: str = "") -> str:
    """A text in a fenced block, by a fence that it does not have."""
    text = BIDI.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", with_signs(text))
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
