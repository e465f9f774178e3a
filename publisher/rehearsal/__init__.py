"""Runs the release workflow here, without GitHub: `python -m publisher.rehearsal`.

Each job gets a clean folder, with the files that git tracks and the artifacts that the
workflow passes on, and its `run:` steps are run there in order. Whatever this room does not
know of a workflow is an error, so that nothing is left out unsaid. Read in this order:

`expressions`  what stands in `${{ }}`;
`workflow`     a file of `.github/workflows` as values that know their line;
`matrix`       one job -> the jobs that its matrix makes of it;
`checkout`     what `actions/checkout` brings;
`artifacts`    what one job leaves for another;
`steps`        one step, in the folder of its job;
`run`          all jobs, in their order;
`stage`        the registry, destinations and key that a rehearsal is given;
`small`        the registry with stand-ins for its networks.
"""
