import random
import subprocess
import sys
from pathlib import Path

import pytest

from publisher.registry import RegistryError, load_registry
from publisher.registry import models as models_module

from .conftest import GOOD, Load, Problems, edited

ROOT = Path(__file__).parents[2]
CHECKPOINT_KEYS = (
    "path, architecture, classes, class_names, resolution, input_range, parity_resolutions,"
    " training, datasets, network_architectures, license, reported, tolerance"
)
CHARACTERS = "a-z, 0-9 and - in the publisher; letters, digits, _, - and . in the name"

# What is replaced by what, and the one problem that makes: its place and its message.
WRONG = {
    # syntax
    "syntax": (
        "[64, 32]",
        "[64, 32",
        "23:13: this cannot be read as YAML: expected ',' or ']', but got ':'"
        " while parsing a flow sequence that begins on line 22; correct it here or just above",
    ),
    "tab": ("    resolution", "\tresolution", "20:1: a tab stands here; YAML is indented with"),
    "control character": ("Made", "Ma\x07de", "23:17: the control character U+0007 stands here"),
    "escaped control character": ("Made up.", '"a\\0"', "23:15: 'a\\x00' has a control character"),
    "escape of no character": ("Made up.", '"\\UFFFFFFFF"', "23:18: this cannot be read as YAML:"),
    "two documents": (
        "variants:",
        "---\nvariants:",
        "31:1: this cannot be read as YAML: but found",
    ),
    "alias": ("head: classifier", "head: *x", "34:11: the alias *x is not allowed"),
    "anchor": ("head: classifier", "head: &x classifier", "34:11: the anchor &x is not allowed"),
    "tag": ("head: classifier", "head: !!str classifier", "34:11: the tag !!str is not allowed"),
    "python tag": (
        "80.5",
        "!!python/object/apply:os.getcwd []",
        None,
    ),
    "alias as key": (
        "    head: classifier",
        "    *x : 1\n    head: classifier",
        "34:5: the alias *x",
    ),
    "list as key": (
        "    head: classifier",
        "    ? [a]\n    : b\n    head: classifier",
        "34:7: this",
    ),
    # keys
    "duplicate key": (
        "    classes: 3",
        "    classes: 3\n    classes: 4",
        "19:5: the key 'classes' is there twice, first on line 18; allowed: each key once",
    ),
    "unknown key": (
        "    class_names:",
        "    clas_names:",
        "19:5: the key 'clas_names' is unknown, did you mean 'class_names'?"
        f" allowed: {CHECKPOINT_KEYS}",
    ),
    "unknown key like none": (
        "variants:",
        "zzz: 1\nvariants:",
        "31:1: the key 'zzz' is unknown; allowed: upstream, asset_base, publisher, collection,",
    ),
    "merge key": ("    head: classifier", "    <<: {}\n    head: classifier", "34:5: the key '<<'"),
    "missing key": (
        "    resolution: 64\n",
        "",
        "16:5: the key 'resolution' is missing; required here: path, architecture, classes,",
    ),
    "missing key at the top": (
        "upstream: https://storage.googleapis.com/bit_models/\n",
        "",
        "1:1: the key 'upstream' is missing; required here: upstream, asset_base,",
    ),
    # types
    "number for text": (
        "title: BiT-ResNet",
        "title: 5",
        "10:10: title is 5; allowed: text, in quotes if it looks like something else",
    ),
    "text for number": (
        "classes: 3",
        "classes: '3'",
        "18:14: classes is '3'; allowed: a whole number, without quotes",
    ),
    "fraction for whole number": ("resolution: 64", "resolution: 64.0", "20:17: resolution is 64."),
    "nothing": ("resolution: 64", "resolution:", "20:16: resolution is empty; allowed: a whole"),
    "endless number": ("80.5", "1e999", "28:16: value is 1e999; allowed: a finite number"),
    "no number": ("80.5", ".nan", "28:16: value is '.nan'; allowed: a number, without quotes"),
    "digits without end": ("classes: 3", f"classes: {'9' * 399}", "18:14: classes is 999"),
    "text for list": (
        "[sayakpaul/old_small]",
        "sayakpaul/old_small",
        "35:14: aliases is 'sayakpaul/old_small'; allowed: a list",
    ),
    "wrong entry of a list": ("[64, 32]", "[64, a]", "22:30: entry 2 of parity_resolutions is 'a'"),
    "list for mapping": (
        "tolerance: {absolute: 1.0e-4, relative: 2e-4}",
        "tolerance: [1, 2]",
        "13:14: tolerance is a list; allowed: a mapping with the keys absolute, relative",
    ),
    "mapping for text": ("Made up.", "{a: 1}", "23:15: training is a mapping; allowed: text"),
    "no variant": (
        GOOD[GOOD.index("  - handle") :],
        "  []\n",
        "32:3: variants has 0 entries; allowed: at least 1 entry",
    ),
    "one bound": ("[-1, 1]", "[-1]", "21:18: input_range is too short; allowed: two numbers"),
    "three bounds": ("[-1, 1]", "[-1, 0, 1]", "21:18: input_range has 3 entries; allowed: at mos"),
    # values
    "handle without version": (
        "sayakpaul/small_classification/1",
        "sayakpaul/small_classification",
        "32:13: 'sayakpaul/small_classification' is no handle; allowed: publisher/name/version"
        f" ({CHARACTERS}, which no - or . begins)",
    ),
    "handle that leads out": ("paul/small_classification", "paul/..", "32:13: 'sayakpaul/../1' is"),
    "handle in the collections": (
        "paul/small_classification",
        "paul/collections",
        "32:13: 'sayakpaul/collections/1' is no handle",
    ),
    "version 0": (
        "small_classification/1",
        "small_classification/0",
        "32:13: the version of 'sayakpaul/small_classification/0' is below 1; allowed: 1, 2, 3,",
    ),
    "handle of another": (
        "sayakpaul/small_features/1",
        "google/small_features/1",
        "36:13: the publisher of 'google/small_features/1' is not the registry's;"
        " allowed: sayakpaul/small_features/1",
    ),
    "collection of another": (
        "sayakpaul/coll",
        "google/coll",
        "9:11: the publisher of 'google/col",
    ),
    "alias of another": (
        "[sayakpaul/old_",
        "[google/old_",
        "35:15: the publisher of 'google/old_s",
    ),
    "collection": (
        "sayakpaul/collections/bit-resnet/1",
        "sayakpaul/bit-resnet/1",
        "9:11: 'sayakpaul/bit-resnet/1' is no handle of a collection;"
        f" allowed: publisher/collections/name/1 ({CHARACTERS},",
    ),
    "publisher": (
        "name: sayakpaul",
        "name: Sayak",
        "4:9: 'Sayak' is no publisher; allowed: a name",
    ),
    "two of one handle": (
        "sayakpaul/small_features/1",
        "sayakpaul/small_classification/1",
        "36:13: two variants have the handle 'sayakpaul/small_classification/1'; allowed: a",
    ),
    "alias with a version": (
        "[sayakpaul/old_small]",
        "[sayakpaul/old_small/1]",
        "35:15: 'sayakpaul/old_small/1' is no alias; allowed: publisher/name without a version",
    ),
    "alias of its own name": ("paul/old_small", "paul/small_classification", "35:15: the alias '"),
    "alias twice": (
        "[sayakpaul/old_small]",
        "[sayakpaul/x, sayakpaul/x]",
        "35:28: the alias 'sayakpaul/x' is there twice; allowed: once",
    ),
    "alias of two models": (
        "head: feature_extractor",
        "head: feature_extractor\n    aliases: [sayakpaul/old_small]",
        "39:15: the alias 'sayakpaul/old_small' leads to sayakpaul/small_classification already",
    ),
    "unknown checkpoint": (
        "    checkpoint: small\n    head: classifier",
        "    checkpoint: smal\n    head: classifier",
        "33:17: 'smal' is no checkpoint listed here, did you mean 'small'? allowed: small",
    ),
    "unknown architecture": (
        "R20x0.5",
        "R20x5",
        "17:19: 'R20x5' is no known architecture, did you mean 'R20x0.5'? allowed: R50x1, R50x3,"
        " R101x1, R101x3, R152x2, R152x4, R20x0.5, R20x1",
    ),
    "unknown head": (
        "head: classifier",
        "head: clasifier",
        "34:11: head is 'clasifier'; allowed: 'classifier' or 'feature_extractor'",
    ),
    "unknown dataset": (
        "[other]",
        "[other, imagenet-21]",
        "24:23: 'imagenet-21' is no known dataset, did you mean 'imagenet-21k'? allowed: cifar-10",
    ),
    "dataset twice": ("[other]", "[other, other]", "24:15: 'other' is there twice; allowed: each"),
    "name of a checkpoint": ("  small:\n", "  sm all:\n", None),
    "no class": ("classes: 3", "classes: 0", "18:14: classes is 0; allowed: 1 or more"),
    "small images": (
        "resolution: 64",
        "resolution: 31",
        "20:17: 31 is too small an image for R20x0.5; allowed: 32 pixels or more",
    ),
    "large images": (
        "resolution: 64",
        "resolution: 5000",
        "20:17: resolution is 5000; allowed: 4,",
    ),
    "range": (
        "[-1, 1]",
        "[1, 1]",
        "21:18: [1, 1] is no range; allowed: [low, high] with low < high",
    ),
    "empty line of text": ("Sayak Paul", "''", "5:14: '' is not one line of text; allowed: one"),
    "two lines": ("title: BiT-ResNet", 'title: "a\\nb"', "10:10: 'a\\nb' is not one line of text"),
    "two paragraphs": ("Vision networks.", '"a\\n\\nb"', "7:16: 'a\\n\\nb' is not a paragraph;"),
    "heading": ("Vision networks.", '"# a"', "7:16: '# a' is not a paragraph; allowed: text with"),
    "empty prose": ("Made up.", "' '", "23:15: the text is empty; allowed: one sentence or more"),
    # addresses
    "upstream": (
        "upstream: https://storage.googleapis.com/bit_models/",
        "upstream: storage.googleapis.com",
        "1:11: 'storage.googleapis.com' is no address, it does not begin with https:// or http://"
        " or gs://; allowed: https://host/... or http://host/... or gs://bucket/...",
    ),
    "upstream without host": (
        "https://storage.googleapis.com/bit_models/",
        "gs:///a",
        "1:11: 'gs:",
    ),
    "upstream with a query": ("/bit_models/", "/bit_models/?a=1", "1:11: 'https://storage.google"),
    "upstream with a name": (
        "https://storage.googleapis.com/bit_models/",
        "https://me:pw@host",
        None,
    ),
    "brackets": (
        "https://storage.googleapis.com/bit_models/",
        "'https://[a'",
        "1:11: 'https://[a'",
    ),
    "asset_base over http": (
        "https://storage.googleapis.com/bit-resnet-models/",
        "http://storage.googleapis.com/",
        "2:13: 'http://storage.googleapis.com/' is no address, it does not begin with https://;",
    ),
    "asset_base on GitHub": (
        "https://storage.googleapis.com/bit-resnet-models/",
        "https://github.com/a/b/",
        "2:13: 'https://github.com/a/b/' is on github.com, which forbids automatic fetching;",
    ),
    "url": ("https://github.com/sayakpaul", "github.com/sayakpaul", "6:8: 'github.com/sayakpaul'"),
    "url that ends a link": (
        "https://example.org/",
        "https://example.org/(a)",
        "30:14: 'https://ex",
    ),
    # paths
    "absolute path": (
        "distill/small.npz",
        "/small.npz",
        "16:11: '/small.npz' is no path; allowed: a relative path such as distill/R50x1_224.npz,",
    ),
    "path that leads out": (
        "distill/small.npz",
        "a/../../b",
        "16:11: 'a/../../b' is no path; allowed",
    ),
    # class names
    "no such class names": (
        "names.txt",
        "nowhere.txt",
        "19:18: there is no file 'nowhere.txt' beside models.yaml; allowed: a path relative to",
    ),
    "other count": (
        "classes: 3",
        "classes: 1000",
        "19:18: 'names.txt' has 3 lines; allowed: one for each of the 1,000 classes",
    ),
    # size
    "long value": (
        "R20x0.5",
        "R" * 500,
        f"17:19: '{'R' * 57}...' is no known architecture; allowed: R50x1, R50x3,",
    ),
    "deep nesting": (
        "Made up.",
        "[" * 100 + "]" * 100,
        "23:28: this cannot be read as YAML: more than 16 lists and mappings in each other",
    ),
}
SEVERAL = {
    "name of a checkpoint": [
        "15:3: 'sm all' is no name of a checkpoint; allowed: letters, digits, _, - and ., which",
        "33:17: 'small' is no checkpoint listed here, did you mean 'sm all'? allowed: sm all",
        "37:17: 'small' is no checkpoint listed here",
    ],
    "python tag": [
        "28:16: the tag !!python/object/apply:os.getcwd is not allowed; write the value alone",
        "28:16: value is a list; allowed: a number, without quotes",
    ],
    "upstream with a name": [
        "1:11: 'https://me:pw@host' is no address, it holds a user name, which would be published;"
    ],
}


