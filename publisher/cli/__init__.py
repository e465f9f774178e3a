"""The commands, one module for each thing that a person does.

`options`     what several commands take;
`building`    list, build;
`publishing`  plan, publish;
`editing`     withdraw, bump: changes of models.yaml;
`notes`       release-notes;
`serving`     serve, site;
`signing`     sign;
`verifying`   verify;
`workflows`   matrix, pull, pages, review, turn: what .github/workflows needs besides;
`results`     what is printed at the end of a run.
"""
