"""One job -> the jobs that its matrix makes of it."""

import itertools
from collections.abc import Mapping
from typing import Any

from publisher.rehearsal.errors import RehearsalError
from publisher.rehearsal.expressions import Scope, Text, shown, value_of
from publisher.rehearsal.workflow import Job, Values

LARGEST = 256  # jobs (GitHub documentation, "Usage limits")


def values(found: Values, scope: Scope) -> dict[str, Any]:
    """Return values with their expressions evaluated."""
    return {name: _value(entry, scope) for name, entry in found.items()}


def combinations(job: Job, scope: Scope) -> list[dict[str, Any]]:
    """Return the `matrix` context of each job that a matrix makes; one, empty, if there is none.

    Raises `RehearsalError` for an empty matrix and for one that is too large, as GitHub does.
    """
    if not job.matrix:
        return [{}]
    found = values(job.matrix, scope)
    entries = found.pop("include", None)
    if "exclude" in found or (found and entries is not None):
        raise RehearsalError(
            f"{job.where}: a matrix with exclude, or with include beside others, is not rehearsed"
        )
    lists = [entries] if entries is not None else list(found.values())
    if not all(isinstance(one, list) and one for one in lists):
        raise RehearsalError(
            f"{job.where}: the matrix of {job.id} has no entries; GitHub refuses such a job"
        )
    combined: list[dict[str, Any]]
    if entries is not None:
        combined = entries
    else:
        combined = [dict(zip(found, one, strict=True)) for one in itertools.product(*lists)]
    if not all(isinstance(one, Mapping) for one in combined):
        raise RehearsalError(f"{job.where}: an entry of include is no mapping; correct it")
    if len(combined) > LARGEST:
        raise RehearsalError(
            f"{job.where}: the matrix of {job.id} makes {len(combined)} jobs; GitHub allows"
            f" {LARGEST}"
        )
    return combined


def name_of(job: Job, scope: Scope) -> str:
    """Return what a job is called, its matrix counted in."""
    if job.name is not None:
        return shown(value_of(job.name, scope), job.name.where)
    entries = scope.contexts["matrix"].values()
    words = [str(entry) for entry in entries if not isinstance(entry, Mapping | list)]
    return f"{job.id} ({', '.join(words)})" if words else job.id


def _value(entry: Any, scope: Scope) -> Any:
    if isinstance(entry, Text):
        return value_of(entry, scope)
    if isinstance(entry, Mapping):
        return values(entry, scope)
    return [_value(one, scope) for one in entry] if isinstance(entry, list) else entry
