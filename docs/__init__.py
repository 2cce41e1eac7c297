"""Pages, and what generates one."""

import llmrl  # noqa: F401 - says what to do where packages are missing
