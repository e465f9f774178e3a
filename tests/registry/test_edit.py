import codecs
import io
import random
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from publisher.registry import Registry, RegistryError, load_registry
from publisher.registry.edit import WIDTH, Edit, bump, save, withdraw
from tests.releases import faults

from .conftest import GOOD, edited

ROUNDS = 10
ROOT = Path(__file__).parents[2]
FILE = Path("models.yaml")
CLASSIFIER = "sayakpaul/small_classification/1"
FEATURES = "sayakpaul/small_features/1"
HEAD, _, LIST = GOOD.partition("variants:\n")
LONG = (
    "The checkpoint was converted from a file that its authors replaced later, so that the"
    " predictions of this version are not those of the paper; load the next version instead,"
    " which has the right ones."
)

Write = Callable[[str | bytes], None]


@pytest.fixture
def write(folder: Path) -> Write:
    def into_the_file(content: str | bytes) -> None:
        FILE.write_bytes(content if isinstance(content, bytes) else content.encode())

    return into_the_file


def listing(entries: str) -> str:
    """Return the good registry with other variants."""
    return f"{HEAD}variants:\n{entries}"


def changed(before: Registry, after: Registry) -> dict[str, dict[str, object]]:
    """Return what differs in the variants, by old handle; nothing else may differ."""
    assert before.model_dump(exclude={"variants"}) == after.model_dump(exclude={"variants"})
    found = {}
    for old, new in zip(before.variants, after.variants, strict=True):
        moved = {key: value for key, value in new if getattr(old, key) != value}
        if moved:
            found[old.handle] = moved
    return found


# How a handle is written; @ is its version.
SPELLINGS = (
    "handle: sayakpaul/a/@  # sayakpaul/a/1 came first",
    "handle: 'sayakpaul/a/@'",
    'handle: "sayakpaul/a/@"',
    "handle: >-  # why\n      sayakpaul/a/@",
    '"handle": sayakpaul/a/@',
)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_only_the_digits_of_a_version_change(spelling: str, write: Write) -> None:
    text = listing(f"  # first\n  - {spelling}\n    checkpoint: small\n    head: classifier\n# end")
    write(text.replace("@", "1"))
    edit = bump(FILE, ["sayakpaul/a"])
    assert edit.handles == {"sayakpaul/a/1": "sayakpaul/a/2"}
    assert edit.after == text.replace("@", "2").encode()


def test_a_version_in_braces_may_get_another_digit(write: Write) -> None:
    text = f"{HEAD}variants: [{{handle: sayakpaul/a/@, checkpoint: small, head: classifier}}]\n"
    write(text.replace("@", "99"))
    assert bump(FILE, ["a"]).after == text.replace("@", "100").encode()


@pytest.mark.parametrize("path", [ROOT / "models.yaml", FILE], ids=["the project's", "a small one"])
def test_every_line_stays_but_those_with_a_version(path: Path, write: Write) -> None:
    write(GOOD)
    edit = bump(path, [])
    assert len(edit.handles) == len(load_registry(path).variants)
    expected = re.sub(rb"^(  - handle: .*)/1$", rb"\1/2", edit.before, flags=re.MULTILINE)
    assert edit.after == expected


def test_a_glob_raises_all_it_matches() -> None:
    edit = bump(ROOT / "models.yaml", ["*_224_*", "*_160_classification"])
    assert edit.handles == {
        "sayakpaul/bit_resnet152x2_224_classification/1": (
            "sayakpaul/bit_resnet152x2_224_classification/2"
        ),
        "sayakpaul/bit_r152x2_224_feature_extraction/1": (
            "sayakpaul/bit_r152x2_224_feature_extraction/2"
        ),
        "sayakpaul/distill_bit_resnet50x1_224_classification/1": (
            "sayakpaul/distill_bit_resnet50x1_224_classification/2"
        ),
        "sayakpaul/distill_bit_r50x1_224_feature_extraction/1": (
            "sayakpaul/distill_bit_r50x1_224_feature_extraction/2"
        ),
        "sayakpaul/distill_bit_resnet50x1_160_classification/1": (
            "sayakpaul/distill_bit_resnet50x1_160_classification/2"
        ),
    }


