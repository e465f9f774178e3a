"""What goes wrong at a server, as a plan that a test makes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Fault:
    """What goes wrong at requests whose method and path have `call` in them.

    It strikes `skip` of them later, `times` in a row. `kind` is a status, a function that is
    called before the request is done, or a word that the server explains.
    """

    kind: Any
    call: str = ""
    skip: int = 0
    times: int = 1
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


def struck(faults: Iterable[Fault], call: str, *, whole: bool = False) -> Fault | None:
    """Return what strikes this request, if something does; `whole` asks for its whole name."""
    for fault in faults:
        meant = fault.call in ("", call) if whole else fault.call in call
        if meant and fault.times > 0:
            if fault.skip > 0:
                fault.skip -= 1
                continue
            fault.times -= 1
            return fault
    return None
