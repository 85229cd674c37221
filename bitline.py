"""Bitline in one import: `import bitline; device = bitline.open("model:demo")`."""

from host.aihwkit import *
from host.api import list_devices
from host.api import open_device as open
from host.compiler import compile_network
from host.network import load_network
from rtl.params import preset
from sim.presets import technology
