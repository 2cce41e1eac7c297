"""The report as Markdown: read by a parser of it, nothing in what models and data say is more than text."""

from __future__ import annotations

import re

import hostile
import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from llmrl.report.document import Command, Grid, Heading, Quote, Quotes, Reader, Report, Section, Words, with_signs
from llmrl.report.markdown import ACTING, BIDI, EXCERPT, JOINER, inline, pasted

GFM = MarkdownIt("commonmark").enable(["table", "strikethrough"])


def tokens(text: str) -> list[Token]:
    """All of it, those within lines among them."""
    return [part for token in GFM.parse(text) for part in (token, *(token.children or ()))]


def text_of(line: str) -> str:
    """What a reader sees of one line."""
    found = "".join(part.content for part in tokens(line) if part.type in ("text", "code_inline", "text_special"))
    return found.replace(JOINER, "")


def seen(text: str) -> str:
    """What is to be seen of a text in one line."""
    return BIDI.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", " ".join(with_signs(text).split()))


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_a_text_in_a_line_is_what_it_was(name: str) -> None:
    """By itself, in a table and in a paragraph; a parser finds no other element in it."""
    text = hostile.TEXTS[name][:300]
    for line in (inline(text), f"| a | b |\n| --- | --- |\n| {inline(text)} | c |"):
        allowed = {"inline", "text", "text_special", "paragraph_open", "paragraph_close"}
        allowed |= {
            f"{part}_{end}" for part in ("table", "thead", "tbody", "tr", "th", "td") for end in ("open", "close")
        }
        others = [part for part in tokens(line) if part.type not in allowed]
        assert all(part.content in ("<span>", "</span>") for part in others), others
    assert seen(text) == text_of(inline(text))


@pytest.mark.parametrize(
    "start", ["1. a", "1) a", "- a", "+ a", "* a", "# a", "> a", "===", "---", "    a", "| a |", "~~~"]
)
def test_a_text_opens_no_block(start: str) -> None:
    """Whatever it begins with, it is a paragraph."""
    kinds = [token.type for token in GFM.parse(f"before\n{inline(start)}")] + [t.type for t in GFM.parse(inline(start))]
    assert ["paragraph_open", "inline", "paragraph_close"] * 2 == kinds
    assert start.strip() == text_of(inline(start))


def test_nobody_is_mentioned() -> None:
    """Nor an issue, an address or an emoji, in the text as it is rendered."""
    rendered = re.sub(r"<code.*?</code>", "", GFM.render(pasted(hostile.report())), flags=re.S)
    assert "octocat" in rendered
    assert [] == re.findall(r"@[a-z]|#\d|GH-\d|://|www\.\w|:tada:", rendered)
    assert not ACTING.search("at 12:30, a: b, pass@4")


def test_examples_stand_in_fences_that_hold() -> None:
    """With whatever backticks they have, and of a long one the beginning and how long it is."""
    quotes = Quotes("read", [Quote(text) for text in hostile.TEXTS.values()])
    fences = [part for part in GFM.parse(pasted(Report("", "", [Section("a", "b", [quotes])]))) if part.type == "fence"]
    texts = [BIDI.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", with_signs(text)) for text in hostile.TEXTS.values()]
    assert [text if len(text) <= EXCERPT else f"{text[:EXCERPT]}…\n(100,000 characters)" for text in texts] == [
        fence.content.removesuffix("\n") for fence in fences
    ]


def test_what_is_left_out_is_said() -> None:
    section = Section("reading", "To read", [Reader(["sft"], [], "9 of 10 answers are left out: all in metrics/*")])
    assert "searched and filtered. 9 of 10 answers are left out: all in metrics/\\*\n" in pasted(
        Report("", "", [section])
    )


def test_it_says_what_the_page_says() -> None:
    """Every block, in order, tables aligned and folded as there, and of the reader how much it holds."""
    table = Grid(["", "sft", "made of"], [["right", "0.50", "a|b"]], "n = `10`")
    asked = hostile.report().sections[1].blocks[0]
    assert isinstance(asked, Reader)
    blocks = [
        Words("it `helped`", "good"),
        Words("looks wrong", "bad"),
        Heading("Part"),
        table,
        Grid(["a", "b"], [["c", "1"]], "more <of> it", folded=True),
        Command("dvc repro", "makes it"),
        asked,
    ]
    text = pasted(Report("Title", "of x_y", [Section("outcome", "What came of it", blocks, of="slower")]))
    assert (
        "# Title\n\nof x\\_y\n\n## What came of it (slower)\n\n✓ it `helped`\n\n**!** looks wrong\n\n### Part\n\n"
        "n = `10`\n\n|  | sft | made of |\n| --- | ---: | --- |\n| right | 0.50 | a\\|b |\n\n"
        "<details><summary>more &lt;of&gt; it</summary>\n\n| a | b |\n| --- | ---: |\n| c | 1 |\n\n</details>\n\n"
        "makes it:\n\n```sh\ndvc repro\n```\n\n"
        f"{len(hostile.TEXTS)} prompts with {2 * len(hostile.TEXTS)} answers of base, "
        f"{inline(hostile.TEXTS['script'])}: on the page they are read side by side, searched and filtered.\n"
    ) == text
