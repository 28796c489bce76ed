"""Files written whole or not at all, with checksums, by those who may write them.

Who may write: `lock` is that of a campaign (one run at a time), `shared` that of a small file which
people edit, `run_folder` drops the results of a run that has ended; `processes` tells who is alive.
"""
