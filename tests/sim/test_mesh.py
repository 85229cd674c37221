"""The mesh model: where routes lead, what they cross, and which are refused."""

import pytest

from rtl.params import ROUTES, Geometry, preset
from sim.mesh import EAST, LOCAL, NORTH, SOUTH, WEST, Mesh, tree

GRID = Geometry(name="grid", engines=4, mesh_columns=3, routes=16)  # 0 1 2 over 3 4 5


def mesh_with(route: int, masks: dict[int, int], geometry: Geometry = GRID) -> Mesh:
    mesh = Mesh(geometry)
    for node, mask in masks.items():
        mesh.write(node, ROUTES, route, mask)
    return mesh


def test_a_multicast_reaches_each_receiver_once_and_counts_its_links():
    mesh = mesh_with(3, {0: 1 << EAST | 1 << SOUTH, 1: 1 << LOCAL | 1 << EAST, 2: 1 << SOUTH, 5: 1 << LOCAL,
                         3: 1 << LOCAL})
    assert mesh.deliver(0, 3, flits=7) == [1, 3, 5]
    assert mesh.hops == 7 * 4
    assert mesh.deliver(0, 3) == [1, 3, 5]
    assert mesh.hops == 7 * 4


def test_a_route_to_its_own_unit_crosses_no_link():
    mesh = mesh_with(0, {4: 1 << LOCAL})
    assert mesh.deliver(4, 0, flits=5) == [4]
    assert mesh.hops == 0


@pytest.mark.parametrize("source", range(6))
@pytest.mark.parametrize("destinations", [[0], [5], [0, 5], [1, 2, 3, 4], [0, 1, 2, 3, 4, 5]])
def test_trees_lead_where_they_should(source, destinations):
    mesh = mesh_with(9, tree(GRID, source, destinations))
    assert mesh.deliver(source, 9) == destinations


def test_tree_goes_along_the_row_first():
    assert tree(GRID, 0, [5]) == {0: 1 << EAST, 1: 1 << EAST, 2: 1 << SOUTH, 5: 1 << LOCAL}
    assert tree(GRID, 5, [0]) == {5: 1 << WEST, 4: 1 << WEST, 3: 1 << NORTH, 0: 1 << LOCAL}
    with pytest.raises(ValueError, match="unit 0 to 5, not 6"):
        tree(GRID, 0, [6])


@pytest.mark.parametrize(("masks", "sentence"), [
    ({}, "route 3 from unit 0 has a dead end: node 0 has no output"),
    ({0: 1 << EAST}, "route 3 from unit 0 has a dead end: node 1 has no output"),
    ({0: 1 << NORTH}, "route 3 from unit 0 has a dead end: nothing lies north of node 0"),
    ({0: 1 << EAST, 1: 1 << WEST}, "route 3 from unit 0 has a loop: it comes to node 0 twice"),
    ({0: 1 << EAST | 1 << SOUTH, 1: 1 << SOUTH, 3: 1 << EAST, 4: 1 << LOCAL}, "loop: it comes to node 4 twice"),
])
def test_bad_routes_are_refused_by_name(masks, sentence):
    with pytest.raises(ValueError, match=sentence):
        mesh_with(3, masks).deliver(0, 3)


def test_a_node_without_a_unit_receives_nothing():
    mesh = mesh_with(1, {0: 1 << SOUTH, 2: 1 << EAST, 3: 1 << LOCAL}, preset("tiny"))
    with pytest.raises(ValueError, match="route 1 from unit 0 has a dead end: no unit at node 3"):
        mesh.deliver(0, 1)


def test_tables_read_back_and_bounds_are_checked():
    mesh = mesh_with(3, {5: 0xFF})
    assert mesh.read(5, ROUTES, 3) == 0x1F
    mesh.write(0, ROUTES, 16, 1)
    assert mesh.read(0, ROUTES, 16) == 0
    with pytest.raises(ValueError, match="node must be 0 to 5, not 6"):
        mesh.read(6, ROUTES, 0)
    with pytest.raises(ValueError, match="region 15 only, not 2"):
        mesh.write(0, 2, 0, 1)
    with pytest.raises(ValueError, match="route must be 0 to 15, not 16"):
        mesh.deliver(0, 16)
    with pytest.raises(ValueError, match="must start at unit 0 to 5, not 6"):
        mesh.deliver(6, 1)
