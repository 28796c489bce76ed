"""Around the steps: reruns and their reasons, plan, status, failures, verification."""
