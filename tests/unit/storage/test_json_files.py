import pytest

from tomopipe.storage.json_files import json_or


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_a_file_that_is_missing_or_damaged_or_of_another_type_gives_the_default(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert json_or(path, {}) == {}
    assert json_or(path, None) == ([1] if content == b"[1]" else None)
    path.write_text('{"é": 1.5}', encoding="utf-8")
    assert json_or(path, {}) == json_or(path, None) == {"é": 1.5}
