"""Whether everything here is what the recorded inputs made.

    python -m llmrl.lineage.verify                 every data set, model and figure: hashes, all the way down
    python -m llmrl.lineage.verify --again grpo    makes a stage anew beside, and compares the bytes

What was not pulled is not checked, and said. Nothing here is changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmrl.errors import InputError, reported
from llmrl.lineage.again import same_again
from llmrl.lineage.chain import Chain, looked_at
from llmrl.plan.fit import size


def rows_and_lines(chain: Chain) -> Iterator[Table | Text]:
    """A row for each link of the chain, what others are made of first; then what differs, and what is not checked."""
    rows = Table("made by", "products", "files", "", box=None, pad_edge=False)
    rows.columns[2].justify = "right"
    lines = []
    for link in chain.links:
        names = dict.fromkeys("/".join(one.path.split("/")[:2]) for one in link.products)
        count = sum(len(one.listed) for one in link.products if not one.absent)
        mark = Text("✗", "red") if link.faults else Text("–", "yellow") if link.unchecked else Text("✓", "green")
        rows.add_row(link.name, ", ".join(names), f"{count:,}", mark)
        lines += [Text(f"✗ {fault.what}", "red") for fault in link.faults]
        lines += [Text(f"– {said}", "yellow") for said in link.unchecked]
    yield rows
    yield from lines
    yield from (Text(f"– {said}", "yellow") for said in chain.notes)


def conclusion(chain: Chain) -> str:
    """All in a sentence or two. Raises InputError where there is nothing to check."""
    products = [one for link in chain.links for one in link.products if one.recorded]
    absent = [one for one in products if one.absent]
    hashed = f"{len(chain.files.known):,} files of {size(chain.files.read)} hashed"
    missing = size(sum(one.size for one in absent))
    lacking = f"{len(absent)} of {len(products)} products, {missing}, are not here, and not checked"
    if faults := [fault for link in chain.links for fault in link.faults]:
        more = f", of {len(faults)}" if len(faults) > 1 else ""
        return f"{hashed}. What differs first{more}: {faults[0].what}. {faults[0].mended}."
    if len(absent) == len(products):
        raise InputError(f"There is nothing to verify: {lacking}. `dvc pull` brings them, `dvc repro` makes them.")
    if absent:
        return f"What is here is what the recorded inputs made: {hashed}; {lacking}: `dvc pull` brings them."
    return f"Everything is what the recorded inputs made: {hashed}."


def main() -> None:
    """The command line; its exit status is 1 where something differs."""
    parser = argparse.ArgumentParser(
        prog="python -m llmrl.lineage.verify", description="Whether everything here is what the recorded inputs made."
    )
    parser.add_argument("--again", metavar="STAGE", help="make it anew beside, and compare: grpo, base, data/sft")
    arguments = parser.parse_args()
    with reported(), looked_at() as chain:
        console = Console(highlight=False)
        if arguments.again:
            sys.exit(not same_again(chain, arguments.again, console))
        for part in rows_and_lines(chain):
            console.print(part, soft_wrap=isinstance(part, Text))
        console.print(conclusion(chain), soft_wrap=True, markup=False)
        sys.exit(any(link.faults for link in chain.links))


if __name__ == "__main__":
    main()
