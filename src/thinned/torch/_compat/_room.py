"""This list has the private names of torch that the front end needs."""

from __future__ import annotations

import torch

from thinned._private import Room

ROOM = Room(torch, "thinned.torch", "torch>=2.6,<=2.13")
private, private_attribute = ROOM.name, ROOM.attribute
