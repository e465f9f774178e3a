"""The datasets, architectures and licenses that a page's metadata may name.

Source: `tags/*.yaml` and `tools/validator.py` of tensorflow/tfhub.dev. Of datasets and
architectures, these are the ones that apply to image models of the ResNet family.
"""

DATASETS = (
    "cifar-10",
    "cifar-100",
    "imagenet",
    "imagenet-21k",
    "imagenet-ilsvrc-2012-cls",
    "kitti",
    "other",
    "svhn",
)
NETWORK_ARCHITECTURES = (
    "bit",
    "other",
    "resnet",
    "resnet-152",
    "resnet-v2-101",
    "resnet-v2-152",
    "resnet-v2-50",
    "resnet101-v2",
    "resnet101x3-v2",
    "resnet152x4-v2",
    "resnet50-v2",
    "resnet50x3-v2",
)
LICENSES = (
    "apache-2.0",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc-by-nc-4.0",
    "cddl-1.0",
    "custom",
    "epl-2.0",
    "gpl-2.0",
    "gpl-3.0",
    "lgpl-2.0",
    "lgpl-2.1",
    "lgpl-3.0",
    "mit",
    "mpl-2.0",
)
