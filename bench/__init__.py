"""Figures that README cites: each module is a command that measures them anew, side by side in one run."""
