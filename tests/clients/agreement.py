"""The models that clients load, and when an answer is right."""

from typing import Any

import numpy as np
import numpy.typing as npt

CLASSIFIER = "sayakpaul/small_classification/1"
EXTRACTOR = "sayakpaul/small_features/1"
FOLDED = "sayakpaul/small_prediction/1"
ALIAS = "sayakpaul/old_small"
HANDLES = [CLASSIFIER, EXTRACTOR, FOLDED]
OUTPUTS = {CLASSIFIER: "logits", EXTRACTOR: "features", FOLDED: "logits"}

# The bounds that the registry of these tests holds every build to.
ABSOLUTE, RELATIVE = 1e-4, 2e-4


def agrees(client: str, answer: Any, **expected: npt.NDArray[Any]) -> None:
    """Hold what a client computed to each of the named truths; `pytest -s` shows how near it is."""
    measured = np.asarray(answer, np.float64)
    for name, values in expected.items():
        assert measured.shape == values.shape
        bound = ABSOLUTE + RELATIVE * float(np.abs(values).max())
        # Answers that are all the same, or next to nothing, would agree with anything.
        assert np.ptp(values, axis=0).max() > 10 * bound
        error = float(np.abs(measured - values).max())
        print(f"{client}: largest difference from {name} {error:.1e}, bound {bound:.1e}")
        assert error <= bound, f"{client} differs from {name}"
