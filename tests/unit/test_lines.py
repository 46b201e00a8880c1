"""Cutting output into lines: the same lines for any chunking, nothing lost, every event within its limit."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.agent.output.lines import BETWEEN, PARTIAL, SPLIT, Cut, Room, Window, cut_lines
from runner.agent.output.masking import Masks
from runner.sinks import SPLIT_MARK

NONE = Masks()
WIDE = Room(batch_bytes=1 << 20, events=10_000, event_bytes=262_118, overhead=26)


def ship(chunks: list[bytes], masks: Masks, room: Room, *, prefix: str = "", partial: bool = False) -> list[str]:
    """What a reader does: a window over what has arrived, batches with the full room, until nothing is left."""
    return [line for line, _ in shipped(chunks, masks, room, prefix=prefix, partial=partial)]


def shipped(
    chunks: list[bytes],
    masks: Masks,
    room: Room,
    *,
    prefix: str = "",
    partial: bool = False,
    condense: bool = False,
) -> list[tuple[str, int]]:
    """The lines, and of how many bytes all that was sent up to each was condensed."""
    data = b"".join(chunks)
    ends: list[int] = []
    for chunk in chunks:
        ends.append((ends[-1] if ends else 0) + len(chunk))
    sent: list[tuple[str, int]] = []
    offset, mid, condensed = 0, BETWEEN, 0
    for index, end in enumerate(ends):
        final = index == len(ends) - 1
        while offset < end:
            window = data[offset : min(end, offset + room.batch_bytes + masks.longest)]
            more = offset + len(window) < end
            at_end = final and not more
            cut = cut_lines(Window(window, mid, partial, more, final=at_end, condense=condense), masks, room, prefix)
            check(cut.lines, cut.size, room)
            if not cut.consumed:
                assert not at_end
                break
            offset, mid, condensed = offset + cut.consumed, cut.mid, condensed + cut.condensed
            sent.extend((line, condensed) for line in cut.lines)
    assert offset == len(data)
    return sent


def cut_wide(data: bytes, **options: Any) -> Cut:
    return cut_lines(Window(data, **options), NONE, WIDE)


def check(lines: list[str], size: int, room: Room) -> None:
    sizes = [len(line.encode()) for line in lines]
    assert all(1 <= n <= room.event_bytes for n in sizes)
    assert size == sum(sizes) + room.overhead * len(lines)
    assert size <= room.batch_bytes
    assert len(lines) <= room.events


def expected(data: bytes) -> list[str]:
    """The definition: lines by LF, a space for nothing."""
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [line.decode("utf-8", "replace") or " " for line in lines]


def condensed(data: bytes) -> list[str]:
    """The same, of each line the last state where a carriage return overwrote."""
    texts = [line.rstrip("\r") for line in expected(data)]
    return [text[text.rfind("\r") + 1 :] or " " for text in texts]


chunked = st.lists(
    st.lists(
        st.sampled_from([b"\n", b"\r", b"a", b"word ", "é€😀".encode(), b"\xe2\x82", b"\xff", b"\x00", b"\xf0\x9f"])
    )
    .map(b"".join)
    .filter(bool),
    min_size=1,
)


@given(chunked)
def test_lines_do_not_depend_on_the_chunks(chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    assert ship([data], NONE, WIDE) == expected(data)
    assert [line for line, _ in shipped([data], NONE, WIDE, condense=True)] == condensed(data)
    if b"\r" not in data:  # a progress bar sends its states as they come
        assert ship(chunks, NONE, WIDE) == expected(data)


def sizes(lines: list[str]) -> int:
    return sum(len(line.removesuffix(SPLIT_MARK).replace(" ", "").encode()) for line in lines)


states = st.lists(
    st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"a", b"word", b"x" * 70])).map(b"".join).filter(bool), min_size=1
)


@given(states, st.one_of(st.just(WIDE), st.deferred(lambda: small)), st.booleans())
def test_every_byte_before_a_carriage_return_arrives(chunks: list[bytes], room: Room, partial: bool) -> None:
    """Unless it is condensed: then what falls out is counted to the byte, whatever the chunks."""
    data = b"".join(chunks)
    text = data.replace(b"\n", b"").decode()
    lines = ship(chunks, NONE, room, partial=partial)
    assert "".join(line.removesuffix(SPLIT_MARK).replace(" ", "") for line in lines) == text
    few = shipped([*chunks, b"end\n"], NONE, room, partial=partial, condense=True)
    *_, (_, gone) = few
    assert sizes([line for line, _ in few]) + gone + ending_returns([*chunks, b"end\n"], room, partial) == len(text) + 3
    assert not any("\r" in line for line, _ in few)


def ending_returns(chunks: list[bytes], room: Room, partial: bool) -> int:
    """How many carriage returns end a state: they overwrite nothing, and are neither text nor counted."""
    texts = [line.removesuffix(SPLIT_MARK) for line in ship(chunks, NONE, room, partial=partial)]
    return sum(len(text) - len(text.rstrip("\r")) for text in texts)


small = st.builds(
    Room,
    batch_bytes=st.integers(300, 600),
    events=st.integers(1, 5),
    event_bytes=st.integers(60, 100),
    overhead=st.sampled_from([0, 26]),
)


@given(
    st.lists(st.one_of(st.binary(min_size=1), st.text(min_size=1).map(str.encode)), min_size=1), small, st.booleans()
)
def test_long_lines_are_split_and_nothing_is_lost(chunks: list[bytes], room: Room, partial: bool) -> None:
    chunks = [chunk.replace(b"\r", b"R") for chunk in chunks]
    data = b"".join(chunks)
    lines = ship(chunks, NONE, room, partial=partial)
    joined = "".join(line.removesuffix(SPLIT_MARK) for line in lines).replace(" ", "")
    assert joined == data.replace(b"\n", b"").decode("utf-8", "replace").replace(" ", "") or not valid(data)
    if not valid(data):
        assert only_ascii(joined) == only_ascii(data.decode("latin-1").replace("\n", "").replace(" ", ""))


def valid(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def only_ascii(text: str) -> str:
    return "".join(character for character in text if character.isascii())


@given(st.binary(max_size=2000), small, st.booleans())
def test_pieces_end_with_the_mark_except_the_last(data: bytes, room: Room, partial: bool) -> None:
    """However long the line has been waiting: what is looked at is a window, and the line goes on behind it."""
    line = data.replace(b"\n", b"N").replace(b"\r", b"R") + b"\n"
    pieces = ship([line], NONE, room, partial=partial)
    assert all(piece.endswith(SPLIT_MARK) for piece in pieces[:-1])
    assert not pieces[-1].endswith(SPLIT_MARK)


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=2), small)
def test_a_long_line_that_is_written_slowly_has_its_mark_on_every_piece_too(chunks: list[bytes], room: Room) -> None:
    chunks = [b"x" * 101, *(chunk.replace(b"\n", b"N").replace(b"\r", b"R") for chunk in chunks), b"\n"]
    pieces = ship(chunks, NONE, room, partial=True)
    assert all(piece.endswith(SPLIT_MARK) for piece in pieces[:-1])
    assert not pieces[-1].endswith(SPLIT_MARK)


def test_a_partial_line_that_is_known_to_go_on_has_the_mark() -> None:
    cut = cut_wide(b"half of a li", partial=True, goes_on=True)
    assert (cut.lines, cut.mid) == ([f"half of a li{SPLIT_MARK}"], SPLIT)


def test_a_character_of_several_bytes_is_not_cut() -> None:
    pieces = ship(["€".encode() * 1000], NONE, Room(10_000, 100, 100, 26))
    assert "".join(piece.removesuffix(SPLIT_MARK) for piece in pieces) == "€" * 1000


def test_a_partial_line_goes_when_the_job_is_silent_and_its_end_is_no_line_of_its_own() -> None:
    assert cut_wide(b"Sure? ").consumed == 0
    cut = cut_wide(b"Sure? ", partial=True)
    assert (cut.lines, cut.mid) == (["Sure? "], True)
    assert cut_wide(b"\nyes\n", mid=True).lines == ["yes"]
    assert cut_wide(b"\n", mid=True).lines == []
    assert cut_wide(b" really\n", mid=True).lines == [" really"]


def test_a_partial_line_keeps_back_a_cut_character() -> None:
    cut = cut_wide("naïv".encode()[:3], partial=True)
    assert (cut.lines, cut.consumed) == (["na"], 2)


def test_a_progress_bar_sends_its_last_state_per_flush() -> None:
    first = cut_wide(b"1%\r2%\r3%\r4", condense=True)
    assert (first.lines, first.consumed, first.mid, first.condensed) == (["3%"], 9, PARTIAL, 6)
    assert cut_wide(b"4%\r\n", mid=True, condense=True).lines == ["4%"]
    assert cut_wide(b"\r1%\r2%", partial=True, condense=True).lines == ["1%"]
    assert cut_wide(b"1%\r2%\r\ndone\r\n", condense=True).lines == ["2%", "done"]


def test_a_progress_bar_that_is_kept_sends_its_states_per_flush() -> None:
    first = cut_wide(b"1%\r2%\r3%\r4")
    assert (first.lines, first.consumed, first.mid) == (["1%\r2%\r3%\r"], 9, PARTIAL)
    assert cut_wide(b"4%\r\n", mid=PARTIAL).lines == ["4%\r"]
    assert cut_wide(b"l1\rl2\rl3\rl4\r", final=True).lines == ["l1\rl2\rl3\rl4\r"]


def test_shared_streams_prefix_every_piece() -> None:
    room = Room(1000, 100, 80, 26)
    assert ship([b"a\n\nb"], NONE, room, prefix="run-1 ") == ["run-1 a", "run-1 ", "run-1 b"]
    assert all(line.startswith("run-1 ") for line in ship([b"x" * 500], NONE, room, prefix="run-1 "))


def test_a_million_empty_lines_come_in_full_batches() -> None:
    cut = cut_wide(b"\n" * (1 << 20))
    assert (cut.lines, cut.consumed) == ([" "] * 10_000, 10_000)


SECRETS = ["hunter2-hunter2", "abcabcabc", "first\nsecond-line\nx1", "ccabca", "000000"]
parts = st.lists(
    st.one_of(
        st.sampled_from([*SECRETS, "\n", "abc", "first\n", "second-line", "\nx1", "hunter2", "cab", "0", "text ", "é"]),
        st.text("abc0\n ", max_size=5),
    )
    .map(str.encode)
    .filter(bool),
    min_size=1,
)


@settings(max_examples=300)
@given(parts, small, st.booleans())
def test_no_secret_leaks_whatever_the_chunks(chunks: list[bytes], room: Room, partial: bool) -> None:
    masks = Masks(SECRETS)
    data = b"".join(chunks)
    lines = ship(chunks, masks, room, partial=partial)
    sent = "".join(line.removesuffix(SPLIT_MARK) for line in lines)
    reference = masks.mask(data).decode("utf-8", "replace")
    assert letters(sent) == letters(reference)
    for secret in SECRETS:
        assert secret not in "\n".join(lines)


def letters(text: str) -> str:
    """Without what differs by where lines were cut: masks side by side, spaces for empty lines, line ends."""
    return "".join(character for character in text if character not in "*\n ")


def test_what_a_gap_has_torn_of_a_secret_is_masked() -> None:
    masks = Masks(["s3cret-value"])
    before = cut_lines(Window(b"head s3cret", final=True, torn_end=True), masks, WIDE)
    behind = cut_lines(Window(b"-value tail\n", torn_start=True), masks, WIDE)
    assert (before.lines, behind.lines) == (["head ***"], ["*** tail"])
