"""Organisation of runs: reruns and their reasons, plan, status, failures, verification."""
