"""What commands do beside running: init, check, plan, status, sweep, convert."""
