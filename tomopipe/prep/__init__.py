"""Corrections of projections: arrays in, arrays out."""
