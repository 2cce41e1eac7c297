"""What would run, and what it costs, before it starts. Decides no byte."""
