"""Text to codes: a table over Arrow's columns, levels as a pandas Index without an object per text."""

import numpy as np
import pandas as pd

from .._kernels._encode import TextTable, relabel, text_order
from . import arrow


class TextKeys:
    """Texts to codes over many batches, in order of first appearance."""

    def __init__(self):
        self._table = TextTable()

    def __len__(self):
        return len(self._table)

    def encode(self, texts, n_threads: int = 1) -> np.ndarray:
        """Codes (n,) int32 of an Arrow Array or ChunkedArray of text, -1 where a value is missing."""
        codes, at = np.empty(len(texts), np.int32), 0
        for chunk in _chunks(texts):
            end = at + len(chunk)
            valid = _bytes(chunk.buffers()[0]) if chunk.null_count else None
            offsets, data = _layout(chunk)
            self._table.encode(offsets, data, valid, chunk.offset, codes[at:end], n_threads)
            at = end
        return codes

    def sort(self, codes, n_threads: int = 1) -> pd.Index:
        """The levels in increasing order, by code point; codes become their places, in the same memory."""
        offsets, data = self._table.texts()
        order = text_order(offsets, data)
        if not np.array_equal(order, np.arange(len(order))):
            rank = np.full(len(order) + 1, -1, np.int32)
            rank[1 + order] = np.arange(len(order), dtype=np.int32)
            relabel(codes, rank, n_threads)
        return arrow.index_of(_array(offsets, data).take(arrow.pa.array(order)))

    def levels(self, codes=None) -> pd.Index:
        """The texts of these codes, or all by code."""
        texts = _array(*self._table.texts())
        return arrow.index_of(texts if codes is None else texts.take(arrow.pa.array(codes)))


def texts_of(levels: pd.Index):
    """Levels as Arrow text, None where they are something else or there is no pyarrow."""
    if arrow.pa is None:
        return None
    found = levels.array.__arrow_array__() if hasattr(levels.array, "__arrow_array__") else None
    if found is not None and arrow.is_text(found.type):
        return found
    if pd.api.types.infer_dtype(levels, skipna=True) not in ("string", "empty"):
        return None
    try:
        return arrow.pa.array(levels.to_numpy(object), arrow.pa.large_string(), from_pandas=True)
    except (UnicodeError, arrow.pa.ArrowException):  # half of a surrogate pair is no UTF-8
        return None


def order_of_texts(levels: pd.Index):
    """Positions of the levels in order of their code points, (levels,) int64; None where not all are text."""
    texts = texts_of(levels)
    if texts is None or texts.null_count:
        return None
    if not len(texts):
        return np.empty(0, np.int64)
    return text_order(*_layout(arrow.flat(texts.cast(arrow.pa.large_string()))))


def sorted_levels(codes, levels):
    """The parts of a factor with its levels in increasing order, text by code point."""
    levels = pd.Index(levels)
    order = order_of_texts(levels)
    if order is None:
        order = np.argsort(np.asarray(levels), kind="stable")
    if np.array_equal(order, np.arange(len(order))):
        return "factor", codes, levels
    rank = np.full(len(levels) + 1, -1, np.int32)
    rank[order] = np.arange(len(levels), dtype=np.int32)
    return "factor", rank[codes], levels[order]


def _chunks(texts):
    """Parts whose offsets and bytes can be read as they are."""
    if str(texts.type) == "string_view":
        texts = texts.cast(arrow.pa.large_string())
    parts = texts.chunks if isinstance(texts, arrow.pa.ChunkedArray) else [texts]
    return [part for part in parts if len(part)]


def _layout(chunk):
    """Offsets and bytes of an Array with values, without a copy."""
    _, offsets, data = chunk.buffers()
    kind = np.dtype(np.int64 if arrow.pa.types.is_large_string(chunk.type) else np.int32)
    offsets = np.frombuffer(offsets, kind, len(chunk) + 1, chunk.offset * kind.itemsize)
    return np.require(offsets, requirements="A"), _bytes(data)  # buffers of others may lie between words


def _array(offsets, data):
    buffers = [None, arrow.pa.py_buffer(offsets), arrow.pa.py_buffer(data)]
    return arrow.pa.Array.from_buffers(arrow.pa.large_string(), len(offsets) - 1, buffers)


def _bytes(buffer):
    return np.empty(0, np.uint8) if buffer is None else np.frombuffer(buffer, np.uint8)
