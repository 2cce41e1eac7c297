"""What decides a model's bytes. It imports nothing that records, shows, plans or reports."""
