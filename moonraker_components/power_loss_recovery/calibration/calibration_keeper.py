# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Keeps second copies of the Z calibration and of klippy's variables, and gives them
back when they are needed.

Whether a calibration fits the machine is for klippy to say: it is asked when it is
ready and nothing prints.  When it does not even start, its file is mended first.
"""
from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import calibration_file
from .mending import UNREADABLE, Calibration, CalibrationError, Mended
from .variables_copy import VariablesCopy

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

NAME = "z_calibration"
VARIABLES = "klipper_variables"
STORED = (
    "The Z calibration is stored, and a second copy of it: it survives a power loss."
)


class CalibrationKeeper:
    """folder: where the second copies are.  copy, older: what is in them."""

    def __init__(
        self, component: PowerLossRecovery, folder: Path, boot_id: str
    ) -> None:
        self.component = component
        self.server = component.server
        self.in_thread = component.eventloop.run_in_thread
        self.klippy_apis = component.klippy_apis
        self.path = str(folder / NAME)
        self.copy: Calibration | None = None
        self.older_path, self.boot_id = str(folder / VARIABLES), boot_id
        self.older: VariablesCopy | None = None
        self.variables_path = ""
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        try:
            self.copy = await self.in_thread(calibration_file.read, self.path)
        except (OSError, CalibrationError) as e:
            self.component.tell(
                f"The second copy of the Z calibration cannot be used: {e}. Another is"
                " made from what Klipper has."
            )
        try:
            self.older = await self.in_thread(
                calibration_file.read_variables, self.older_path
            )
        except (OSError, CalibrationError) as e:
            logging.info(f"power_loss_recovery: {self.older_path}: {e}")

    def holds(self, z_homing: Mapping[str, Any], path: str | None = None) -> bool:
        """Whether the copy is of klippy's calibration, and of this file."""
        copy = self.copy
        return (
            copy is not None
            and copy.time == z_homing.get("calibration_time")
            and path in (None, copy.path)
        )

    async def klippy_ready(
        self, z_homing: Mapping[str, Any], settings: Mapping[str, Any], idle: bool
    ) -> bool:
        """Restore what klippy lost, or copy what it has; `idle`: nothing prints.
        True: klippy restarts for it.

        settings: `configfile.settings`.
        """
        self.variables_path = _variables_path(settings)
        if idle and await self._variables_restored():
            return True
        when = z_homing.get("calibration_time")
        calibrated, copy = z_homing.get("calibrated"), self.copy
        try:
            if not z_homing.get("available"):
                return False
            if copy is not None and (not calibrated or (when or 0) < copy.time):
                if idle:
                    await self.klippy_apis.run_gcode(copy.command())
                    await self._keep(copy.variables)
            elif calibrated and not self.holds(z_homing, self.variables_path):
                answer = await self.klippy_apis.query_objects(
                    {"save_variables": ["variables"]}
                )
                saved = answer.get("save_variables", {})
                await self._keep(saved.get("variables", {}))
        except self.server.error as e:
            self.component.tell(
                f"The Z calibration and its second copy could not be compared: {e}"
            )
        return False

    async def klippy_calibrated(self, variables: Mapping[str, Any]) -> None:
        """klippy has measured and saved these variables, this moment."""
        if await self._keep(variables):
            self.component.tell(STORED)

    async def klippy_failed(self, message: str) -> None:
        """klippy does not start.  If it is for its variables, they are mended."""
        copy, older = self.copy, self.older
        path = copy.path if copy is not None else older.path if older else ""
        if UNREADABLE not in message or not path:
            return
        try:
            done = await self.in_thread(calibration_file.mend_variables, copy, older)
        except (OSError, ValueError) as e:
            self.component.tell(
                f"Klipper does not start because it cannot read {path}, and this could"
                f" not be mended: {e}. Move the file away and press RESTART."
            )
            return
        if done is None:
            return
        ours = ", the Z calibration from its second copy" if copy is not None else ""
        await self._restart(
            f"{path} could not be read, as after a power loss, and Klipper did not"
            f" start. It is written again{ours}", *done
        )  # fmt: skip

    async def _variables_restored(self) -> bool:
        """After a boot: whether klippy restarts with variables that it had lost.

        Else a copy is made of those that it has.
        """
        older, path = self.older, self.variables_path
        if not path:
            return False
        lives = older is not None and older.boot_id == self.boot_id
        try:
            if older is not None and older.path == path and not lives:
                done = await self.in_thread(
                    calibration_file.mend_variables, None, older, None, True
                )
                # klippy never takes a variable away
                if done is not None:
                    await self._restart(
                        f"{path} had lost variables, as in a power loss. It is written"
                        " again", *done
                    )  # fmt: skip
                    return True
            self.older = await self.in_thread(
                calibration_file.keep_variables, self.older_path, path,
                self.boot_id, older,
            )  # fmt: skip
        except (OSError, ValueError) as e:
            logging.info(f"power_loss_recovery: copy of {path}: {e}")
        return False

    async def _restart(self, what: str, mended: Mended, aside: str) -> None:
        lost = f" Lost: {', '.join(mended.lost)}." if mended.lost else ""
        self.component.tell(
            f"{what}, {len(mended.kept)} other variables as they were and"
            f" {len(mended.older)} as they were when Klipper last started.{lost} What"
            f" was there is kept as {os.path.basename(aside)}. Klipper restarts now."
        )
        # No print can run: this is one more boot.
        try:
            await self.klippy_apis.do_restart("RESTART")
        except self.server.error as e:
            self.component.tell(f"Klipper did not restart ({e}): press RESTART.")

    async def _keep(self, variables: Mapping[str, Any]) -> bool:
        try:
            copy = Calibration.from_klippy(variables, self.variables_path)
            async with self._writing:
                await self.in_thread(calibration_file.write, self.path, copy)
        except (OSError, CalibrationError) as e:
            self.component.tell(
                f"No second copy of the Z calibration could be made: {e}. It may be"
                " lost in a power loss."
            )
            return False
        self.copy = copy
        self.component.changed()
        return True


def _variables_path(settings: Mapping[str, Any]) -> str:
    """Of klippy's variables; empty if only klippy knows what it is relative to."""
    name = settings.get("save_variables", {}).get("filename", "")
    path = os.path.expanduser(name) if isinstance(name, str) else ""
    return path if os.path.isabs(path) else ""
