"""Model folders: loading them, and saving what a stage made."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # the precisions of an arithmetic, by torch's names
