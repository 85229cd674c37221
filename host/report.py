"""One page that shows what an experiment found: figures, tables, and what is modelled and what is not."""

import base64
import html
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template

from host.errors import BitlineError
from host.figures import all_figures
from host.honesty import assumed, modelled, not_modelled
from host.results import DemoResult, Pictures, age_name
from rtl.params import preset
from rtl.params.formats import GMAX_G16
from sim.tables import verify_settings
from sim.technology import Technology

__all__ = ["write_report"]

_CAPTIONS = {
    "layers": "Gain and error of each layer against the exact layer with the same inputs.",
    "accuracy": "Accuracy over time.",
    "write-verify": "Convergence of write-verify.",
    "adc": "Codes that inference saw.",
    "digits": "The first digits of the test set, the chip's answer above and its certainty below.",
}


def write_report(directory: str | Path, result: DemoResult, pictures: Pictures, technology: Technology) -> Path:
    """Write `index.html` with all figures inside, and each figure beside it as PNG; return the page's path.

    Raises
    ------
    BitlineError
        If the directory cannot be written.
    """
    directory = Path(directory)
    geometry = preset(result.geometry)
    per_g16 = verify_settings(technology, geometry)["counts_per_g"] / (1 << 16)
    t0 = 1.0 if technology.t0 is None else technology.t0.one
    figures = all_figures(result, pictures, t0=t0, per_us=per_g16 * GMAX_G16 / technology.range)
    page = directory / "index.html"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, content in figures.items():
            (directory / f"{name}.png").write_bytes(content)
        page.write_text(_page(result, pictures, technology, figures), "utf-8")
    except OSError as error:
        raise BitlineError(f"the report cannot be written to {directory}: {error.strerror}") from error
    return page


def _page(result: DemoResult, pictures: Pictures, technology: Technology, figures: dict[str, bytes]) -> str:
    geometry = preset(result.geometry)
    return Template(files("host").joinpath("pages/report.html").read_text("utf-8")).substitute(
        title=f"A digit classifier in {len(pictures.maps)} layers of emulated {technology.name.upper()}",
        lead=html.escape(_lead(result)), tiles="\n".join(_tiles(result)),
        sections="\n".join(_sections(result, pictures, figures)),
        modelled=_items(modelled(technology, geometry)), not_modelled=_items(not_modelled(technology)),
        assumed=_items(assumed(technology)),
        footer=html.escape(f"Bitline; network {result.network}, chip {result.geometry}, "
                           f"technology {result.technology}, seed {result.seed}. Devices follow published statistics; "
                           "no device was measured here."))


def _lead(result: DemoResult) -> str:
    return (f"{result.network} was written into {result.write_verify.devices:,} emulated devices by the chip's own "
            f"write-verify, {result.images:,} unseen digits were streamed through it, and the array was aged to "
            f"{age_name(max(point.seconds for point in result.accuracy_by_age))}.")


def _tiles(result: DemoResult) -> list[str]:
    fresh, written = result.accuracy_fresh, result.write_verify
    exact = result.bit_exact
    if exact is None:
        same = ("open", "not run", "bit-exact check against the RTL")
    else:
        same = ("good" if not exact.differing else "bad", f"{exact.differing:,}",
                f"differing integers of {exact.compared:,}, RTL against model")
    entries = [
        ("", f"{result.accuracy_float:.1%}", "accuracy of the exact network"),
        ("", f"{fresh.accuracy:.1%}", f"fresh, mean of {len(fresh.values)} programmings (spread {fresh.sigma:.2%})"),
        ("", f"{written.error_rms_percent_of_gmax:.1f} %",
         f"of Gmax: programming error ({written.error_rms_us:.2f} µS rms)"),
        ("", f"{result.mac_per_cycle / result.lanes:.0%}", f"of {result.lanes} lanes at work while the engines "
             f"compute: {result.mac_per_cycle:.1f} MAC a cycle"),
        same,
    ]
    return [f'<div class="tile {kind}"><b>{html.escape(value)}</b><span>{html.escape(text)}</span></div>'
            for kind, value, text in entries]


