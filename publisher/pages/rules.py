"""The rules for a set of pages.

The first half are the rules of tfhub.dev's own validator (tensorflow/tfhub.dev,
`tools/validator.py`). The second half catch mistakes found on hand-written pages: a snippet
that loads a wrong or missing model or cannot run, a link whose text and target name different
models, a table column that mixes heads, a collection that does not state its training data.
"""

import posixpath
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from publisher.pages.document import PLACES, Document, Line, parse, publisher_path
from publisher.pages.errors import PageError
from publisher.pages.snippets import addresses, snippets, syntax_problem, undefined_names
from publisher.pages.values import (
    ALLOWED_VALUES,
    ARCHIVE_SUFFIX,
    CLASSIFIER_TASKS,
    COLAB_HOST,
    FEATURE_TASKS,
    OPTIONAL_KEYS,
    REPEATABLE_KEYS,
    REQUIRED_KEYS,
)

HUB = "https://tfhub.dev/"

_ADDRESS = re.compile(r"https?://[^\s\"'`<>()\[\]|]+")
# On these hosts a publisher's name is an account name; paths there are not handles.
_ACCOUNTS = re.compile(
    r"https?://(?:[\w-]+\.)*(?:github\.com|githubusercontent\.com|colab\.research\.google\.com)"
    r"[^\s\"'`<>()\[\]|]*"
)
_LINK = re.compile(r"\[(?P<text>(?:[^\[\]]|\[[^\[\]]*\])*)\]\((?P<target>[^()\s]+)[^()]*\)")
_COLUMNS = {"classifier": CLASSIFIER_TASKS, "feature extractor": FEATURE_TASKS}


@dataclass(frozen=True)
class Finding:
    """A broken rule: the line of a page, what is wrong, and what is allowed."""

    path: str
    line: int
    message: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.message}"


@dataclass(frozen=True)
class Tree:
    """All pages that are checked together.

    `handles` are those that a page may mention: of these pages and of other existing models.
    """

    documents: Mapping[str, Document]
    handles: frozenset[str]

    @property
    def publishers(self) -> list[str]:
        """The publishers whose pages these are."""
        return sorted({document.publisher for document in self.documents.values()})

    def module(self, handle: str) -> Document | None:
        """Return the model page of a handle."""
        for document in self.documents.values():
            if document.kind == "Module" and document.handle == handle:
                return document
        return None


Problem = tuple[int, str]
Rule = Callable[[Document, Tree], Iterator[Problem]]


def check_pages(pages: Mapping[str, str], known_handles: Collection[str] = ()) -> list[str]:
    """Return every broken rule as `path:line: what is wrong, what is allowed`, sorted.

    `pages` are texts by path, relative to the root of the tfhub.dev repository.
    `known_handles` are other models that a page may mention, such as one in the registry that
    is not built yet.
    """
    parsed = {path: parse(path, text) for path, text in pages.items()}
    documents = {path: document for path, document in parsed.items() if document}
    handles = {page.handle for page in documents.values() if page.kind != "Publisher"}
    tree = Tree(documents, frozenset(handles | set(known_handles)))
    findings = [
        Finding(path, 1, f"no page may lie here; allowed: {PLACES}")
        for path in pages
        if path not in documents
    ]
    findings += [
        Finding(document.path, line, message)
        for document in documents.values()
        for rule in RULES
        for line, message in rule(document, tree)
    ]
    findings.sort(key=lambda finding: (finding.path, finding.line))
    return list(dict.fromkeys(map(str, findings)))


def require_good_pages(
    pages: Mapping[str, str],
    known_handles: Collection[str] = (),
    only: Collection[str] | None = None,
) -> None:
    """Raise `PageError` with every finding of `check_pages`, if there is one.

    `only` restricts the findings to these paths; other pages serve as link targets.
    """
    findings = [
        finding
        for finding in check_pages(pages, known_handles)
        if only is None or finding.partition(":")[0] in only
    ]
    if findings:
        count = "1 page rule is" if len(findings) == 1 else f"{len(findings)} page rules are"
        raise PageError(
            "\n  ".join([f"{count} broken; correct models.yaml or the templates:", *findings])
        )


