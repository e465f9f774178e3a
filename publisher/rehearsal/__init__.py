"""Runs the release workflow here, without GitHub: `python -m publisher.rehearsal`.

Each job gets a clean folder with the files that git tracks and the artifacts that the workflow
passes on, and its `run:` steps run there in order. What this package does not know of a
workflow is an error with file and line. `make lint` checks syntax and types of the workflows;
this package finds what only a run shows. Read in this order:

`workflow`     a file of `.github/workflows` as values that know their line;
`expressions`  the text inside `${{ }}`;
`actions`      what actions bring into a job's folder, and keep of it;
`run`          all jobs and their steps, in order;
`stage`        the registry, destinations and key that a rehearsal is given;
`small`        the registry with small stand-ins of its networks.
"""
