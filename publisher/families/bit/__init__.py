"""The BiT network (ResNet-v2 with group normalization and weight standardization).

This package imports nothing else of the project.

`layout`     the names and shapes of a checkpoint's arrays;
`folding`    standardizes the kernels of a checkpoint in advance;
`layers`     the layers in TensorFlow;
`network`    the network in TensorFlow;
`reference`  the forward pass in float64 NumPy, which shares no code with `network`;
`jax_form`   the forward pass in JAX, which shares no code with either.

Sources: Kolesnikov et al., "Big Transfer (BiT)", arXiv:1912.11370, and the
published code google-research/big_transfer.
"""

from publisher.families.bit.layout import ARCHITECTURES, BitArchitecture

__all__ = ["ARCHITECTURES", "BitArchitecture"]
