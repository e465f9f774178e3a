"""Compares this project with the notebook's route, side by side in one run.

`python -m benchmarks` writes `results.json`, `results.md` and `results.svg` to this folder, and
updates the table and the plot in README.md. Read in this order:

`baseline`  the notebook's route: a Keras model, `model.save`, `tar czf`;
`probe`     makes one measurement in its own process;
`runtimes`  third-party converters and runtimes, installed in `.venv-clients`;
`measure`   runs a process, and measures its time and its memory;
`figures`   the figures to measure, and their targets;
`limits`    measures the work that no implementation can avoid;
`run`       takes all samples, alternating between the baseline and this project;
`report`    writes the samples as tables and a plot.

`python -m benchmarks.serving` measures the throughput and the memory of a hub's server with
`clients`, and updates docs/serving.md.
"""
