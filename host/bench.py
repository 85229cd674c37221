"""The work behind `bitline bench`: cycles, multiplications a cycle and images a second, beside their bounds.

Cycles are the chip's and the same everywhere; seconds are those of this machine, and only their ratios mean much.
"""

import time
from typing import Any

from host.api import DEFAULT_SEED, open_device
from host.boards_entry import SimulationMissingError
from host.compiler import compile_network
from host.console import Screen
from host.data import mnist
from host.demo import CALIBRATION, MODEL, stream_speed
from host.device import Device
from host.line import BAUD, line_speed
from host.network import load_network
from host.placement import Placement
from host.placing import show_placement, summary
from host.results import AGES
from host.speed import BATCHES, PEERS, SIZES, model_speed, random_network
from rtl.params import preset
from rtl.params.protocol import VECTOR_BYTES, Opcode, Status
from sim.link import frame
from sim.presets import technology

__all__ = ["cycles_of", "run_bench"]

SIM_IMAGES = 64
LINE_GEOMETRY = "demo-sdram"
"""The chip whose serial line is measured: it holds the network, and has room for a batch."""
STREAMED, REPLAYED = 6, 64
"""Images over that line."""
LATENCY_IMAGES = 4
SEEDS = 10
SEEDS_AGE = "1 year"


def run_bench(*, images: int, sim: bool, seed: int | None, screen: Screen) -> dict[str, Any]:
    """Measure, print and return what was measured."""
    network, digits = load_network(MODEL), mnist()
    placement = compile_network(network, preset("demo"), digits.train[:CALIBRATION])
    show_placement(placement, screen)
    macs = sum(layer.weight.size for layer in network.layers)
    found: dict[str, Any] = {"network": MODEL.name, "macs": macs, **summary(placement), "devices": {}}
    found["mac_per_cycle_expected"] = macs / placement.cycles_per_image
    larger = random_network(SIZES)
    found["placements"] = [
        _as_placed(name, compile_network(net, preset(geometry), digits.train[:CALIBRATION]))
        for name, net, geometry in (
            ("784-128-10", network, "demo"), ("784-128-10", network, "demo-fast"),
            ("784-256-128-10", larger, "demo-fast"), ("784-256-128-10", larger, "tile512"))]
    found["bytes_per_image"] = _bytes_per_image(placement)
    with screen.stage("model"), open_device("model:", seed=seed) as device:
        found["devices"]["model"] = _measure(device, placement, digits.test[:images], screen)
    with screen.stage(f"model: {SEEDS} seeds"):
        found["seeds"] = _seeds(placement, digits.test[:images], screen)
    if sim:
        try:
            with screen.stage("sim: making the verilated chip"):
                device = open_device("sim:", seed=seed, progress=screen.tell)
        except SimulationMissingError as error:
            found["simulation"] = str(error)
            screen.say(str(error))
        else:
            with screen.stage("sim"), device:
                found["devices"]["sim"] = _measure(device, placement, digits.test[:SIM_IMAGES], screen)
            with screen.stage("sim: over a serial line"):
                resident = compile_network(network, preset(LINE_GEOMETRY), digits.train[:CALIBRATION])
                found["line"] = line_speed(resident, digits.test[:REPLAYED], screen, streamed=STREAMED).as_dict()
    with screen.stage("model: one thread"):
        found["model_speed"] = model_speed(DEFAULT_SEED if seed is None else seed)
    names = {"images_per_second": "images a second", "devices_written_per_second": "memory devices written a second",
             "cycles_per_image": "cycles an image, busiest engine",
             "cycles_per_image_through_the_link": "cycles an image, streaming through the link",
             "latency_cycles": "cycles of a single image, link included",
             "cycles_per_device_written": "cycles to write a memory device", "cycles_per_second": "cycles a second"}
    screen.table(["", *found["devices"]], [
        (text, *(_cell(values.get(name)) for values in found["devices"].values())) for name, text in names.items()])
    measured = found["devices"].get("sim", {}).get("cycles_per_image")
    found["mac_per_cycle"] = macs / (measured or placement.cycles_per_image)
    found["lanes_busy"] = found["mac_per_cycle"] / placement.geometry.total_lanes
    screen.say(f"{macs:,} multiplications an image; {found['mac_per_cycle']:.1f} a cycle "
               f"{'measured' if measured else 'expected'} on {placement.geometry.total_lanes} lanes "
               f"({found['lanes_busy']:.1%})")
    if "line" in found:
        screen.say(f"images a second over {BAUD / 1e6:g} Mbaud at 50 MHz ({LINE_GEOMETRY}): "
                   f"{found['line']['streamed_per_second']:,.0f} streamed, "
                   f"{found['line']['replayed_per_second']:,.0f} loaded once and replayed")
    _show_speed(found["model_speed"], screen)
    screen.say(found["seeds"]["text"])
    return found


