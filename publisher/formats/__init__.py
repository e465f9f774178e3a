"""The forms of a variant, one for each runtime, and the archive they travel in."""
