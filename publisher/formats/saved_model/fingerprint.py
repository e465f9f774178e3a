"""The fingerprint of a SavedModel, without the random number that TensorFlow puts in."""

import hashlib
import uuid
from pathlib import Path

from tensorflow.core.protobuf import fingerprint_pb2
from tensorflow.python.saved_model import fingerprinting_utils

FILE = "fingerprint.pb"


def make_reproducible(directory: Path) -> None:
    """Write `fingerprint.pb` anew, with a `uuid` that follows from the content.

    TensorFlow draws the `uuid` at each save; everything else in the file is a hash of the
    model. The new one is a version-8 UUID (RFC 9562: custom) made from the
    name and the content of every file of the SavedModel, assets included: another class
    name is another model.
    """
    path = directory / FILE
    fingerprinting_utils.write_fingerprint(str(directory))
    fingerprint = fingerprint_pb2.FingerprintDef.FromString(path.read_bytes())
    value = bytearray(_content_digest(directory)[:16])
    value[6] = value[6] & 0x0F | 0x80
    value[8] = value[8] & 0x3F | 0x80
    fingerprint.uuid = str(uuid.UUID(bytes=bytes(value)))
    path.write_bytes(fingerprint.SerializeToString(deterministic=True))


def _content_digest(directory: Path) -> bytes:
    digest = hashlib.sha256()
    for file in sorted(directory.rglob("*")):
        # `variables.index` holds a checksum of every variable and stands for the shards,
        # which are nearly all of the bytes.
        shard = file.name.startswith("variables.data-")
        if not file.is_file() or shard or file == directory / FILE:
            continue
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content}  {file.relative_to(directory).as_posix()}\n".encode())
    return digest.digest()
