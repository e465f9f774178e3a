"""The checks that an archive must pass before it is published.

`validate` runs the checks and returns a `report`. It first reads the archive as a stream
(`archive`), then loads it as users do: over HTTP, with `tensorflow_hub` (`client`).

`checks`           compare the loaded model with its checkpoint and the truth (`expected`);
`graph_checks`     check the graph alone, without its weights (`graph`, `subgraphs`, `operations`);
`training_checks`  check one training step with noise in the variables (`training`);
`graph_cache`      caches the results of the last two, shared by archives that hold the same graph.
"""
