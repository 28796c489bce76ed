import json
import math

import pydantic_core  # noqa: F401 - where it is loaded, it is used
import pytest

from tomopipe.storage.json_files import json_or, json_text, parsed


@pytest.mark.parametrize("content", [None, b"", b'{"a": ', b"\xff\xfe", b"[1]", b"[" * 100_000])
def test_a_file_that_is_missing_or_damaged_or_of_another_type_gives_the_default(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    assert json_or(path, {}) == {}
    assert json_or(path, None) == ([1] if content == b"[1]" else None)
    path.write_text('{"é": 1.5}', encoding="utf-8")
    assert json_or(path, {}) == json_or(path, None) == {"é": 1.5}


@pytest.mark.parametrize("value", [{"a\udcff": 0.1}, [math.inf, -0.0, 1e-320, 10**40], "\ud800"])
def test_the_fast_parser_reads_what_the_standard_library_writes(value):
    assert repr(parsed(json.dumps(value).encode())) == repr(value)


@pytest.mark.parametrize("value", [{"a\udcff": 0.1}, [math.inf, -0.0, 1e-320, 10**40, (1, "é")]])
def test_what_the_fast_writer_writes_is_read_by_both_parsers(value):
    text, plain = json_text(value), json.loads(json.dumps(value))
    assert repr(json.loads(text)) == repr(plain) == repr(parsed(text.encode()))
