"""Scans of one sample at several heights, as one tall volume."""
