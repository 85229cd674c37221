"""The mesh as the model sees it: tables of routes, where a route leads, and the links it crosses."""

from collections.abc import Iterable

import numpy as np

from rtl.params import ROUTES, Geometry

LOCAL, NORTH, EAST, SOUTH, WEST = range(5)
"""Outputs of a node, in the order of the bits of a route mask."""

_NAMES = ("local", "north", "east", "south", "west")


class Mesh:
    """Route tables of every node of a chip, and a count of the flits that crossed links.

    Attributes
    ----------
    tables : (nodes, routes) masks of outputs
    hops : flits that crossed a link between two nodes
    """

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.tables = np.zeros((geometry.nodes, geometry.routes), np.int64)
        self.hops = 0
        self.writes = 0
        """Entries written since power-up."""
        self._found: dict[tuple[int, int], tuple[int, list[int]]] = {}

    def write(self, node: int, region: int, offset: int, value: int) -> None:
        """Write an entry of a node's table; an offset past the last route is ignored."""
        self._check(node, region)
        if offset < self.geometry.routes:
            self.tables[node, offset] = value & 0x1F
            self.writes += 1
            self._found.clear()

    def read(self, node: int, region: int, offset: int) -> int:
        """Read an entry of a node's table; an offset past the last route reads as 0."""
        self._check(node, region)
        return int(self.tables[node, offset]) if offset < self.geometry.routes else 0

    def _check(self, node: int, region: int) -> None:
        if not 0 <= node < self.geometry.nodes:
            raise ValueError(f"node must be 0 to {self.geometry.nodes - 1}, not {node}")
        if region != ROUTES:
            raise ValueError(f"a router has region {ROUTES} only, not {region}")

    def neighbour(self, node: int, output: int) -> int | None:
        """Return the node behind an output, or None at the edge of the grid."""
        width = self.geometry.mesh_columns
        row, column = divmod(node, width)
        if output == NORTH:
            return node - width if row > 0 else None
        if output == SOUTH:
            return node + width if row < self.geometry.mesh_rows - 1 else None
        if output == EAST:
            return node + 1 if column < width - 1 else None
        return node - 1 if column > 0 else None

    def links(self, source: int, route: int) -> list[tuple[int, int]]:
        """Return the (node, output) pairs that a flit of `route` takes from unit `source`, local ones included.

        Raises
        ------
        ValueError
            If the route ends without a receiver, leaves the grid or comes to a node twice.
        """
        if not 0 <= route < self.geometry.routes:
            raise ValueError(f"route must be 0 to {self.geometry.routes - 1}, not {route}")
        if not 0 <= source < self.geometry.units:
            raise ValueError(f"route {route} must start at unit 0 to {self.geometry.units - 1}, not {source}")
        taken: list[tuple[int, int]] = []
        seen = {source}
        frontier = [source]
        while frontier:
            node = frontier.pop(0)
            mask = int(self.tables[node, route])
            if not mask:
                raise ValueError(f"route {route} from unit {source} has a dead end: node {node} has no output for it")
            for output in range(5):
                if not mask >> output & 1:
                    continue
                taken.append((node, output))
                if output == LOCAL:
                    if node >= self.geometry.units:
                        raise ValueError(f"route {route} from unit {source} has a dead end: no unit at node {node}")
                    continue
                other = self.neighbour(node, output)
                if other is None:
                    raise ValueError(f"route {route} from unit {source} has a dead end: "
                                     f"nothing lies {_NAMES[output]} of node {node}")
                if other in seen:
                    raise ValueError(f"route {route} from unit {source} has a loop: it comes to node {other} twice")
                seen.add(other)
                frontier.append(other)
        return taken

    def deliver(self, source: int, route: int, flits: int = 0) -> list[int]:
        """Return the units that receive `route` from unit `source`, and count the links that `flits` flits cross.

        Raises
        ------
        ValueError
            See `links`.
        """
        if (source, route) not in self._found:
            taken = self.links(source, route)
            self._found[source, route] = (sum(output != LOCAL for _, output in taken),
                                          sorted(node for node, output in taken if output == LOCAL))
        hops, units = self._found[source, route]
        self.hops += flits * hops
        return units


def tree(geometry: Geometry, source: int, destinations: Iterable[int]) -> dict[int, int]:
    """Return node -> mask of outputs of a route from a unit to others: along the row first, then along columns.

    Trees of this shape never wait for each other in a circle, so any set of them is free of deadlock.
    """
    masks: dict[int, int] = {}

    def add(node: int, output: int) -> None:
        masks[node] = masks.get(node, 0) | 1 << output

    width = geometry.mesh_columns
    for destination in destinations:
        if not 0 <= destination < geometry.units:
            raise ValueError(f"a route must end at unit 0 to {geometry.units - 1}, not {destination}")
        node = source
        while node % width != destination % width:
            step = EAST if destination % width > node % width else WEST
            add(node, step)
            node += 1 if step == EAST else -1
        while node != destination:
            step = SOUTH if destination > node else NORTH
            add(node, step)
            node += width if step == SOUTH else -width
        add(node, LOCAL)
    return masks
