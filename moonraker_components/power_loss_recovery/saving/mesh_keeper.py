# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""Keeps the bed mesh of PLR_SAVE_MESH, with its points, for PLR_LOAD_MESH."""
from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..component import PowerLossRecovery

ITEM = "mesh"
COMMAND = "_PLR_GIVE_MESH"
MAX_BYTES = 1 << 20


class MeshKeeper:
    def __init__(self, component: PowerLossRecovery, namespace: str) -> None:
        self.component = component
        self.namespace = namespace
        self.server = server = component.server
        server.register_remote_method("plr_save_mesh", self._handle_save)
        server.register_remote_method("plr_load_mesh", self._handle_load)

    def _handle_save(self, mesh: Mapping[str, Any]) -> None:
        self.component.eventloop.create_task(self._save(mesh))

    def _handle_load(self) -> None:
        self.component.eventloop.create_task(self._load())

    async def _save(self, mesh: Mapping[str, Any]) -> None:
        # As text: the database of an older Moonraker knows no nested lists.
        text = json.dumps(mesh)
        if len(text) > MAX_BYTES:
            self.component.tell(f"PLR_SAVE_MESH: {len(text)} bytes are too many.")
            return
        try:
            await self.component.database.insert_item(self.namespace, ITEM, text)
        except self.server.error as e:
            self.component.tell(f"PLR_SAVE_MESH: the mesh was not kept: {e}")
            return
        points = mesh["points"]
        self.component.tell(
            f"The bed mesh {mesh['name']} is kept, with its {len(points[0])} x"
            f" {len(points)} points. PLR_LOAD_MESH brings it back."
        )

    async def _load(self) -> None:
        try:
            text = await self.component.database.get_item(self.namespace, ITEM, None)
            if not isinstance(text, str):
                self.component.tell(
                    "PLR_LOAD_MESH: no mesh is kept. PLR_SAVE_MESH keeps the one that"
                    " is in use."
                )
                return
            # Answers by itself, on klippy's console.
            await self.component.klippy_apis.run_gcode(
                f"{COMMAND} DATA={text.encode().hex()}"
            )
        except self.server.error as e:
            self.component.tell(f"PLR_LOAD_MESH: {e}")
