"""The page in a real browser: what models and data say is shown, never run; it reads, finds, prints, at any width."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hostile
import pytest
from hostile import given

from bench.page import chromium, made_up, measured
from llmrl.report.document import Asked, Command, Grid, Reader, Report, Section, Words, with_signs
from llmrl.report.page import web_page

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which("chromium") and os.environ.get("CI") != "true",
        reason="no Chromium here: `apt-get install chromium chromium-driver`",
    ),
]
SEARCH = """
const [name, value] = arguments, control = document.querySelector(`[name=${name}]`);
control.value = value;
control.dispatchEvent(new Event("input", { bubbles: true }));
"""
# The colour of each text against what is behind it, as WCAG 2.2 counts (https://www.w3.org/TR/WCAG22/#contrast-minimum).
CONTRASTS = r"""
const light = (colour) => {
  const [r, g, b] = colour.match(/[\d.]+/g).map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = getComputedStyle(at).backgroundColor;
    if (!/, 0\)$/.test(colour)) return colour;
  }
};
const found = {};
for (const element of document.body.querySelectorAll("*")) {
  const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.matches(":disabled, svg *, script, option")) continue;
  const style = getComputedStyle(element), [a, b] = [light(style.color), light(behind(element))];
  found[`${element.tagName}.${element.className} ${style.color}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
for (const text of document.querySelectorAll("svg text")) {
  const [a, b] = [light(getComputedStyle(text).fill), light(behind(text))];
  found[`chart ${getComputedStyle(text).fill}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
return found;
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chrome]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of the report in which every text would do something, were it run."""
    return written(tmp_path_factory.mktemp("planted"), hostile.report())


def written(folder: Path, report: Report) -> str:
    page = folder / "report.html"
    page.write_text(web_page(report), encoding="utf-8")
    return page.as_uri()


def wide(driver: Chrome, width: int, **media: str) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": media.get("scheme", "light")}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media.get("media", ""), "features": features})


def requested(driver: Chrome) -> dict[str, str | None]:
    """What was asked for since one last looked, and why it was blocked, if it was."""
    logged = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    urls, blocked = {}, {}
    for method, of in ((one["method"], one["params"]) for one in logged):
        if method == "Network.requestWillBeSent":
            urls[of["requestId"]] = of["request"]["url"]
        elif method == "Network.loadingFailed":
            blocked[of["requestId"]] = of.get("blockedReason")
    return {url: blocked.get(one) for one, url in urls.items()}


def texts(driver: Chrome, selector: str) -> list[str]:
    return driver.execute_script(
        "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)", selector
    )


def count(driver: Chrome) -> int:
    """How many prompts are found."""
    return int(texts(driver, ".count")[0].split()[0].replace(",", ""))


def choose(driver: Chrome, **controls: Any) -> None:
    for name, value in controls.items():
        driver.execute_script(SEARCH, name, str(value))


def test_nothing_runs_and_nothing_is_fetched(browser: Chrome, planted: str) -> None:
    """Not where texts are planted in tables, quotes and the reader, nor where one searches for and points at them."""
    wide(browser, 1280)
    requested(browser)
    browser.get_log("browser")
    browser.get(planted)
    title = with_signs(hostile.TEXTS["script"])
    for text in hostile.TEXTS.values():
        choose(browser, q=with_signs(text)[:60])
    browser.execute_script(
        "for (const one of document.querySelectorAll('*'))"
        " for (const kind of ['mouseover', 'focus', 'error', 'load']) one.dispatchEvent(new Event(kind))"
    )
    browser.execute_script("document.querySelectorAll('button').forEach((one) => one.click())")
    assert title == browser.title
    assert {planted: None} == requested(browser)
    assert [] == browser.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert [] == browser.get_log("browser")  # the policy had nothing to refuse
    assert not texts(browser, "img, iframe, object, embed, svg style, svg script, textarea")


def test_its_policy_refuses_what_slips_in(browser: Chrome, planted: str) -> None:
    """Were a text taken for an element in spite of all, it would neither run nor be fetched."""
    browser.get(planted)
    requested(browser)
    browser.execute_script("document.body.insertAdjacentHTML('beforeend', arguments[0])", hostile.TEXTS["picture"])
    browser.execute_script(
        "const made = document.createElement('script'); made.textContent = arguments[0]; document.body.append(made)",
        hostile.RUN,
    )
    assert with_signs(hostile.TEXTS["script"]) == browser.title
    assert {"http://127.0.0.1:9/x.png": "csp"} == requested(browser)
    assert [entry for entry in browser.get_log("browser") if "Content Security Policy" in entry["message"]]


@pytest.mark.parametrize("name", hostile.TEXTS)
def test_every_text_is_shown_whole(browser: Chrome, planted: str, name: str) -> None:
    """By the reader under its own number, a long one when one asks for it; and in a quote."""
    place, text = list(hostile.TEXTS).index(name), with_signs(hostile.TEXTS[name])
    browser.get("about:blank")
    browser.get(f"{planted}#reader-1?row={place}")
    assert 1 == count(browser)
    browser.execute_script("document.querySelectorAll('.given button').forEach((one) => one.click())")
    assert [text, text] == texts(browser, ".reader .said")
    assert [text] == texts(browser, ".reader .prompt > div")
    assert text == texts(browser, ".quotes .said")[place]


def test_texts_do_not_reorder_what_stands_around_them(browser: Chrome, planted: str) -> None:
    """A cell after one with an override reads from left to right, and so do the words before a solution."""
    browser.get("about:blank")
    browser.get(f"{planted}#reader-1?row={list(hostile.TEXTS).index('unclosed')}")
    left = """
    const lefts = (node) => [...node.data].map((_, at) => {
      const range = new Range(); range.setStart(node, at); range.setEnd(node, at + 1);
      return range.getBoundingClientRect().left;
    });
    const row = [...document.querySelectorAll("tbody tr")].find((one) => one.textContent.startsWith("unclosed"));
    return [lefts(row.cells[2].firstChild.firstChild), lefts(document.querySelector(".solution").firstChild)];
    """
    for lefts in browser.execute_script(left):
        assert len(lefts) > 2
        assert sorted(lefts) == lefts


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_it_fits_the_screen(browser: Chrome, planted: str, width: int) -> None:
    """No page scrolls sideways; a wide table does so in itself."""
    wide(browser, width)
    browser.get(planted)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    inner = "return [...document.querySelectorAll('.scroll')].map((one) => one.scrollWidth > one.clientWidth)"
    assert width > 390 or any(browser.execute_script(inner))
    reach = (
        "return [...document.querySelectorAll('main > section > :not(.scroll)')].map((e) => e.getBoundingClientRect())"
    )
    assert all(box["right"] <= width for box in browser.execute_script(reach))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_in_light_and_dark(browser: Chrome, planted: str, scheme: str) -> None:
    """Every text has a contrast of 4.5 or more against what is behind it."""
    wide(browser, 1280, scheme=scheme)
    browser.get(planted)
    browser.execute_script("document.querySelectorAll('details').forEach((one) => (one.open = true))")
    paper = browser.execute_script("return getComputedStyle(document.documentElement).backgroundColor")
    assert (scheme == "light") == (paper == "rgb(255, 255, 255)")
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 15
    assert {} == {what: ratio for what, ratio in found.items() if ratio < 4.5}


STORY = [  # right in turn by base, sft and dpo: greedy, then of two sampled
    ((False, True, True), ((0, 0), (0, 1), (1, 1))),
    ((False, True, False), ((0, 0), (0, 1), (0, 0))),
    ((False, False, False), ((0, 0), (1, 0), (1, 0))),
    ((True, True, True), ((1, 1), (1, 1), (1, 1))),
    ((None, None, None), ((None, None),) * 3),
]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Five prompts that three policies answered, the second cut off by the last; and two more sections."""
    policies = ["base", "sft", "dpo"]
    prompts = [
        Asked(
            f"Prompt of {['apples', 'Pears', 'plums', 'figs', 'nuts'][at]}",
            None if greedy[0] is None else str(at),
            [
                one
                for place, policy in enumerate(policies)
                for one in (
                    given(policy, f"{policy} says that it is {at}", greedy[place], ended=(policy, at) != ("dpo", 1)),
                    *(
                        given(policy, f"a guess of {policy}", None if ok is None else bool(ok), greedy=False)
                        for ok in sampled[place]
                    ),
                )
            ],
        )
        for at, (greedy, sampled) in enumerate(STORY)
    ]
    sections = [
        Section("reading", "What changed", [Reader(policies, prompts, before={"sft": "base", "dpo": "sft"})]),
        Section(
            "making", "What made it", [Command("dvc repro", "makes it"), Grid(["a", "b"], [["c", "1"]], "f", True)]
        ),
    ]
    return written(tmp_path_factory.mktemp("story"), Report("A story", "", sections))


