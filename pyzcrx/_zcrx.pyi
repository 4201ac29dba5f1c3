from typing import Any

# The cffi binding: its types are C's, written down in csrc/cdef/.
ffi: Any
lib: Any