@pytest.mark.parametrize("case", WRONG)
def test_says_where_what_is_wrong_and_what_is_allowed(problems: Problems, case: str) -> None:
    old, new, expected = WRONG[case]
    beginnings = SEVERAL[case] if expected is None else [expected]
    found = problems(edited((old, new)))
    assert len(found) == len(beginnings), found
    for line, beginning in zip(found, beginnings, strict=True):
        assert line.startswith(f"models.yaml:{beginning}")


def test_names_all_problems_at_once_in_the_order_of_the_file(problems: Problems) -> None:
    text = edited(
        ("publisher:\n", "publisher:\n  nam: a\n"),
        ("  title: BiT-ResNet\n", ""),
        ("architecture: R20x0.5", "architecture: R20"),
        ("classes: 3", "classes: none"),
        ("[64, 32]", "[64, 32, 0]"),
        ("    datasets: [other]", "    datasets: [other]\n    datasets: [bit]"),
        ("small_classification/1", "small_classification/0"),
        ("head: classifier", "head: &a classifer"),
        ("sayakpaul/small_features/1\n    checkpoint: small", "x/y/1\n    checkpoint: large"),
        ("[sayakpaul/old_small]", "[old, sayakpaul/new]\n  - 5"),
    )
    places = [line.split(": ")[0] for line in problems(text)]
    assert places == [
        f"models.yaml:{place}"
        for place in (
            "4:3",  # unknown key
            "10:3",  # missing title
            "17:19",  # architecture
            "18:14",  # classes
            "22:34",  # resolution
            "25:5",  # duplicate
            "33:13",  # version
            "35:11",  # anchor
            "35:11",  # head
            "36:15",  # alias
            "37:5",  # no mapping
            "38:13",  # publisher
            "39:17",  # checkpoint
        )
    ]


