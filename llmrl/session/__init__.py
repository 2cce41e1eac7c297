"""One run of a stage: checkpoints, resume, signals, locks, guards, record, screen. Decides no byte."""
