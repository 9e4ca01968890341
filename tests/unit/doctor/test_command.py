# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""plr doctor and plr bundle as an owner calls them: a bare Python, a real folder."""
from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from moonraker_components.power_loss_recovery.journal import Journal
from tests.unit import healthy

REPO = Path(__file__).resolve().parents[3]
SECRET = "hunter2-of-the-owner"
# What belongs to the computer that the tests run on
HOST = ("journal", "clock", "gcodes")


class FakeMoonraker(ThreadingHTTPServer):
    """Answers what is in `answers`, by path; all else is 404, or 401 if `closed`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Any] = {}
        self.closed = False
        self.asked: list[str] = []
        self.thread = threading.Thread(target=self.serve_forever, daemon=True)
        self.thread.start()


class Handler(BaseHTTPRequestHandler):
    server: FakeMoonraker

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = self.server.answers.get(self.path)
        code = 401 if self.server.closed else 200 if found is not None else 404
        body = json.dumps({"result": found} if code == 200 else {"error": {}}).encode()
        self.send_response(code)
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def moonraker() -> Iterator[FakeMoonraker]:
    server = FakeMoonraker()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def data(tmp_path: Path, moonraker: FakeMoonraker) -> Path:
    """A printer_data folder, and a Klipper that has our link."""
    folder = tmp_path / "home" / "printer_data"
    for name in ("config", "gcodes", "logs", "plr"):
        (folder / name).mkdir(parents=True)
    extras = tmp_path / "home" / "klipper" / "klippy" / "extras"
    extras.mkdir(parents=True)
    (extras / "power_loss_recovery").symlink_to(
        REPO / "klippy_extras" / "power_loss_recovery"
    )
    path = healthy.printer_cfg(folder / "config")
    text = path.read_text().replace("/home/pi/printer_data", str(folder))
    path.write_text(text)
    (folder / "config" / "moonraker.conf").write_text(
        f"[server]\nport: {moonraker.server_port}\n[power_loss_recovery]\n"
        f"[mqtt]\npassword: {SECRET}\n"
    )
    (folder / "logs" / "klippy.log").write_text("Start printer\n" * 9)
    (folder / "logs" / "moonraker.log").write_text(f"login password={SECRET}\nend\n")
    Journal(str(folder / "plr" / "journal")).write_job(b"A" * 16, b"{}")
    return folder


def healthy_answers(data: Path, folder: Path) -> dict[str, Any]:
    good = healthy.evidence(folder)
    good = healthy.with_z_homing(good, calibration_time=time.time() - 86400)
    config = {s: dict(o) for s, o in good.config.items()}
    config["virtual_sdcard"]["path"] = str(data / "gcodes")
    config["save_variables"]["filename"] = str(data / "config" / "variables.cfg")
    return {
        "/server/info": good.moonraker,
        "/server/config": {"orig": {"power_loss_recovery": {}}},
        "/printer/info": {
            "state": "ready", "software_version": good.klippy_version,
            "klipper_path": str(data.parent / "klipper"),
        },
        "/printer/objects/query": {"status": {
            **good.status, "configfile": {"config": config},
            "print_stats": {"state": "standby"}}},
        "/printer/query_endstops/status": good.endstops,
        "/server/plr/status": good.plr,
    }  # fmt: skip


def plr(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", str(REPO / "scripts" / "plr")]
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, timeout=60,
        env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip


def doctor(data: Path) -> tuple[int, list[dict[str, str]]]:
    """Exit status, and what is not well but for the host's own."""
    done = plr("doctor", "--json", folder=data.parent)
    found = json.loads(done.stdout)["findings"]
    return done.returncode, [
        f for f in found
        if f["state"] in ("bad", "doubt") and f["name"] not in HOST
    ]  # fmt: skip


def test_a_good_machine_is_found_good(
    data: Path, moonraker: FakeMoonraker, tmp_path: Path
) -> None:
    moonraker.answers = healthy_answers(data, tmp_path)
    assert doctor(data) == (0, [])
    said = plr("doctor", folder=data.parent).stdout
    assert "[  ok] Z+ switches now: All are open." in said


