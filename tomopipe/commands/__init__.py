"""The work of commands other than run: init, check, plan, status, sweep, convert."""
