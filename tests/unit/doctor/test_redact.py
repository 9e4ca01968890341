# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""No secret leaves with a bug report, and what the report needs stays."""
from __future__ import annotations

import time

import pytest

from moonraker_components.power_loss_recovery.doctor.redact import redact

SECRET = "s3cr3t-V4lue-of-the-owner"


@pytest.mark.parametrize("line", [
    f"password: {SECRET}",
    f"#password: {SECRET}",
    f"mqtt_password = {SECRET}",
    f"    api_key: {SECRET}",
    f"token: {SECRET}",
    f"username: {SECRET}",
    f"url: tgram://{SECRET}/12345",
    f"url: discord://1234/{SECRET}",
    f"url: http://owner:{SECRET}@192.168.1.5/x",
    f"webhook_url: https://discord.com/api/webhooks/1/{SECRET}",
    f"address: https://x.example/{SECRET}/on",
    f"GET /server/files?token={SECRET} HTTP/1.1",
    f"ws://printer/websocket?token={SECRET}",
    f'{{"jsonrpc": "2.0", "params": {{"api_key": "{SECRET}"}}}}',
    f"{{'password': '{SECRET}', 'port': 1883}}",
    f"X-Api-Key: {SECRET}",
    f"Authorization: Bearer {SECRET}",
    f"header Authorization: Bearer {SECRET}, Accept: x",
    f"notifier:\n  url: tgram://{SECRET}",
    f"password:\n    {SECRET}\n    {SECRET}",
    f"chat_id: {SECRET}",
    f"wifi psk={SECRET}",
])  # fmt: skip
def test_a_secret_is_taken_out(line: str) -> None:
    text = f"before\n{line}\n[next]\nafter: 1"
    left = redact(text)
    assert SECRET not in left
    assert left.startswith("before\n") and left.endswith("\n[next]\nafter: 1")


def test_keys_are_known_by_their_form() -> None:
    key = "0123456789abcdef0123456789abcdef"
    jwt = "eyJhbGciOiJFZERTQSJ9.eyJpc3MiOiJNb29u.c2lnbmF0dXJl"
    assert redact(f"login with {key}, {jwt}") == "login with (removed), (removed)"


@pytest.mark.parametrize("line", [
    "[power_loss_recovery]", "pin_stepper_z: ^PG10", "trusted_clients:\n    10.0.0.0/8",
    "origin: https://github.com/mainsail-crew/mainsail.git", "save_interval: 1",
    "serial: /dev/serial/by-id/usb-Klipper_stm32f446xx_2A0020000F50-if00",
    "Git version: 'v0.12.0-120-g0123456789abcdef0123456789abcdef01234567'",
    "G1 X10 Y10 E0.5 ; a line", "force_logins: True", "path: ~/printer_data/gcodes",
    "http://127.0.0.1:7125/server/info",
])  # fmt: skip
def test_what_a_report_needs_stays(line: str) -> None:
    assert redact(line) == line


@pytest.mark.parametrize("piece", ["a.", "a-b_", "user", "://", "x" * 50 + "="])
def test_a_long_line_does_not_take_long(piece: str) -> None:
    text = piece * (200_000 // len(piece))
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 2.0