def first_line_agrees_with_the_path(document: Document, tree: Tree) -> Iterator[Problem]:
    """Ask for the first line that follows from the path."""
    if document.first_line != document.title:
        yield 1, f"first line is {document.first_line!r}; allowed: {document.title!r}"


def description_follows(document: Document, tree: Tree) -> Iterator[Problem]:
    """Ask for a paragraph after the first line."""
    if not document.description:
        yield 2, "no description; a paragraph must follow the first line, before the metadata"


def only_metadata_before_the_next_heading(document: Document, tree: Tree) -> Iterator[Problem]:
    """Refuse any other line between the description and the first further heading."""
    for line in document.strays:
        yield (
            line.number,
            f"{line.text!r} stands where only metadata may; allowed: lines"
            " '<!-- key: value -->' until the next heading",
        )


def keys_are_allowed(document: Document, tree: Tree) -> Iterator[Problem]:
    """Check required, unknown and repeated keys."""
    required, optional = REQUIRED_KEYS[document.kind], OPTIONAL_KEYS[document.kind]
    seen: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for entry in document.metadata:
        if entry.key not in required + optional:
            allowed = ", ".join(required + optional) or "none"
            yield (
                entry.line,
                f"key {entry.key!r} is unknown on a {document.kind} page; allowed: {allowed}",
            )
        elif entry.key in seen and entry.key not in REPEATABLE_KEYS:
            repeatable = ", ".join(REPEATABLE_KEYS)
            yield entry.line, f"key {entry.key!r} is repeated; only {repeatable} may be"
        elif (entry.key, entry.value) in pairs:
            yield entry.line, f"{entry.key} {entry.value!r} is given twice; once is enough"
        seen.add(entry.key)
        pairs.add((entry.key, entry.value))
    for key in required:
        if key not in seen:
            yield 1, f"metadata '<!-- {key}: ... -->' is missing; it is required here"


def values_are_allowed(document: Document, tree: Tree) -> Iterator[Problem]:
    """Check values that come from a list, and addresses."""
    for entry in document.metadata:
        allowed = ALLOWED_VALUES.get(entry.key)
        if allowed is not None and entry.value not in allowed:
            yield entry.line, f"{entry.key} is {entry.value!r}; allowed: {', '.join(allowed)}"
        if entry.key == "colab" and not _at(entry.value, COLAB_HOST):
            yield entry.line, f"colab is {entry.value!r}; allowed: https://{COLAB_HOST}/..."


def asset_path_can_be_fetched(document: Document, tree: Tree) -> Iterator[Problem]:
    """Check the address of the archive."""
    for entry in document.metadata:
        if entry.key != "asset-path":
            continue
        address = urlsplit(entry.value)
        host = address.hostname or ""
        if address.scheme != "https" or not host:
            yield entry.line, f"asset-path is {entry.value!r}; it must begin with https://"
        if not entry.value.endswith(ARCHIVE_SUFFIX):
            yield entry.line, f"asset-path is {entry.value!r}; it must end in {ARCHIVE_SUFFIX}"
        if host == "github.com" or host.endswith(".github.com"):
            yield (
                entry.line,
                f"asset-path is on {host}, which forbids automatic fetching; use other storage",
            )
        if any(not _within(found, document.handle) for found in _mentions(entry.value, tree)):
            yield (
                entry.line,
                f"asset-path names another model; allowed on this page: {document.handle}",
            )
        for other in tree.documents.values():
            if other.path < document.path and entry.value in other.values("asset-path"):
                yield (
                    entry.line,
                    f"asset-path is also used by {other.path}; give each model its own",
                )


def publisher_has_a_page(document: Document, tree: Tree) -> Iterator[Problem]:
    """Require a page for the publisher."""
    path = publisher_path(document.publisher)
    if path not in tree.documents:
        yield 1, f"publisher {document.publisher!r} has no page; add {path}"


