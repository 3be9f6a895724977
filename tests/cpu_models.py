"""Versions in memory, without a database: for tests of backends against each other."""

import numpy as np

from pageformer.loader.checkpoint import Checkpoint
from pageformer.loader.manifest import build, cut_blocks
from pageformer.udfs.blocks import widen
from pageformer.udfs.layout import Layout, Place, TensorRow


def layout_of(checkpoint: Checkpoint) -> Layout:
    """Cut a checkpoint into blocks that stay in memory."""
    manifest = build(checkpoint.config, checkpoint.tokenizer, checkpoint.weights)
    rows = [
        TensorRow(name, entry.shape, entry.grid, entry.offset)
        for name, entry in manifest.tensors.items()
    ]
    pages = {}
    for kind, name, data in cut_blocks(checkpoint.weights, manifest, set(manifest.block_names())):
        pages[name] = memoryview(np.ascontiguousarray(widen(data, kind.form)))
    places = {name: Place(name, 0, len(page)) for name, page in pages.items()}
    return Layout(checkpoint.config, manifest.side, rows, places, pages)
