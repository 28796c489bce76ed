"""Windows of a file that overlap: jobs may share the frames that one job reads for all of them."""

from collections.abc import Iterable
from typing import NamedTuple

from tomopipe.campaign.campaign import Campaign

SHARING = {"try_recon": "shared_rows", "full_recon": "shared_frames"}
"""The rule that reads for the jobs of a step."""
_MANY_READS = 1.1  # of each projection; for fewer, a copy of all frames is not worth its disk


class Overlap(NamedTuple):
    """Windows that are read with the same options, each with the next one overlapping it."""

    scans: list[str]
    spans: list[list[int]]  # first and last projection of each

    @property
    def n_frames(self) -> int:
        """Projections from the first to the last."""
        return max(last for _, last in self.spans) + 1 - self.spans[0][0]

    @property
    def times(self) -> float:
        """How often each projection is read, on average, if each window reads its own."""
        return sum(last + 1 - first for first, last in self.spans) / self.n_frames


def shared_overlaps(campaign: Campaign, step: str, scans: Iterable[str]) -> list[Overlap]:
    """Return the windows among some scans whose jobs, of a step in `SHARING`, share what is read.

    Volumes share frames if `storage.share_frames` is set, and each is read often enough.
    """
    if step != "try_recon" and not campaign.config.storage.share_frames:
        return []
    least = 1.0 if step == "try_recon" else _MANY_READS
    windows = []
    for scan in scans:
        view = campaign.scans[scan].view
        if view is not None and "window" in view.input:
            config = campaign.for_scan(scan).config
            of_input = config.input.model_copy(update={"window": None})
            rows = config.try_recon.row if step == "try_recon" else None
            alike = repr((campaign.scans[scan].path, of_input, config.preprocess, rows))
            windows.append((alike, *view.input["window"], scan))
    result: list[Overlap] = []
    before = ""
    for alike, first, last, scan in sorted(windows):
        if alike != before or first > result[-1].spans[-1][1]:
            result.append(Overlap([], []))
        result[-1].scans.append(scan)
        result[-1].spans.append([first, last])
        before = alike
    return [overlap for overlap in result if len(overlap.scans) > 1 and overlap.times >= least]
