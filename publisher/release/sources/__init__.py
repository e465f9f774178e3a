"""Sources of a release: a directory, a public bucket or any web host."""
