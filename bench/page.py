"""How fast the report's page is in a real browser: `python -m bench.page [--prompts 500] [--samples 4] [--words 40]`.

It writes a page of that many prompts, each with a greedy answer and samples of four policies, opens it in Chromium, and
prints by the browser's own clock when the document was there, when the first of it and the first answers were painted,
and how long searches and filters took, from the key to the frame with what they found. The answers are made up of
words, as long as those of a small model; of too many as many are left out as the report does.

    python -m bench.page --picture docs/report.png      a picture of the report of what is here, its first screen, that
                                                        does not say when and at which commit it was made

Needs Chromium and its driver: `apt-get install chromium chromium-driver`.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from llmrl.report.document import Asked, Given, Reader, Report, Section
from llmrl.report.page import web_page
from llmrl.report.reading import fitted

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

POLICIES = ["base", "sft", "dpo", "grpo"]
WORDS = ("the", "sum", "of", "these", "two", "is", "then", "carried", "over", "to", "tens", "gives", "ones", "so")
# The time from a control's event to the frame after the one that shows what came of it.
TIMED = """
const [name, value, done] = arguments, control = document.querySelector(`[name=${name}]`), start = performance.now();
control.value = value;
control.dispatchEvent(new Event("input", { bubbles: true }));
requestAnimationFrame(() => requestAnimationFrame(() =>
  done([performance.now() - start, document.querySelector(".count").textContent])));
"""
# Of a frame after the answers were there, as the time since the page was asked for.
OPENED = """
const done = arguments[0], entry = (name) => performance.getEntriesByName(name)[0]?.startTime ?? NaN;
requestAnimationFrame(() => requestAnimationFrame(() => {
  const page = performance.getEntriesByType("navigation")[0];
  done([page.domContentLoadedEventEnd, entry("first-contentful-paint"), page.loadEventEnd]);
}));
"""


@contextmanager
def chromium(width: int = 1280, height: int = 900, dark: bool = False) -> Iterator[Chrome]:
    """A real Chromium, with no profile and no network of its own, whose pages are as wide as told, in pixels."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for switch in (
            "headless=new",
            "no-sandbox",
            "disable-gpu",
            "disable-quic",
            "disable-dev-shm-usage",
            "no-first-run",
            "disable-background-networking",
            "disable-component-update",
            "disable-sync",
            f"user-data-dir={profile}",
        ):
            options.add_argument(f"--{switch}")
        driver = Chrome(options, ChromeService(shutil.which("chromedriver")))
        try:
            size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
            driver.set_script_timeout(60)
            yield driver
        finally:
            driver.quit()


def made_up(prompts: int, samples: int, words: int = 40) -> Report:
    """A report with nothing but answers to read, of so many words."""
    chance = random.Random(0)

    def given(policy: str, greedy: bool) -> Given:
        text = " ".join(chance.choices(WORDS, k=words)) + f" \\boxed{{{chance.randrange(999)}}}"
        right = chance.random() < 0.2 + 0.2 * POLICIES.index(policy)
        return Given(policy, text, right, greedy, 60, chance.random() < 0.95, chance.gauss(0, 1))

    asked = [
        Asked(
            f"What is {chance.randrange(999)} + {at}?",
            str(at),
            [given(policy, sample == 0) for policy in POLICIES for sample in range(samples + 1)],
        )
        for at in range(prompts)
    ]
    reader = Reader(POLICIES, asked, before={policy: before for before, policy in pairwise(POLICIES)})
    return Report("A page to measure", "made up", [Section("reading", "To read", [fitted(reader)])])


def measured(page: Path) -> Iterator[tuple[str, float, str]]:
    """What was waited for, milliseconds, and what came of it."""
    with chromium() as driver:
        driver.get(page.as_uri())
        for what, spent in zip(
            ("document there", "first paint", "answers shown"), driver.execute_async_script(OPENED), strict=True
        ):
            yield what, spent, ""
        for name, value in (("q", "c"), ("q", "carried over"), ("q", "boxed{17"), ("q", "no such"), ("q", "")):
            yield f"search {value!r}", *driver.execute_async_script(TIMED, name, value)
        for name, value in (("show", "gained"), ("kind", "sampled")):
            yield f"filter {value}", *driver.execute_async_script(TIMED, name, value)


def photographed(page: Path, picture: Path) -> None:
    """The first screen of a page as a PNG file."""
    with chromium(1200, 860) as driver:
        driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
        driver.get(page.as_uri())
        driver.save_screenshot(str(picture))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description="The report's page in a real browser.")
    parser.add_argument("--prompts", type=int, default=500)
    parser.add_argument("--samples", type=int, default=4, help="sampled answers of each of the four policies")
    parser.add_argument("--words", type=int, default=40, help="of each answer; their pages end where the report's do")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="a picture of the report of what is here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "report.html"
        if arguments.picture:
            from llmrl.report.__main__ import report_of
            from llmrl.report.recorded import experiment_at

            page.write_text(web_page(replace(report_of([experiment_at()]), subtitle="")), encoding="utf-8")
            photographed(page, arguments.picture)
            return
        page.write_text(web_page(made_up(arguments.prompts, arguments.samples, arguments.words)), encoding="utf-8")
        answers = arguments.prompts * len(POLICIES) * (arguments.samples + 1)
        print(f"{arguments.prompts:,} prompts, {answers:,} answers, {page.stat().st_size / 1e6:.1f} MB")
        for what, spent, found in measured(page):
            print(f"{what:22} {spent:6.0f} ms  {found}")


if __name__ == "__main__":
    main()
