"""The kinds of value in `models.yaml`: each a check for us and a JSON schema for editors.

A check returns its value or raises `ValueError` with what is wrong and what is allowed.
"""

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, WithJsonSchema

from publisher.documents.values import DATASETS, LICENSES, NETWORK_ARCHITECTURES
from publisher.families import ARCHITECTURES
from publisher.util.wording import shown, suggestion

# What a destination can be; `rules.destinations_name_a_place` has the form of each address.
KINDS = (
    "directory",
    "google-cloud-storage",
    "s3",
    "kaggle",
    "huggingface",
    "github",
    "tfhub",
)

# Weight standardization: at every call, which leaves kernels that can be trained, or once.
COMPUTED, FOLDED = "computed", "folded"

# Handles and paths become folders, addresses and archive members, whose names have to
# start with a word character. `collections` is a folder of its own in the page tree.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_PUBLISHER = r"[a-z0-9-]{1,100}"
_NAME = rf"(?!collections(?:/|$)){_WORD}"
_VERSION = r"[1-9][0-9]{0,8}"
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
# Addresses stand in Markdown links, so nothing that would end one.
_REST = r"[^\s\x00-\x20\"'()<>\\^`{|}\x7f-\uffff]+"

_CHARACTERS = "a-z, 0-9 and - in the publisher; letters, digits, _, - and . in the name"
HANDLE_FORM = f"publisher/name/version ({_CHARACTERS}, which no - or . begins)"
ALIAS_FORM = f"publisher/name without a version ({_CHARACTERS}, which no - or . begins)"
COLLECTION_FORM = f"publisher/collections/name/1 ({_CHARACTERS}, which no - or . begins)"


def _patterned(what: str, pattern: str, allowed: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{shown(text)} is no {what}; allowed: {allowed}")
        return text

    return check


def _matching(pattern: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{pattern})$"})


def _one_of(what: str, known: Sequence[str]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if text not in known:
            raise ValueError(f"{shown(text)} is no known {what}{suggestion(text, known)}")
        return text

    return check


def _choice(known: Sequence[str]) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "enum": list(known)})


def _check_handle(text: str) -> str:
    version = text.rpartition("/")[2]
    if re.fullmatch(r"-[0-9]+|0+", version) and text.count("/") == 2:
        raise ValueError(f"the version of {shown(text)} is below 1; allowed: 1, 2, 3, ...")
    return _patterned("handle", rf"{_PUBLISHER}/{_NAME}/{_VERSION}", HANDLE_FORM)(text)


def _check_path(text: str) -> str:
    allowed = "a relative path such as distill/R50x1_224.npz"
    reasons = {
        "it is absolute": text.startswith("/") or bool(re.match("[A-Za-z]:", text)),
        "'..' leads out of the folder": ".." in re.split(r"[/\\]", text),
        "'\\' is no separator here": "\\" in text,
    }
    for reason, applies in reasons.items():
        if applies:
            raise ValueError(f"{shown(text)} is no path, {reason}; allowed: {allowed}")
    names = "whose names hold letters, digits, _, -, + and ., which no -, + or . begins"
    return _patterned("path", _PATH, f"{allowed}, {names}")(text)


def _address(schemes: tuple[str, ...], *, base: bool) -> Callable[[str], str]:
    """Return the check of an address; a path is appended to one that is a `base`."""
    forms = [f"{scheme}://{'bucket' if scheme == 'gs' else 'host'}/..." for scheme in schemes]
    allowed = " or ".join(forms)

    def check(text: str) -> str:
        def refusal(reason: str) -> ValueError:
            return ValueError(f"{shown(text)} is no address, {reason}; allowed: {allowed}")

        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise refusal(str(error)) from None
        if parts.scheme.lower() not in schemes or not text.lower().startswith(
            tuple(f"{scheme}://" for scheme in schemes)
        ):
            raise refusal(f"it does not begin with {' or '.join(f'{s}://' for s in schemes)}")
        if not host or not re.fullmatch(
            r"[A-Za-z0-9_][A-Za-z0-9_.-]*|[0-9a-f:.]*:[0-9a-f:.]*", host
        ):
            raise refusal("it names no host")
        if not re.fullmatch(_REST, text):
            raise refusal("it has a space, a quote or a bracket in it, write those as %XX")
        if parts.username is not None:
            raise refusal("it holds a user name, which would be published")
        if base and (parts.query or parts.fragment or text[-1] in "?#"):
            raise refusal("paths are appended to it, so it cannot hold ? or #")
        return text

    return check


_check_https_base = _address(("https",), base=True)


def _check_asset_base(text: str) -> str:
    host = urlsplit(_check_https_base(text)).hostname or ""
    if host == "github.com" or host.endswith(".github.com"):
        raise ValueError(
            f"{shown(text)} is on github.com, which forbids automatic fetching;"
            " allowed: https:// on other storage"
        )
    return text


