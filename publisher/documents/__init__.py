"""The documents that this program writes and others read, one module each.

Every document is untrusted when it is read, and checked strictly.
"""
