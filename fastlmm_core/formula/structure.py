"""Which factors of a term are coded in full and which lose a column.

A term ``a:b`` spans what its margins span as well; only what earlier terms do not
span is added (Patsy's and formulaic's rule, R's in all common cases).
"""

from functools import lru_cache
from itertools import product

NUMBERS, LEVELS = False, True  # whether a piece spans the intercept when coded in full


@lru_cache(maxsize=512)
def scope(terms, spans):
    """Coded products of each term.

    Parameters
    ----------
    terms : tuple of tuple of int
        Pieces of each term; ``()`` is the intercept.
    spans : tuple of bool
        For each piece, whether its full coding spans the intercept.

    Returns
    -------
    tuple of tuple of tuple of (int, bool)
        Per term its products; per product its pieces with "reduced" flags, in the term's order.
    """
    spanned, result = set(), []
    for term in terms:
        choices = [(((piece, True),), ()) if spans[piece] else (((piece, False),),) for piece in term]
        margins = [sum(choice, ()) for choice in product(*choices)]
        fresh = [margin for margin in margins if frozenset(margin) not in spanned]
        spanned.update(map(frozenset, fresh))
        result.append(tuple(_merge(fresh)))
    return tuple(result)


def _merge(products):
    """Applies ``rest + rest:reduced -> rest:full`` until nothing changes."""
    merged = []
    for candidate in sorted(products, key=len):
        pieces = set(candidate)
        for known in merged:
            extra = pieces - set(known)
            if len(pieces) - 1 == len(known) and len(extra) == 1 and next(iter(extra))[1]:
                ((piece, _),) = extra
                full = tuple((p, False) if p == piece else (p, reduced) for p, reduced in candidate)
                merged = _merge([*(other for other in merged if other != known), full])
                break
        else:
            if candidate not in merged:
                merged.append(candidate)
    return merged