def _web(*schemes: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^(?:{'|'.join(schemes)})://[^\\s/]+"})


def _check_line(text: str) -> str:
    if not text.strip() or re.search(r"[\n\r\x85\u2028\u2029]", text.rstrip("\n")):
        raise ValueError(f"{shown(text)} is not one line of text; allowed: one line, not empty")
    return text


def _check_paragraph(text: str) -> str:
    # On a page it stands between the first line and the metadata.
    if not text.strip() or re.search(r"\n[^\S\n]*\n.", text, re.DOTALL) or text[:1] in "#<":
        raise ValueError(
            f"{shown(text)} is not a paragraph;"
            " allowed: text without an empty line in it that does not begin with # or <"
        )
    return text


def _check_prose(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty; allowed: one sentence or more")
    return text


def _check_range(bounds: tuple[float, float]) -> tuple[float, float]:
    low, high = bounds
    if low >= high:
        raise ValueError(f"[{low:g}, {high:g}] is no range; allowed: [low, high] with low < high")
    return bounds


def _check_distinct(values: tuple[Any, ...]) -> tuple[Any, ...]:
    for position, value in enumerate(values):
        if value in values[:position]:
            raise ValueError(f"{shown(str(value))} is there twice; allowed: each value once")
    return values


Head = Literal["classifier", "feature_extractor"]

Distinct = AfterValidator(_check_distinct)

ArchitectureName = Annotated[
    str, AfterValidator(_one_of("architecture", list(ARCHITECTURES))), _choice(list(ARCHITECTURES))
]
Dataset = Annotated[str, AfterValidator(_one_of("dataset", DATASETS)), _choice(DATASETS)]
NetworkArchitecture = Annotated[
    str,
    AfterValidator(_one_of("network architecture", NETWORK_ARCHITECTURES)),
    _choice(NETWORK_ARCHITECTURES),
]
License = Annotated[str, AfterValidator(_one_of("license", LICENSES)), _choice(LICENSES)]
WeightStandardization = Annotated[
    str,
    AfterValidator(_one_of("weight standardization", (COMPUTED, FOLDED))),
    _choice((COMPUTED, FOLDED)),
]

PublisherName = Annotated[
    str,
    AfterValidator(_patterned("publisher", _PUBLISHER, "a name of a-z, 0-9 and -")),
    _matching(_PUBLISHER),
]
CheckpointName = Annotated[
    str,
    AfterValidator(
        _patterned(
            "name of a checkpoint", _WORD, "letters, digits, _, - and ., which no - or . begins"
        )
    ),
    _matching(_WORD),
]
Handle = Annotated[
    str, AfterValidator(_check_handle), _matching(rf"{_PUBLISHER}/{_NAME}/{_VERSION}")
]
Alias = Annotated[
    str,
    AfterValidator(_patterned("alias", rf"{_PUBLISHER}/{_NAME}", ALIAS_FORM)),
    _matching(rf"{_PUBLISHER}/{_NAME}"),
]
CollectionHandle = Annotated[
    str,
    AfterValidator(
        _patterned(
            "handle of a collection", rf"{_PUBLISHER}/collections/{_WORD}/1", COLLECTION_FORM
        )
    ),
    _matching(rf"{_PUBLISHER}/collections/{_WORD}/1"),
]
DestinationName = Annotated[
    str,
    AfterValidator(
        _patterned(
            "name of a destination", _WORD, "letters, digits, _, - and ., which no - or . begins"
        )
    ),
    _matching(_WORD),
]
DestinationKind = Annotated[
    str, AfterValidator(_one_of("kind of destination", KINDS)), _choice(KINDS)
]
NameThere = Annotated[
    str,
    AfterValidator(
        _patterned("name", _WORD, "letters, digits, _, - and ., which no - or . begins")
    ),
    _matching(_WORD),
]
RelativePath = Annotated[str, AfterValidator(_check_path), _matching(_PATH)]

Upstream = Annotated[
    str,
    AfterValidator(_address(("https", "http", "gs"), base=True)),
    _web("https", "http", "gs"),
]
AssetBase = Annotated[str, AfterValidator(_check_asset_base), _web("https")]
WebAddress = Annotated[
    str, AfterValidator(_address(("https", "http"), base=False)), _web("https", "http")
]

Line = Annotated[
    str, AfterValidator(_check_line), WithJsonSchema({"type": "string", "minLength": 1})
]
Paragraph = Annotated[
    str, AfterValidator(_check_paragraph), WithJsonSchema({"type": "string", "minLength": 1})
]
Prose = Annotated[
    str, AfterValidator(_check_prose), WithJsonSchema({"type": "string", "minLength": 1})
]
Range = Annotated[tuple[float, float], AfterValidator(_check_range)]
