# Copyright (C) 2026  The klipper-power-loss-recovery authors
# This file may be distributed under the terms of the GNU GPLv3 license.
"""A TMC2209 answers on its UART as the datasheet says, and forgets without power."""
from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from . import tmc
from .board import MS, PIN, SECOND, Board, encoded
from .motor import Motor
from .tmc import Tmc2209
from .world import UART_PINS, Z_MOTORS, World

CYCLE = 64  # microsteps


def asked(register: int, address: int = 0) -> bytes:
    data = bytes((0xF5, address, register))
    return tmc.framed(data + bytes((tmc.crc8(data),)))


def told(register: int, value: int, address: int = 0) -> bytes:
    data = bytes((0xF5, address, register | tmc.WRITE)) + value.to_bytes(4, "big")
    return tmc.framed(data + bytes((tmc.crc8(data),)))


def value_of(line: bytes, register: int) -> int:
    data = tmc.unframed(line)
    assert data is not None and data[:3] == bytes((0x05, 0xFF, register))
    assert data[7] == tmc.crc8(data[:7])
    return int.from_bytes(data[3:7], "big")


@pytest.fixture
def driver() -> Tmc2209:
    return Tmc2209(Motor("z", 0.0025, 16, 40.0))


def read(driver: Tmc2209, register: int, clock: int = 0) -> int:
    return value_of(driver.receive(asked(register), clock), register)


# Frames


def test_the_checksum_is_that_of_a_known_datagram() -> None:
    # A write of CHOPCONF's default, from a user's working program.
    assert tmc.crc8(bytes.fromhex("0500EC10000053")) == 0x9C


def test_a_byte_is_ten_bits_lowest_first() -> None:
    # 0, then 1010 0000 from the lowest bit on, then 1
    assert tmc.framed(b"\x05") == (0b1_00000101_0).to_bytes(2, "little")


@given(st.binary(max_size=8))
def test_frames_are_read_back(data: bytes) -> None:
    assert tmc.unframed(tmc.framed(data)) == data


