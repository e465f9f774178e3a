"""Publishes BiT-ResNet checkpoints as checked, reproducible TensorFlow SavedModels.

`models.yaml` says what should be published; this package makes it true in a
release directory, and can prove it. Read the folders in the order of the data:

    registry -> weights -> bit -> saved_model -> package -> validation
             -> pages -> release -> destinations

`pipeline` runs them, `cli` is what a person types.
"""

__version__ = "0.1.0"
