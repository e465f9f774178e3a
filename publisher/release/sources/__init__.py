"""Where a release is read from: a directory, a public bucket or any web host."""
