"""A release in an object store: Google Cloud Storage or S3."""
