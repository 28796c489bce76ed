"""Print the scans of a campaign with their CORs and the mean of each volume."""

import sys

import tomopipe as tp

campaign = tp.open_campaign(sys.argv[1])
print(campaign)
for name in campaign:
    scan = campaign[name]
    if scan.cor_px is None:
        print(f"{name}\tno COR")
        continue
    try:
        middle = scan.volume[scan.volume.shape[0] // 2]  # only this slice is read
    except Exception as error:  # no volume yet
        print(f"{name}\t{scan.cor_px:.2f} px\t{error}")
        continue
    print(f"{name}\t{scan.cor_px:.2f} px\tmean {middle.mean():.3g} per pixel")
