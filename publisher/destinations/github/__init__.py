"""GitHub Releases."""
