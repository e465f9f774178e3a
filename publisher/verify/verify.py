"""Runs all checks of a target."""

from collections.abc import Callable

from publisher.signing.signatures import Verifier
from publisher.verify import archives, release, signatures
from publisher.verify.findings import Finding, failed, unproved
from publisher.verify.targets import Target

Examination = Callable[[Target], Finding]
UNSAFE = "not checked, because the archive is not safe"


def verify(
    target: Target,
    rebuild: Examination | None = None,
    cross_check: Examination | None = None,
    verifier: Verifier | None = None,
) -> list[Finding]:
    """Return the findings on a target: first what is proved, then what failed, then what is open.

    `rebuild` and `cross_check` run if they are given; `verifier` checks signatures of the signer
    that a person trusts. An unsafe archive is not unpacked, and an unsafe graph is not run.
    """
    findings: list[Finding] = []
    if target.catalogue is not None:
        findings.append(release.index(target.catalogue))
        findings += release.sums(target.catalogue, target.digests, target.root)
    findings.append(_digests(target))
    findings.append(archives.safety(target.archives))
    safe = findings[-1].status == "proved"
    if safe:
        findings.append(archives.operations(target.archives))
        safe = findings[-1].status == "proved"
    else:
        findings.append(unproved(archives.OPERATIONS, UNSAFE))
    signed = signatures.signature(target, verifier)
    findings += [signed, signatures.provenance(target), *signatures.materials(target)]
    if rebuild is None:
        detail = "--rebuild makes the archive again from the weights and compares all bytes"
        findings.append(unproved("rebuild", detail))
    else:
        findings.append(rebuild(target))
    if cross_check is None:
        detail = "--cross-check computes outputs with independent implementations"
        findings.append(unproved("cross-check", detail))
    elif safe:
        findings.append(cross_check(target))
    else:
        findings.append(unproved("cross-check", UNSAFE))
    findings += [*_beyond(target), signatures.origin(target, signed)]
    order = ("proved", "failed", "open")
    return sorted(findings, key=lambda finding: order.index(finding.status))


def _digests(target: Target) -> Finding:
    if target.manifests:
        stated = {
            handle: (manifest.archive.size, manifest.archive.sha256)
            for handle, manifest in target.manifests.items()
        }
        return archives.digests(target.archives, target.digests, stated)
    sums = ", ".join(target.digests.values())
    detail = f"{target.unstated}; compare yourself with what the publisher states: SHA-256 {sums}"
    return unproved(archives.DIGESTS, detail)


def _beyond(target: Target) -> list[Finding]:
    """Return what nothing here can prove."""
    beyond = []
    manifests = target.manifests.values()
    blamed = [manifest.handle for manifest in manifests if not manifest.validation.passed]
    if blamed:
        detail = f"its own manifest says that a check failed: {', '.join(blamed)}"
        beyond.append(failed("predictions", detail))
    elif any(manifest.synthetic for manifest in manifests):
        detail = "the weights are synthetic (random numbers): predictions mean nothing"
        beyond.append(unproved("predictions", detail))
    elif manifests:
        count = sum(
            check.status == "passed"
            for manifest in manifests
            for check in manifest.validation.checks
        )
        detail = f"the publisher states {count} passed checks; `publisher build` makes them again"
        beyond.append(unproved("predictions", detail))
    else:
        beyond.append(unproved("predictions", "nothing says what it should predict"))
    for handle, reason in target.withdrawn.items():
        detail = f"{handle} is withdrawn by its publisher: {' '.join(reason.split())}"
        beyond.append(unproved("use", detail))
    return beyond
