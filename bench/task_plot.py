"""Draw build/task-cells.json. Run with the interpreter of build/bench: `task_plot.py JSON SVG`."""

import json
import sys
from pathlib import Path

SIGMA = 4
LINES = {  # of a cell's figures: how they are told and drawn
    "mixed": ("mixed batches, a query of each task", "#336791", "-"),
    "parallel": ("a full model a task, on each core one query", "#909090", "-"),
    "one": ("a full model a task, one query after another", "#b0b0b0", "--"),
    "ours": ("mixed batches, LoRA", "#336791", ":"),
    "peft": ("PEFT, mixed batches, LoRA", "#c08040", ":"),
    "torch": ("PyTorch, one query after another", "#c08040", "--"),
}


def main(cells: Path, drawing: Path) -> None:
    """Draw queries a second over the number of tasks."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "pageformer"
    from matplotlib import pyplot

    found = [
        cell for cell in json.loads(cells.read_text()).values() if "tasks" in cell or "lora" in cell
    ]
    kept = [cell for cell in found if cell.get("sigma", SIGMA) == SIGMA]
    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for figures, (label, color, style) in LINES.items():
        points = sorted(
            (cell.get("tasks", cell.get("lora")), cell[figures]) for cell in kept if figures in cell
        )
        if points:
            axes.plot(
                *zip(*points, strict=True),
                style,
                color=color,
                marker="o",
                markersize=4,
                label=label,
            )
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter("{x:.0f}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("tasks")
    axes.set_ylabel(f"queries per second (6 layers of 384, lengths N(32, {SIGMA}))")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    figure.tight_layout()
    figure.savefig(drawing, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
