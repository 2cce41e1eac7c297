"""What made models/base, for its provenance.json: the same bytes wherever and whenever it is made of the same.

No hash of the code and no version of a library is in it, as what starts from models/base would train again for every
edit here and every upgrade, also where no byte of the model changed. The hashes DVC has: models/dvc.lock.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llmrl.base.settings import Model
from llmrl.folders import PROVENANCE, TRAINING
from llmrl.repository import sha256

READ = re.compile(r"[\w.-]+\.(json|jinja|model|safetensors)|(vocab|merges)[\w.-]*\.txt")  # not notes, nor a licence


def what_made_it(model: Model, source: Path) -> dict[str, Any]:
    """The settings, and a hash (SHA-256) of each file of the model in the folder `source`.

    What another run of this tool recorded of the source is none of its files.
    """
    files = sorted(file for file in source.iterdir() if READ.fullmatch(file.name) and file.is_file())
    return {
        "settings": {"model": asdict(model)},
        "inputs": {file.name: sha256(file) for file in files if file.name not in (PROVENANCE, TRAINING)},
    }
