"""The pairs that reward and dpo train on: those of data/preference, or made of a policy's own answers."""
