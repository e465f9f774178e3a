"""Writes a SavedModel's fingerprint without the random number that TensorFlow puts in it."""

import hashlib
import uuid
from pathlib import Path

from tensorflow.core.protobuf import fingerprint_pb2
from tensorflow.python.saved_model import fingerprinting_utils

FILE = "fingerprint.pb"


def make_reproducible(directory: Path) -> None:
    """Rewrite `fingerprint.pb` with a `uuid` derived from the content.

    TensorFlow draws a random `uuid` at each save; everything else in the file is a hash of the
    model. The new `uuid` is a version-8 UUID (RFC 9562: custom), a hash of the names and contents
    of all files of the SavedModel. It covers the assets too, because a model with other class
    names is another model.
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
        # Skip the shards, which are nearly all of the bytes: `variables.index` has a checksum of
        # every variable.
        shard = file.name.startswith("variables.data-")
        if not file.is_file() or shard or file == directory / FILE:
            continue
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{content}  {file.relative_to(directory).as_posix()}\n".encode())
    return digest.digest()
