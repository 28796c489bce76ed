"""Read the RELION set of a campaign: its tomograms, and the first image of each stack."""

import sys
from pathlib import Path

import mrcfile
import starfile

campaign = Path(sys.argv[1])  # RELION's project folder: paths in star files begin here
tables = starfile.read(
    campaign / "results/relion/tomograms.star",
    always_dict=True,
    parse_as_string=["rlnTomoName"],  # a name may be of digits alone
)
for _, tomogram in tables["global"].iterrows():
    name, frames = tomogram["rlnTomoName"], tomogram["rlnTomoFrameCount"]
    size = [tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"]
    with mrcfile.mmap(campaign / tomogram["rlnTomoTiltSeriesName"]) as stack:
        image = stack.data[0]  # -ln(transmission): absorption is bright
        print(f"{name}: {frames} images of {image.shape}, tomogram {size}, max {image.max():.3g}")
    print(tables[name]["rlnTomoProjX"].iloc[0])  # RELION 4: the first matrix
