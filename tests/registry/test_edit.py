import random
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

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


# How an entry is written, the text that ends its version, and the same with the next one.
SPELLINGS = {
    "plain": "handle: sayakpaul/a/@",
    "plain, with a comment": "handle: sayakpaul/a/@  # sayakpaul/a/1 came first",
    "single quotes": "handle: 'sayakpaul/a/@'",
    "double quotes": 'handle: "sayakpaul/a/@"',
    "double quotes with escapes": r'handle: "sayak\x70aul\/a\u002f@"',
    "on the next line": "handle:\n      sayakpaul/a/@",
    "folded": "handle: >-  # why\n      sayakpaul/a/@\n",
    "literal": "handle: |-\n      sayakpaul/a/@\n  \n",
    "quoted key": '"handle"  : sayakpaul/a/@',
    "explicit key": "? handle\n    : sayakpaul/a/@",
}


@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS.keys())
@pytest.mark.parametrize(("old", "new"), [("1", "2"), ("9", "10"), ("199", "200")])
def test_only_the_digits_of_a_version_change(
    spelling: str, old: str, new: str, write: Write
) -> None:
    text = listing(f"  # first\n  - {spelling}\n    checkpoint: small\n    head: classifier\n# end")
    write(text.replace("@", old))
    edit = bump(FILE, ["sayakpaul/a"])
    assert edit.handles == {f"sayakpaul/a/{old}": f"sayakpaul/a/{new}"}
    assert edit.after == text.replace("@", new).encode()


@pytest.mark.parametrize(
    "entry",
    [
        "[{handle: sayakpaul/a/@, checkpoint: small, head: classifier}]",
        "[{head: classifier, checkpoint: small, handle: sayakpaul/a/@}]",
        '[\n    {"handle":"sayakpaul/a/@","checkpoint":"small","head":"classifier"}, ]',
    ],
)
def test_a_version_in_braces_is_raised_like_any_other(entry: str, write: Write) -> None:
    text = f"{HEAD}variants: {entry}\n"
    write(text.replace("@", "1"))
    assert bump(FILE, ["a"]).after == text.replace("@", "2").encode()


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
    before, after = edit.before.split(b"\n"), edit.after.split(b"\n")
    lines = [pair for pair in zip(before, after, strict=True) if pair[0] != pair[1]]
    assert len(lines) == 5
    assert all(new == re.sub(rb"/1$", b"/2", old) for old, new in lines)


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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (edited(("small_features/1", "small_features/999999999")), "is no handle; allowed: "),
        (
            edited(("sayakpaul/small_features/1", '"sayakpaul/small_features/1\\x39"')),
            "is no handle; allowed: ",
        ),
    ],
)
def test_what_cannot_be_raised_by_itself_is_left_to_a_person(
    text: str, reason: str, write: Write
) -> None:
    write(text)
    with pytest.raises(
        RegistryError,
        match=rf"^models\.yaml:36:5: the version cannot be raised by itself \(.*({reason}).*\);"
        " edit the file by hand$",
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
  -   handle: {CLASSIFIER}
      checkpoint: small
      head: classifier
      aliases: [
        sayakpaul/b,  # old
      ]  # all
  - handle: {FEATURES}
""",
        f"""\
  -   handle: {CLASSIFIER}
      checkpoint: small
      head: classifier
      aliases: [
        sayakpaul/b,  # old
      ]  # all
      withdrawn: Wrong weights.
  - handle: {FEATURES}
""",
    ),
    "a text in a block at the end": (
        f"""\
  -
    handle: {CLASSIFIER}
    checkpoint: small
    head: >-
      classifier


  # The features:
  - handle: {FEATURES}
""",
        f"""\
  -
    handle: {CLASSIFIER}
    checkpoint: small
    head: >-
      classifier
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
  - {{handle: {CLASSIFIER}, checkpoint: small, head: classifier,
     withdrawn: Wrong weights.}}  # one
  - handle: {FEATURES}
""",
    ),
    "spacious braces": (
        f"""\
  - {{ handle: {CLASSIFIER}, checkpoint: small,
      head: classifier , }}
  - handle: {FEATURES}
""",
        f"""\
  - {{ handle: {CLASSIFIER}, checkpoint: small,
      head: classifier , withdrawn: Wrong weights., }}
  - handle: {FEATURES}
""",
    ),
    "braces on lines of their own": (
        f"""\
  - {{
      handle: {CLASSIFIER},
      checkpoint: small,
      head: classifier  # logits, too
      # no more
    }}
  - handle: {FEATURES}
""",
        f"""\
  - {{
      handle: {CLASSIFIER},
      checkpoint: small,
      head: classifier,  # logits, too
      withdrawn: Wrong weights.
      # no more
    }}
  - handle: {FEATURES}
""",
    ),
    "braces after a comma": (
        f"""\
  - {{
      handle: {CLASSIFIER}, checkpoint: small, head: classifier  # logits, too
      , # no more
    }}
  - handle: {FEATURES}
""",
        f"""\
  - {{
      handle: {CLASSIFIER}, checkpoint: small, head: classifier  # logits, too
      , # no more
     withdrawn: Wrong weights.,
    }}
  - handle: {FEATURES}
""",
    ),
    "JSON": (
        f"""\
  - {{
      "handle": "{CLASSIFIER}",
      "checkpoint": "small",
      "head": "classifier"
    }}
  - handle: {FEATURES}
""",
        f"""\
  - {{
      "handle": "{CLASSIFIER}",
      "checkpoint": "small",
      "head": "classifier",
      "withdrawn": "Wrong weights."
    }}
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
    "a reason in a block": (
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    withdrawn: |+  # ask Ann
      None
      # given.

    # The features:
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    checkpoint: small
    head: classifier
    withdrawn: Wrong weights.  # ask Ann

    # The features:
  - handle: {FEATURES}
""",
    ),
    "a reason of two lines": (
        f"""\
  - handle: {CLASSIFIER}
    withdrawn: "None,
      that is"
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
        f"""\
  - handle: {CLASSIFIER}
    withdrawn: Wrong weights.
    checkpoint: small
    head: classifier
  - handle: {FEATURES}
""",
    ),
    "a reason in braces": (
        f"""\
  - {{withdrawn: None, handle: {CLASSIFIER}, checkpoint: small, head: classifier}}
  - handle: {FEATURES}
""",
        f"""\
  - {{withdrawn: Wrong weights., handle: {CLASSIFIER}, checkpoint: small, head: classifier}}
  - handle: {FEATURES}
""",
    ),
}


