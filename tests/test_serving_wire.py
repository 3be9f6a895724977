"""What goes over the socket, byte for byte; whatever else comes is told from it."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pageformer.udfs.executors import wire
from pageformer.udfs.executors.wire import Answered, Asked, Garbled

NUMBERS = st.integers(0, 2**32 - 1)
QUESTIONS = st.builds(
    Asked,
    version=st.binary(min_size=32, max_size=32),
    compute=st.sampled_from(wire.COMPUTES),
    what=st.sampled_from(wire.WHATS),
    dimensions=st.none() | st.integers(1, 2**32 - 1),
    normalized=st.sampled_from(wire.NORMALIZED),
    skip=NUMBERS,
    sequences=st.lists(st.lists(NUMBERS, max_size=5), max_size=5).map(tuple),
    task=st.binary(min_size=32, max_size=32),
)


def test_a_frame_is_these_bytes() -> None:
    assert wire.frame(wire.FAILED, 7, b"no") == b"PF\x02\x04\x07\x00\x00\x00\x02\x00\x00\x00no"


def test_a_question_is_these_bytes() -> None:
    asked = Asked(b"v" * 32, "bfloat16", "vectors", 128, None, 3, ([101, 102], [258]))
    assert wire.write_asked(asked) == (
        b"v" * 32 + bytes(32) + b"\x01\x00\x02\x00"
        b"\x80\x00\x00\x00\x03\x00\x00\x00\x02\x00\x00\x00"
        b"\x02\x00\x00\x00\x01\x00\x00\x00"
        b"\x65\x00\x00\x00\x66\x00\x00\x00\x02\x01\x00\x00"
    )


def test_an_answer_is_these_bytes() -> None:
    assert wire.write_answered(Answered(["[1,2]", "[3]"], 40)) == (
        b"\x28\x00\x00\x00\x02\x00\x00\x00\x05\x00\x00\x00\x03\x00\x00\x00[1,2][3]"
    )


@given(QUESTIONS)
def test_a_question_is_read_as_it_was_written(asked: Asked) -> None:
    assert wire.read_asked(wire.write_asked(asked)) == asked


@given(st.lists(st.text()), NUMBERS)
def test_an_answer_is_read_as_it_was_written(texts: list[str], pays_up_to: int) -> None:
    answered = Answered(texts, pays_up_to)
    assert wire.read_answered(wire.write_answered(answered)) == answered


@given(QUESTIONS, st.data())
def test_a_question_that_was_cut_is_garbled(asked: Asked, data: st.DataObject) -> None:
    body = wire.write_asked(asked)
    with pytest.raises(Garbled):
        wire.read_asked(body[: data.draw(st.integers(0, len(body) - 1))])


@given(st.binary(max_size=200))
def test_nothing_but_garbled_comes_of_garbage(data: bytes) -> None:
    for read in (wire.read_asked, wire.read_answered):
        try:
            read(data)
        except Garbled:
            continue


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"GET / HTTP/1", "no frame"),
        (struct.pack("<2sBBII", b"PF", 1, 2, 1, 0), "no frame of format 2"),
        (struct.pack("<2sBBII", b"PF", 2, 99, 1, 0), "unknown kind 99"),
        (struct.pack("<2sBBII", b"PF", 2, 2, 1, 2**32 - 1), "4294967295 bytes"),
    ],
)
def test_a_header_is_refused_before_its_body_is_waited_for(header: bytes, said: str) -> None:
    with pytest.raises(Garbled, match=said):
        wire.read_header(header, wire.MOST_ASKED)