def test_a_wrong_entry_does_not_make_its_list_too_short(problems: Problems) -> None:
    found = problems(edited(("[other]", "[otter]")))
    assert [line.split(": ")[0] for line in found] == ["models.yaml:24:16"]


def test_a_wrong_value_causes_no_second_complaint(problems: Problems) -> None:
    # Neither handle can be compared with the publisher's name while that is wrong.
    assert len(problems(edited(("name: sayakpaul", "name: 5")))) == 1
    assert len(problems(edited(("checkpoints:", "checkpoint:")))) == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "1:1: the file is empty; allowed: a mapping"),
        (b"# nothing\n", "1:1: the file is empty"),
        (b"- a\n", "1:1: the file is a list; allowed: a mapping with the keys upstream,"),
        (b"\n just text\n", "2:2: the file is 'just text'; allowed: a mapping with the keys"),
        (b"a: 1\nb: \xff\n", "2:4: this is not UTF-8; save the file with that encoding"),
        ("a: ä\n".encode("utf-16"), "1:1: this is not UTF-8"),
        (b"\xef\xbb\xbfa: \x00", "1:4: the control character U+0000 stands here; remove it"),
        (b"#" * (1 << 20) + b"\n", "1:1: the file is too large; allowed: 1 MiB"),
        (b"%YAML 2.0\n---\na: 1\n", "1:1: this cannot be read as YAML: found incompatible"),
        (b"%YAML " + b"9" * 5000 + b".0\n---\na: 1\n", "1:7: this cannot be read as YAML:"),
        (b"*a\n", "1:1: the alias *a is not allowed"),
        (b"a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", "1:1: the key"),
        (b"\x1b[31m: 1\n", "1:1: the control character U+001B"),
    ],
)
def test_a_file_of_another_kind_is_refused(
    problems: Problems, content: bytes, expected: str
) -> None:
    assert problems(content)[0].startswith(f"models.yaml:{expected}")


