"""Runs of Snakemake: start, progress, end, and what is private to it."""
