"""The checks that a packed archive must pass before it may be published.

`validate` runs them, each a small named function in `checks`; `report` is what they
leave. `archive` looks at the packed file before anything is unpacked. Then it is loaded
the way its users load it: over HTTP, by `tensorflow_hub`. `checks`, `operations` and
`validate` import TensorFlow.
"""
