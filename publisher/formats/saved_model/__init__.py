"""Writes a model as a SavedModel whose bytes are the same on every machine.

`export`       writes the whole SavedModel, with the help of the others;
`graph`        traces and saves the graph without the weights;
`bundle`       writes the weights;
`saver`        adds the nodes that save and restore the weights in a session;
`canonical`    renumbers functions and merges constants in `saved_model.pb`;
`fingerprint`  writes a reproducible `fingerprint.pb`.

All but `bundle` and `export` import TensorFlow, so only workers may import them.
"""