def test_the_message_stays_short_however_wrong_the_file_is(problems: Problems) -> None:
    found = problems("".join(f"key{number}: 1\n" for number in range(1000)))
    assert len(found) == 201
    assert found[-1] == "models.yaml: and 807 more; correct these first"
    assert all(len(line) < 400 for line in found)


def test_no_spoiled_file_is_more_than_an_error(problems: Problems, load: Load) -> None:
    generator = random.Random(0)  # noqa: S311
    pieces = ["\t", "*x", "&x ", "!!int ", "[", "{", '"\\x"', "---\n", "? ", ": ", "- ", "'", "|9"]
    for _ in range(150):
        text = GOOD
        for _ in range(generator.randint(1, 3)):
            place = generator.randrange(len(text))
            cut = generator.choice((0, 1, 10))
            text = text[:place] + generator.choice(pieces) + text[place + cut :]
        try:
            load(text)
        except RegistryError as error:
            assert all(line.startswith("models.yaml:") for line in str(error).split("\n"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a\nb\n\xff\n", "'names.txt' is not UTF-8; save it with that encoding"),
        (b"a\n\nc\n", "'names.txt' is empty on line 2; allowed: one name a line"),
        (b"", "'names.txt' has 0 lines; allowed: one for each of the 3 classes"),
    ],
)
def test_unusable_class_names_are_refused(
    folder: Path, problems: Problems, content: bytes, expected: str
) -> None:
    (folder / "names.txt").write_bytes(content)
    assert problems(GOOD) == [f"models.yaml:19:18: {expected}"]


