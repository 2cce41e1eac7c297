"""How much a device holds at once: what a stage takes by arithmetic, and the micro-batch that follows from it."""
