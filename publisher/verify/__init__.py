"""Verifying a downloaded model or a whole release.

Read in this order:

`findings`     the result of each check: proved, failed or open;
`targets`      finds the archives of a path, address or handle;
`release`      checks a whole release: its index and all its digests;
`archives`     checks archives: digest, safety, operations;
`signatures`   checks signatures, provenance and bills of materials;
`rebuild`      builds archives again from the upstream weights;
`cross_check`  computes outputs with independent implementations;
`verify`       runs all checks;
`prove`        the entry point: from settings to findings.
"""
