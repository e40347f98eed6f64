"""These callbacks tell a keyed model the step: for transformers' Trainer and for Lightning's.

Each is a module that is imported by name, and needs its package: `pip install 'thinned[integrations]'`.
accelerate and loops of one's own need none of it: `thinned.torch.Steps`.
"""

__all__: list[str] = []


def __dir__() -> list[str]:
    return sorted(__all__)