def test_a_print_is_not_disturbed(
    data: Path, moonraker: FakeMoonraker, tmp_path: Path
) -> None:
    moonraker.answers = healthy_answers(data, tmp_path)
    status = moonraker.answers["/printer/objects/query"]["status"]
    status["print_stats"]["state"] = "printing"
    assert doctor(data) == (0, [])
    assert "/printer/query_endstops/status" not in moonraker.asked


def test_where_nothing_runs_the_files_are_examined(
    data: Path, moonraker: FakeMoonraker
) -> None:
    moonraker.shutdown()
    moonraker.server_close()
    path = data / "config" / "printer.cfg"
    path.write_text(path.read_text().replace("[respond]", ""))
    (data / "config" / "variables.cfg").write_text("[Variables]\nz = 12.\nx")
    code, found = doctor(data)
    assert code == 1
    assert {f["name"] for f in found} == {"respond", "save_variables"}


def test_a_link_that_an_update_has_taken_is_missed(
    data: Path, moonraker: FakeMoonraker, tmp_path: Path
) -> None:
    moonraker.answers = healthy_answers(data, tmp_path)
    extras = data.parent / "klipper" / "klippy" / "extras"
    (extras / "power_loss_recovery").unlink()
    (extras / "power_loss_recovery.py").write_text("# klipper-plr\n")
    code, found = doctor(data)
    assert code == 1 and {f["name"] for f in found} == {"links", "klipper-plr"}
    (extras / "power_loss_recovery").symlink_to("/nowhere/else")
    assert any("leads nowhere" in f["found"] for f in doctor(data)[1])


def test_a_moonraker_that_asks_for_a_key_is_said(
    data: Path, moonraker: FakeMoonraker
) -> None:
    moonraker.closed = True
    done = plr("doctor", folder=data.parent)
    assert done.stdout.startswith("Moonraker wants to know who asks: give --api-key")


@pytest.mark.parametrize("arguments", [
    ["--printer-data", "/nowhere"], ["--url", "ftp://x"], ["--url", ""],
])  # fmt: skip
def test_what_was_asked_wrongly_is_one_line(
    arguments: list[str], tmp_path: Path
) -> None:
    done = plr("doctor", *arguments, folder=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1


def test_a_bundle_has_what_a_report_needs_and_no_secret(
    data: Path, moonraker: FakeMoonraker, tmp_path: Path
) -> None:
    moonraker.answers = healthy_answers(data, tmp_path)
    out = tmp_path / "report.zip"
    before = {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    done = plr("bundle", "-o", out, folder=data.parent)
    assert done.returncode == 0 and "Look through it" in done.stdout
    with zipfile.ZipFile(out) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    assert {
        "doctor.txt", "status.json", "host.txt", "config/printer.cfg",
        "config/moonraker.conf", "logs/klippy.log", "logs/moonraker.log", "plr/journal",
    } <= set(files)  # fmt: skip
    assert not [name for name, text in files.items() if SECRET.encode() in text]
    assert files["plr/journal"] == (data / "plr" / "journal").read_bytes()
    assert b"pin_stepper_z: ^ZP0" in files["config/printer.cfg"]
    assert b'"enabled": true' in files["status.json"]
    assert any(name.endswith("power_loss_recovery.cfg") for name in files)
    assert before == {p: p.read_bytes() for p in data.rglob("*") if p.is_file()}
    again = plr("bundle", "-o", out, folder=data.parent)
    assert again.returncode == 2 and "there already" in again.stderr


def test_of_a_long_log_the_end_is_taken(
    data: Path, moonraker: FakeMoonraker, tmp_path: Path
) -> None:
    moonraker.answers = healthy_answers(data, tmp_path)
    (data / "logs" / "klippy.log").write_text("Stats 1: x=1\n" * 400_000 + "the end\n")
    plr("bundle", "-o", tmp_path / "r.zip", folder=data.parent)
    with zipfile.ZipFile(tmp_path / "r.zip") as bundle:
        log = bundle.read("logs/klippy.log")
    assert len(log) <= 2 << 20 and log.startswith(b"Stats") and log.endswith(b"end\n")
