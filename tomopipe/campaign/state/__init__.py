"""The state of a scan: its facts, its sign, and all that is said of it."""
