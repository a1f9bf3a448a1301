"""script/faults in its short form: kills under load with each kind of trouble beside them; and that it can fail."""

from pathlib import Path

import pytest

from faults.main import main

__all__: list[str] = []

DURABLE = ("--class", "received", "--class", "client")
SHORT = ("--seconds", "12", "--kills", "5", "--clients", "40", "--rate", "400")


@pytest.mark.fault
@pytest.mark.parametrize("scenario", ["absent", "cuts", "half-open", "stops"])
def test_nothing_that_was_acknowledged_is_lost(
    scenario: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(["--scenario", scenario, *DURABLE, *SHORT, "--keep", str(tmp_path)])
    assert status == 0, capsys.readouterr().out


@pytest.mark.fault
def test_a_router_without_a_journal_is_found_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    memory = ("--broker", "embedded://memory", "--class", "received")
    assert main(["--scenario", "absent", *memory, *SHORT, "--keep", str(tmp_path)]) == 1
    assert "lost" in capsys.readouterr().out.rsplit("FAILED", 1)[1]
