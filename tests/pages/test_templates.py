"""Templates of a registry's own before those of the distribution, and what is wrong with them."""

import os
from pathlib import Path

import pytest
from jinja2 import FileSystemLoader

from publisher.pages.errors import PageError, WrongTemplateError
from publisher.pages.render import MODULE
from publisher.pages.templates import digest, faults, file_of, render_template
from tests.releases import TEMPLATES

FACTS: dict[str, str] = {"name": "a model"}


def write(folder: Path, **texts: str) -> Path:
    """Write templates of the style `own`."""
    for name, text in texts.items():
        path = folder / "own" / f"{name}.md.j2"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def override(folder: Path, text: str, name: str = MODULE) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_of_the_registry_takes_the_place_of_the_distributions(tmp_path: Path) -> None:
    own = tmp_path / "none"
    assert file_of(own, MODULE).samefile(TEMPLATES / MODULE)
    with pytest.raises(PageError, match=r"module\.md\.j2:\d+: 'variant' is undefined"):
        render_template(own, MODULE, FACTS)
    path = override(own, "{{ name }}")
    assert file_of(own, MODULE) == path
    assert file_of(own, "kaggle/usage.md.j2").samefile(TEMPLATES / "kaggle/usage.md.j2")
    assert render_template(own, MODULE, FACTS) == "a model\n"
    path.unlink()
    with pytest.raises(PageError, match="'variant' is undefined"):
        render_template(own, MODULE, FACTS)


def test_a_template_of_the_registry_may_take_parts_from_the_distribution(tmp_path: Path) -> None:
    override(tmp_path, "{{ name }}", "tfhub/part.md.j2")
    override(tmp_path, "{% include 'tfhub/part.md.j2' %}{% include 'tfhub/publisher.md.j2' %}")
    with pytest.raises(PageError, match=r"publisher\.md\.j2:1: 'publisher' is undefined"):
        render_template(tmp_path, MODULE, FACTS)


def test_a_template_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, known = [], FileSystemLoader.get_source

    def counted(loader: FileSystemLoader, environment: object, name: str) -> object:
        read.append(name)
        return known(loader, environment, name)  # type: ignore[arg-type]

    monkeypatch.setattr(FileSystemLoader, "get_source", counted)
    templates = write(tmp_path, page="{{ name }}")
    pages = [render_template(templates, "own/page.md.j2", FACTS) for _ in range(3)]
    assert pages == ["a model\n"] * 3
    assert read == ["own/page.md.j2"]
    write(tmp_path, page="{{ name }}!")
    os.utime(tmp_path / "own" / "page.md.j2", (0, 0))  # clocks of file systems are coarse
    assert render_template(templates, "own/page.md.j2", FACTS) == "a model!\n"


def test_the_templates_of_the_distribution_are_without_fault(tmp_path: Path) -> None:
    assert faults(tmp_path, ["tfhub", "kaggle", "huggingface", "github"]) == []


def test_all_that_is_wrong_is_found_without_facts(tmp_path: Path) -> None:
    write(
        tmp_path,
        a="fine {{ name }}",
        b="first\n{% if name %}",
        c="{{ name | shout }}",
        d="{% include 'own/nowhere.md.j2' %}",
        e="{% include 'own/nowhere.md.j2' ignore missing %}{% include name %}",
        f="{% include 'parts/f.md.j2' %}",
    )
    override(tmp_path, "{{", "parts/f.md.j2")
    override(tmp_path, "{{", "other/unused.md.j2")
    found = faults(tmp_path, ["own"])
    assert all(isinstance(fault, WrongTemplateError) and fault.wrong_input for fault in found)
    own = tmp_path / "own"
    expected = [
        f"{own / 'b.md.j2'}:2: Unexpected end of template",
        f"{own / 'c.md.j2'}:1: No filter named 'shout'",
        f"{own / 'nowhere.md.j2'}: there is no such template",
        f"{tmp_path / 'parts' / 'f.md.j2'}:1: ",
    ]
    assert len(found) == len(expected)
    for fault, beginning in zip(found, expected, strict=True):
        assert str(fault).startswith(beginning)


def test_a_template_that_is_no_text_is_a_fault(tmp_path: Path) -> None:
    write(tmp_path, page="")
    (tmp_path / "own" / "page.md.j2").write_bytes(b"\xff")
    (fault,) = faults(tmp_path, ["own"])
    assert str(fault).startswith(f"{tmp_path / 'own' / 'page.md.j2'}: 'utf-8' codec")


@pytest.mark.parametrize("reference", ["'own/part.md.j2'", "name"])
def test_the_digest_is_of_what_is_used(tmp_path: Path, reference: str) -> None:
    def now() -> str:
        return digest(tmp_path, MODULE)

    known = now()
    override(tmp_path, (TEMPLATES / MODULE).read_text())
    assert now() == known  # the same text, from elsewhere
    override(tmp_path, "other", "tfhub/other.md.j2")
    assert now() == known
    override(tmp_path, f"{{% include {reference} %}}")
    without = now()
    assert without != known
    write(tmp_path, part="one")
    one = now()
    write(tmp_path, part="two")
    assert len({known, without, one, now()}) == 4
