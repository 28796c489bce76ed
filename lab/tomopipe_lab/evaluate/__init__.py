"""How good the COR finders are, on simulated scans and on scans whose COR is known.

`scores` has the statistics, `answers` the record of one method on one scan, `suites` what is
looked at, `run` the work, `summary` the figures and `tables` their look.
"""
