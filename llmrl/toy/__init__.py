"""The built-in task."""
