import pytest

from publisher.pages.document import parse
from publisher.pages.snippets import (
    Snippet,
    addresses,
    snippets,
    syntax_fault,
    undefined_names,
)

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
    fault = syntax_fault(Snippet(10, code))
    assert fault is not None
    assert (fault.line >= line, message in fault.message) == (True, True), fault


def test_a_snippet_that_compiles_has_no_fault() -> None:
    assert syntax_fault(Snippet(1, "print(undefined)\n")) is None


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
