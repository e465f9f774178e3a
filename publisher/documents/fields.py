"""Types of the fields in `models.yaml` and in documents, each with a check and a JSON schema.

A check returns its value or raises `ValueError` with what is wrong and what is allowed.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    StringConstraints,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core.core_schema import CoreSchema, no_info_after_validator_function

from publisher.documents.values import DATASETS, LICENSES, NETWORK_ARCHITECTURES
from publisher.families import ARCHITECTURES
from publisher.util.wording import shown, suggestion

_ACCOUNT = r"[A-Za-z0-9][A-Za-z0-9-]*"
_BUCKET = r"[a-z0-9][a-z0-9._-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*/?"
# The kinds of destination: the pattern of the address, and the pattern in words.
DESTINATIONS: Mapping[str, tuple[str, str]] = {
    "directory": (r"[^\0]+", "a path"),
    "google-cloud-storage": (f"gs://{_BUCKET}", "gs://bucket or gs://bucket/prefix"),
    "s3": (f"s3://{_BUCKET}", "s3://bucket or s3://bucket/prefix"),
    "kaggle": (f"{_ACCOUNT}/[a-z0-9][a-z0-9-]*", "owner/model, as in the model's address"),
    "huggingface": (_ACCOUNT, "the owner: a user or an organization"),
    "github": (f"{_ACCOUNT}/[A-Za-z0-9_.-]+", "owner/repository"),
    "tfhub": (r"[^\0]+", "the path of a checkout of tfhub.dev"),
}

# Weight standardization: at every call, which keeps the kernels trainable, or once at export.
COMPUTED, FOLDED = "computed", "folded"

# Handles and paths become folders, addresses and archive members, so each name starts with a
# word character. The page tree has a folder `collections` of its own.
_WORD = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
_PUBLISHER = r"[a-z0-9-]{1,100}"
_NAME = rf"(?!collections(?:/|$)){_WORD}"
_PATH = r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]*)*"
# Pages put addresses into Markdown links, so no character that would end one.
_REST = r"[^\s\x00-\x20\"'()<>\\^`{|}\x7f-\uffff]+"

_WORD_FORM = "letters, digits, _, - and ., which no - or . begins"
_CHARACTERS = "a-z, 0-9 and - in the publisher; letters, digits, _, - and . in the name"
HANDLE_FORM = f"publisher/name/version ({_CHARACTERS}, which no - or . begins)"
ALIAS_FORM = f"publisher/name without a version ({_CHARACTERS}, which no - or . begins)"
COLLECTION_FORM = f"publisher/collections/name/1 ({_CHARACTERS}, which no - or . begins)"
_PATH_FORM = (
    "a relative path such as distill/R50x1_224.npz, whose names hold letters, digits, _, -, + and"
    " ., which no -, + or . begins"
)

Check = Callable[[str], str]


@dataclass(frozen=True, eq=False)  # compared as objects, since a schema has no hash
class _Text:
    """A type of text: its check and its JSON schema."""

    check: Check
    schema: Mapping[str, Any]

    def __get_pydantic_core_schema__(
        self, source: type[str], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", **self.schema}


def _patterned(what: str, pattern: str, allowed: str) -> _Text:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{shown(text)} is no {what}; allowed: {allowed}")
        return text

    return _Text(check, {"pattern": f"^(?:{pattern})$"})


def _one_of(what: str, known: Sequence[str]) -> _Text:
    def check(text: str) -> str:
        if text not in known:
            raise ValueError(f"{shown(text)} is no known {what}{suggestion(text, known)}")
        return text

    return _Text(check, {"enum": list(known)})


def _check_version(text: str) -> str:
    if re.fullmatch(r"[^/]*/[^/]*/(?:-[0-9]+|0+)", text):
        raise ValueError(f"the version of {shown(text)} is below 1; allowed: 1, 2, 3, ...")
    return text


def _address(*schemes: str, base: bool) -> _Text:
    """Return a type of address; paths are appended to a `base`."""
    starts = [f"{scheme}://" for scheme in schemes]
    forms = [f"{start}{'bucket' if start == 'gs://' else 'host'}/..." for start in starts]

    def check(text: str) -> str:
        def refusal(reason: str) -> ValueError:
            allowed = " or ".join(forms)
            return ValueError(f"{shown(text)} is no address, {reason}; allowed: {allowed}")

        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise refusal(str(error)) from None
        if not text.lower().startswith(tuple(starts)):
            raise refusal(f"it does not begin with {' or '.join(starts)}")
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

    return _Text(check, {"pattern": f"^(?:{'|'.join(schemes)})://[^\\s/]+"})


def _check_not_github(text: str) -> str:
    host = urlsplit(text).hostname or ""
    if host == "github.com" or host.endswith(".github.com"):
        raise ValueError(
            f"{shown(text)} is on github.com, which forbids automatic fetching;"
            " allowed: https:// on other storage"
        )
    return text


def _check_line(text: str) -> str:
    if not text.strip() or re.search(r"[\n\r\x85\u2028\u2029]", text.rstrip("\n")):
        raise ValueError(f"{shown(text)} is not one line of text; allowed: one line, not empty")
    return text


def _check_paragraph(text: str) -> str:
    # Pages put it between the first line and the metadata.
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


def _check_shape(shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
    # Pages have names for batch, height and width only.
    if None in shape[3:]:
        raise ValueError("a dimension after the third is open")
    return shape


Head = Literal["classifier", "feature_extractor"]

Value = TypeVar("Value")
Distinct = Annotated[
    tuple[Value, ...],
    Field(min_length=1, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_distinct),
]

ArchitectureName = Annotated[str, _one_of("architecture", list(ARCHITECTURES))]
Dataset = Annotated[str, _one_of("dataset", DATASETS)]
NetworkArchitecture = Annotated[str, _one_of("network architecture", NETWORK_ARCHITECTURES)]
License = Annotated[str, _one_of("license", LICENSES)]
WeightStandardization = Annotated[str, _one_of("weight standardization", (COMPUTED, FOLDED))]
DestinationKind = Annotated[str, _one_of("kind of destination", list(DESTINATIONS))]

PublisherName = Annotated[str, _patterned("publisher", _PUBLISHER, "a name of a-z, 0-9 and -")]
CheckpointName = Annotated[str, _patterned("name of a checkpoint", _WORD, _WORD_FORM)]
DestinationName = Annotated[str, _patterned("name of a destination", _WORD, _WORD_FORM)]
NameThere = Annotated[str, _patterned("name", _WORD, _WORD_FORM)]
Handle = Annotated[
    str,
    AfterValidator(_check_version),
    _patterned("handle", rf"{_PUBLISHER}/{_NAME}/[1-9][0-9]{{0,8}}", HANDLE_FORM),
]
Alias = Annotated[str, _patterned("alias", rf"{_PUBLISHER}/{_NAME}", ALIAS_FORM)]
CollectionHandle = Annotated[
    str,
    _patterned("handle of a collection", rf"{_PUBLISHER}/collections/{_WORD}/1", COLLECTION_FORM),
]
RelativePath = Annotated[str, _patterned("path", _PATH, _PATH_FORM)]

Upstream = Annotated[str, _address("https", "http", "gs", base=True)]
AssetBase = Annotated[str, _address("https", base=True), AfterValidator(_check_not_github)]
WebAddress = Annotated[str, _address("https", "http", base=False)]

Line = Annotated[str, _Text(_check_line, {"minLength": 1})]
Paragraph = Annotated[str, _Text(_check_paragraph, {"minLength": 1})]
Prose = Annotated[str, _Text(_check_prose, {"minLength": 1})]
Range = Annotated[tuple[float, float], AfterValidator(_check_range)]

# Types that only documents use. Pages escape texts, so a text may hold anything.
LONGEST_TEXT = 10_000  # characters
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, le=2**53)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
Name = Annotated[
    str, StringConstraints(pattern=r"^[a-z0-9-]{1,100}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$")
]
Shape = Annotated[tuple[Count | None, ...], Field(max_length=8), AfterValidator(_check_shape)]
