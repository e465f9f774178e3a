"""A release: what it holds, how a destination differs from it, and publishing it."""
