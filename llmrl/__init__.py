"""What the four stages share."""

import sys

# Any Python must read this file: what follows is imported, of which an older one would not know the syntax.
if sys.version_info < (3, 11):  # noqa: UP036
    sys.stderr.write(
        "Python 3.11 or newer is needed, and " + sys.executable + " is " + sys.version.split()[0] + ". Activate the "
        "project's environment: `source .venv/bin/activate`; `PYTHON=python3.11 make setup` makes it.\n"
    )
    sys.exit(2)

from llmrl import environment

environment.require_usable()

from llmrl import repository  # noqa: E402

# First of all, as Hugging Face's libraries read their settings once, when they are imported.
if (repository.root() / ".env").exists():
    import dotenv

    dotenv.load_dotenv(repository.root() / ".env")
