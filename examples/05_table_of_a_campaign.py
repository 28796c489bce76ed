"""Print the table of a campaign, and the mean of each volume."""

import sys

import tomopipe as tp

campaign = tp.open_campaign(sys.argv[1])
print(campaign)
table = campaign.table()  # a pandas DataFrame
print(table[["scan", "state", "cor_px", "source", "confidence", "reason"]].to_string(index=False))
for name in campaign:
    scan = campaign[name]
    try:
        volume = scan.volume
    except Exception as error:  # no volume: why, and what to do
        print(f"{name}\t{error}")
        continue
    middle = volume[volume.shape[0] // 2]  # only this slice is read
    print(f"{name}\t{scan.cor_px:.2f} px\tmean {middle.mean():.3g} per pixel")
