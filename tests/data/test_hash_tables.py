"""Tables of keys and of texts that grow over batches, against Python's dict."""

import numpy as np
import pytest

from fastlmm_core._kernels._encode import KeyTable, TextTable, relabel, text_order

WORD, REST, TAIL = 0xF8D1A4FB96E3C25F, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
ALPHABETS = {
    "letters": b"ab",
    "digits": b"0123456789",
    "zeros": b"\x00\x01\x0b\x0c",
    "ends": b"\x00\xfe\xff",
    "any": bytes(range(256)),
}


def fold(a, b):
    """The 128-bit product of two words, its halves combined."""
    return a * b % 2**64 ^ a * b >> 64


def first_appearance(values, known):
    return np.array([known.setdefault(value, len(known)) for value in values], np.int32)


def layout(texts, width=np.int32, before=b""):
    """Arrow's offsets and bytes; ``before`` are bytes that belong to no text."""
    ends = len(before) + np.cumsum([0, *map(len, texts)])
    return ends.astype(width), np.frombuffer(before + b"".join(texts), np.uint8)


def encode(table, texts, valid=None, first_bit=0, threads=1, **how):
    codes = np.full(len(texts), 99, np.int32)
    table.encode(*layout(texts, **how), valid, first_bit, codes, threads)
    return codes


def all_texts(table):
    offsets, data = table.texts()
    return [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]


def random_texts(rng, kind, n, longest):
    letters = np.frombuffer(ALPHABETS[kind], np.uint8)
    return [letters[rng.integers(0, len(letters), size)].tobytes() for size in rng.integers(0, longest, n)]


# -- keys ------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [1, 50, 3000, 100_000])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_keys_in_order_of_first_appearance(levels, threads):
    rng = np.random.default_rng(levels)
    keys = rng.integers(-(2**63), 2**63 - 1, levels)[rng.integers(0, levels, 300_000)]
    table, known = KeyTable(), {}
    for part in (keys[:0], keys[:1], keys[1:90_000], keys[90_000:]):
        np.testing.assert_array_equal(table.encode(part, threads), first_appearance(part.tolist(), known))
        assert len(table) == len(known)
    assert table.keys().tolist() == list(known)


def test_keys_that_share_a_slot():
    """Many keys whose hashes agree in the upper bits, and every one of them twice."""
    keys = np.arange(400_000, dtype=np.int64)
    hashes = [fold(key ^ 0x9E3779B97F4A7C15, REST) >> 53 for key in keys.tolist()]
    clash = keys[np.array(hashes) == hashes[0]]
    assert len(clash) > 100
    for start in (clash[-1:], keys[:5000]):
        table = KeyTable()
        table.encode(start)
        again = np.concatenate([clash, clash[::-1]])
        codes = table.encode(again)
        np.testing.assert_array_equal(table.keys()[codes], again)


def test_regular_keys_spread():
    """Multiples and pairs of small numbers, as interactions make them, take no more time than others."""
    for keys in (
        np.arange(200_000) << 40,
        np.arange(200_000) * 1000,
        (np.arange(500)[:, None] << 32) + np.arange(400),
    ):
        keys = keys.ravel().astype(np.int64)
        slots = np.array([fold(key ^ 0x9E3779B97F4A7C15, REST) >> 45 for key in keys[::7].tolist()])
        assert np.bincount(slots).max() < 12


# -- texts -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALPHABETS)
@pytest.mark.parametrize("longest", [2, 5, 10, 14, 40])
def test_texts_against_a_dict(kind, longest):
    rng = np.random.default_rng(longest)
    pool = random_texts(rng, kind, 4000, longest)
    table, known = TextTable(), {}
    for n in (0, 1, 700, 9000):
        texts = [pool[place] for place in rng.integers(0, len(pool), n)]
        np.testing.assert_array_equal(encode(table, texts), first_appearance(texts, known))
        np.testing.assert_array_equal(
            encode(table, texts, width=np.int64, before=b"xyz"), [known[t] for t in texts]
        )
    assert all_texts(table) == list(known) and len(table) == len(known)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("levels", [20, 200_000])
def test_threads_enter_texts_in_order(threads, levels):
    rng = np.random.default_rng(levels)
    texts = [b"customer %d" % level for level in rng.integers(0, levels, 300_000)]
    table, known = TextTable(), {}
    for part in (texts[:90_000], texts[90_000:]):
        np.testing.assert_array_equal(encode(table, part, threads=threads), first_appearance(part, known))


def test_texts_that_differ_in_little():
    tails = [b"", b"\x00", b"\x00\x00", b"a", b"a\x00", b"\x0b", b"\x0c", b"\xff", b"\xfe", b"\x1f"]
    texts = sorted({b"abcdefgh012"[:at] + tail for at in range(12) for tail in tails})
    texts += [b"0123456789" * 3 + bytes([i]) for i in range(256)] + [b"x" * n for n in range(13, 300)]
    codes = encode(TextTable(), texts * 3)
    np.testing.assert_array_equal(codes, np.tile(np.arange(len(texts)), 3))


def test_texts_of_equal_hash():
    """Long texts: where a word is the hash's own constant, the word behind it does not count."""
    blind = WORD.to_bytes(8, "little")
    texts = [blind + b"%08d" % i + b"the same ending." for i in range(300)]
    hashes = {fold(int.from_bytes(t[:8], "little") ^ WORD, int.from_bytes(t[8:16], "little") ^ len(t) ^ TAIL)
              for t in texts}  # fmt: skip
    assert hashes == {0}
    table, known = TextTable(), {}
    for part in (texts[:3], texts * 2, [b"other"] + texts[::-1]):
        np.testing.assert_array_equal(encode(table, part), first_appearance(part, known))
    assert all_texts(table) == list(known)