def _sections(result: DemoResult, pictures: Pictures, figures: dict[str, bytes]) -> list[str]:
    out = [
        "<h2>Drift, and what compensation gives back</h2>",
        '<p class="note">An MLP hides a common factor: a positive gain on all outputs leaves the largest one the '
        "largest, so accuracy alone would look almost unharmed. Gain and relative error of each layer show what the "
        "devices really do, and what measuring the gain through the tile's own read path corrects.</p>",
        _figure(figures, "layers"), _layer_table(result),
        "<h2>Accuracy</h2>", '<div class="half">', _figure(figures, "accuracy"),
        f"<div>{_accuracy_table(result)}</div>", "</div>", _figure(figures, "digits"),
        "<h2>Programming</h2>",
        f"<p>Each cell is reset, pulsed and read through the array's own converters until it lies in its window: "
        f"{result.write_verify.pulses_mean:.2f} pulses a cell, {result.write_verify.converged_fraction:.2%} of the "
        f"cells converged. Relaxation after the last pulse is not seen by write-verify, but is in the error above.</p>",
        _figure(figures, "write-verify"),
    ]
    for k, found in enumerate(pictures.maps):
        out.append(_figure(figures, f"maps-{k}", f"Conductances of layer {found.layer}: wanted, programmed, error."))
    out += ["<h2>Converters and speed</h2>", '<div class="half">', _figure(figures, "adc"),
            f"<div>{_speed_table(result)}</div>", "</div>", _exact_table(result)]
    return out


def _figure(figures: dict[str, bytes], name: str, caption: str = "") -> str:
    text = html.escape(caption or _CAPTIONS[name])
    return f'<figure><img alt="{text}" src="data:image/png;base64,{base64.b64encode(figures[name]).decode()}"></figure>'


def _layer_table(result: DemoResult) -> str:
    found = {(p.seconds, p.layer, p.compensated): p for p in result.layers_by_age}
    rows = []
    for seconds, layer in dict.fromkeys((p.seconds, p.layer) for p in result.layers_by_age):
        plain, compensated = (found.get((seconds, layer, kind)) for kind in (False, True))
        cells = [(f"{p.gain:.3f}", f"{p.relative_error:.1%}") if p else ("", "") for p in (plain, compensated)]
        rest = f"{plain.error_after_gain:.1%}" if plain else ""
        rows.append((age_name(seconds), layer, *cells[0], rest, *cells[1]))
    return _table(("age", "layer", "gain", "error", "without the common factor", "compensated: gain", "error"), rows)


def _accuracy_table(result: DemoResult) -> str:
    seconds = sorted({p.seconds for p in result.accuracy_by_age})
    found = {(p.seconds, p.compensated): f"{p.accuracy:.2%} ± {p.sigma:.2%}" for p in result.accuracy_by_age}
    return _table(("age", "as it is", "compensated"),
                  [(age_name(s), found.get((s, False), ""), found.get((s, True), "")) for s in seconds])


def _speed_table(result: DemoResult) -> str:
    rows = [("multiplications an image", f"{result.macs:,}"), ("lanes", f"{result.lanes}"),
            ("cycles an image, expected", f"{result.cycles_per_image:,}"),
            ("cycles an image, lower bound", f"{result.lower_bound_cycles:,}")]
    if result.busy_cycles_per_image:
        rows.append(("cycles an engine of the RTL computed", f"{result.busy_cycles_per_image:,.0f}"))
    if result.streaming_cycles_per_image:
        rows.append(("cycles an image through the RTL's link", f"{result.streaming_cycles_per_image:,.0f}"))
    rows += [(f"images a second of {name}", f"{value:,.0f}") for name, value in result.images_per_second.items()]
    return _table(("speed", ""), rows)


def _exact_table(result: DemoResult) -> str:
    if result.bit_exact is None:
        return f'<p class="note">{html.escape(result.simulation[:1].upper() + result.simulation[1:])}</p>'
    rows = [(name, f"{compared:,}", f"{differing:,}") for name, (compared, differing) in result.bit_exact.parts.items()]
    rows.append(("all", f"{result.bit_exact.compared:,}", f"{result.bit_exact.differing:,}"))
    return (f"<p>The verilated RTL was programmed by its own write-verify and ran {result.bit_exact.images} digits; "
            "every output, device state, counter and time was compared with the model's. Nets show in the outputs; "
            "<code>bitline verify</code> compares them one by one.</p>"
            + _table(("integers", "compared", "differing"), rows))


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in headings)
    body = "\n".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table></div>'


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"<li>{html.escape(line)}</li>" for line in lines)
