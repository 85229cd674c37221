"""The tiles of a network in their places, and the routes between port, tiles and digital unit."""

from collections.abc import Sequence

from host.placement import InputRoute, Route
from host.tiling import Cut, Place, enough
from rtl.params import Geometry
from rtl.params.protocol import REQUEST_BYTES, VECTOR_BYTES
from sim.mesh import tree

__all__ = ["HOP_PS", "Wiring", "hops"]

HOP_PS = 5_000
"""A link of the mesh: assumed."""

PLAN_MAX, PLAN_WORDS_MAX = 63, 255


def hops(geometry: Geometry, source: int, destination: int) -> int:
    """Return the links between two units."""
    (row0, column0), (row1, column1) = (divmod(unit, geometry.mesh_columns) for unit in (source, destination))
    return abs(row0 - row1) + abs(column0 - column1)


class Wiring:
    """Routes of a network whose layers are cut and placed.

    Attributes
    ----------
    places : (layer, row tile, column tile) -> where that tile is
    inputs : the input routes of each layer; each leads to at most one context of an engine
    partial : (layer, row tile, column tile) -> route of its partial sums
    result : route of the results
    routes : all of them
    starts : the first layer of each phase, to which the port sends

    Raises
    ------
    CapacityError
        If the chip has too few routes.
    """

    def __init__(self, geometry: Geometry, chosen: Sequence[Cut], places: Sequence[Place],
                 starts: Sequence[int] = (0,)) -> None:
        self.geometry, self.cuts, self.starts = geometry, list(chosen), tuple(starts)
        remaining = iter(places)
        self.places = {(n, t, c): next(remaining) for n, cut in enumerate(chosen) for t, c, _, _ in cut.pieces()}
        self.routes: list[Route] = []
        self.inputs = [self._inputs(n) for n in range(len(self.cuts))]
        self.partial = {key: self._route(place.unit, [geometry.digital_unit]) for key, place in self.places.items()}
        self.result = self._route(geometry.digital_unit, [0])
        enough("routes", len(self.routes), geometry.routes)

    def plan(self, planes: int = 1, layer: int = 0) -> tuple[tuple[int, int, int], ...]:
        """Return (route, words, position) of the messages that a vector sent to a layer is cut into, `planes` on each
        route.

        Raises
        ------
        CapacityError
            If a vector is too long.
        """
        plan = tuple((route.route, route.words, plane) for plane in range(planes) for route in self.inputs[layer])
        enough("segments of a vector", len(plan), PLAN_MAX)
        enough("words in a segment of a vector", max(words for _, words, _ in plan), PLAN_WORDS_MAX)
        enough("bytes in a vector sent", VECTOR_BYTES + sum(words for _, words, _ in plan) * self.geometry.transport,
               REQUEST_BYTES)
        return plan

    def tile_latency(self, unit: int) -> int:
        """Return the ps that partial sums travel from an engine."""
        return HOP_PS * hops(self.geometry, unit, self.geometry.digital_unit)

    def layer_latency(self, layer: int) -> int:
        """Return the ps that what the digital unit makes of a layer travels, to the next one or to the port."""
        last = layer + 1 == len(self.cuts)
        ends = [0] if last else [unit for route in self.inputs[layer + 1] for unit, _ in route.contexts]
        return HOP_PS * max(hops(self.geometry, self.geometry.digital_unit, unit) for unit in ends)

    def _route(self, source: int, destinations: Sequence[int]) -> int:
        number = len(self.routes)
        self.routes.append(Route(route=number, source=source, destinations=tuple(destinations),
                                 nodes=tuple(sorted(tree(self.geometry, source, destinations).items()))))
        return number

    def _inputs(self, layer: int) -> list[InputRoute]:
        cut = self.cuts[layer]
        source = 0 if layer in self.starts else self.geometry.digital_unit
        found = []
        for t in range(cut.row_tiles):
            held: dict[int, list[int]] = {}
            for c in range(len(cut.columns)):
                place = self.places[layer, t, c]
                held.setdefault(place.unit, []).append(place.context)
            for copy in range(max(map(len, held.values()))):
                contexts = tuple((unit, held[unit][copy]) for unit in sorted(held) if len(held[unit]) > copy)
                route = self._route(source, [unit for unit, _ in contexts])
                found.append(InputRoute(route=route, layer=layer, row_tile=t, copy=copy, contexts=contexts,
                                        words=-(-cut.rows(t) // self.geometry.transport)))
        return found
