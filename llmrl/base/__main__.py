"""Makes models/base: `python -m llmrl.base`.

builtin:tiny (models/tiny), raw (a user's own model in models/raw) or a repository of the Hub -> models/base
"""

from __future__ import annotations

import shutil
from pathlib import Path

from llmrl.base.build import make_base
from llmrl.base.settings import FOLDERS
from llmrl.errors import reported
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
        with replaced(Path("models/base")) as out:
            made = make_base(source, out)
        print(made)
    finally:
        shutil.rmtree(HUB, ignore_errors=True)


if __name__ == "__main__":
    with reported():
        main()