def collection_has_models(document: Document, tree: Tree) -> Iterator[Problem]:
    """Require that a collection lists models, and that each has a page."""
    if document.kind != "Collection":
        return
    listed = list(_listed(document))
    for number, handle in listed:
        if tree.module(handle) is None:
            yield number, f"{HUB}{handle} has no page; allowed: {_alternatives(handle, tree)}"
    if not listed:
        yield (
            1,
            f"a collection must list at least one model as {HUB}<publisher>/<name>/<version>",
        )


def collection_states_what_its_models_state(document: Document, tree: Tree) -> Iterator[Problem]:
    """Require the tasks, datasets and architectures of a collection to match its models."""
    if document.kind != "Collection":
        return
    models = [model for _, handle in _listed(document) if (model := tree.module(handle))]
    for key in ("task", "dataset", "network-architecture") if models else ():
        stated = set(document.values(key))
        wanted = {value for model in models for value in model.values(key)}
        for value in sorted(wanted - stated):
            yield 1, f"{key} {value!r} of a listed model is missing; add '<!-- {key}: {value} -->'"
        for entry in document.metadata:
            if entry.key == key and entry.value not in wanted:
                allowed = ", ".join(sorted(wanted)) or "none"
                yield (
                    entry.line,
                    f"{key} {entry.value!r} belongs to no listed model; allowed: {allowed}",
                )


def code_names_only_its_own_model(document: Document, tree: Tree) -> Iterator[Problem]:
    """Reject the handle or the archive of another model in a code block."""
    if document.kind == "Publisher":
        return
    own = f"allowed on this page: {document.handle}"
    archives = document.values("asset-path")
    for line in (line for block in document.code for line in block.lines):
        for found in _mentions(line.text, tree):
            if not _within(found, document.handle):
                yield line.number, f"code names {found!r}; {own}"
        for address in _ADDRESS.findall(_without_accounts(line.text)):
            foreign = address.startswith(HUB) and not _within(
                address.removeprefix(HUB), document.handle
            )
            archive = address.partition("?")[0].endswith(ARCHIVE_SUFFIX)
            if foreign or (archive and address.partition("?")[0] not in archives):
                yield line.number, f"code loads {address}; {own}, {', '.join(archives) or HUB}"


def code_blocks_are_closed(document: Document, tree: Tree) -> Iterator[Problem]:
    """Reject an unclosed code block, which swallows the rest of the page."""
    for block in document.code:
        if not block.closed:
            yield block.line, "this code block is not closed; end it with the same fence"


def snippets_compile_and_load_what_is_served(document: Document, tree: Tree) -> Iterator[Problem]:
    """Require Python that compiles, defines its names and loads what the release serves."""
    served = sorted(
        {path for page in tree.documents.values() for path in page.values("asset-path")}
    )
    for snippet in snippets(document.code):
        if fault := syntax_problem(snippet):
            yield fault.line, fault.message
            continue
        for fault in undefined_names(snippet):
            yield fault.line, fault.message
        allowed = ", ".join(document.values("asset-path") or served) or "none"
        for number, address in addresses(snippet):
            if address not in served:
                yield (
                    number,
                    f"this Python names {address}, which the release does not serve;"
                    f" allowed: {allowed}",
                )


def only_models_have_snippets(document: Document, tree: Tree) -> Iterator[Problem]:
    """Reject Python on other pages: only the snippets of model pages run before publication."""
    if document.kind != "Module":
        for snippet in snippets(document.code):
            yield (
                snippet.line,
                f"Python on a {document.kind} page; allowed: on Module pages, where it runs"
                " before publication",
            )


def handles_are_known(document: Document, tree: Tree) -> Iterator[Problem]:
    """Reject a versioned handle that names no known model."""
    for line in document.prose:
        for found in _mentions(line.text, tree):
            if _versioned(found) and not any(_within(found, known) for known in tree.handles):
                yield (
                    line.number,
                    f"{found!r} is not a known model; allowed: {_alternatives(found, tree)}",
                )


