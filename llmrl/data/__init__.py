"""Makes the three data sets of data/, each from its sources."""
