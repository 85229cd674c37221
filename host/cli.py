"""The command line. Each command prints its results, writes them to `--json FILE` too, and fails in one sentence."""

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from host.channels import ChannelError
from host.compiler import CapacityError, CompileError
from host.console import Screen
from host.data import DataError
from host.errors import BitlineError
from host.link import LinkError
from host.network import NetworkError
from host.placement import PlacementError
from host.urls import DEFAULT_GEOMETRY, DEFAULT_PORT, parse_url

__all__ = ["app", "main"]

REFUSALS = (BitlineError, NetworkError, PlacementError, CapacityError, CompileError, DataError, LinkError, ChannelError)
"""What is wrong with the request or the device, in one sentence."""

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None,
                  help="Analog in-memory computing: networks on emulated crossbars, in numpy, in RTL and on a board.")

JsonOption = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write the results here as JSON "
                                                                               "(- for standard output).")]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, max=2**32 - 1,
                                                help="Of every random value. [default: 1]")]
GeometryOption = Annotated[str, typer.Option("--geometry", help="A named geometry.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="URL",
                                           help="model:, sim:, serial:PATH or tcp:HOST:PORT.")]
TechnologyOption = Annotated[str, typer.Option("--technology", help="Kind of memory device, or a .toml file.")]
ProgrammingOption = Annotated[str, typer.Option("--programming", help="closed-loop (write-verify in the chip), "
                                                                      "statistical, or gradient (descent from here, "
                                                                      "on products of whole arrays).")]
ExtrapolateOption = Annotated[bool, typer.Option("--extrapolate", help="Allow ages outside a technology's data.")]
WithoutOption = Annotated[list[str] | None, typer.Option(
    "--without", metavar="EFFECT", help="Switch an effect off: programming, window, verify-noise, relaxation, drift, "
                                        "1/f, read. May be given again.")]
WithOption = Annotated[list[str] | None, typer.Option(
    "--with", metavar="FAULT[=X]", help="Switch a fault on: stuck[=share of devices], wear[=pulses that half endure], "
                                        "converters[=spread of their gain]. May be given again.")]
TemperatureOption = Annotated[float | None, typer.Option(
    "--temperature", help="Of the array when it is read, in degrees Celsius. [default: that of programming, 25]")]
IllustrativeOption = Annotated[bool, typer.Option("--illustrative", help="Allow numbers from memory, unchecked.")]
DataOption = Annotated[str, typer.Option("--data", metavar="FILE", help="An .npz with x and optionally y and "
                                                                        "calibration; or mnist.")]
ImagesOption = Annotated[int | None, typer.Option("--images", help="How many of the vectors. [default: all]")]
AgeOption = Annotated[str, typer.Option("--age", help="Time since programming: seconds, 1h, 1day, 1year, fresh.")]
NetworkArgument = Annotated[str, typer.Argument(metavar="NET", help="An ONNX file, or what compile has written.")]
DirectoryOption = Annotated[Path | None, typer.Option("--directory", help="Of the build. [default: build/BOARD]")]


