from tomopipe.campaign.files import SIDECAR
from tomopipe.steps import sidecar as sidecar_step


@lru_cache(maxsize=None)
def sidecar_file(scan):
    """The sidecar's path: beside the data, unless another campaign has written one there."""
    path = CAMPAIGN.sidecar(scan)
    if path in DECISIONS.record or not sidecar_step.is_of_another(path, "."):
        return path
    own = OUTPUTS.sidecar(scan)
    if DECIDES:
        print(f"tomopipe: {path} is of another campaign, and stays: see {own}", file=sys.stderr)
    return own


def sidecars(wildcards):
    return [sidecar_file(scan) for scan in resolved()]


def sidecar_content(wildcards):
    """The content of the sidecar as one text: it is rewritten only when this changes."""
    scan = wildcards.scan
    fixed = OUTPUTS.fix_table(encode_series(CAMPAIGN.scans[scan].series))
    sources = [cor_table(), fixed, OUTPUTS.prediction(scan)]
    times = [os.stat(path).st_mtime_ns if os.path.exists(path) else 0 for path in sources]
    return sidecar_text(scan, tuple(times))


@lru_cache(maxsize=None)
def sidecar_text(scan, _times):
    facts = cor_of(scan), fixed_row(scan), prediction_of(scan)
    return as_json(sidecar_step.sidecar_content(scan, *facts))


def sidecar_inputs(wildcards):
    path = sidecar_file(wildcards.scan)
    if DECIDES:
        run_for(DECISIONS.sidecar_reason(path, sidecar_content(wildcards)), [path])
    return [ancient(cor_table())]


rule sidecar:
    """Write the resolved COR and its source beside the raw file."""
    input:
        sidecar_inputs,
    output:
        f"{{folder}}/{{scan}}{SIDECAR}",
    localrule: True
    params:
        content=sidecar_content,
        made_from=lambda wildcards: as_json(made_from.of_text(sidecar_content(wildcards))),
    script:
        "../scripts/sidecar.py"
