"""Time, memory and disk that jobs take."""
