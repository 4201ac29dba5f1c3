"""Framing survives any cut of the stream and refuses nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vm.frames import HEADER, LIMIT, Decoder, Frame, Kind, LostStep, encode, encode_json

frames = st.lists(
    st.builds(
        Frame,
        st.sampled_from(Kind),
        st.integers(0, 2**32 - 1),
        st.binary(max_size=300),
    ),
    max_size=20,
)


@given(frames, st.lists(st.integers(1, 64), min_size=1))
def test_any_cut_gives_the_same_frames(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(encode(*frame) for frame in sent)
    received: list[Frame] = []
    decoder, at, turn = Decoder(), 0, 0
    while at < len(stream):
        size = cuts[turn % len(cuts)]
        received += decoder.feed(stream[at : at + size])
        at, turn = at + size, turn + 1
    assert received == sent


def test_a_frame_is_out_as_soon_as_its_last_byte_is_in() -> None:
    stream = encode(Kind.OUTPUT, 7, b"abc")
    decoder = Decoder()
    assert list(decoder.feed(stream[:-1])) == []
    assert list(decoder.feed(stream[-1:])) == [Frame(Kind.OUTPUT, 7, b"abc")]


def test_json_goes_through() -> None:
    (frame,) = Decoder().feed(encode_json(Kind.EXIT, 3, status=-9))
    assert (frame.kind, frame.job, frame.json()) == (Kind.EXIT, 3, {"status": -9})


@pytest.mark.parametrize("payload", [b"[1]", b"nonsense", b""])
def test_json_must_be_an_object(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Frame(Kind.EXIT, 1, payload).json()


@pytest.mark.parametrize(
    "header", [HEADER.pack(99, 0, 0), HEADER.pack(Kind.OUTPUT, 0, LIMIT + 1), b"garbage!!"]
)
def test_nonsense_is_no_frame(header: bytes) -> None:
    with pytest.raises(LostStep):
        list(Decoder().feed(header))
