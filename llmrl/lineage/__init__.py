"""What made what: runs, commits and inputs of a product, and whether it still is that. Decides no byte."""
