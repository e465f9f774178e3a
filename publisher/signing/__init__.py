"""Who vouches for a release, how it came to be, and what it consists of.

Read in this order:

`source`      the checkout and the machine that a statement is made on;
`provenance`  how a version was made, as an in-toto statement with SLSA's predicate;
`bom`         what it consists of, as a CycloneDX bill of materials;
`bundle`      what a signature says, read without trust and without any library;
`signatures`  making and proving signatures, with the extra `sign`;
`sign`        all of it, for a release directory.
"""
