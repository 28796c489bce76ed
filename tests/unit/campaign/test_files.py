"""The paths of a campaign, as texts and as paths."""

from pathlib import Path

import pytest

from tomopipe.campaign.files import NO_PREFIX, Files, encode_series, job_name


@pytest.mark.parametrize("folder", ["results", "results/", "./a b", "/data/raw_rec"])
def test_texts_and_paths_are_the_same_places(folder):
    texts_of, paths = Files(folder), Files(Path(folder))
    for name in ("inventory", "cor_table", "rot_cen", "index", "report"):
        assert Path(getattr(texts_of, name)) == getattr(paths, name)
    assert texts_of.rows("s.1") == f"{folder.rstrip('/')}/try_center/s.1/rows.h5"
    assert paths.rows("s.1") == Path(folder, "try_center", "s.1", "rows.h5")
    assert isinstance(texts_of.outputs("try_recon", "s")[2], str)
    assert isinstance(paths.outputs("export_stack", "s")[1], Path)


def test_a_series_has_one_name_for_people():
    assert job_name("fix_cor", encode_series("")) == NO_PREFIX == "(no prefix)"
    for series in ("_", "a b", "größe"):
        assert job_name("fix_cor", encode_series(series)) == series
    assert job_name("try_recon", "_") == "_"  # a scan