def test_class_names_may_not_be_linked_from_outside(folder: Path, problems: Problems) -> None:
    outside = folder.parent / "names.txt"
    (folder / "names.txt").rename(outside)
    (folder / "names.txt").symlink_to(outside)
    assert problems(GOOD) == [
        "models.yaml:19:18: 'names.txt' leads out of the folder; allowed: a file inside it"
    ]


def test_class_names_that_are_not_here_are_the_distributions(
    folder: Path, load: Load, problems: Problems
) -> None:
    name = "data/ilsvrc2012_wordnet_lemmas.txt"
    text = edited(("names.txt", name), ("classes: 3", "classes: 1000"))
    registry = load(text)
    names = registry.class_names(registry.checkpoints["small"])
    assert names is not None
    assert len(names) == 1000
    assert "is no path" in problems(text.replace("data/", "data/../data/"))[0]
    (folder / "data").mkdir()
    (folder / name).write_text("cat\ndog\n")
    assert problems(text) == [
        f"models.yaml:19:18: '{name}' has 2 lines; allowed: one for each of the 1,000 classes"
    ]


def test_class_names_in_a_loop_of_links_are_refused(folder: Path, problems: Problems) -> None:
    (folder / "names.txt").unlink()
    (folder / "names.txt").symlink_to("names.txt")
    [problem] = problems(GOOD)
    assert problem.startswith("models.yaml:19:18: ")


