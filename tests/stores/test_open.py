"""A provider by URL."""

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
