"""Measures this project against the notebook's route, side by side in one run.

`python -m benchmarks` writes `results.json`, `results.md` and `results.svg` here, and the
table and the plot into README.md. Read in this order:

`baseline`  the notebook's route: a Keras model, `model.save`, `tar czf`;
`probe`     one measurement, in a process of its own;
`runtimes`  other makers' converters and runtimes, in `.venv-clients`;
`measure`   runs a process, and watches its time and its memory;
`figures`   what is measured, and what is to be reached;
`run`       takes the samples, the baseline and this project in turn;
`report`    samples -> table and plot.

`python -m benchmarks.serving` measures what a server of the hub bears, with `clients`, and
writes it into docs/serving.md.
"""