@pytest.mark.parametrize("glob", ["sayakpaul/a", "a", "a/1", "a/3", "sayakpaul/a/2", "*"])
def test_of_a_model_with_several_versions_the_newest_is_raised(glob: str, write: Write) -> None:
    entry = "  - {{handle: sayakpaul/a/{}, checkpoint: small, head: classifier}}\n"
    write(listing("".join(entry.format(version) for version in (1, 3, 2))))
    edit = bump(FILE, [glob])
    assert edit.handles == {"sayakpaul/a/3": "sayakpaul/a/4"}
    assert edit.after == listing("".join(entry.format(version) for version in (1, 4, 2))).encode()


def test_a_glob_that_matches_nothing_raises_no_version(write: Write) -> None:
    write(GOOD)
    with pytest.raises(RegistryError, match="no handle matches 'smal_features'; near ones: say"):
        bump(FILE, ["*classification", "smal_features"])


def test_a_withdrawn_version_is_not_raised(write: Write) -> None:
    """The reason would be said of the new version."""
    write(GOOD.replace("    head: classifier\n", "    head: classifier\n    withdrawn: Wrong.\n"))
    with pytest.raises(
        RegistryError,
        match=rf"^models\.yaml:32:5: {CLASSIFIER} is withdrawn, and its next version would be",
    ):
        bump(FILE, ["*"])
    assert bump(FILE, ["small_features"]).handles == {FEATURES: "sayakpaul/small_features/2"}


def test_a_version_that_no_handle_can_have_is_refused(write: Write) -> None:
    write(edited(("small_features/1", "small_features/999999999")))
    with pytest.raises(
        RegistryError, match=r"^models\.yaml:36:5: the new handle is invalid: .* is no handle;"
    ):
        bump(FILE, ["small_features"])


# Entries as they are, and as they are once the first is withdrawn for `Wrong weights.`
PLACES = {
    "block": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier  # with its logits

  # The features:
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier  # with its logits
    withdrawn: Wrong weights.

  # The features:
  - handle: {FEATURES}
""",
    ),
    "a text in a block at the end": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: >-
      classifier


  # The features:
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: >-
      classifier
    withdrawn: Wrong weights.


  # The features:
  - handle: {FEATURES}
""",
    ),
    "a reason before": (
        f"""\
  - withdrawn: None  # but why?
    handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
        f"""\
  - withdrawn: Wrong weights.  # but why?
    handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
    ),
    "an empty reason": (
        f"""\
  - withdrawn:
    handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
        f"""\
  - withdrawn: Wrong weights.
    handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
    ),
    "a list at the end": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases:
      - sayakpaul/b  # old

      # older:
      - sayakpaul/c
    # no more
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases:
      - sayakpaul/b  # old

      # older:
      - sayakpaul/c
    withdrawn: Wrong weights.
    # no more
  - handle: {FEATURES}
""",
    ),
    "a list in brackets at the end": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/b]

  # The features:
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/b]
    withdrawn: Wrong weights.

  # The features:
  - handle: {FEATURES}
""",
    ),
    "braces": (
        f"""\
  - {{handle: {CLASSIFIER}, checkpoint: small, head: classifier}}  # one
  - handle: {FEATURES}
""",
        f"""\
  - {{handle: {CLASSIFIER}, checkpoint: small, head: classifier, withdrawn: "Wrong weights."}} # one
  - handle: {FEATURES}
""",
    ),
    "a reason in a block": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/b]
    # Why:
    withdrawn: |  # ask Ann
      None
      is given.

    # The features:
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    aliases: [sayakpaul/b]
    # Why:
    withdrawn: Wrong weights.  # ask Ann

    # The features:
  - handle: {FEATURES}
