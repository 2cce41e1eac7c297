"""Whether this Python has what the project needs, said in a line before anything is imported that it may lack."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

# What pyproject.toml names for every machine, by the names under which it is imported.
PACKAGES = (
    "accelerate",
    "datasets",
    "dotenv",
    "dvc",
    "dvclive",
    "fsspec",
    "httpx",
    "huggingface_hub",
    "jinja2",
    "mpmath",
    "peft",
    "psutil",
    "pyarrow",
    "pynvml",
    "rich",
    "ruamel.yaml",
    "tensorboard",
    "torch",
    "transformers",
    "trl",
    "vl_convert",
    "yaml",
)
WINDOWS = "Windows is not supported: Linux or macOS is needed, or WSL (https://learn.microsoft.com/windows/wsl)."


def require_usable() -> None:
    """End the process, with one line on stderr and exit status 2, where the project cannot run in it."""
    if sys.platform == "win32":
        print(WINDOWS, file=sys.stderr)
        sys.exit(2)
    for package in PACKAGES:
        if not found(package):
            print(lacking(package), file=sys.stderr)
            sys.exit(2)


def found(package: str) -> bool:
    """Whether a package could be imported."""
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # not even what it lies in
        return False


def installing(package: str) -> str:
    """The command that adds a package: an environment that uv has made, as `make setup` does where there is uv, has no
    pip.
    """
    return f"`{'python -m pip' if find_spec('pip') else 'uv pip'} install {package}`"


def lacking(package: str) -> str:
    """That a package is missing, and what to do."""
    return f"{package} is not installed in {sys.prefix}. {remedy()}"


def remedy() -> str:
    """What gives the packages that are locked: the environment that `make` sets up may be this one, and was changed
    since; or be there and not activated; or not be there.
    """
    running = Path(sys.prefix)
    if (running / ".ready").exists():  # by this mark it has them
        return f"`rm {running / '.ready'} && VENV={running} make setup` installs what is locked."
    if (Path(__file__).resolve().parents[1] / ".venv/.ready").exists():
        return "Activate the project's environment: `source .venv/bin/activate`."
    return (
        "`make setup` makes the project's environment, `source .venv/bin/activate` activates it; with "
        "VENV=/elsewhere it lies elsewhere."
    )
