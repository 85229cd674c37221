"""Bitline in one import: `import bitline; device = bitline.open("model:demo")`."""

from host.aihwkit import *
from host.api import list_devices
from host.api import open_device as open
