"""A release directory, and a checkout of the tfhub.dev documentation tree."""
