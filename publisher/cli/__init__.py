"""The commands, one module for each task of the user.

`options`     options that several commands share;
`building`    list, build;
`publishing`  plan, publish;
`editing`     withdraw, bump: edits of models.yaml;
`notes`       release-notes;
`serving`     serve, site;
`signing`     sign;
`verifying`   verify;
`ci`          commands for the workflows in .github/workflows;
`results`     the output at the end of a run.

A command parses its arguments, calls one function of the package that does the work, and
prints the result.
"""
