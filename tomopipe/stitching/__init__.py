"""Vertical stitching: scans of one sample at several heights as one volume."""
