"""The page, without a browser: whole, escaped, nothing to load, and every name in it its own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from html.parser import HTMLParser

import hostile
import pytest

from llmrl.errors import InputError
from llmrl.report.document import Asked, Chart, Grid, Quote, Quotes, Reader, Report, Section, Words, with_signs
from llmrl.report.page import page_parts, web_page

LINE = {
    "data": {"values": [{"x": 0, "y": 1, "of": "a"}, {"x": 1, "y": 2, "of": "b"}]},
    "mark": {"type": "line", "clip": True},
    "encoding": {
        "x": {"field": "x", "type": "quantitative"},
        "y": {"field": "y", "type": "quantitative"},
        "color": {"field": "of", "scale": {"range": ["#1f6fb4", "#e07b00"]}},
    },
}


class Parsed(HTMLParser):
    """The elements of a page, and the text that each begins with."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.texts.append("")
        self.open = True

    def handle_endtag(self, tag: str) -> None:
        self.open = False

    def handle_data(self, data: str) -> None:
        if self.texts and self.open:
            self.texts[-1] += data

    def of(self, tag: str) -> list[tuple[dict[str, str | None], str]]:
        return [(attrs, text) for (name, attrs), text in zip(self.elements, self.texts, strict=True) if name == tag]


@pytest.fixture(scope="module")
def page() -> str:
    return web_page(hostile.report())


def one(*blocks: object) -> Parsed:
    return Parsed(web_page(Report("title", "", [Section("outcome", "What came of it", list(blocks))])))  # type: ignore[arg-type]


def test_it_has_its_own_elements_alone(page: str) -> None:
    """No text becomes an element, an attribute or a second script, and nothing on the page is fetched."""
    parsed = Parsed(page)
    tags = Counter(tag for tag, _ in parsed.elements)
    assert not {"img", "iframe", "textarea", "b", "link", "object", "embed", "base", "form"} & set(tags)
    assert 2 == tags["script"]
    assert 1 == tags["style"] == tags["title"]
    for tag, attrs in parsed.elements:
        assert not [name for name in attrs if name.startswith("on")], tag
        assert all((attrs.get(name) or "#").startswith("#") for name in ("src", "href", "xlink:href")), attrs
    assert not re.search(r"url\(\s*[^#)]|@import", page.partition("</style>")[0])


def test_its_policy_admits_its_script_alone(page: str) -> None:
    """By the hash of the script as it stands there; everything else is `none`."""
    parsed = Parsed(page)
    policy = next(attrs["content"] for attrs, _ in parsed.of("meta") if attrs.get("http-equiv"))
    scripts = [text for attrs, text in parsed.of("script") if "type" not in attrs]
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in (policy or "").split(";"))
    assert {
        "default-src": "'none'",
        "script-src": f"'sha256-{digest}'",
        "style-src": "'unsafe-inline'",
        "base-uri": "'none'",
        "form-action": "'none'",
    } == rules


def test_texts_come_through(page: str) -> None:
    """In quotes as HTML, in the reader as JSON: what has a glyph as it is, what has none as a sign."""
    parsed = Parsed(page)
    assert list(map(with_signs, hostile.TEXTS.values())) == [text for _, text in parsed.of("blockquote")]
    held = next(text for attrs, text in parsed.of("script") if attrs.get("type") == "application/json")
    assert not re.search("[<>&\u2028\u2029]", held)
    shown = json.loads(held)
    assert list(map(with_signs, hostile.TEXTS.values())) == [answers[0][-1] for _, _, answers in shown["prompts"]]
    assert ["base", hostile.TEXTS["script"]] == shown["policies"]
    assert [None, 0] == shown["before"]
    page.encode()  # no half of a pair is left


def test_control_characters_are_signs() -> None:
    assert "nul␀ escape␛[31m bell␇ return␍ delete␡ next⟨U+0085⟩" == with_signs(hostile.TEXTS["control"])
    assert "half ⟨U+D83D⟩ of a pair" == with_signs(hostile.TEXTS["surrogate"])
    assert with_signs(text := hostile.TEXTS["emoji"] + hostile.TEXTS["blank"]) == text


def test_names_are_given_once(page: str) -> None:
    """Of sections as of what charts have within them; each link and reference has one to go to."""
    parsed = Parsed(page)
    names = [attrs["id"] for _, attrs in parsed.elements if "id" in attrs]
    assert len(set(names)) == len(names)
    clips = re.findall(r"url\(#([^)]*)\)", page)
    assert clips
    assert set(clips) <= set(names)
    assert {f"#{name}" for name in ("outcome", "reading")} <= {attrs["href"] for attrs, _ in parsed.of("a")}


