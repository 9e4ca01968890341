# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""install.sh and uninstall.sh in scratch homes, with real Klippers and Moonrakers."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import moonraker
import pytest

from moonraker_components.power_loss_recovery.doctor import checkup_host
from tests.scripts.hosts import PRINTER, REPO, SAVED, Host, git, snapshot

OWN = "power_loss_recovery"
TREE = Path(os.environ.get("PLR_KLIPPER_PATH", ""))
# Kalico's place for others' modules
FOLDER = "plugins" if (TREE / "klippy" / "plugins").is_dir() else "extras"
LINK = f"klippy/{FOLDER}/{OWN}"
COMPONENT = f"moonraker/components/{OWN}"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A MainsailOS; copied for each test, because it has real trees in it."""
    if not (TREE / "klippy").is_dir():
        pytest.skip("no Klipper is set up: run scripts/test")
    host = Host(tmp_path_factory.mktemp("host") / "pi", TREE)
    host.add_printer()
    return host


@pytest.fixture
def host(fresh: Host, tmp_path: Path) -> Host:
    old, new = fresh.home.parent, tmp_path / "host"
    shutil.copytree(old, new, symlinks=True)
    for path in [*new.rglob("*.env"), *new.rglob("*.service")]:
        path.write_text(path.read_text().replace(str(old), str(new)))
    for path in (p for p in new.rglob("*") if p.is_symlink()):
        target = os.readlink(path).replace(str(old), str(new))
        path.unlink()
        path.symlink_to(target)
    made = Host.__new__(Host)
    made.home, made.units, made.tools = new / "pi", new / "units", new / "tools"
    return made


def data_of(host: Host) -> Path:
    return host.home / "printer_data"


def installed(host: Host, *arguments: object) -> str:
    done = host.run("install.sh", "--yes", *arguments)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def sections(path: Path) -> dict[str, dict[str, str]]:
    found = checkup_host.config(path)
    assert found.problems == []
    return found.sections


def test_one_command_is_all_on_mainsailos(host: Host) -> None:
    said = installed(host)
    config = data_of(host) / "config"
    printer = sections(config / "printer.cfg")
    assert OWN in printer and "gcode_macro RESUME_INTERRUPTED_PRINT" in printer
    assert printer["save_variables"]["filename"].endswith("config/variables.cfg")
    assert OWN in sections(config / "moonraker.conf")
    assert (host.klipper / LINK / "__init__.py").exists()
    assert (host.moonraker / COMPONENT / "__init__.py").exists()
    assert "systemctl restart klipper moonraker" in host.calls()
    assert "PLR_CHECK" in said


def test_what_is_there_already_is_not_added_again(host: Host) -> None:
    installed(host)
    text = (data_of(host) / "config" / "printer.cfg").read_text()
    for name in ("virtual_sdcard", "pause_resume", "respond"):
        assert f"[{name}]" not in text  # mainsail.cfg has them


def test_save_config_stays_last_and_our_include_comes_first(host: Host) -> None:
    installed(host)
    text = (data_of(host) / "config" / "printer.cfg").read_text()
    assert text.endswith(SAVED)
    assert text.index("[include power-loss-recovery/") < text.index("[include mainsail")
    assert PRINTER in text


def test_twice_does_no_harm(host: Host) -> None:
    installed(host)
    before = snapshot(host.home, but=["__pycache__"])
    exclude = (host.klipper / ".git" / "info" / "exclude").read_text()
    said = installed(host, "--no-restart")
    assert snapshot(host.home, but=["__pycache__"]) == before
    assert (host.klipper / ".git" / "info" / "exclude").read_text() == exclude
    assert said.count("already linked") == 3 and said.count("complete: ") == 2


def test_git_sees_nothing_and_the_update_manager_stays_clean(host: Host) -> None:
    installed(host)
    for repository in (host.klipper, host.moonraker):
        assert git(repository, "status", "--porcelain") == ""


def test_a_dated_copy_of_each_changed_file_is_kept(host: Host) -> None:
    config = data_of(host) / "config"
    before = {n: (config / n).read_text() for n in ("printer.cfg", "moonraker.conf")}
    said = installed(host)
    for name, text in before.items():
        (path,) = re.findall(rf"as it was: (\S+/{name})", said)
        assert Path(path).read_text() == text
        assert re.search(r"/\d{8}-\d{6}/", path)


@pytest.mark.parametrize("text", [
    PRINTER + "\n" + SAVED, PRINTER, PRINTER.rstrip("\n"), "",
    PRINTER.replace("\n", "\r\n"), (PRINTER + "\n" + SAVED).replace("\n", "\r\n"),
    "# Drucker für große Teile \xff\n" + PRINTER,
], ids=["saved", "plain", "no end", "empty", "crlf", "crlf saved", "latin"])
def test_uninstall_undoes_it_to_the_byte(host: Host, text: str) -> None:
    for name in ("printer.cfg", "moonraker.conf"):
        path = data_of(host) / "config" / name
        if name == "printer.cfg" or not text.strip():
            path.write_bytes(text.encode("latin1"))
    before = snapshot(host.home, but=["__pycache__", "plr"])
    exclude = (host.klipper / ".git" / "info" / "exclude").read_bytes()
    installed(host, "--no-restart")
    done = host.run("uninstall.sh", "--yes", "--no-restart")
    assert (done.returncode, done.stderr) == (0, "")
    assert snapshot(host.home, but=["__pycache__", "plr"]) == before
    assert (host.klipper / ".git" / "info" / "exclude").read_bytes() == exclude


def test_without_a_yes_no_configuration_is_touched(host: Host) -> None:
    config = data_of(host) / "config"
    names = ("printer.cfg", "moonraker.conf")
    before = [(config / name).read_bytes() for name in names]
    done = host.run("install.sh", answers="n\nn\nn\n")
    assert done.returncode == 0 and done.stdout.count("Not added.") == 2
    assert before == [(config / name).read_bytes() for name in names]
    assert host.calls() == ""
    again = host.run("uninstall.sh", answers="n\n")
    assert again.returncode == 1 and "nothing was changed" in again.stderr


def test_each_file_is_asked_for_and_shown_first(host: Host) -> None:
    done = host.run("install.sh", "--no-restart", answers="y\nn\n")
    assert f"    [{OWN}]" in done.stdout
    assert OWN in sections(data_of(host) / "config" / "printer.cfg")
    assert OWN not in sections(data_of(host) / "config" / "moonraker.conf")


def test_several_printers_on_one_host(host: Host) -> None:
    shutil.rmtree(data_of(host))
    first = host.add_printer("printer_1_data", 7126)
    second = host.add_printer("printer_voron_data", 7127)
    installed(host)
    for data in (first, second):
        printer = sections(data / "config" / "printer.cfg")
        assert printer["save_variables"]["filename"].startswith(f"~/{data.name}/")
        assert OWN in sections(data / "config" / "moonraker.conf")
    assert "restart klipper-1 moonraker-1" in host.calls()
    assert "restart klipper-voron moonraker-voron" in host.calls()
    done = host.run("uninstall.sh", "--yes", "--no-restart", "--printer-data", first)
    assert done.returncode == 0 and "kept, " in done.stdout
    assert (host.klipper / LINK).is_symlink()
    assert OWN not in sections(first / "config" / "printer.cfg")
    assert OWN in sections(second / "config" / "printer.cfg")
    assert host.run("uninstall.sh", "--yes", "--no-restart").returncode == 0
    assert not (host.klipper / LINK).is_symlink()


def test_kalico_gets_it_among_its_plugins(host: Host) -> None:
    plugins = host.klipper / "klippy" / "plugins"
    if not plugins.is_dir():
        plugins.mkdir()
        (plugins / "__init__.py").touch()
        with (host.klipper / ".gitignore").open("a") as f:
            f.write("klippy/plugins/*\n!klippy/plugins/__init__.py\n")
        git(host.klipper, "add", "-A")
        git(host.klipper, "commit", "-q", "-m", "as Kalico")
    installed(host)
    assert (plugins / OWN / "__init__.py").exists()
    assert not (host.klipper / "klippy" / "extras" / OWN).exists()
    assert git(host.klipper, "status", "--porcelain") == ""
    assert OWN not in (host.klipper / ".git" / "info" / "exclude").read_text()


def test_a_hand_made_install_is_named(host: Host) -> None:
    home = host.home
    for old, new in (("klipper", "src/k"), ("printer_data", "my_printer")):
        (home / new).parent.mkdir(exist_ok=True)
        (home / old).rename(home / new)
    shutil.rmtree(home / "my_printer" / "systemd")
    assert "no printer found" in host.run("install.sh", "--yes").stderr
    wanted = ["--printer-data", home / "my_printer"]
    assert "no Klipper in" in host.run("install.sh", "--yes", *wanted).stderr
    said = installed(host, *wanted, "--klipper", home / "src" / "k")
    assert (home / "src" / "k" / LINK).is_symlink()
    assert f"Klipper: {home}/src/k" in said


def test_a_moonraker_from_pip_keeps_us_when_pip_replaces_it(host: Host) -> None:
    pytest.importorskip("pip")
    env = host.home / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    (site,) = (env / "lib").glob("python3*/site-packages")
    shutil.move(host.moonraker / "moonraker", site / "moonraker")
    shutil.rmtree(host.moonraker)
    (info,) = Path(str(moonraker.__file__)).parents[1].glob("moonraker-*.dist-info")
    shutil.copytree(info, site / info.name)
    installed(host, "--moonraker", env)
    link = site / COMPONENT / "__init__.py"
    assert link.is_symlink() and not link.parent.is_symlink()
    pip = [sys.executable, "-m", "pip", "--python", str(env / "bin" / "python")]
    subprocess.run([*pip, "uninstall", "-q", "-y", "moonraker"], check=True)
    assert not (site / "moonraker" / "components" / "klippy_apis.py").exists()
    assert link.exists() and (REPO / "moonraker_components" / OWN).exists()


def test_what_an_update_has_taken_comes_back(host: Host) -> None:
    """A hard recovery of Moonraker and Klipper clones them anew."""
    installed(host)
    (host.klipper / LINK).unlink()
    shutil.rmtree(host.moonraker / COMPONENT)
    installed(host)
    assert (host.klipper / LINK / "__init__.py").exists()
    assert (host.moonraker / COMPONENT / "__init__.py").exists()


def test_git_pulls_and_resets_leave_it(host: Host) -> None:
    installed(host)
    for repository in (host.klipper, host.moonraker):
        (repository / "new.txt").write_text("upstream\n")
        git(repository, "add", "new.txt")
        git(repository, "commit", "-q", "-m", "upstream")
        git(repository, "reset", "-q", "--hard", "HEAD~1")
        git(repository, "clean", "-q", "-d", "-f")
    assert (host.klipper / LINK / "__init__.py").exists()
    assert (host.moonraker / COMPONENT / "__init__.py").exists()


def test_klipper_plr_is_moved_aside_with_consent_and_back(host: Host) -> None:
    older = host.klipper / f"{LINK}.py"
    older.write_text("# klipper-plr\n")
    refused = host.run("install.sh", answers="n\n")
    assert refused.returncode == 1 and "not both can be installed" in refused.stderr
    assert older.exists() and not (host.klipper / LINK).exists()
    installed(host)
    assert not older.exists()
    assert older.with_name(f"{OWN}.py.klipper-plr").read_text() == "# klipper-plr\n"
    assert host.run("uninstall.sh", "--yes").returncode == 0
    assert older.read_text() == "# klipper-plr\n"


def test_a_configuration_of_klipper_plr_stays_as_it_is(host: Host) -> None:
    config = data_of(host) / "config"
    own = "[power_loss_recovery]\npin_stepper_z: ^PG10\nsave_interval: 30\n"
    (config / "extras" / "plr.cfg").write_text(own)
    installed(host)
    assert sections(config / "printer.cfg")[OWN]["pin_stepper_z"] == "^PG10"
    assert f"[{OWN}]" not in (config / "printer.cfg").read_text()
    done = host.run("uninstall.sh", "--yes", "--no-restart")
    assert done.returncode == 1 and f"plr.cfg: [{OWN}]" in done.stderr
    assert (host.klipper / LINK).exists(), "Klipper would not start without it"


def test_a_link_by_hand_to_a_folder_is_put_right(host: Host) -> None:
    (host.moonraker / COMPONENT).symlink_to(
        REPO / "moonraker_components" / OWN, target_is_directory=True
    )
    installed(host)
    assert not (host.moonraker / COMPONENT).is_symlink()
    assert (REPO / "moonraker_components" / OWN / "component.py").exists()


def test_somebody_elses_folder_is_not_replaced(host: Host) -> None:
    (host.klipper / LINK).mkdir()
    (host.klipper / LINK / "__init__.py").write_text("# mine\n")
    done = host.run("install.sh", "--yes")
    assert done.returncode == 1 and "is in the way" in done.stderr
    assert (host.klipper / LINK / "__init__.py").read_text() == "# mine\n"


def test_what_an_owner_put_between_the_marks_is_not_lost(host: Host) -> None:
    installed(host)
    path = data_of(host) / "config" / "printer.cfg"
    text = path.read_text().replace(f"\n[{OWN}]\n", f"\n[heater_bed]\n[{OWN}]\n")
    path.write_text(text)
    done = host.run("uninstall.sh", "--yes", "--no-restart")
    assert done.returncode == 1 and "[heater_bed]" in done.stderr
    assert path.read_text() == text and (host.klipper / LINK).exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be refused")
@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_root_is_refused_on_a_users_install(host: Host, script: str) -> None:
    os.chown(data_of(host) / "config" / "printer.cfg", 65534, 65534)
    before = snapshot(host.home)
    done = host.run(script, "--yes")
    assert done.returncode == 1 and "run this as nobody, without sudo" in done.stderr
    assert snapshot(host.home) == before


class Printing(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        status = {"print_stats": {"state": "paused"}}
        self.wfile.write(json.dumps({"result": {"status": status}}).encode())

    def log_message(self, *args: object) -> None:
        pass


def test_a_printer_that_prints_is_not_restarted(host: Host) -> None:
    server = HTTPServer(("127.0.0.1", 0), Printing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    path = data_of(host) / "config" / "moonraker.conf"
    path.write_text(path.read_text().replace("7125", str(server.server_port)))
    said = installed(host)
    server.shutdown()
    server.server_close()
    assert "is printing. When it is done: sudo systemctl restart" in said
    assert host.calls() == ""


@pytest.mark.parametrize("arguments", [
    ["--what"], ["--klipper"], ["--klipper", "/nowhere"], ["--printer-data", "/tmp"],
])  # fmt: skip
@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_what_was_asked_wrongly_changes_nothing(
    host: Host, script: str, arguments: list[str]
) -> None:
    before = snapshot(host.home)
    done = host.run(script, *arguments)
    assert done.returncode == 1 and done.stderr.startswith("error: ")
    assert snapshot(host.home) == before


@pytest.mark.parametrize("script", ["install.sh", "uninstall.sh"])
def test_help_names_every_option(host: Host, script: str) -> None:
    text = host.run(script, "--help").stdout
    options = "--klipper --moonraker --printer-data --no-restart --yes".split()
    assert [option for option in options if option not in text] == []


def test_updates_are_managed_where_moonraker_can_fetch_them(
    host: Host, tmp_path: Path
) -> None:
    clone = tmp_path / "power-loss-recovery"
    for part in ("scripts", "klippy_extras", "moonraker_components", "macros"):
        shutil.copytree(REPO / part, clone / part)
    git(clone, "init", "-q", "-b", "main")
    git(clone, "remote", "add", "origin", "https://example.org/plr.git")
    done = host.run("install.sh", "--yes", "--no-restart", repo=clone)
    assert done.returncode == 0, done.stderr
    found = sections(data_of(host) / "config" / "moonraker.conf")
    block = found[f"update_manager {OWN}"]
    assert block["origin"] == "https://example.org/plr.git"
    assert block["primary_branch"] == "main"
    assert block["managed_services"] == "klipper moonraker"
    assert os.path.expanduser(block["path"]) == str(clone)


def test_shellcheck_finds_nothing() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    names = [REPO / "scripts" / n for n in ("install.sh", "uninstall.sh")]
    parts = ("say", "find", "links", "services", "setup")
    names += [REPO / "scripts" / "lib" / f"{n}.sh" for n in parts]
    done = subprocess.run(["shellcheck", "-x", *map(str, names)], cwd=REPO,
                          capture_output=True, text=True)  # fmt: skip
    assert done.stdout == ""
