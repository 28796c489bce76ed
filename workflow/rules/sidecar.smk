from tomopipe.campaign.files import SIDECAR
from tomopipe.steps import sidecar as sidecar_step


@lru_cache(maxsize=None)
def sidecar_file(scan):
    return WANTED.sidecar(scan)


def sidecars(wildcards):
    files = {CAMPAIGN.sidecar(scan): sidecar_file(scan) for scan in resolved()}
    say_of_others(tuple(path for path in files if path != files[path]))
    return list(files.values())


@lru_cache(maxsize=None)
def say_of_others(paths):
    """Say once which sidecars are of another campaign."""
    if DECIDES and paths:
        which = f"{paths[0]} is" if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more are"
        text = f"{which} of another campaign: ours in {os.path.dirname(OUTPUTS.sidecar(''))}"
        print(f"tomopipe: {text}", file=sys.stderr)


def sidecar_content(wildcards):
    """The content of the sidecar as one text: it is rewritten only when this changes."""
    scan = wildcards.scan
    sources = [cor_table(), fix_table_of(scan), OUTPUTS.prediction(scan)]
    times = [os.stat(path).st_mtime_ns if os.path.exists(path) else 0 for path in sources]
    return sidecar_text(scan, tuple(times))


@lru_cache(maxsize=None)
def sidecar_text(scan, _times):
    facts = cor_of(scan), fixed_row(scan), prediction_of(scan)
    return as_json(sidecar_step.sidecar_content(scan, *facts))


def sidecar_inputs(wildcards):
    path = sidecar_file(wildcards.scan)
    if DECIDES:
        run_for(WANTED.why_sidecar(wildcards.scan, sidecar_content(wildcards)), [path])
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
        options=lambda wildcards: CAMPAIGN.for_scan(wildcards.scan).config.model_dump_json(
            include={"preprocess", "try_recon", "predict_cor", "fix_cor", "resolve_cor"}
        ),
        made_from=lambda wildcards: as_json(made_from.of_text(sidecar_content(wildcards))),
        in_results=lambda wildcards: OUTPUTS.sidecar(wildcards.scan),
    script:
        "../scripts/sidecar.py"
