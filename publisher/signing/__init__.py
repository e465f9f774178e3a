"""Signs a release, and records its provenance and its bill of materials.

Read in this order:

`origin`      finds the checkout and the builder that a build comes from;
`provenance`  writes and reads in-toto statements with the predicate SLSA Provenance;
`bom`         writes and reads CycloneDX bills of materials;
`signatures`  makes and verifies signatures, with the extra `sign`;
`sign`        signs a release directory, with all of the above.
"""
