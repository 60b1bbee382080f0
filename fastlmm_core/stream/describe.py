"""A plan in words."""

from .plan import ROWS_PER_SECOND


def describe(plan) -> str:
    """Terms, levels, sizes, engine and rough time of a plan, one line each."""
    spec, layout = plan.spec, plan.layout
    lines = [f"Plan of {plan.formula}"]

    def line(what, text):
        lines.append(f"  {what:<10} {text}")

    line("method", "REML" if plan.reml else "ML")
    names = layout.fixed_names
    line("fixed", f"{len(names)} columns: {_some(names)}")
    for term in spec.terms:
        columns = ", ".join(column.name for column in term.columns)
        line("random", f"({columns} | {plan.group_names[term.factor]})")
    for piece in spec.pieces:
        if piece.levels is not None:
            line("levels", f"{piece.piece}: {len(piece.levels)} known: {_some(map(str, piece.levels))}")
    for name in plan.group_names:
        expected = plan.expected.get(name)
        how = "" if expected is None else f", {expected.levels:,} expected ({expected.how})"
        line("levels", f"{name}: numbered in the stream{how}")
    if spec.weights is not None:
        line("weights", spec.weights)
    size = "an unknown number of rows" if plan.rows is None else f"{plan.rows:,} rows"
    total = "" if plan.rows is None else f", {_bytes(plan.rows * plan.row_bytes)} to decode"
    line("data", f"{plan.source}: {size}, {len(plan.columns)} columns{total}")
    if plan.learned:
        line("first pass", f"over the columns of {_some(plan.learned)} alone, for levels and transforms")
    found = plan.forecast()
    line("memory", f"up to {_bytes(found.peak)}, of which {_bytes(found.batches)} are rows in hand")
    if plan.engines is None:
        line("engine", _engine(plan))
    else:
        first, *others = str(plan.engines).splitlines()
        line("engines", first)
        lines += [" " * 13 + other for other in others]
    if plan.rows is not None:
        line("time", f"about {max(plan.rows / ROWS_PER_SECOND, 0.1):.1f} s for the pass, from rows alone")
    return "\n".join(lines)


def _engine(plan):
    if len(plan.groups) == 1:
        return "tree: one grouping factor is block-diagonal"
    return "tree if the factors turn out nested, else crossed, whose matrices come on top: the pass tells"


def _some(names, most=8):
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _bytes(count):
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
