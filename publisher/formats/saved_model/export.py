"""Exports weights as a SavedModel. Imports TensorFlow only when it writes."""

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
    """A SavedModel cannot be written from the given files."""


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
    """Write the network with `arrays` as a reusable SavedModel to a new `directory`.

    Gets and writes the arrays one at a time, in their order. `output` names the signature's
    result (`logits` or `features`). Copies each file in `assets` to the SavedModel's `assets/`
    under its own name. With `folded`, folds weight standardization into the kernels, for a model
    that is for prediction only.

    The same arguments give the same bytes, whatever the process did before.

    Raises `ExportError` if an asset does not exist.
    """
    for path in assets:
        if not path.is_file():  # TensorFlow would silently leave it out
            raise ExportError(
                f"{path}: does not exist, but belongs in the SavedModel's assets/; restore it, or"
                " correct its path in models.yaml"
            )
    shapes = {name: array.shape for name, array in arrays.items()}
    if folded:
        arrays = importlib.import_module(f"{architecture.package}.folding").Folded(arrays)
    directory.mkdir(parents=True)
    data = directory / f".{bundle.DATA}.tmp"
    # Write the weights in another thread while this one traces the graph.
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(bundle.write_data, data, arrays)
        from publisher.formats.saved_model import canonical, fingerprint, graph

        keys, others = graph.save_without_weights(
            architecture,
            shapes,
            output=output,
            input_range=input_range,
            assets=assets,
            folded=folded,
            directory=directory,
        )
        gc.collect()  # a graph is full of reference cycles
        spans = written.result()
    bundle.write_variables(directory / "variables", data, spans, keys, others)
    canonical.make_canonical(directory)
    fingerprint.make_reproducible(directory)
