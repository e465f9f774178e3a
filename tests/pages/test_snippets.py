import ast
from pathlib import Path

import pytest

from publisher.pages import asset_path, render_module
from publisher.pages.document import code_blocks, parse
from publisher.pages.snippets import (
    Snippet,
    addresses,
    replaced,
    snippets,
    syntax_problem,
    undefined_names,
)
from publisher.registry import Registry
from tests.pages.conftest import manifest_of

PAGE = """# Module anna/net/1

A net.

```python
first = 1
```

~~~py
  second = 2
  if second:
      third = 3
~~~

```sh
python -c 'fourth = 4'
```

```python
never = closed
"""


def test_python_is_taken_out_block_by_block_with_its_place() -> None:
    document = parse("assets/docs/anna/net/1.md", PAGE)
    assert document is not None
    assert snippets(document.code) == [
        Snippet(5, "first = 1\n"),
        Snippet(9, "second = 2\nif second:\n    third = 3\n"),
    ]


def test_blocks_are_found_on_any_page_from_its_first_line_on() -> None:
    document = parse("assets/docs/anna/net/1.md", PAGE)
    assert document is not None
    assert code_blocks(PAGE) == document.code
    assert snippets(code_blocks("```python\nfirst = 1\n```\n")) == [Snippet(1, "first = 1\n")]


@pytest.mark.parametrize(
    ("code", "line", "message"),
    [
        ("a = 1\nb = = 2\n", 12, "invalid syntax"),
        ("a = 1\n\nreturn a\n", 13, "'return' outside function"),
        ("while True:\n", 11, "expected an indented block"),
        ("a = '\x00'\n", 10, "null bytes"),
    ],
)
def test_a_snippet_that_python_refuses_is_a_fault(code: str, line: int, message: str) -> None:
    fault = syntax_problem(Snippet(10, code))
    assert fault is not None
    assert (fault.line >= line, message in fault.message) == (True, True), fault


def test_a_snippet_that_compiles_has_no_fault() -> None:
    assert syntax_problem(Snippet(1, "print(undefined)\n")) is None


@pytest.mark.parametrize(
    "code",
    [
        "import os.path\nprint(os.path.join('a', 'b'))\n",
        "import numpy as np\nfrom pathlib import Path\nprint(np, Path)\n",
        "def double(x, *rest, k=1, **more):\n    return x, rest, k, more\nprint(double(2))\n",
        "class Net:\n    pass\nprint(Net(), [n for n in range(3)])\n",
        "try:\n    pass\nexcept OSError as error:\n    print(error)\n",
        "with open('a') as file:\n    for line in file:\n        print(line)\n",
        "if (size := 3) > 2:\n    print(size)\n",
    ],
)
def test_names_that_are_set_are_known(code: str) -> None:
    assert list(undefined_names(Snippet(1, code))) == []


def test_a_name_that_nothing_sets_is_found_on_its_line() -> None:
    code = "import tensorflow\n\nmodel = tf.zeros(1)\nprint(model, images)\n"
    assert {fault.line: fault.message for fault in undefined_names(Snippet(10, code))} == {
        13: "this Python never sets 'tf'; a block has to run alone",
        14: "this Python never sets 'images'; a block has to run alone",
    }


def test_addresses_are_texts_and_no_comments() -> None:
    code = (
        "# https://example.org/comment\n"
        'load("https://example.org/a")\n'
        "load(f'gs://bucket/{name}', ' HTTP://example.org/b ')\n"
        "print('see https://example.org/c')\n"
    )
    assert sorted(addresses(Snippet(10, code))) == [
        (12, "https://example.org/a"),
        (13, "HTTP://example.org/b"),
        (13, "gs://bucket/"),
    ]


def test_the_longest_text_is_replaced_first() -> None:
    others = {"https://a.example/1": "x", "https://a.example/10": "y"}
    assert replaced("https://a.example/10 https://a.example/1", others) == "y x"


def test_no_snippet_depends_on_the_number_of_features(registry: Registry, templates: Path) -> None:
    """So a small model may take the place of a large one where they are run."""
    programs: dict[int, set[str]] = {}
    extractors = [v for v in registry.variants if v.head == "feature_extractor"]
    for variant in extractors:
        for features in (1024, 2048, 4096):
            made = manifest_of(registry, variant)
            output = made.signature.output.model_copy(update={"shape": (None, features)})
            signature = made.signature.model_copy(update={"output": output})
            manifest = made.model_copy(update={"signature": signature})
            page = render_module(registry, variant, manifest, templates)
            assert f"{features:,} pooled features" in page
            for snippet in snippets(code_blocks(page)):
                code = snippet.code.replace(asset_path(registry, variant.handle), "")
                programs.setdefault(features, set()).add(ast.unparse(ast.parse(code)))
    assert programs[1024] == programs[2048] == programs[4096]
    assert len(programs[1024]) > 1
