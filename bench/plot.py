"""Draw bench/results/peers.json. Run with the interpreter of build/bench: `plot.py JSON SVG`."""

import json
import statistics
import sys
from pathlib import Path


def main(results: Path, drawing: Path) -> None:
    """Draw how many times faster than ONNX Runtime each contestant is, with the spread."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pageformer"
    from matplotlib import pyplot

    found = json.loads(results.read_text())
    raced = [found[name] for name in ("fortunes", "descriptions") if name in found]
    if not raced:
        return
    rows = raced[0]["rows"]
    shown = [row for row in rows if "connections" not in row["name"]]
    shown.sort(key=lambda row: statistics.median(row["ratios"]))
    middles = [statistics.median(row["ratios"]) for row in shown]
    spread = [
        [middle - min(row["ratios"]) for middle, row in zip(middles, shown, strict=True)],
        [max(row["ratios"]) - middle for middle, row in zip(middles, shown, strict=True)],
    ]
    colors = ["#336791" if row["name"].startswith("ours") else "#b0b0b0" for row in shown]
    names = [row["name"].partition(" (")[0].replace("`", "") for row in shown]
    figure, axes = pyplot.subplots(figsize=(8, 0.34 * len(shown) + 1))
    axes.barh(names, middles, xerr=spread, color=colors, ecolor="#606060")
    axes.axvline(1, color="#606060", linewidth=0.8)
    axes.set_xlabel("texts per second, as a multiple of ONNX Runtime float32 (all-MiniLM-L6-v2)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(drawing, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
