"""Weights -> SavedModel."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from publisher.architectures import Architecture
from publisher.errors import PublisherError
from publisher.saved_model import canonical, fingerprint


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
) -> None:
    """Write the network with `arrays` to `directory` as a reusable SavedModel.

    `output` names the signature's result (`logits` or `features`). Each file in `assets`
    is copied to the SavedModel's `assets/` under its own name.

    The same arguments give the same bytes, whatever the process did before.

    Raises `ExportError` for an asset that is not there.
    """
    for path in assets:
        if not path.is_file():  # TensorFlow would go on without it and say nothing
            raise ExportError(
                f"{path}: this file should go into the SavedModel's assets/, and is not there;"
                " put it there, or correct its path in models.yaml"
            )
    network = importlib.import_module(f"{architecture.package}.network")
    model, signature = network.build(architecture, arrays, input_range, output)
    model.assets = [tf.saved_model.Asset(str(path)) for path in assets]
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=True)
    tf.saved_model.save(model, str(directory), signatures=signature, options=options)
    canonical.make_canonical(directory)
    fingerprint.make_reproducible(directory)