def test_class_names_without_end_are_not_read(
    problems: Problems, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models_module, "LARGEST_LIST", 10)
    [problem] = problems(GOOD)
    assert problem.startswith("models.yaml:19:18: 'names.txt' is too large")


def test_a_missing_registry_is_named_with_the_way_out(folder: Path) -> None:
    with pytest.raises(RegistryError) as caught:
        load_registry(Path("models.yaml"))
    assert str(caught.value) == (
        "models.yaml: there is no such file; run where it lies, or give its path with --registry"
    )


def test_a_folder_is_no_registry(folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"cannot be read \(Is a directory\); give its path"):
        load_registry(folder)


def test_an_unreadable_registry_is_an_error(folder: Path) -> None:
    with pytest.raises(RegistryError, match=r"cannot be read \(Not a directory\); give its path"):
        load_registry(folder / "names.txt" / "models.yaml")


def test_a_name_that_no_file_can_have_is_an_error() -> None:
    with pytest.raises(RegistryError, match=r"cannot be read .* with --registry"):
        load_registry(Path("models\0.yaml"))


def test_an_absolute_path_below_here_is_shown_short(folder: Path) -> None:
    (folder / "models.yaml").write_text("5")
    with pytest.raises(RegistryError, match=r"^models\.yaml:1:1: "):
        load_registry(folder / "models.yaml")
    with pytest.raises(RegistryError, match=r"^\.\./project/models\.yaml:1:1: "):
        load_registry(Path("../project/models.yaml"))


def test_numbers_are_read_as_editors_read_them(load: Load) -> None:
    tolerance = load(GOOD).validation.tolerance
    assert (tolerance.absolute, tolerance.relative) == (1e-4, 2e-4)


def test_words_that_older_yaml_takes_for_something_else_are_text(load: Load) -> None:
    registry = load(edited(("title: BiT-ResNet", "title: no"), ("source: nobody", "source: 12:30")))
    assert registry.collection.title == "no"
    assert registry.checkpoints["small"].reported[0].source == "12:30"


def test_the_project_s_registry_is_good() -> None:
    registry = load_registry(ROOT / "models.yaml")
    assert len(registry.variants) == 8
    assert len(registry.checkpoints) == 4
    assert registry.directory == ROOT


def test_loading_imports_no_tensorflow() -> None:
    program = (
        "import sys; from pathlib import Path; from publisher.registry import load_registry;"
        "load_registry(Path('models.yaml'));"
        "print(sorted({'tensorflow', 'numpy', 'keras', 'jinja2', 'requests'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_file_cannot_be_described_in_two_ways(load: Load, problems: Problems) -> None:
    start, end = GOOD.index("  small:\n"), GOOD.index("variants:")
    again = GOOD[start:end].replace("  small:", "  twin:")
    text = GOOD.replace("variants:", f"{again}variants:")
    assert set(load(text).checkpoints) == {"small", "twin"}
    other = text.replace(again, again.replace("R20x0.5", "R50x1"))
    (problem,) = problems(other)
    assert "32:11: 'distill/small.npz' is the file of checkpoint small too" in problem