def laid_out(entries: str) -> str:
    """Return the registry with such entries, of which the last lacks two lines."""
    indent = " " * (entries.index("-") + 2)
    return listing(f"{entries}{indent}checkpoint: small\n{indent}head: feature_extractor\n")


@pytest.mark.parametrize(
    ("ending", "mark", "final"),
    [("\n", b"", "\n"), ("\r\n", b"\xef\xbb\xbf", "\n"), ("\r\n", b"", ""), ("\r", b"", "\n")],
    ids=["LF", "CRLF and a byte order mark", "CRLF but for the last line", "CR"],
)
@pytest.mark.parametrize(("before", "after"), PLACES.values(), ids=PLACES.keys())
def test_a_reason_comes_below_an_entry_and_nothing_else_changes(
    before: str, after: str, ending: str, mark: bytes, final: str, write: Write
) -> None:
    def content(entries: str) -> bytes:
        text = laid_out(entries).removesuffix("\n") + final
        return mark + text.replace("\n", ending).encode()

    write(content(before))
    edit = withdraw(FILE, CLASSIFIER, "Wrong weights.")
    assert edit.handles == {CLASSIFIER: CLASSIFIER}
    assert edit.after == content(after)


@pytest.mark.parametrize(
    ("line", "rest"),
    [("", ""), ("", "\n"), ("", "\n\n# end"), ("", "\n...\n"), ("  # last", ""), ("  ", "")],
)
def test_the_last_line_may_lack_its_end(line: str, rest: str, write: Write) -> None:
    text = GOOD.removesuffix("\n")
    write(f"{text}{line}{rest}")
    after = f"{text}{line}\n    withdrawn: Wrong.{rest}"
    assert withdraw(FILE, FEATURES, "Wrong.").after == after.encode()


