"""Simulated campaigns with exactly known truth."""
