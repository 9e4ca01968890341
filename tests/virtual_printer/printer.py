# The virtual printer: real klippy, real Moonraker, and a machine below them
#
# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Starts and stops the three processes, and talks to Moonraker as a front end."""
from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import trace
from .disk import ForgetfulDisk, OrdinaryDisk, disk_for
from .klippy_tree import REPO, KlippyTree, prepare
from .variants import CONFIG, VORON_24, Variant

COMPONENTS = REPO / "moonraker_components"
# The host's kernel is not booted anew after a power cut: the id of its boot is a file.
MOONRAKER_START = (
    "import pathlib, sys, moonraker.components as c; c.__path__.append(sys.argv.pop(1))"
    "; from moonraker.components.power_loss_recovery import component; "
    "component.BOOT_ID = pathlib.Path(sys.argv.pop(1)); "
    "from moonraker.server import main; main()"
)
READY_TIMEOUT = 60.0
# Root folder, data folder in it, Pythons that are to run on the disk
DiskMaker = Callable[[Path, Path, Sequence[str]], ForgetfulDisk | OrdinaryDisk]


class PrinterError(Exception):
    """The virtual printer did not do what a test relied on."""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class VirtualPrinter:
    """One machine with its host computer.

    `config` is appended to printer.cfg, `moonraker_config` to moonraker.conf;
    `variant` is the kind of machine; `make_disk` chooses the disk below its data.
    The instance owns a scratch folder with the layout of a real `printer_data`;
    `close()` removes it unless `keep`.
    """

    def __init__(
        self,
        seed: int = 1,
        tree: KlippyTree | None = None,
        config: str = "",
        moonraker_config: str = "",
        keep: bool = False,
        variant: Variant = VORON_24,
        make_disk: DiskMaker = disk_for,
    ) -> None:
        self.tree = tree or prepare()
        self.keep = keep
        self.seed = seed
        self.variant = variant
        self.root = Path(tempfile.mkdtemp(prefix="plr-"))
        self.data = self.root / "printer_data"
        for folder in ("config", "gcodes", "logs", "database", "comms", "plr"):
            (self.data / folder).mkdir(parents=True)
        self.gcodes = self.data / "gcodes"
        self.boot_id = self.root / "boot_id"
        self.uds = self.data / "comms" / "klippy.sock"
        self.serial = f"/tmp/klipper_host_{uuid.uuid4().hex[:12]}"
        self.port = free_port()
        self._write_configs(config, moonraker_config)
        self.moonraker_python = os.environ.get("PLR_MOONRAKER_PYTHON", sys.executable)
        pythons = (self.tree.command()[0], self.moonraker_python)
        self.disk = make_disk(self.root, self.data, pythons)
        self.klippy: subprocess.Popen | None = None
        self.moonraker: subprocess.Popen | None = None
        self.boots = 0
        self._machine = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.machine", "--seed", str(seed),
             *variant.machine_arguments()],
            cwd=REPO, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> VirtualPrinter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _write_configs(self, config: str, moonraker_config: str) -> None:
        text = self.variant.printer_cfg()
        for key, value in (
            ("PORT", self.serial),
            ("SECOND_PORT", self.serials()[-1]),
            ("GCODES", str(self.gcodes)),
            ("MACROS", str(REPO / "macros" / "power_loss_recovery.cfg")),
            ("VARIABLES", str(self.data / "config" / "variables.cfg")),
        ):
            text = text.replace("{" + key + "}", value)
        (self.data / "config" / "printer.cfg").write_text(text + config)
        text = (CONFIG / "moonraker.conf").read_text()
        text = text.replace("{PORT}", str(self.port)).replace("{UDS}", str(self.uds))
        (self.data / "config" / "moonraker.conf").write_text(text + moonraker_config)

    # The machine

    def machine(self, do: str, **args: Any) -> dict[str, Any]:
        """Ask the machine process; see machine.py for what it knows."""
        assert self._machine.stdin is not None
        self._machine.stdin.write(json.dumps({"do": do, **args}) + "\n")
        self._machine.stdin.flush()
        return self._answer()

    def pid(self) -> int:
        """Of the machine process."""
        return self._machine.pid

    def _answer(self) -> dict[str, Any]:
        assert self._machine.stdout is not None
        line = self._machine.stdout.readline()
        if not line:
            raise PrinterError("the machine process has died")
        return json.loads(line)

    def sessions(self) -> tuple[list[trace.Session], trace.Geometry]:
        path = self.root / "trace.npz"
        self.machine("dump", path=str(path))
        return trace.load(path)

    def serials(self) -> list[str]:
        """One for each micro-controller."""
        if not self.variant.second_mcu:
            return [self.serial]
        return [self.serial, self.serial + "_second"]

    # Power

    def power_on(self, moonraker: bool = True, wait: bool = True) -> None:
        self.boots += 1
        self.boot_id.write_text(uuid.uuid4().hex)
        self.disk.power_on()
        self.machine("on", ports=self.serials())
        self.start_klippy()
        if moonraker:
            self.start_moonraker()
        if wait:
            self.wait_ready()

    def process_groups(self) -> list[int]:
        running = (self.klippy, self.moonraker)
        return [p.pid for p in running if p is not None and p.poll() is None]

    def cut_power(self) -> float:
        """Everything dies now.  Returns the instant, in the trace's seconds."""
        when = self.machine("cut", kill=self.process_groups())["cut"]
        self._after_cut()
        return when

    def arm_cut(self, after_plastic: float) -> None:
        """Cut the power this many seconds after the first plastic is laid."""
        self.machine("arm_cut", after=after_plastic, kill=self.process_groups())

    def wait_cut(self, timeout: float, tick: Callable[[], None] | None = None) -> float:
        """Wait for an armed cut; nothing else may ask the machine meanwhile."""
        assert self._machine.stdout is not None
        import select

        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if select.select([self._machine.stdout], [], [], 0.5)[0]:
                when = self._answer()["cut"]
                self._after_cut()
                return when
            if tick is not None:
                tick()
        why = self.why_not_ready() or self.state()
        raise PrinterError(f"no cut within {timeout:.0f} s: the print is {why}")

    def _after_cut(self) -> None:
        for process in (self.klippy, self.moonraker):
            if process is not None:
                process.wait()
        self.klippy = self.moonraker = None
        self.disk.power_lost(self.seed * 1000 + self.boots)

    # Processes

    def _spawn(self, command: list[str], log: str) -> subprocess.Popen:
        # ~/printer_data is ours
        env = dict(
            os.environ, HOME=str(self.root), PYTHONUNBUFFERED="1",
            PYTHONPATH=str(self.tree.root),
        )  # fmt: skip
        env.update(self.disk.environment())
        out = open(self.data / "logs" / log, "ab")
        with out:
            return subprocess.Popen(
                command, cwd=self.tree.root, env=env, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip

    def start_klippy(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.uds.unlink()
        self.klippy = self._spawn(
            [*self.tree.command(), str(self.data / "config" / "printer.cfg"),
             # Without it all klippys of a host make the same link, at the same time.
             "-I", str(self.data / "comms" / "klippy.serial"),
             "-a", str(self.uds), "-l", str(self.data / "logs" / "klippy.log")],
            "klippy.out",
        )  # fmt: skip
        # A host has the board to itself, and a core to spare: other tests' boots must
        # not keep klippy from answering within a quarter of a second.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, self.klippy.pid, -5)

    def start_moonraker(self) -> None:
        self.moonraker = self._spawn(
            [self.moonraker_python, "-c", MOONRAKER_START, str(COMPONENTS),
             str(self.boot_id), "-d", str(self.data)],
            "moonraker.out",
        )  # fmt: skip

    @staticmethod
    def kill(process: subprocess.Popen | None, sig: int = signal.SIGKILL) -> None:
        if process is not None and process.poll() is None:
            os.killpg(process.pid, sig)
            process.wait()

    def close(self) -> None:
        self.kill(self.klippy)
        self.kill(self.moonraker)
        with contextlib.suppress(BrokenPipeError, OSError):
            assert self._machine.stdin is not None
            self._machine.stdin.close()
        self._machine.wait(60)  # it may be starved
        assert self._machine.stdout is not None
        self._machine.stdout.close()
        for serial in self.serials():
            with contextlib.suppress(FileNotFoundError):
                os.unlink(serial)
        self.disk.close()
        if not self.keep:
            shutil.rmtree(self.root, ignore_errors=True)

    # Moonraker, as a front end sees it

    def http(
        self, method: str, path: str, params: dict[str, Any] | None = None,
        timeout: float = 120.0,
    ) -> Any:  # fmt: skip
        """One request; returns its `result`.  Raises PrinterError on an error."""
        query = urllib.parse.urlencode(params or {})
        url = path + ("?" + query if query and method == "GET" else "")
        body = json.dumps(params or {}) if method != "GET" else None
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(
                method, url, body, {"Content-Type": "application/json"}
            )
            response = connection.getresponse()
            answer = json.loads(response.read() or b"{}")
        except (OSError, http.client.HTTPException) as e:
            raise PrinterError(f"{method} {path}: {e}") from e
        finally:
            connection.close()
        if response.status >= 400:
            message = answer.get("error", {}).get("message", answer)
            raise PrinterError(f"{response.status}: {message}")
        return answer["result"]

    def get(self, path: str, **params: Any) -> Any:
        return self.http("GET", path, params)

    def post(self, path: str, **params: Any) -> Any:
        return self.http("POST", path, params)

    def gcode(self, script: str, timeout: float = 120.0) -> Any:
        try:
            return self.http(
                "POST", "/printer/gcode/script", {"script": script}, timeout
            )
        except PrinterError as e:
            why = self.why_not_ready() if "shutdown" in str(e) else ""
            raise PrinterError(f"{e} {why}".strip()) from e

    def why_not_ready(self) -> str:
        """What klippy says of itself where it has stopped; else nothing."""
        info = self.get("/printer/info")
        return "" if info["state"] == "ready" else info["state_message"]

    def objects(self, *names: str) -> dict[str, Any]:
        return self.http(
            "POST", "/printer/objects/query", {"objects": dict.fromkeys(names)}
        )["status"]

    def console(self) -> list[str]:
        store = self.get("/server/gcode_store", count=1000)["gcode_store"]
        return [entry["message"] for entry in store]

    def wait(
        self, what: str, condition: Callable[[], Any], timeout: float,
        period: float = 0.25,
    ) -> Any:  # fmt: skip
        """Poll until `condition()` is true; errors of the API count as 'not yet'."""
        deadline = time.monotonic() + timeout
        problem = ""
        while time.monotonic() < deadline:
            try:
                result, problem = condition(), ""
            except PrinterError as e:
                result, problem = None, f" ({e})"
            if result:
                return result
            time.sleep(period)
        raise PrinterError(f"timed out after {timeout:.0f} s: {what}{problem}")

    def wait_ready(self, timeout: float = READY_TIMEOUT) -> None:
        def ready() -> bool:
            return self.get("/server/info")["klippy_state"] == "ready"

        try:
            self.wait("klippy ready", ready, timeout)
        except PrinterError:
            for name in ("klippy.log", "klippy.out", "moonraker.out"):
                path = self.data / "logs" / name
                if path.exists():
                    sys.stderr.write(f"--- {name}\n" + path.read_text()[-3000:])
            raise

    def state(self) -> str:
        return self.objects("print_stats")["print_stats"]["state"]

    def print_file(self, path: Path) -> str:
        """Copy a file into the gcodes folder and start it; returns its name."""
        target = self.gcodes / path.name
        if not target.exists():
            shutil.copyfile(path, target)
            self.disk.settle(target)
        self.post("/printer/print/start", filename=path.name)
        return path.name
