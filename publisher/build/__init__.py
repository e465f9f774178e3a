"""Building variants: finds the stale stages and runs them in parallel.

`build`      brings a selection of variants up to date;
`preflight`  finds what would make a build fail, before it starts;
`stages`     defines the stages: their inputs and what they do;
`engine`     runs tasks in order of their dependencies, within limits on jobs and memory;
`records`    stores what each stage was made from;
`manifest`   writes the manifest of a variant;
`snippets`   runs the Python of a page with a small stand-in for its model;
`workers`    processes that import TensorFlow once.
"""
