"""The base model, what is made of it, and the recipe of the built-in one."""

import llmrl  # noqa: F401 - says what to do where packages are missing
