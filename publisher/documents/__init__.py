"""The documents that this program writes and others read, one module each.

A document from elsewhere is read here, strictly, and without trust.
"""
