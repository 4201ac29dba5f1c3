"""Help for tests: zcrx without a kernel that has it."""

from pyzcrx.testing.model import ModelKernel, ModelSocket

__all__ = ["ModelKernel", "ModelSocket"]
