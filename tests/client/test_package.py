from __future__ import annotations

import subprocess
import sys

SERVER_PACKAGES = ("picows", "uvicorn", "httptools", "litestar", "typer", "structlog", "prometheus_client", "uvloop")


def test_works_where_no_server_package_is_installed() -> None:
    program = f"import sys; sys.modules.update(dict.fromkeys({SERVER_PACKAGES})); import smart_router.client"
    subprocess.run([sys.executable, "-c", program], check=True)
