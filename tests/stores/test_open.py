"""A provider by URL."""

import sys
from pathlib import Path

import pytest

from smart_router.errors import ConfigError
from smart_router.stores.open import Provider, open_store


async def test_the_store_of_the_data_folder(tmp_path: Path) -> None:
    store = await open_store("sqlite:///", tmp_path / "data")
    await store.probe()
    await store.close()
    assert (tmp_path / "data" / "store.db").exists()


@pytest.mark.parametrize("url", ["mysql://x", "sqlite", "", "sqlite:store.db"])
async def test_an_unknown_url_says_what_there_is(url: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is: sqlite:///"):
        await open_store(url, tmp_path)


async def test_a_missing_package_names_the_extra(tmp_path: Path) -> None:
    providers = {"other": Provider("no_such_package.store", "from_url", "other")}
    with pytest.raises(ConfigError, match=r"needs the package no_such_package: pip install 'smart-router\[other\]'"):
        await open_store("other:///", tmp_path, providers)


async def test_postgresql_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("smart_router.stores.postgresql")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"needs the package asyncpg: pip install 'smart-router\[postgresql\]'"):
        await open_store("postgresql://user@host/database", tmp_path)