def links_lead_where_they_say(document: Document, tree: Tree) -> Iterator[Problem]:
    """Check relative links, and links whose text is a handle."""
    for line in document.prose:
        for match in _LINK.finditer(line.text):
            target = match["target"]
            relative = not urlsplit(target).scheme and not target.startswith(("#", "//"))
            if relative:
                folder = posixpath.dirname(document.path)
                path = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
                if path not in tree.documents:
                    yield line.number, f"link leads to {path}, which does not exist; link to a page"
            named = [found for found in _mentions(match["text"], tree) if _versioned(found)]
            reached = [found for found in _mentions(target, tree) if _versioned(found)]
            for name in named:
                if any(not _within(found, name) for found in reached):
                    yield (
                        line.number,
                        f"link says {name!r} and leads to {reached[0]!r};"
                        " both must be the same model",
                    )


def columns_hold_one_head(document: Document, tree: Tree) -> Iterator[Problem]:
    """Check that a table column lists only models with the head that its heading names."""
    header: list[str] = []
    for line in document.prose:
        cells = _cells(line)
        if not cells:
            header = []
        elif not header:
            header = [_heading(cell) for cell in cells]
        else:
            for heading, cell in zip(header, cells, strict=False):
                for tasks in (_COLUMNS[heading],) if heading in _COLUMNS else ():
                    yield from _other_heads(line.number, heading, cell, tasks, tree)


RULES: tuple[Rule, ...] = (
    first_line_agrees_with_the_path,
    description_follows,
    only_metadata_before_the_next_heading,
    keys_are_allowed,
    values_are_allowed,
    asset_path_can_be_fetched,
    publisher_has_a_page,
    collection_has_models,
    collection_states_what_its_models_state,
    code_names_only_its_own_model,
    code_blocks_are_closed,
    snippets_compile_and_load_what_is_served,
    only_models_have_snippets,
    handles_are_known,
    links_lead_where_they_say,
    columns_hold_one_head,
)


def _at(address: str, host: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme == "https" and parts.hostname == host


def _without_accounts(text: str) -> str:
    return _ACCOUNTS.sub("", text)


def _mentions(text: str, tree: Tree) -> list[str]:
    """Return the substrings like `<publisher>/<name>...` that name a publisher of the tree."""
    if not tree.publishers:
        return []
    publishers = "|".join(map(re.escape, tree.publishers))
    pattern = rf"(?<![\w.-])(?:{publishers})(?:/[\w.-]*\w)+"
    return re.findall(pattern, _without_accounts(text))


def _versioned(found: str) -> bool:
    return any(part.isdecimal() for part in found.split("/")[2:])


def _within(found: str, handle: str) -> bool:
    """Return whether `found` is the handle or a path below it."""
    return found == handle or found.startswith(f"{handle}/")


def _listed(document: Document) -> Iterator[tuple[int, str]]:
    """Yield the line and handle of each model that a collection links to on tfhub.dev."""
    for line in document.prose:
        for address in _ADDRESS.findall(line.text):
            handle = address.removeprefix(HUB).rstrip("/.,;")
            foreign = not handle.startswith(f"{document.publisher}/")
            if address.startswith(HUB) and not foreign and handle != document.handle:
                yield line.number, handle


def _alternatives(found: str, tree: Tree) -> str:
    """Return the known models of the publisher that `found` names."""
    publisher = found.partition("/")[0]
    known = sorted(
        handle
        for handle in tree.handles
        if handle.startswith(f"{publisher}/") and "/collections/" not in handle
    )
    return ", ".join(known) or "none"


def _cells(line: Line) -> list[str]:
    text = line.text.strip()
    if not text.startswith("|"):
        return []
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", text.strip("|"))]


def _heading(cell: str) -> str:
    return " ".join(re.sub(r"<br\s*/?>", " ", cell).lower().split()).removesuffix("s")


def _other_heads(
    number: int, heading: str, cell: str, tasks: tuple[str, ...], tree: Tree
) -> Iterator[Problem]:
    for found in _mentions(cell, tree):
        model = tree.module(found)
        if model and not set(model.values("task")) & set(tasks):
            yield (
                number,
                f"{found!r} is in the column {heading!r} but has another task;"
                f" allowed: models with task {' or '.join(tasks)}",
            )
