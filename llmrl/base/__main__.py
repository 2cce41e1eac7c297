"""Makes models/base: `python -m llmrl.base`.

builtin:tiny (models/tiny), raw (a user's own model in models/raw) or a repository of the Hub -> models/base
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from llmrl.base.record import what_made_it
from llmrl.base.settings import FOLDERS
from llmrl.errors import reported
from llmrl.folders import PROVENANCE
from llmrl.progress import Progress
from llmrl.repository import replaced

HUB = Path("models/.hub")  # links into the Hub's cache, for as long as this runs


def main() -> None:
    """Make models/base, whole or not at all."""
    from llmrl import params  # which knows all sections; here only this one's value

    model = params.experiment().model
    source = FOLDERS.get(model.source) or str(HUB / model.source)
    try:
        if model.source not in FOLDERS:
            from llmrl import hub

            hub.model(model.source, model.revision, Path(source))
        with Progress("models/base"), replaced(Path("models/base")) as out:
            from llmrl.base.build import make_base  # which needs torch, and so seconds

            made = make_base(source, out, model.chat_template_kwargs)
            record = json.dumps(what_made_it(model, Path(source)), indent=2, sort_keys=True)
            (out / PROVENANCE).write_text(record + "\n")
        print(made)
    finally:
        shutil.rmtree(HUB, ignore_errors=True)


if __name__ == "__main__":
    with reported():
        main()