@given(st.binary(min_size=1, max_size=8), st.data())
def test_a_frame_without_its_start_or_stop_bit_is_spoilt(
    data: bytes, draw: st.DataObject
) -> None:
    line = bytearray(tmc.framed(data))
    bit = 10 * draw.draw(st.integers(0, len(data) - 1)) + draw.draw(
        st.sampled_from([0, 9])
    )
    line[bit // 8] ^= 1 << bit % 8
    assert tmc.unframed(bytes(line)) is None


@given(st.integers(0, 39))
def test_a_spoilt_request_has_no_reply(bit: int) -> None:
    line = bytearray(asked(tmc.MSCNT))
    line[bit // 8] ^= 1 << bit % 8
    assert Tmc2209(Motor("z", 0.0025, 16, 40.0)).receive(bytes(line), 0) == b""


def test_a_request_for_another_address_has_no_reply(driver: Tmc2209) -> None:
    assert driver.receive(asked(tmc.MSCNT, address=1), 0) == b""
    assert driver.receive(told(tmc.GCONF, 0, address=1), 0) == b""
    assert read(driver, tmc.IFCNT) == 0


# Registers


def test_writes_have_no_reply_and_are_counted(driver: Tmc2209) -> None:
    for number in range(300):
        assert read(driver, tmc.IFCNT) == number & 0xFF
        assert driver.receive(told(tmc.CHOPCONF, 0x14030053 + number), 0) == b""
        assert read(driver, tmc.CHOPCONF) == 0x14030053 + number


def test_what_can_only_be_written_reads_as_nothing(driver: Tmc2209) -> None:
    driver.receive(told(tmc.IHOLD_IRUN, 0x81F1F), 0)
    assert read(driver, tmc.IHOLD_IRUN) == 0
    assert driver.registers[tmc.IHOLD_IRUN] == 0x81F1F


def test_the_reset_flag_stands_until_it_is_written(driver: Tmc2209) -> None:
    assert read(driver, tmc.GSTAT) == 1
    driver.receive(told(tmc.GSTAT, 1), 0)
    assert read(driver, tmc.GSTAT) == 0
    driver.reset()
    assert read(driver, tmc.GSTAT) == 1


def test_without_power_the_registers_are_lost(driver: Tmc2209) -> None:
    driver.receive(told(tmc.CHOPCONF, 0x14030053), 0)
    driver.reset()
    assert read(driver, tmc.CHOPCONF) == tmc.DEFAULTS[tmc.CHOPCONF]
    assert read(driver, tmc.IFCNT) == 0


def test_drv_status_has_no_error_and_the_current(driver: Tmc2209) -> None:
    driver.receive(told(tmc.IHOLD_IRUN, 10 << 8 | 5), 0)
    driver.motor.push(2 * SECOND, 1000, 100, 0, True)
    still, running = (read(driver, tmc.DRV_STATUS, c) for c in (0, 2 * SECOND + 50_000))
    assert (still >> 31, still >> 16 & 0x1F) == (1, 5)
    assert (running >> 31, running >> 16 & 0x1F) == (0, 10)
    assert still & 0xFFFF == running & 0xFFFF == 0


# The phase


def klippys_phase(mscnt: int, inverted: bool) -> int:
    """As klippy/extras/tmc.py calculates it, of 16 microsteps."""
    if not inverted:
        mscnt = 1023 - mscnt
    return int(float(mscnt) / 1024 * CYCLE + 0.5) % CYCLE


@pytest.mark.parametrize("reverse", [False, True])
@given(steps=st.lists(st.integers(-200, 200).filter(bool), max_size=5))
def test_the_phase_that_klippy_reads_counts_its_steps(
    reverse: bool, steps: list[int]
) -> None:
    """Klippy's count goes up with Z: a motor that is reversed has "!" at dir_pin."""
    driver = Tmc2209(Motor("z", 0.0025, 16, 40.0, reversed=reverse))
    clock = 0
    for number in steps:
        clock = driver.motor.push(clock, 10, abs(number), 0, number > 0)
    phase = klippys_phase(read(driver, tmc.MSCNT, clock), reverse)
    assert phase == sum(steps) % CYCLE


def test_the_dir_pin_decides_which_way_mscnt_goes(driver: Tmc2209) -> None:
    driver.motor.push(0, 10, 1, 0, True)
    assert read(driver, tmc.MSCNT, 5) == 0
    assert read(driver, tmc.MSCNT, 10) == 1024 - 16
    driver.motor.driver_reset(20)
    assert read(driver, tmc.MSCNT, 20) == 0


def test_the_coil_currents_are_a_quarter_wave_apart(driver: Tmc2209) -> None:
    assert read(driver, tmc.MSCURACT, 0) == tmc.AMPLITUDE << 16
    driver.motor.push(0, 10, 16, 0, False)
    assert read(driver, tmc.MSCURACT, 1000) == tmc.AMPLITUDE


# On a board

UART = 0
BIT = SECOND // 40_000


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    board = Board(monkeypatch)
    pin = PIN["UZ2"]
    board.ask("allocate_oids", 1)
    board.ask("config_tmcuart", UART, pin, 0, pin, BIT)
    board.ask("finalize_config", 1)
    yield board
    board.close()


def exchange(board: Board, line: bytes, read: int) -> list[bytes]:
    board.responses.clear()
    board.post(encoded("tmcuart_send", UART, line, read))
    board.listen()
    board.run(0.02)
    return [answer["read"] for answer in board.said("tmcuart_response")]


def test_each_uart_pin_leads_to_its_driver() -> None:
    world = World(1)
    assert set(UART_PINS.values()) == set(Z_MOTORS) == set(world.drivers)
    assert all(d.motor is world.motors[name] for name, d in world.drivers.items())


def test_the_firmware_carries_requests_and_replies(board: Board) -> None:
    assert exchange(board, told(tmc.SLAVECONF, 0x200), 0) == [b""]
    (answer,) = exchange(board, asked(tmc.IFCNT), 10)
    assert value_of(answer, tmc.IFCNT) == 1
    assert board.world.drivers["z2"].registers[tmc.SLAVECONF] == 0x200
    assert board.world.drivers["z"].written == 0


def test_a_reply_takes_its_time_and_silence_ends(board: Board) -> None:
    board.post(encoded("tmcuart_send", UART, asked(tmc.IFCNT), 10))
    board.listen()
    board.run(0.003)
    assert not board.said("tmcuart_response")
    board.run(0.003)
    assert len(board.said("tmcuart_response")) == 1
    assert exchange(board, asked(tmc.IFCNT, address=3), 10) == [b""]


def test_a_busy_line_drops_what_is_sent_meanwhile(board: Board) -> None:
    for _ in range(3):
        board.post(encoded("tmcuart_send", UART, told(tmc.GCONF, 1), 0))
        board.listen()
    board.run(0.02)
    assert len(board.said("tmcuart_response")) == 1
    assert board.world.drivers["z2"].written == 1


def test_more_than_ten_bytes_shut_the_firmware_down(board: Board) -> None:
    board.post(encoded("tmcuart_send", UART, bytes(11), 0))
    board.listen()
    assert board.shutdown_reason() == "tmcuart data too large"


def test_a_shutdown_ends_what_is_on_the_line(board: Board) -> None:
    board.post(encoded("tmcuart_send", UART, told(tmc.GCONF, 1), 0))
    board.listen()
    board.ask("emergency_stop")
    board.run(0.02)
    assert not board.said("tmcuart_response")
    assert board.world.drivers["z2"].written == 0


def test_a_restart_of_the_firmware_leaves_the_driver_alone(board: Board) -> None:
    exchange(board, told(tmc.CHOPCONF, 0x14030053), 0)
    motor = board.world.motors["z2"]
    motor.push(board.clock - 10 * MS, 10, 23, 0, True)
    board.ask("emergency_stop")
    board.ask("config_reset")
    board.ask("allocate_oids", 1)
    stepper = (PIN["SZ2"], PIN["DZ2"], 0, 0)
    board.ask("config_stepper", UART, *stepper)
    assert board.value("stepper_get_position", UART)["pos"] == 0
    driver = board.world.drivers["z2"]
    assert driver.registers[tmc.CHOPCONF] == 0x14030053
    assert driver.mscnt(board.clock) == -23 * 16 % 1024


def test_a_power_cut_does_not(board: Board) -> None:
    exchange(board, told(tmc.CHOPCONF, 0x14030053), 0)
    board.world.motors["z2"].push(board.clock - 10 * MS, 10, 23, 0, True)
    board.firmware.power_off(board.clock)
    driver = board.world.drivers["z2"]
    assert driver.registers[tmc.CHOPCONF] == tmc.DEFAULTS[tmc.CHOPCONF]
    assert driver.mscnt(board.clock) == 0
