"""Weights -> SavedModel. Imports TensorFlow only when it writes."""

import gc
import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt

from publisher.errors import PublisherError
from publisher.families import Architecture
from publisher.formats.saved_model import bundle


class ExportError(PublisherError):
    """A SavedModel cannot be made from what was given."""


def export(
    architecture: Architecture,
    arrays: Mapping[str, npt.NDArray[np.float32]],
    *,
    output: str,
    input_range: tuple[float, float],
    assets: Sequence[Path],
    directory: Path,
    folded: bool = False,
) -> None:
    """Write the network with `arrays` to `directory`, which is made, as a reusable SavedModel.

    The arrays are written in their order, and need not be in memory before they are asked
    for. `output` names the signature's result (`logits` or `features`). Each file in `assets`
    is copied to the SavedModel's `assets/` under its own name. With `folded`, weight
    standardization is folded into the kernels, and the model is for prediction only.

    The same arguments give the same bytes, whatever the process did before.

    Raises `ExportError` for an asset that is not there.
    """
    for path in assets:
        if not path.is_file():  # TensorFlow would go on without it and say nothing
            raise ExportError(
                f"{path}: this file should go into the SavedModel's assets/, and is not there;"
                " put it there, or correct its path in models.yaml"
            )
    shapes = {name: array.shape for name, array in arrays.items()}
    if folded:
        arrays = importlib.import_module(f"{architecture.package}.folding").Folded(arrays)
    directory.mkdir(parents=True)
    data = directory / f".{bundle.DATA}.tmp"
    # The weights are read, summed and written while the graph is being traced.
    with ThreadPoolExecutor(1) as beside:
        written = beside.submit(bundle.write_data, data, arrays)
        from publisher.formats.saved_model import canonical, fingerprint, graph

        keys, others = graph.save_hollow(
            architecture,
            shapes,
            output=output,
            input_range=input_range,
            assets=assets,
            folded=folded,
            directory=directory,
        )
        gc.collect()  # the graph, which is full of circles
        spans = written.result()
    bundle.write_variables(directory / "variables", data, spans, keys, others)
    canonical.make_canonical(directory)
    fingerprint.make_reproducible(directory)