@pytest.mark.parametrize(
    ("stage", "kind", "counts"),
    [
        ("0", "greedy", "5 0 0 0 1 3 0"),
        ("1", "greedy", "5 2 0 2 3 1 0"),
        ("2", "greedy", "5 0 1 3 2 2 1"),
        ("1", "sampled", "5 3 0 1 1 0 0"),
        ("2", "sampled", "5 1 1 2 2 1 0"),
    ],
)
def test_filters_and_their_counts(browser: Chrome, story: str, stage: str, kind: str, counts: str) -> None:
    """All, gained, lost, unchanged, right, wrong, cut off: as each says before it is chosen, and as it then has."""
    wide(browser, 1280)
    browser.get(story)
    choose(browser, kind=kind, stage=stage)
    told = {
        text: int(many) for text, many in re.findall(r"([a-z ]+) \((\d+)\)", "".join(texts(browser, "[name=show]")))
    }
    expected = dict(
        zip(["all", "gained", "lost", "unchanged", "right", "wrong", "cut off"], counts.split(), strict=True)
    )
    assert expected == {name: str(many) for name, many in told.items()}
    for show, many in told.items():
        choose(browser, show=show)
        assert many == count(browser) == len(texts(browser, ".asked")), show


def test_search(browser: Chrome, story: str) -> None:
    """In prompts, solutions and answers that are shown, whatever the case, taken literally, together with a filter."""
    browser.get(story)
    for query, many in (("pears", 1), ("SAYS THAT", 5), ("s", 5), (".*", 0), ("it is 3", 1), ("a guess", 0), ("", 5)):
        choose(browser, q=query)
        assert many == count(browser), query
    choose(browser, kind="sampled", q="a guess")
    assert 5 == count(browser)
    choose(browser, kind="greedy", q="prompt of p", stage=2, show="lost")
    assert ["Prompt of Pears"] == texts(browser, ".prompt > div")
    assert browser.execute_script("return CSS.highlights.get('found').size") == 1


