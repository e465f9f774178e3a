"""The entry point of verification: from settings to findings."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from publisher.build.stages import Run
from publisher.signing.signatures import Verifier, identity_verifier, key_verifier
from publisher.util.reporter import Reporter
from publisher.verify.cross_check import Row, cross_check, require_jax
from publisher.verify.findings import Finding
from publisher.verify.rebuild import rebuild
from publisher.verify.settings import VerifySettings
from publisher.verify.targets import Target, target_of
from publisher.verify.verify import verify

# Returns the run that rebuilds archives, given its build folder and the source of weights.
MakeRun = Callable[[Path, str | None], Run]


@dataclass(frozen=True)
class Verified:
    """The name of the target, the findings, and the rows of a cross-check."""

    name: str
    findings: Sequence[Finding]
    rows: Sequence[Row]


def prove(
    settings: VerifySettings, environment: Mapping[str, str], reporter: Reporter, make_run: MakeRun
) -> Verified:
    """Verify what the settings name, and keep no downloaded file.

    Raises `VerifyError` or `ReleaseError` if it cannot be found or read.
    """
    verifier = _verifier(settings)
    if settings.cross_check:
        require_jax()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="publisher-verify-") as name:
        folder = Path(name)
        target = target_of(settings.model, settings.release, environment, folder, reporter)

        def rebuilt(target: Target) -> Finding:
            synthetic = all(found.synthetic for found in target.manifests.values())
            weights = settings.weights
            if weights is None and synthetic and target.manifests:
                weights = "synthetic"
            return rebuild(make_run(folder / "build", weights), target)

        def cross_checked(target: Target) -> Finding:
            finding, found = cross_check(target, reporter)
            rows.extend(found)
            return finding

        findings = verify(
            target,
            rebuilt if settings.rebuild else None,
            cross_checked if settings.cross_check else None,
            verifier,
        )
    return Verified(target.name, findings, rows)


def _verifier(settings: VerifySettings) -> Verifier | None:
    """Return the verifier of the key or identity that a person trusts, if they named one."""
    if settings.key:
        return key_verifier(settings.key)
    if settings.identity and settings.issuer:
        return identity_verifier(settings.identity, settings.issuer)
    return None
