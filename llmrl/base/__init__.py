"""Makes models/base: the model that all begins with, and its chat template."""
