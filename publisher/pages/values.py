"""The metadata keys and values that tfhub.dev's validator accepts.

Source: `tools/validator.py` and `tags/*.yaml` of tensorflow/tfhub.dev; of its
many tasks, only those for image models. The values that the registry may use come from
`publisher.documents.values`.
"""

from collections.abc import Mapping

from publisher.documents.values import DATASETS, LICENSES, NETWORK_ARCHITECTURES

REQUIRED_KEYS: Mapping[str, tuple[str, ...]] = {
    "Module": ("asset-path", "task", "fine-tunable", "format"),
    "Collection": ("task",),
    "Publisher": (),
}
OPTIONAL_KEYS: Mapping[str, tuple[str, ...]] = {
    "Module": (
        "dataset",
        "network-architecture",
        "license",
        "language",
        "colab",
        "interactive-visualizer",
    ),
    "Collection": ("dataset", "language", "network-architecture"),
    "Publisher": (),
}
REPEATABLE_KEYS = ("dataset", "language", "task", "network-architecture")

CLASSIFIER_TASKS = ("image-classification", "image-classification-logits")
FEATURE_TASKS = ("image-feature-vector",)

ALLOWED_VALUES: Mapping[str, tuple[str, ...]] = {
    "task": (*CLASSIFIER_TASKS, *FEATURE_TASKS),
    "fine-tunable": ("true", "false"),
    "format": ("saved_model_2",),
    "dataset": DATASETS,
    "network-architecture": NETWORK_ARCHITECTURES,
    "license": LICENSES,
}

ARCHIVE_SUFFIX = ".tar.gz"
COLAB_HOST = "colab.research.google.com"
