"""Jobs that hang on a comparison: of large files whose time changed, though not their size."""

from collections.abc import Iterator

from tomopipe.campaign.series import encode_series
from tomopipe.errors import some_of
from tomopipe.reruns.expected import Expected, PlannedJob
from tomopipe.reruns.words import IF_OTHER_CONTENT

_OF_CAMPAIGN = ("inventory", "resolve_cor", "export_star", "report")
_N_NAMED = 2  # files in the reason


def compare_jobs(found: Expected) -> list[PlannedJob]:
    """Return the job that compares such files, and those that follow where one is another."""
    suspects = found.decisions.record.suspects()
    if not suspects:
        return []
    known = {(job.rule, job.scan or job.stack or job.series) for job in found.jobs}
    follows = [
        PlannedJob(rule, scan, series, IF_OTHER_CONTENT, certain=False, stack=stack)
        for rule, scan, series, stack in dict.fromkeys(_follows(found, set(suspects)))
        if (rule, scan or stack or series) not in known
    ]
    why = f"copied, or of another time, but of equal size: {some_of(suspects, _N_NAMED)}"
    return [PlannedJob("compare", "", "", why), *follows]


def _follows(found: Expected, suspects: set[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield rule, scan, series and stack of the jobs that make these files, or read them."""
    campaign, out, rules = found.campaign, found.out, set[str]()
    selected = campaign.selected_scans(found.rows)
    to_search = set(found.wanted.to_search(selected))
    exports, reports = campaign.config.export_star.enabled, campaign.config.report.enabled
    for scan in selected:
        series = campaign.scans[scan].series
        search = ("try_recon", "predict_cor") if scan in to_search else ()
        made = dict.fromkeys(search, out.of_try_recon(scan)) | {
            "full_recon": [campaign.volume(scan)],
            "sidecar": [],
            "export_stack": out.of_export_stack(scan) if exports else [],
        }
        is_raw = not suspects.isdisjoint(found.decisions.raw_files(scan, found.rows))
        for rule, paths in made.items():
            if not suspects.isdisjoint(paths) or (is_raw and (exports or rule != "export_stack")):
                rules.add(rule)
                yield rule, scan, series, ""
        if is_raw:
            rules |= {"inventory", "resolve_cor"}
            yield "fix_cor", "", encode_series(series), ""
    for name in campaign.config.stitch.stacks:
        if not suspects.isdisjoint(campaign.results_of("stitch", name)):
            rules.add("stitch")
            yield "stitch", "", "", name
    rules |= {"report"} if reports and rules & {"full_recon", "stitch"} else set()
    is_set = not suspects.isdisjoint(out.of_export_star())
    rules |= {"export_star"} if exports and (is_set or "export_stack" in rules) else set()
    yield from ((rule, "", "", "") for rule in _OF_CAMPAIGN if rule in rules)
