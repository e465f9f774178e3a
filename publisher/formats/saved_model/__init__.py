"""Writes a model as a SavedModel whose bytes are the same on every machine.

Imports TensorFlow; only the convert and validate stages may import this.
"""