def test_what_differs_is_marked(browser: Chrome, story: str) -> None:
    """The words that an answer has and the one before it not."""
    browser.get(f"{story}#reader-1?row=1")
    browser.refresh()
    browser.execute_async_script("setTimeout(arguments[0], 200)")
    assert ["base says that it is 1", "sft says that it is 1", "dpo says that it is 1"] == texts(browser, ".said")
    assert ["sft", "dpo"] == texts(browser, "mark")


def test_a_policy_is_compared_with_what_it_was_trained_from(browser: Chrome, tmp_path: Path) -> None:
    """Which is not always its neighbour: marks, filters and the line above them go by it; without any none is said."""
    answers = [given("base", "a b", False), given("sft", "a c", True), given("dpo", "a d", False)]
    asked = Asked("p", "1", [*answers, *(replace(one, greedy=False) for one in answers)])
    policies, before = ["base", "sft", "dpo"], {"sft": "base", "dpo": "base"}
    for compared, marked, gained, lost in ((before, 2, 0, 0), (before | {"dpo": "sft"}, 2, 0, 1), ({}, 0, 0, 0)):
        browser.get(written(tmp_path, Report("", "", [Section("", "", [Reader(policies, [asked], before=compared)])])))
        browser.execute_async_script("setTimeout(arguments[0], 200)")
        assert marked == len(texts(browser, "mark"))
        (line,) = texts(browser, ".count")
        pairs = ", ".join(f"{policy} with {other}" for policy, other in compared.items())
        told = "1 of 1 prompts" + f"; {pairs}".replace("with", "is compared with", 1) * bool(pairs)
        assert told + "; marked is what that one does not say" * bool(pairs) == line
        for show, many in (("gained", gained), ("lost", lost)):
            choose(browser, show=show)
            assert many == count(browser), (compared, show)
        choose(browser, show="all", kind="sampled")
        assert [told] == texts(browser, ".count")  # nothing is marked
        assert [] == texts(browser, "mark")


