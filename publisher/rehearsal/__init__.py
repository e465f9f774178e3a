"""Runs the release workflow on this machine, without GitHub: `publisher ci rehearse`.

Each job runs its `run:` steps in order, in a clean folder with the files that git tracks and the
artifacts that earlier jobs uploaded. A part of a workflow that this package does not support is
an error with file and line. `make lint` checks the syntax and types of the workflows; a
rehearsal finds the errors that only a run shows. Read in this order:

`workflow`     parses a file of `.github/workflows` into values that know their line;
`expressions`  evaluates the text inside `${{ }}`;
`actions`      does what the workflow's actions do;
`rehearse`     prepares the folder of a rehearsal and runs the release workflow;
`run`          runs all jobs and their steps;
`prepare`      writes the registry, destinations and key of a rehearsal;
`small`        replaces the registry's networks by small stand-ins.
"""