""",
    ),
    "a reason in braces": (
        f"""\
  - {{withdrawn: None, handle: {CLASSIFIER}, checkpoint: small, head: classifier}}
  - handle: {FEATURES}
""",
        f"""\
  - {{withdrawn: "Wrong weights.", handle: {CLASSIFIER}, checkpoint: small, head: classifier}}
  - handle: {FEATURES}
""",
    ),
}


def laid_out(entries: str) -> str:
    """Return the registry with such entries, of which the last lacks two lines."""
    indent = " " * (entries.index("-") + 2)
    return listing(f"{entries}{indent}checkpoint: small\n{indent}head: feature_extractor\n")


@pytest.mark.parametrize(("before", "after"), PLACES.values(), ids=PLACES.keys())
def test_a_reason_comes_below_an_entry_and_nothing_else_changes(
    before: str, after: str, write: Write
) -> None:
    write(laid_out(before))
    edit = withdraw(FILE, CLASSIFIER, "Wrong weights.")
    assert edit.handles == {CLASSIFIER: CLASSIFIER}
    assert edit.after.decode() == laid_out(after)


@pytest.mark.parametrize(("mapping", "dash"), [(2, 0), (4, 4), (4, 2), (4, 0)])
def test_the_indentation_stays(mapping: int, dash: int, write: Write) -> None:
    yaml, stream = YAML(), io.StringIO()
    yaml.indent(mapping=mapping, sequence=dash + 2, offset=dash)
    yaml.dump(yaml.load(GOOD), stream)
    text = stream.getvalue()
    write(text)
    indent = " " * (dash + 2)
    assert withdraw(FILE, FEATURES, "Wrong.").after.decode() == f"{text}{indent}withdrawn: Wrong.\n"


@pytest.mark.parametrize("end", ["", "  # last", "\n\n# end\n"])
@pytest.mark.parametrize(("mark", "ending"), [(b"", "\n"), (codecs.BOM_UTF8, "\r\n")])
def test_line_ends_stay_and_the_last_line_may_lack_its_own(
    end: str, mark: bytes, ending: str, write: Write
) -> None:
    text = f"---\n{GOOD.removesuffix(chr(10))}"
    line, *rest = f"{end}\n".split("\n", 1)
    after = f"{text}{line}\n    withdrawn: Wrong.\n{rest[0]}".removesuffix("\n")
    write(mark + f"{text}{end}".replace("\n", ending).encode())
    expected = mark + after.replace("\n", ending).encode()
    assert withdraw(FILE, FEATURES, "Wrong.").after == expected


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("See https://example.org/a#b, please", "See https://example.org/a#b, please"),
        ("Wrong: its 'weights'", "\"Wrong: its 'weights'\""),
        ("true", '"true"'),
        ("1e4", '"1e4"'),
        ("a  b\n\tc ", "a b c"),
        ("Größe", "Größe"),
        ("half\ufffe", r'"half\uFFFE"'),
        (
            LONG,
            """>-
      The checkpoint was converted from a file that its authors replaced later, so that the
      predictions of this version are not those of the paper; load the next version instead, which
      has the right ones.""",
        ),
    ],
)
def test_a_reason_is_quoted_only_where_it_has_to_be(
    reason: str, written: str, write: Write
) -> None:
    write(GOOD)
    edit = withdraw(FILE, FEATURES, reason)
    assert edit.after.decode() == f"{GOOD}    withdrawn: {written}\n"
    save(edit)
    found = [variant.withdrawn for variant in load_registry(FILE).variants]
    assert found == [None, " ".join(reason.split())]


# What texts are made of that YAML could take for something else.
PIECES = (
    *("a", "no", "é", "\u200b", "\U0001f600", "1e4", "https://example.org/?a=b#c"),
    *(
        "- ",
        "? ",
        ": ",
        " #",
        "#",
        "'",
        '"',
        "\\",
        "{",
        "}",
        "[",
        "]",
        ",",
        "|",
        ">",
        "%",
        "@",
        "`",
    ),
    *("&x", "*x", "!!str", "---", "...", "<<", "=", "~", " ", "  ", "\n", "\ufeff", "\u3000"),
    *("long " * 20, "x" * 120),
)


@pytest.mark.parametrize("name", PLACES)
def test_any_reason_stays_what_it_is_and_can_be_replaced(name: str, write: Write) -> None:
    text = laid_out(PLACES[name][0])
    first, last = text.index("variants:\n") + 10, text.index(FEATURES)
    comments = re.findall(r" # [a-z]+", text[first:last].replace("# given", ""))
    write(text)
    original = load_registry(FILE)
    pick = random.Random(name)  # noqa: S311
    for _ in range(ROUNDS):
        reason = "".join(pick.choice(PIECES) for _ in range(pick.randint(1, 12)))
        meant = " ".join(reason.split())
        if not meant or meant[0] in "#<":
            continue
        edit = withdraw(FILE, CLASSIFIER, reason)
        save(edit)
        assert changed(original, load_registry(FILE)) == {CLASSIFIER: {"withdrawn": meant}}
        after = edit.after.decode()
        assert after.startswith(text[:first])
        assert after.endswith(text[last:])
        assert all(comment in after for comment in comments)
        assert withdraw(FILE, CLASSIFIER, reason).handles == {}
        if pick.random() < 0.5:  # else the next reason replaces this one
            write(text)


def test_long_reasons_are_folded_below_the_width(write: Write) -> None:
    write(GOOD)
    for reason in (LONG, f"'{LONG}' is \"true\""):
        lines = withdraw(FILE, FEATURES, reason).after.decode().split("\n")
        assert len(lines) > GOOD.count("\n") + 2
        assert max(map(len, lines)) <= WIDTH
    word = "https://example.org/" + "x" * WIDTH
    assert f"\n      {word}\n" in withdraw(FILE, FEATURES, f"See {word} there").after.decode()


@pytest.mark.parametrize(
    ("handle", "near"),
    [
        ("sayakpaul/small_features/2", f"near ones: {FEATURES}"),
        ("sayakpaul/small_features", f"near ones: {FEATURES}"),
        ("zzz", f"there are: {CLASSIFIER}, {FEATURES}"),
        ("*features*", "sayakpaul/"),
    ],
)
def test_a_handle_that_is_not_there_gets_near_ones(handle: str, near: str, write: Write) -> None:
    write(GOOD)
    with pytest.raises(RegistryError) as caught:
        withdraw(FILE, handle, "Wrong.")
    assert str(caught.value).startswith(f"no variant has the handle '{handle}'; ")
    assert near in str(caught.value)


@pytest.mark.parametrize(
    ("reason", "complaint"),
    [
        (" \n", "'' is not a paragraph; allowed: text without"),
        ("# wrong", "'# wrong' is not a paragraph"),
        ("a\x1bb", "'a\\x1bb' has a control character in it; remove it"),
        ("a\udc80", "'a\\udc80' has a control character in it; remove it"),
    ],
)
def test_a_reason_that_the_registry_cannot_hold_is_refused(
    reason: str, complaint: str, write: Write
) -> None:
    write(GOOD)
    with pytest.raises(RegistryError) as caught:
        withdraw(FILE, FEATURES, reason)
    place = "models.yaml:36:5: the new withdrawn is invalid: "
    assert str(caught.value).startswith(f"{place}{complaint}")


LAYOUTS = {
    "several lines": (
        "training: Made up.",
        "training: Made\n      up.",
        "23:19: an edit cannot keep this layout: '    training: Made' would become"
        " '    training: Made up.'; write it so and run the same command again, or edit",
    ),
    "wrapped list": (
        "[64, 32]",
        "[\n      64,  # first\n      32,\n    ]",
        "22:26: an edit cannot keep this layout: 'arity_resolutions: [' would become"
        " 'arity_resolutions: [64, 32]'",
    ),
    "spaces in braces": ("[other]", "[ other ]", "24:16: an edit cannot keep this layout: "),
    "spaces at the end": ("Made up.", "Made up.  ", "23:23: an edit cannot keep this layout: "),
    "escapes": ("Made up.", '"M\\x61de"', "23:17: an edit cannot keep this layout: "),
    "two indents": ("    datasets: [other]", "    datasets:\n    - other", "28:5: an edit cannot"),
    "mixed line ends": ("Made up.\n", "Made up.\r\n", "1:53: an edit cannot keep this layout: "),
    "odd line break": ("Made up.", "Made\x85      up", "23:19: an edit cannot keep this layout: "),
    "tab": ("training: ", "training:\t", "23:14: a tab stands here"),
    "anchor": ("[64, 32]", "&sizes [64, 32]", "22:25: the anchor &sizes is not allowed"),
}


@pytest.mark.parametrize(("old", "new", "complaint"), LAYOUTS.values(), ids=LAYOUTS.keys())
def test_a_layout_that_an_edit_would_change_is_refused(
    old: str, new: str, complaint: str, write: Write
) -> None:
    write(edited((old, new)))
    with pytest.raises(RegistryError) as caught:
        bump(FILE, ["*"])
    assert str(caught.value).startswith(f"models.yaml:{complaint}")
    with pytest.raises(RegistryError) as again:
        withdraw(FILE, FEATURES, "Wrong.")
    assert str(again.value) == str(caught.value)


def test_a_wrong_registry_is_not_edited(write: Write) -> None:
    write(edited(("classes: 3", "classes: 4")))
    with pytest.raises(RegistryError, match="has 3 lines; allowed: one for each of the 4"):
        bump(FILE, ["*"])


def test_the_file_is_replaced_when_an_edit_is_saved_and_keeps_its_mode(write: Write) -> None:
    write(GOOD)
    FILE.chmod(0o600)
    edit = bump(FILE, ["small_features"])
    assert FILE.read_bytes() == GOOD.encode()
    save(edit)
    assert FILE.read_bytes() == edit.after
    assert stat.S_IMODE(FILE.stat().st_mode) == 0o600
    assert changed(registry_before(edit), load_registry(FILE)) == {
        FEATURES: {"handle": "sayakpaul/small_features/2"}
    }


def registry_before(edit: Edit) -> Registry:
    other = Path("before.yaml")
    other.write_bytes(edit.before)
    return load_registry(other)


def test_a_disk_that_is_full_leaves_the_file_whole(write: Write) -> None:
    write(GOOD)
    edit = bump(FILE, ["small_features"])
    failed = 0
    for number in range(100):
        write(GOOD)
        with faults(number) as fault:
            try:
                save(edit)
            except RegistryError as error:
                failed += 1
                assert "cannot be written (No space left on device); check space" in str(error)
        assert FILE.read_bytes() in (edit.before, edit.after)
        if not fault.struck:
            break
    assert failed > 2
    assert FILE.read_bytes() == edit.after


def test_a_link_to_the_file_stays_a_link(write: Write) -> None:
    write(GOOD)
    link = Path("link.yaml")
    link.symlink_to(FILE)
    save(bump(link, ["small_features"]))
    assert link.is_symlink()
    assert b"small_features/2" in FILE.read_bytes()


def test_what_somebody_else_wrote_meanwhile_is_kept(write: Write) -> None:
    write(GOOD)
    edit = bump(FILE, ["small_features"])
    write(f"{GOOD}# mine\n")
    with pytest.raises(RegistryError, match=r"^models\.yaml: somebody changed it meanwhile; run"):
        save(edit)
    assert FILE.read_text() == f"{GOOD}# mine\n"


def test_the_same_reason_again_writes_nothing(write: Write) -> None:
    write(GOOD)
    save(withdraw(FILE, FEATURES, "Wrong."))
    before = FILE.stat().st_ino
    edit = withdraw(FILE, FEATURES, "Wrong.")
    assert edit.handles == {}
    save(edit)
    assert FILE.stat().st_ino == before
