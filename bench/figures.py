"""Growth of time and memory over rows, groups and columns, one figure per series of a run."""

from contextlib import contextmanager

from .libraries import LIBRARIES

AXES = {"rows": "Rows", "groups": "Groups at 1M rows", "columns": "Numeric fixed columns"}
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#333333", "#8C8C8C")
MARKERS = "osD^vPX*<>h"


@contextmanager
def axes_pair(path):
    """Two axes in the style of the report, written to ``path`` at the end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    pair = figure.subplots(1, 2)
    yield pair
    for ax in pair:
        ax.grid(True, which="major", lw=0.4, alpha=0.5)
        ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def curves(rows, series):
    """(library, threads) -> sorted list of (size, seconds, peak MiB) of a series' cases."""
    found = {}
    for line in rows:
        kind, _, width = line["case"].partition("-")
        if kind == series and line["status"] == "ok":
            size = {"rows": line["rows"], "groups": line["levels"], "columns": width}[series]
            point = int(size), float(line["seconds"]), float(line["peak_mb"])
            found.setdefault((line["library"], line["threads"]), []).append(point)
    return {key: sorted(points) for key, points in found.items() if len(points) > 1}


def draw(rows, folder):
    """A PNG per series that the rows hold; the paths written (none without matplotlib)."""
    present = [series for series in AXES if curves(rows, series)]
    if not present:
        return []
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for series in present:
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        FigureCanvasAgg(figure)
        time, memory = figure.subplots(1, 2)
        lines = curves(rows, series)
        several = len({threads for _, threads in lines}) > 1
        for (library, threads), points in lines.items():
            position = list(LIBRARIES).index(library)
            label = LIBRARIES[library].label + (f", {threads} threads" if several else "")
            style = {
                "color": COLOURS[position % len(COLOURS)],
                "marker": MARKERS[position % len(MARKERS)],
                "ms": 4,
                "lw": 2.4 if library == "ours" else 1.2,
                "ls": "-" if threads == "1" else "--",
            }
            size = [point[0] for point in points]
            time.plot(size, [point[1] for point in points], label=label, **style)
            if library != "yardstick":
                memory.plot(size, [max(point[2], 0.1) for point in points], **style)
        time.set(ylabel="Seconds, frame to printed summary")
        memory.set(ylabel="Peak MiB above the imports")
        for ax in (time, memory):
            ax.set(xlabel=AXES[series], xscale="log", yscale="log")
            ax.grid(True, which="major", lw=0.4, alpha=0.5)
            ax.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right center", frameon=False, fontsize="small")
        paths.append(folder / f"{series}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths
