"""Figures that the docs cite: each module is a command that measures them anew, side by side in one run."""

import llmrl  # noqa: F401 - says what to do where packages are missing