def test_nothing_is_found(browser: Chrome, story: str) -> None:
    """Then there are no pages to turn."""
    browser.get(story)
    choose(browser, q="no such")
    assert texts(browser, ".count")[0].startswith("0 of 5 prompts")
    assert [""] == texts(browser, ".pages span")
    assert not browser.execute_script("return document.querySelector('.pages').checkVisibility()")


SENTENCES = "".join(f"The sum of {at} and {at} is {2 * at}." + (" " if at % 4 else "\n") for at in range(400))


@pytest.mark.parametrize(
    ("before", "now", "first", "whole", "told"),
    [
        (SENTENCES, SENTENCES.replace("of 9 and", "of 9 plus").replace("of 399 and", "of 399 less"), 1, 2, ""),
        (SENTENCES, SENTENCES.replace("of 399 and", "of 399 less"), 0, 1, ""),
        ("one " * 3000, "one " * 500 + "two " + "one " * 2500, 1, 1, ""),
        ("one two " * 900, "two three " * 900, 1, 1, "in part marked by lines, too long to compare"),
        (SENTENCES * 4, SENTENCES.replace("sum", "product") * 4, 0, 0, "too long to compare"),
    ],
    ids=["twice", "at the end", "in one line", "another line", "every line"],
)
def test_long_texts_are_compared_to_their_ends(
    browser: Chrome, tmp_path: Path, before: str, now: str, first: int, whole: int, told: str
) -> None:
    """What differs is marked, in the part that is shown at first and in the whole; else it is said that it is not."""
    asked = Asked("long", None, [given("sft", before), given("dpo", now)])
    wide(browser, 1280)
    one = Reader(["sft", "dpo"], [asked], before={"dpo": "sft"})
    browser.get(written(tmp_path, Report("", "", [Section("reading", "", [one])])))
    browser.execute_async_script("setTimeout(arguments[0], 300)")
    assert first == len(texts(browser, "mark"))
    *_, facts = texts(browser, ".given small")
    assert told == facts.partition("−0.50")[2].removeprefix(" · ")
    *_, more = texts(browser, ".given button")
    assert more.endswith("marked further on") == (whole > 0 == first)
    browser.execute_script("document.querySelectorAll('.given button').forEach((one) => one.click())")
    assert [before, now] == texts(browser, ".said")
    assert whole == len(texts(browser, "mark"))


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_of_policies(browser: Chrome, tmp_path: Path, width: int) -> None:
    """Those of models that lie elsewhere are their paths: they are shown whole, and nothing is pushed aside."""
    names = [
        "/srv/" + "models-of-another-project/" * 6 + "base",
        "../old/runs/20261127_102743_8496_sft/checkpoint",
        "dpo",
    ]
    asked = Asked("p", "1", [given(name, f"by {at}") for at, name in enumerate(names)])
    wide(browser, width)
    browser.get(written(tmp_path, Report("", "", [Section("reading", "", [Reader(names, [asked] * 3)])])))
    assert names == texts(browser, ".asked:first-of-type .by b")
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    reach = "return [...document.querySelectorAll('.by, .controls *')].map((e) => e.getBoundingClientRect().right)"
    assert max(browser.execute_script(reach)) <= width
    widths = browser.execute_script(
        "return [...document.querySelector('.row').children].map((e) => e.getBoundingClientRect().width)"
    )
    assert max(widths) - min(widths) < 2


def test_a_phone_shows_the_verdicts_first(browser: Chrome, tmp_path: Path) -> None:
    """The sections' names stand in one line below, of however many experiments; a row's stays beside what scrolls."""
    grid = Grid(["", *"abcdefgh"], [["right answers, sampled", *["0.500 (0.400 to 0.600)"] * 8]] * 3)
    sections = [Section("outcome", "What came of it", [Words("sft helped", "good"), grid], of=at) for at in "abcdefgh"]
    wide(browser, 390)
    browser.get(written(tmp_path, Report("What training did", "main, commit 0123456", sections)))
    place = "const { left, top, bottom } = document.querySelector(arguments[0]).getBoundingClientRect();"
    place += "return [left, top, bottom]"
    _, top, _ = browser.execute_script(place, "p.good")
    assert top < 250
    _, top, bottom = browser.execute_script(place, "nav")
    assert (900 - 60 < top) & (bottom == 900)
    browser.execute_script("document.querySelector('.scroll').scrollLeft = 500")
    left, *_ = browser.execute_script(place, "tbody th")
    assert left == 15  # the page's own margin
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    *_, bottom = browser.execute_script(place, "section:last-of-type table")
    assert bottom < top


