"""A hub: a release, read from a directory or a bucket, shown to browsers and to `hub.load`.

`index` and `catalogue` read a release without trusting it; `views`, `plot`, `documents` and
`pages` turn it into pages; `app` answers requests over the TensorFlow Hub hosting protocol
(https://www.tensorflow.org/hub/hosting), `server` runs it, and `site` writes the same pages
as files. Nothing here imports TensorFlow.
"""

from publisher.hub.errors import HubError

__all__ = ["HubError"]
