"""Help for tests: zcrx without a kernel that has it."""

from pyzcrx.testing.model import ModelKernel, ModelSocket
from pyzcrx.testing.replay import Replay

__all__ = ["ModelKernel", "ModelSocket", "Replay"]
