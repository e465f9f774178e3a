"""A release in a directory of this machine, and a checkout of the tfhub.dev documentation tree."""