def _show_speed(found: dict[str, Any], screen: Screen) -> None:
    """Print rates of the model on one thread, and what they are of those of other simulators."""
    screen.table(["model:, one thread, read noise on, a second", "batch 1", "median", "batch 256", "median"], [
        (name, *(f"{rates[str(batch)][kind]:,.0f}" for batch in BATCHES for kind in ("best", "median")))
        for name, rates in found.items()])
    own = next(iter(found.values()))
    screen.table(["784-256-128-10, measured elsewhere", "noise", "batch 1", "model: median is", "batch 256",
                  "model: median is"],
                 [(peer.name, peer.noise, *(cell for rate, batch in zip(peer.batch, BATCHES, strict=True) for cell in (
                     f"{rate:,}", f"{own[str(batch)]['median'] / rate:.1f} times that"))) for peer in PEERS])


def _measure(device: Device, placement: Placement, x: Any, screen: Screen) -> dict[str, Any]:
    device.configure(placement)
    began, begun = time.perf_counter(), device.backend.cycles()
    device.program(technology("pcm"), progress=screen.progress)
    programming, written = time.perf_counter() - began, device.backend.cycles()
    cells = sum(tile.rows * tile.columns for tile in placement.tiles)
    device.infer_codes(x[:LATENCY_IMAGES])  # whatever is made once is made now
    latency = cycles_of(device, lambda: [device.infer_codes(x[k:k + 1]) for k in range(LATENCY_IMAGES)])
    busy, streaming, speed = stream_speed(device, x)
    ended = time.perf_counter()
    values: dict[str, Any] = {
        "images": len(x), "images_per_second": speed,
        "devices_written_per_second": cells * device.geometry.devices / programming}
    total = device.backend.cycles()
    if latency is not None and begun is not None and total is not None:
        assert written is not None
        values |= {"cycles_per_device_written": (written - begun) / (cells * device.geometry.devices),
                   "cycles_per_image": busy, "cycles_per_image_through_the_link": streaming,
                   "latency_cycles": latency / LATENCY_IMAGES, "cycles_per_second": (total - begun) / (ended - began)}
    return values


def _seeds(placement: Placement, x: Any, screen: Screen) -> dict[str, Any]:
    """Return the seconds in which the model is programmed, aged and infers x with each of `SEEDS` seeds, in words too.

    `processor_seconds` are what all threads of this process used: others do not lengthen them.
    """
    report = screen.progress("seeds", SEEDS)
    began, used = time.perf_counter(), time.process_time()
    for seed in range(1, SEEDS + 1):
        with open_device("model:", seed=seed) as device:
            device.configure(placement)
            device.program(technology("pcm"))
            device.age(AGES[SEEDS_AGE])
            device.infer(x)
        report(1)
    seconds, processor = time.perf_counter() - began, time.process_time() - used
    return {"seconds": seconds, "processor_seconds": processor,
            "text": f"784-128-10 with {SEEDS} seeds, each programmed by write-verify, aged by {SEEDS_AGE}, {len(x):,} "
                    f"images: {seconds:.1f} s, {processor:.1f} s of processors"}


def _as_placed(network: str, placement: Placement) -> dict[str, Any]:
    return {"network": network, "geometry": placement.geometry.name, "cycles": placement.cycles_per_image,
            "bound": placement.lower_bound_cycles}


def _bytes_per_image(placement: Placement) -> dict[str, tuple[int, int]]:
    """Return the bytes on the line to the chip and back for one image: SEND and RECEIVE, or RECEIVE, and replies."""
    words = sum(words for _, words, _ in placement.plan), -(-placement.outputs // placement.geometry.transport)
    vector, result = (VECTOR_BYTES + size * count * placement.geometry.transport
                      for size, count in zip((1, 4), words, strict=True))
    send, sent = len(frame(Opcode.SEND, 1, 1, b"\x01" * vector)), len(frame(Status.OK, 1, 1))
    receive, received = len(frame(Opcode.RECEIVE, 1, 1)), len(frame(Status.OK, 1, 1, b"\x01" * result))
    return {"streamed": (send + receive, sent + received), "replayed": (receive, received)}


def cycles_of(device: Device, action: Any) -> int | None:
    """Return the clock cycles that something takes, or None where no clock runs."""
    before = device.backend.cycles()
    action()
    after = device.backend.cycles()
    return None if before is None or after is None else after - before


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
