"""The page's files without a browser: nothing inline, nothing from elsewhere, text that stays text (P12)."""

import re
from html.parser import HTMLParser

import pytest
from msgspec.structs import replace

from smart_router.api.files import PAGE_POLICY
from smart_router.demo import page_files
from tests.api.nodes import ask, running, settings_of

__all__: list[str] = []

FILES = page_files()
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))
MARKUP_OF_TEXT = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|setHTML|srcdoc|createContextualFragment"
    r"|\beval\b|new Function|setAttribute\(\"on"
)


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def tags() -> Tags:
    parser = Tags()
    parser.feed(FILES["index.html"].decode())
    return parser


def test_the_page_has_nothing_inline_and_nothing_from_elsewhere(tags: Tags) -> None:
    assert tags.inline == []
    for tag, attributes in tags.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        for name in ("src", "href"):
            target = attributes.get(name)
            assert target is None or target in FILES or target.startswith(("#", "?")), target


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_make_no_markup_of_text_and_load_only_ours(name: str) -> None:
    text = FILES[name].decode()
    assert MARKUP_OF_TEXT.search(text) is None
    imported = re.findall(r"^import .* from \"(.+)\";", text, re.MULTILINE)
    assert all(target.startswith("./") and target[2:] in FILES for target in imported)
    assert "http://" not in text.replace('"http:"', "")
    assert "https://" not in text


def test_fonts_and_pictures_are_ours_or_the_systems() -> None:
    style = FILES["style.css"].decode()
    assert "url(" not in style
    assert "@import" not in style
    assert "@font-face" not in style


async def test_the_page_is_served_with_its_policy(tmp_path_factory: pytest.TempPathFactory) -> None:
    async with running(replace(settings_of(tmp_path_factory.mktemp("data")), demo=True)) as node:
        for path in ["/", *(f"/{name}" for name in FILES)]:
            answer = await ask(node, "GET", path)
            assert answer.status == 200
            assert answer.headers["content-security-policy"] == PAGE_POLICY
            assert answer.headers["x-content-type-options"] == "nosniff"
        for path in ("/page/index.html", "/bot.py", "/../bot.py", "/%2e%2e/bot.py", "/__init__.py"):
            assert (await ask(node, "GET", path)).status == 404


def test_the_policy_allows_nothing_inline_and_no_frame() -> None:
    rules = dict(rule.strip().split(" ", 1) for rule in PAGE_POLICY.split(";"))
    assert "unsafe" not in PAGE_POLICY
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