@pytest.mark.parametrize(
    ("reason", "written"),
    [
        ("Wrong weights; see issue 4, please", "Wrong weights; see issue 4, please"),
        ("See https://example.org/a#b", "See https://example.org/a#b"),
        ("Wrong: its weights", '"Wrong: its weights"'),
        ("Wrong #4", '"Wrong #4"'),
        ("Wrong#4", "Wrong#4"),
        ("Wrong:", '"Wrong:"'),
        ("true", '"true"'),
        ("No", '"No"'),
        ("2024-01-01", '"2024-01-01"'),
        ("'a' \\ \"b\"", r'''"'a' \\ \"b\""'''),
        ("- a", '"- a"'),
        ("*a", '"*a"'),
        ("a  b\n\tc ", "a b c"),
        ("Größe", "Größe"),
        ("Ärger", '"Ärger"'),
        ("left\u200eright\U000e0001", r'"left\u200eright\U000e0001"'),
        ("half\ufffe", r'"half\ufffe"'),
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


def test_a_list_in_brackets_can_be_edited_too(write: Write) -> None:
    entry = "{handle: sayakpaul/a/1, checkpoint: small, head: classifier}"
    text = f"{HEAD}variants: [{entry}, {entry.replace('a/1', 'b/1')}]\n"
    write(text)
    after = text.replace("classifier}, {", "classifier, withdrawn: Wrong.}, {")
    assert withdraw(FILE, "sayakpaul/a/1", "Wrong.").after == after.encode()


def test_long_reasons_are_folded_below_the_width(write: Write) -> None:
    write(GOOD)
    for reason in (LONG, f"{LONG}\u200b", f"'{LONG}' is \"true\""):
        lines = withdraw(FILE, FEATURES, reason).after.decode().split("\n")
        assert len(lines) > GOOD.count("\n") + 2
        assert max(map(len, lines)) <= WIDTH
    word = "https://example.org/" + "x" * WIDTH
    assert f"\n      {word}\n" in withdraw(FILE, FEATURES, f"See {word} there").after.decode()


def test_text_in_json_stays_on_its_line(write: Write) -> None:
    write(laid_out(PLACES["JSON"][0]))
    after = withdraw(FILE, CLASSIFIER, f'{LONG} "\u200b"').after.decode()
    assert f'      "withdrawn": "{LONG} \\"\\u200b\\""\n    }}\n' in after


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
        (" \n", "the reason cannot stand: '' is not a paragraph; allowed: text without"),
        ("# wrong", "the reason cannot stand: '# wrong' is not a paragraph"),
        ("a\x1bb", "the reason 'a\\x1bb' has the control character U+001B in it; remove it"),
        ("a\udc80", "the reason 'a\\udc80' has the control character U+DC80 in it; remove it"),
    ],
)
def test_a_reason_that_the_registry_cannot_hold_is_refused(
    reason: str, complaint: str, write: Write
) -> None:
    write(GOOD)
    with pytest.raises(RegistryError) as caught:
        withdraw(FILE, FEATURES, reason)
    assert str(caught.value).startswith(complaint)


def test_a_layout_that_is_not_foreseen_is_left_to_a_person(write: Write) -> None:
    write(
        GOOD.replace("    head: feature_extractor", "    head: feature_extractor\n    ? withdrawn")
    )
    with pytest.raises(
        RegistryError,
        match=rf"^models\.yaml:36:5: {FEATURES} cannot be withdrawn without another change \(.*"
        r"\); edit the file by hand$",
    ):
        withdraw(FILE, FEATURES, "Wrong.")


def test_a_wrong_registry_is_not_edited(write: Write) -> None:
    write(edited(("classes: 3", "classes: 4")))
    for make in (lambda: bump(FILE, ["*"]), lambda: withdraw(FILE, FEATURES, "Wrong.")):
        with pytest.raises(RegistryError, match="has 3 lines; allowed: one for each of the 4"):
            make()


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
                assert "cannot be written (No space left on device); see to" in str(error)
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
