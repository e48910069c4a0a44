"""The names of many files, turned round, against looking at each name by itself."""

from __future__ import annotations

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from codeforge_ls.index.file_names import FileNames, as_called, bare_name
from codeforge_ls.index.tokens import stem, tokens

NAMES = st.text(alphabet="abcHTTP_Client.-9é ", min_size=1, max_size=16).filter(
    lambda one: one not in {".", ".."}
)
PATHS = st.builds(
    lambda folder, name: f"{folder}/{name}" if folder else name, st.sampled_from(["", "a", "a/b"]), NAMES
)


@given(
    st.lists(PATHS, min_size=1, max_size=12),
    st.sets(st.sampled_from(["client", "http", "a", "b", "httpclient"])),
)
def test_words_of_many_names_are_those_of_each(paths: list[str], wanted: set[str]) -> None:
    names = FileNames(paths)
    for at, path in enumerate(paths):
        name = PurePosixPath(path).stem
        assert bare_name(path) == name
        whole, *parts = [stem(word) for word in tokens(name) or [name]]
        assert names.words_among(wanted)[at] == len({whole, *parts} & wanted)
        assert names.parts_among(wanted)[at] == len({*parts} & wanted)
        assert (names.words[at], names.parts[at]) == (len({whole, *parts}), len({*parts}))
        assert at in names.called(as_called(name))