def test_sections_of_several_experiments() -> None:
    """Each has a place of its own, under the name of its experiment."""
    each = [Section("outcome", "What came of it", [], of=name) for name in ("slower", "faster")]
    page = web_page(Report("two", "", [Section("comparison", "Side by side"), *each, Section("curves", "Curves")]))
    assert ["comparison", "outcome-2", "outcome-3", "curves"] == [
        attrs["id"] for attrs, _ in Parsed(page).of("section")
    ]
    assert ["slower", "faster", "Together"] == re.findall(r'<li class="of"><bdi>(\w+)</bdi></li>', page)


def test_numbers_stand_right_and_words_left() -> None:
    grid = Grid(
        ["", "n", "share", "hash", "none"],
        [
            ["a", "12", "0.50 (0.40–0.60)", "abc", "–"],
            ["b", "−3", "+0.1", "7ef", ""],
            ["c", "(4)", "< .001", "dd2", "1"],
        ],
    )
    assert [False, True, True, False, True] == grid.numeric()
    columns = [attrs.get("class") for attrs, _ in one(grid).of("th") if attrs["scope"] == "col"]
    assert [None, "number", "number", None, "number"] == columns
    assert ["row"] * 3 == [attrs["scope"] for attrs, _ in one(grid).of("th") if attrs["scope"] != "col"]


def test_a_folded_table_is_unfolded_by_its_caption() -> None:
    page = one(Grid(["a", "b"], [["c", "1"]], "of 3 runs", folded=True))
    assert 1 == len(page.of("details"))
    assert not [attrs for attrs, _ in page.of("p") if attrs.get("class") == "caption"]
    assert "of 3 runs" == page.of("div")[0][0]["aria-label"]


def test_a_chart_is_drawn_in_the_colours_of_the_page() -> None:
    """Which know light and dark, with its words beside it for those who cannot see it."""
    page = web_page(Report("", "", [Section("curves", "Curves", [Chart("loss", LINE, "from 1 to 2")])]))
    drawing = page[page.index("<svg") : page.index("</svg>")]
    assert {"var(--series0)", "var(--series1)"} <= set(re.findall(r'stroke="([^"]*)"', drawing))
    assert not re.search(r'fill="(white|black|#000|#fff)"', drawing)
    assert "aria-label" not in drawing
    assert 'role="img" aria-label="loss: from 1 to 2"' in page


def test_a_chart_of_several_keeps_its_size() -> None:
    """One of charts side by side has no size of its own to be given."""
    several = {"hconcat": [LINE, LINE]}
    assert "<svg" in web_page(Report("", "", [Section("curves", "", [Chart("two", several, "")])]))


def test_a_chart_that_cannot_be_drawn_is_named() -> None:
    with pytest.raises(InputError, match="The chart mine cannot be drawn: "):
        one(Chart("mine", {"mark": "nothing", "data": 3}, ""))


def test_code_stands_out_of_words() -> None:
    page = one(Words("`dvc repro` makes <them>, ` alone", "bad"))
    assert ["dvc repro"] == [text for _, text in page.of("code")]
    assert {"class": "bad", "dir": "auto"} == page.of("p")[1][0]


def test_what_is_left_out_is_said() -> None:
    page = one(Reader(["sft"], [], "9 of 10 answers are left out, as of <b>"))
    assert "9 of 10 answers are left out, as of <b>" in [
        text for attrs, text in page.of("p") if "bad" in attrs.values()
    ]
    assert [] == [text for attrs, text in one(Reader(["sft"], [])).of("p") if "bad" in attrs.values()]


def test_it_is_written_a_part_at_a_time() -> None:
    """Of many answers no part has more than those to a prompt, so that a large page is never whole in memory."""
    asked = Asked("prompt", None, [hostile.given("sft", "answer " * 2000)] * 2)
    parts = list(page_parts(Report("", "", [Section("reading", "", [Reader(["sft"], [asked] * 50)])])))
    held = "".join(parts).partition('application/json">')[2].partition("</script>")[0]
    assert 50 == len(json.loads(held)["prompts"])
    assert sum(map(len, parts)) > 50 * 2 * 14_000
    assert max(map(len, parts)) < 2 * 15_000


def test_of_nothing() -> None:
    """Sections, tables, quotes and readers without anything in them."""
    page = one(Grid(["a", "b"], []), Quotes("none", []), Quotes("one", [Quote("")]), Reader(["sft"], []))
    assert 1 == len(page.of("blockquote"))
    one(Reader(["sft"], [Asked("never answered", None, [])]))
    assert web_page(Report("", "", []))
