"""Help for tests: zcrx without a kernel that has it."""

from pyzcrx.testing.model import ModelKernel
from pyzcrx.testing.sockets import ModelListener, ModelSocket

__all__ = ["ModelKernel", "ModelListener", "ModelSocket"]