def command(function: Callable[..., int | None]) -> Callable[..., None]:
    """Make a function a command: what it refuses becomes one sentence and exit code 2; what it returns is the code."""
    @functools.wraps(function)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            code = function(*arguments, **options)
        except REFUSALS as error:
            print(f"bitline: {error}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            print("bitline: stopped", file=sys.stderr)
            code = 130
        raise typer.Exit(code or 0)

    app.command(name=function.__name__.removesuffix("_"))(wrapped)
    return wrapped


@command
def demo(
    output: Annotated[Path, typer.Option("--output", help="Where page and pictures go.")] = Path("build/demo"),
    images: Annotated[int, typer.Option("--images", min=1, max=1000, help="Test digits.")] = 1000,
    programmings: Annotated[int, typer.Option("--programmings", min=1, max=100,
                                              help="Independent programmings for mean and spread.")] = 5,
    sim_images: Annotated[int, typer.Option("--sim-images", min=0, max=1000,
                                            help="Digits that run on the verilated chip too; 0: none.")] = 64,
    technology: TechnologyOption = "pcm",
    seed: SeedOption = None,
    json: JsonOption = None,
) -> int:
    """Digits through an emulated PCM array: programming, ages, compensation, and the RTL against the model."""
    from host.demo import DemoPlan, run_demo
    from host.technologies import technology_named

    technology_named(technology)
    plan = DemoPlan(output=output, seed=1 if seed is None else seed, images=images, programmings=programmings,
                    sim_images=min(sim_images, images), technology=technology)
    return run_demo(plan, Screen(json))


@command
def compile_(
    network: NetworkArgument,
    data: Annotated[str | None, typer.Option("--data", metavar="FILE",
                                             help="What to calibrate with: an .npz with x; or mnist.")] = None,
    geometry: GeometryOption = DEFAULT_GEOMETRY,
    technology: TechnologyOption = "pcm",
    output: Annotated[Path | None, typer.Option("--output",
                                                help="Write the placement here. [default: NET.npz]")] = None,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Place a network on a chip: tiles, routes, scales; tells utilisation, and what does not map."""
    from host.placing import compile_command

    compile_command(network, data, geometry, output, seed, Screen(json), technology)


@command
def run(
    network: NetworkArgument, data: DataOption,
    device: DeviceOption = "model:",
    technology: TechnologyOption = "pcm",
    programming: ProgrammingOption = "closed-loop",
    age: AgeOption = "fresh",
    compensate: Annotated[str, typer.Option("--compensate", help="none, global, column or adabs.")] = "none",
    images: ImagesOption = None,
    extrapolate: ExtrapolateOption = False,
    illustrative: IllustrativeOption = False,
    without: WithoutOption = None,
    with_: WithOption = None,
    temperature: TemperatureOption = None,
    spares: Annotated[int, typer.Option("--spares", min=0, max=512, help="Neurons more in each hidden layer: after "
                                        "programming all move so that bad cells matter least.")] = 0,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure the converters' gains and offsets after "
                                                                "programming, and take them off.")] = False,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Program a device, age it, and run data through it."""
    from host.inputs import parse_age
    from host.runs import RunPlan, run_network

    screen = Screen(json)
    plan = RunPlan(network=network, data=data, device=device, technology=technology, programming=programming,
                   age=parse_age(age), compensate=compensate, images=images, seed=seed, extrapolate=extrapolate,
                   illustrative=illustrative, without=tuple(without or ()), faults=tuple(with_ or ()),
                   temperature=temperature, calibrate=calibrate, spares=spares)
    screen.result(run_network(plan, screen))


@command
def ages(
    network: NetworkArgument, data: DataOption,
    device: DeviceOption = "model:",
    technology: TechnologyOption = "pcm",
    programming: ProgrammingOption = "closed-loop",
    ages_: Annotated[str, typer.Option("--ages", help="Times since programming, joined by commas.")] =
        "fresh,1h,1day,1month,1year",
    programmings: Annotated[int, typer.Option("--programmings", min=1, max=1000,
                                              help="Independent programmings for mean and spread.")] = 3,
    compensate: Annotated[str, typer.Option("--compensate", help="none, global, column or adabs.")] = "global",
    images: ImagesOption = None,
    extrapolate: ExtrapolateOption = False,
    illustrative: IllustrativeOption = False,
    without: WithoutOption = None,
    with_: WithOption = None,
    temperature: TemperatureOption = None,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Accuracy over time and programmings: inputs that fit the chip's batch memory are loaded once and replayed."""
    from host.ages import run_ages
    from host.inputs import parse_age
    from host.runs import RunPlan

    screen = Screen(json)
    plan = RunPlan(network=network, data=data, device=device, technology=technology, programming=programming,
                   compensate=compensate, images=images, seed=seed, extrapolate=extrapolate, illustrative=illustrative,
                   without=tuple(without or ()), faults=tuple(with_ or ()), temperature=temperature)
    screen.result(run_ages(plan, [parse_age(age) for age in ages_.split(",")], programmings, screen))


@command
def verify(
    network: NetworkArgument,
    data: DataOption = "mnist",
    device: DeviceOption = "sim:",
    against: Annotated[str, typer.Option("--against", metavar="URL", help="The device to compare with.")] = "model:",
    technology: TechnologyOption = "pcm",
    programming: ProgrammingOption = "closed-loop",
    age: AgeOption = "fresh",
    images: ImagesOption = 16,
    extrapolate: ExtrapolateOption = False,
    with_: WithOption = None,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> int:
    """Do the same on two devices and count the integers that differ: exit code 1 unless none does."""
    from host.inputs import parse_age
    from host.runs import RunPlan, verify_devices

    screen = Screen(json)
    plan = RunPlan(network=network, data=data, device=device, technology=technology, programming=programming,
                   age=parse_age(age), images=images, seed=seed, extrapolate=extrapolate,
                   faults=tuple(with_ or ()))
    found, marks = verify_devices(plan, against, screen)
    screen.result(found.as_dict() | {"marks": marks})
    return 1 if found.differing else 0


@command
def compensation(
    device: Annotated[str, typer.Argument(metavar="URL")] = "model:",
    technology: TechnologyOption = "pcm",
    probes: Annotated[str, typer.Option("--probes", help="one-hot or dense.")] = "one-hot",
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Compensate the demo's network at every age and in every way: gains of the tiles, errors of the layers, cost."""
    from host.demo import MODEL
    from host.gains import show_compensation

    screen = Screen(json)
    screen.result(show_compensation(device, str(MODEL), technology, probes, seed, screen))


@command
def devices(seed: SeedOption = None, json: JsonOption = None) -> None:
    """List what can be opened, and the geometries of chips."""
    del seed
    from host.inspection import list_everything

    list_everything(Screen(json))


@command
def characterize(
    technology: Annotated[str, typer.Argument(metavar="TECHNOLOGY", help="A preset, or a .toml file.")] = "pcm",
    output: Annotated[Path | None, typer.Option("--output", help="Where the pages go. "
                                                                 "[default: build/characterize/NAME]")] = None,
    illustrative: IllustrativeOption = False,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Draw what a technology does beside the published curves: pulses, programming, drift, noise, convergence."""
    from host.characterize import characterize as draw_pages
    from host.technologies import technology_named

    screen, kind = Screen(json), technology_named(technology, illustrative=illustrative)
    directory = output or Path("build/characterize") / kind.name
    screen.result(draw_pages(kind, directory, 1 if seed is None else seed, screen))


@command
def info(device: Annotated[str, typer.Argument(metavar="URL")] = "model:", seed: SeedOption = None,
         json: JsonOption = None) -> None:
    """Tell what a device is and what its counters say."""
    from host.inspection import show_info

    show_info(device, seed, Screen(json))


@command
def regs(device: Annotated[str | None, typer.Argument(metavar="[URL]", help="Read the registers of this device "
                                                                            "too.")] = None,
         geometry: GeometryOption = DEFAULT_GEOMETRY, seed: SeedOption = None, json: JsonOption = None) -> None:
    """Print the register map, and with a URL what its single registers hold."""
    from host.inspection import show_registers

    show_registers(device, geometry, seed, Screen(json))


@command
def serve(
    device: Annotated[str, typer.Argument(metavar="URL")] = "model:",
    host: Annotated[str, typer.Option("--host", help="Address to listen on; the default lets nobody in from "
                                                     "elsewhere.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="TCP port; 0 takes a free one.")] = DEFAULT_PORT,
    pty: Annotated[bool, typer.Option("--pty", help="A pseudo-terminal in place of TCP.")] = False,
    link: Annotated[str | None, typer.Option("--link", help="With --pty: a name for the terminal.")] = None,
) -> None:
    """Offer a device to others over TCP or a pseudo-terminal, until interrupted."""
    from host.api import open_channel
    from host.serve import PtyDoor, TcpDoor
    from host.serve import serve as run_server

    screen, geometry = Screen(), parse_url(device).geometry.name
    channel = open_channel(device, progress=screen.tell)
    door = PtyDoor(link) if pty else TcpDoor(host, port)
    run_server(channel, door, lambda url: screen.say(f"{url}?geometry={geometry}"))


@command
def build(
    board: Annotated[str, typer.Argument(metavar="BOARD", help="A board of docs/boards, as ulx3s-85f.")],
    clock: Annotated[float | None, typer.Option("--clock", min=1, help="MHz, in place of the board's own.")] = None,
    directory: DirectoryOption = None,
    seed: SeedOption = None,
    every: Annotated[int | None, typer.Option("--every", min=1, metavar="N", help="Try each of the seeds 1 to N, and "
                                              "tell the medians.")] = None,
    json: JsonOption = None,
) -> int:
    """Make the bitstream of a board; tells its speed and what it takes. --seed is the placer's only seed."""
    from host import boards_entry

    if seed is not None and every is not None:
        raise BitlineError("--seed is one seed and --every is many: choose one")
    seeds = range(1, every + 1) if every else None if seed is None else [seed]
    screen = Screen(json)
    report = boards_entry.build(board, seeds=seeds, every=every is not None, clock_mhz=clock, directory=directory,
                                progress=screen.tell)
    screen.say(report.table())
    screen.result_text(report.to_json())
    return 0 if report.met else 1


@command
def flash(
    board: Annotated[str, typer.Argument(metavar="BOARD")],
    directory: DirectoryOption = None,
    permanent: Annotated[bool, typer.Option("--permanent", help="Into flash, not only until power-off.")] = False,
) -> int:
    """Load the bitstream of a board with openFPGALoader."""
    from host import boards_entry

    arguments = boards_entry.flash_command(board, directory=directory, permanent=permanent)
    Screen().tell(" ".join(arguments))
    return subprocess.run(arguments, check=False).returncode


@command
def selftest(device: Annotated[str, typer.Argument(metavar="URL")], seed: SeedOption = None,
             json: JsonOption = None) -> int:
    """Run random vectors through every lane and word of a device and name what fails."""
    from host.selftest import run_selftest

    screen = Screen(json)
    found = run_selftest(device, seed, screen)
    screen.result(found)
    return 1 if found["failures"] else 0


@command
def bench(
    sim: Annotated[bool, typer.Option("--sim/--no-sim", help="The verilated chip, too.")] = True,
    images: Annotated[int, typer.Option("--images", min=1, max=1000)] = 1000,
    physics: Annotated[Path | None, typer.Option("--physics", metavar="FILE", help="Compare every published statistic, "
                                                 "too, and write the tables here; minutes.")] = None,
    digits: Annotated[Path | None, typer.Option("--digits", metavar="FILE", help="Compare networks with aihwkit's "
                                                "results, too, and write the tables here; minutes.")] = None,
    performance: Annotated[Path | None, typer.Option("--performance", metavar="FILE",
                                                     help="Write every figure beside its bound here.")] = None,
    large: Annotated[bool, typer.Option("--large", help="Chips larger than a board's block RAM, too: a tile of 1,024 x "
                                        "1,024, and 34 tiles of 512 x 2,048 devices; minutes.")] = False,
    seed: SeedOption = None,
    json: JsonOption = None,
) -> None:
    """Measure cycles, multiplications a cycle, and images a second, against the bounds."""
    from host.bench import run_bench
    from host.digits_page import write_digits_page
    from host.large import run_large
    from host.performance_page import write_performance_page
    from host.physics_page import write_physics_page
    from host.stream import run_stream

    screen = Screen(json)
    found = run_bench(images=images, sim=sim, seed=seed, screen=screen)
    if large:
        found["large"] = run_large(sim=sim, seed=seed, screen=screen)
        if sim:
            with screen.stage("sim: nets from states in SDRAM"):
                found["stream"] = run_stream(screen=screen)
    if performance is not None:
        write_performance_page(performance, found, screen)
    if physics is not None:
        found["physics"] = write_physics_page(physics, screen)
    if digits is not None:
        found["digits"] = write_digits_page(digits, screen)
    screen.result(found)


@command
def figures(
    accept: Annotated[bool, typer.Option("--accept", help="Keep what is measured now.")] = False,
    json: JsonOption = None,
) -> int:
    """Measure cycles and cells anew, and fail with a sentence for each figure that got worse."""
    from host.thresholds import run_figures

    screen = Screen(json)
    found = run_figures(accept=accept, screen=screen)
    screen.result(found)
    return 1 if found["worse"] else 0


def main() -> None:
    """Run the command line."""
    app(prog_name="bitline")


if __name__ == "__main__":
    main()
