"""The figures of metrics/: how a stage's model is measured, and by which names."""
