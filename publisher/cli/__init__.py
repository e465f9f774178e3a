"""The commands, one module for each thing that a person does.

`options`     what several commands take;
`building`    list, build;
`publishing`  plan, publish;
`editing`     withdraw, bump: changes of models.yaml;
`notes`       release-notes;
`serving`     serve, site;
`signing`     sign;
`verifying`   verify;
`ci`          what .github/workflows needs besides;
`results`     what is printed at the end of a run.

A command parses what was typed, calls one function of the package that does the work, and
prints what that returns.
"""