def test_an_address_brings_back_what_is_shown(browser: Chrome, story: str) -> None:
    """Search, filters and page stand in it; another's, or a damaged one, shows all."""
    browser.get(story)
    choose(browser, q="prompt", stage=1, show="gained")
    address = browser.current_url
    browser.get("about:blank")
    browser.get(address)
    assert 2 == count(browser)
    controls = "return [...document.querySelectorAll('[name]')].map((one) => one.value)"
    assert ["prompt", "1", "gained", "greedy"] == browser.execute_script(controls)[-4:]
    for odd in ("#reader-1?stage=9&show=x&kind=y&page=-3", "#reader-2?q=none", "#nowhere", "#reader-1?page=1e9"):
        browser.get("about:blank")
        browser.get(story + odd)
        assert 5 == count(browser), odd


def test_keys_and_copying(browser: Chrome, story: str) -> None:
    """The first key leads past the sections; every control has a name; a command is selected where it is copied."""
    from selenium.webdriver import ActionChains, Keys

    browser.get(story)
    ActionChains(browser).send_keys(Keys.TAB).perform()
    assert "To the content" == browser.execute_script("return document.activeElement.textContent")
    unnamed = "return [...document.querySelectorAll('input, select')].filter((one) => !one.labels.length).length"
    assert 0 == browser.execute_script(unnamed)
    heads = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3')].map((one) => +one.tagName[1])")
    assert 1 == heads[0]
    assert all(after - before <= 1 for before, after in pairwise(heads))
    browser.execute_script("document.querySelector('.commands button').click()")
    assert "dvc repro" == browser.execute_script("return getSelection().toString()")


def test_paper(browser: Chrome, tmp_path: Path) -> None:
    """It prints on pages, folded tables unfolded, with the first prompts and no controls."""
    table = Grid(["a", "b"], [["c", "1"]] * 3, "folded", folded=True)
    report = made_up(50, 1)
    sections = [Section("outcome", "What came of it", [Words("helped"), table]), *report.sections]
    browser.get(written(tmp_path, Report("Printed", "", sections)))
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {})["data"])
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 6
    wide(browser, 800, media="print")
    shown = "return [...document.querySelectorAll(arguments[0])].filter((one) => one.checkVisibility()).length"
    assert 6 == browser.execute_script(shown, ".asked")
    assert 0 == browser.execute_script(shown, "nav, .controls, .pages, button")
    assert 1 == browser.execute_script(shown, ".paper")
    height = "return document.querySelector('details table').getBoundingClientRect().height"
    assert browser.execute_script(height) > 30
    wide(browser, 1280)


def test_what_the_bench_measures(tmp_path: Path) -> None:
    """Opening the page, searches and filters, each of which is done; how fast, `python -m bench.page` tells."""
    written(tmp_path, made_up(20, 4))
    times = {what: spent for what, spent, _ in measured(tmp_path / "report.html")}
    assert len(times) == 10
    assert min(times.values()) >= 0


def test_two_thousand_prompts_are_turned_page_by_page(browser: Chrome, tmp_path: Path) -> None:
    """Ten at a time, to the last."""
    browser.get(written(tmp_path, made_up(2003, 0)))
    assert 10 == len(texts(browser, ".asked"))
    for _ in range(3):
        browser.execute_script("document.querySelector('.pages button:last-child').click()")
    assert ["31", "40"] == [texts(browser, ".prompt > a")[at] for at in (0, -1)]
    assert browser.current_url.endswith("#reader-1?page=4")
    browser.get("about:blank")
    browser.get((tmp_path / "report.html").as_uri() + "#reader-1?page=201")
    assert ["2001", "2002", "2003"] == texts(browser, ".prompt > a")
    assert browser.execute_script("return document.querySelector('.pages button:last-child').disabled")
