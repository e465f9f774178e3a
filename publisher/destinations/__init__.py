"""Where a release can be: a folder for each kind, behind the interface in `base`."""
