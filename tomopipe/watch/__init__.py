"""Scans as they come: `tomopipe run --watch`."""
