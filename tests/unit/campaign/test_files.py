"""The paths of a campaign, as texts and as paths."""

from pathlib import Path

import pytest

from tomopipe.campaign.files import Files


@pytest.mark.parametrize("folder", ["results", "results/", "./a b", "/data/raw_rec"])
def test_texts_and_paths_are_the_same_places(folder):
    texts_of, paths = Files(folder), Files(Path(folder))
    for name in ("inventory", "cor_table", "rot_cen", "index", "report"):
        assert Path(getattr(texts_of, name)) == getattr(paths, name)
    assert texts_of.rows("s.1") == f"{folder.rstrip('/')}/try_center/s.1/rows.h5"
    assert paths.rows("s.1") == Path(folder, "try_center", "s.1", "rows.h5")
    assert isinstance(texts_of.outputs("try_recon", "s")[2], str)
    assert isinstance(paths.outputs("export_stack", "s")[1], Path)
