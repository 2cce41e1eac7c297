"""What made models/base, for its provenance.json: the same bytes wherever and whenever it is made of the same.

No hash of the code is in it, as what starts from models/base would train again for every edit here, also where no byte
of the model changed. DVC has these hashes: models/dvc.lock.
"""

from __future__ import annotations

import re
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from llmrl.base.settings import Model
from llmrl.folders import PROVENANCE, TRAINING
from llmrl.repository import sha256

READ = re.compile(r"[\w.-]+\.(json|jinja|model|txt|safetensors)")
# What writes config, tokenizer and template. Weights are copied, or written as exactly as they were.
LIBRARIES = ("safetensors", "tokenizers", "transformers", "trl")


def what_made_it(model: Model, source: Path) -> dict[str, Any]:
    """The settings, a hash (SHA-256) of each file of the model in the folder `source`, and the versions of libraries.

    What another run of this tool recorded of the source is none of its files.
    """
    files = sorted(file for file in source.iterdir() if READ.fullmatch(file.name) and file.is_file())
    return {
        "settings": {"model": asdict(model)},
        "inputs": {file.name: sha256(file) for file in files if file.name not in (PROVENANCE, TRAINING)},
        "versions": {name: version(name) for name in LIBRARIES},
    }
