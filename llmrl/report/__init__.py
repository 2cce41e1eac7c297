"""What training did, to look at. Decides no byte."""