def test_short_texts_that_share_a_slot():
    texts = [b"%d" % i for i in range(300_000)]
    hashes = np.array([fold(int.from_bytes(t, "little") ^ WORD, len(t) << 24 ^ REST) >> 54 for t in texts])
    clash = [texts[place] for place in np.flatnonzero(hashes == hashes[0])]
    assert 100 < len(clash) < 1000
    table, known = TextTable(), {}
    for part in (clash, texts, clash):
        np.testing.assert_array_equal(encode(table, part), first_appearance(part, known))


def test_missing_texts():
    texts = [b"a", b"", b"b", b"a"] * 30
    bits = np.array([0, 0, 0] + [1, 1, 0, 1] * 30, bool)
    valid = np.packbits(bits, bitorder="little")
    table = TextTable()
    codes = encode(table, texts, valid, first_bit=3)
    np.testing.assert_array_equal(codes, [0, 1, -1, 0] * 30)
    assert all_texts(table) == [b"a", b""]
    none = TextTable()
    np.testing.assert_array_equal(encode(none, texts, np.zeros(15, np.uint8)), np.full(120, -1))
    assert len(none) == 0 and all_texts(none) == []


def test_very_long_texts():
    rng = np.random.default_rng(1)
    long = [
        rng.integers(0, 256, size).astype(np.uint8).tobytes() for size in (1 << 24, (1 << 24) + 12, 300_000)
    ]
    long += [long[0][:-1] + b"?", b"?" + long[0][1:], long[0][:12]]
    table = TextTable()
    for _ in range(2):
        np.testing.assert_array_equal(encode(table, long), np.arange(6))
    assert all_texts(table) == long


# -- limits ----------------------------------------------------------------------------


def test_the_last_codes():
    last = 2**31 - 3
    keys, texts = KeyTable(last - 2), TextTable(last - 2)
    many = np.arange(3) * 2**50
    for threads in (1, 2):
        assert keys.encode(many, threads).tolist() == [last - 2, last - 1, last]
        assert encode(texts, [b"a" * 20, b"b", b"c"], threads=threads).tolist() == [last - 2, last - 1, last]
    for threads in (1, 2):
        with pytest.raises(OverflowError, match="2\\^31 levels"):
            keys.encode(np.resize([*many, -1], 200_000), threads)
        with pytest.raises(OverflowError, match="2\\^31 levels"):
            encode(texts, [b"b"] * 199_999 + [b"d"], threads=threads)
    assert (len(keys), len(texts)) == (3, 3)
    assert keys.encode(many[::-1].copy()).tolist() == [last, last - 1, last - 2]
    assert encode(texts, [b"c", b"a" * 20]).tolist() == [last, last - 2]
    for kind in (KeyTable, TextTable):
        with pytest.raises(ValueError, match="first"):
            kind(-1)
        with pytest.raises(ValueError, match="first"):
            kind(2**31)


@pytest.mark.parametrize("offsets", [[0, 5], [0, 3, 2, 4], [-1, 2], [2, 1], [9, 9]])
@pytest.mark.parametrize("width", [np.int32, np.int64])
def test_offsets_outside_are_refused(offsets, width):
    data, at = np.zeros(4, np.uint8), np.array(offsets, width)
    with pytest.raises(ValueError, match="outside"):
        TextTable().encode(at, data, None, 0, np.empty(len(at) - 1, np.int32))
    with pytest.raises(ValueError, match="outside"):
        text_order(at.astype(np.int64), data)


def test_sizes_are_checked():
    table, data = TextTable(), np.zeros(9, np.uint8)
    with pytest.raises(ValueError, match="one offset more"):
        table.encode(np.zeros(3, np.int32), data, None, 0, np.empty(3, np.int32))
    for first_bit in (-1, 7):
        with pytest.raises(ValueError, match="bits"):
            table.encode(np.zeros(3, np.int32), data, data[:1], first_bit, np.empty(2, np.int32))
    with pytest.raises(ValueError, match="empty"):
        text_order(np.empty(0, np.int64), data)
    codes = np.array([1, -1, 0], np.int32)
    relabel(codes, np.array([-5, 7, 8], np.int32), 2)
    assert codes.tolist() == [8, -5, 7]


# -- order -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALPHABETS)
@pytest.mark.parametrize("longest", [1, 3, 9, 17, 60])
@pytest.mark.parametrize("before", [b"", b"the same beginning of all ..."])
def test_order_of_texts(kind, longest, before):
    rng = np.random.default_rng(longest)
    for n in (1, 2, 30, 3000):
        texts = [before + text for text in random_texts(rng, kind, n, longest)]
        order = text_order(*layout(texts, np.int64, b"?"))
        assert sorted(order.tolist()) == list(range(n))
        assert [texts[place] for place in order] == sorted(texts)


def test_order_of_texts_that_begin_each_other():
    rng = np.random.default_rng(2)
    texts = [b"x" * n for n in range(1500)] + [b"x" * n + b"\x00" for n in range(1500)]
    texts = [texts[place] for place in rng.permutation(len(texts))]
    assert [texts[place] for place in text_order(*layout(texts, np.int64))] == sorted(texts)
    assert len(text_order(np.zeros(1, np.int64), np.empty(0, np.uint8))) == 0
