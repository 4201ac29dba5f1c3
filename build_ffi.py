"""The cffi binding of the shim: every cdef in csrc/cdef/, one text per topic.

CMake turns this into C with ``python -m cffi.gen_src exec-python build_ffi.py``.
"""

from pathlib import Path

from cffi import FFI

CDEF = Path(__file__).resolve().parent / "csrc" / "cdef"

ffibuilder = FFI()
for topic in ("uapi", "memory", "ring", "readiness", "requests", "send", "privilege"):
    ffibuilder.cdef((CDEF / f"{topic}.h").read_text())
ffibuilder.set_source("pyzcrx._zcrx", '#include "shim.h"', py_limited_api=True)
