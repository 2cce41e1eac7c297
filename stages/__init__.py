"""The four stages, one sibling script each: a diff of two shows only the algorithm."""

import os

# Hugging Face's libraries read these once, when they are imported. A stage has all it needs in files.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # of `rollout_func`
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")  # which it would send

# Looks at once at the process that started this one: if it ends while torch is being imported, nobody would notice.
import llmrl.session.interruption  # noqa: F401
