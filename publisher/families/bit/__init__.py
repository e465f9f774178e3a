"""The BiT network (ResNet-v2 with group normalization and weight standardization).

Views of one thing, which import nothing of the project:

`layout`     the names and shapes of a checkpoint's arrays;
`folding`    its kernels, standardized before they are written;
`network`    the TensorFlow form (imports TensorFlow);
`reference`  the float64 NumPy form, which shares no code with `network`;
`jax_form`   the JAX form, which shares no code with either (imports JAX).

Sources: Kolesnikov et al., "Big Transfer (BiT)", arXiv:1912.11370, and the
published code google-research/big_transfer.
"""

from publisher.families.bit.layout import ARCHITECTURES, BitArchitecture

__all__ = ["ARCHITECTURES", "BitArchitecture"]
