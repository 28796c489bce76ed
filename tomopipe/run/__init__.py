"""Around the steps: what runs again and why, what is planned, running, left, failed, verified."""
