"""The guest: a Debian machine under QEMU whose kernel has what pyzcrx needs.

``python -m vm run -- CMD`` runs a command in it; :class:`vm.guest.Guest` is the
same for programs and tests. Not part of the wheel. See docs/how-to/guest.md.

Imports run downward: ``cli -> terminal -> guest -> session -> process -> frames`` for the
life of a guest, ``guest -> accel -> boot -> image, modules -> kernel -> cache, host ->
scratch -> external -> keeper, errors`` for what it is made of. ``frames`` is shared with the
agent in ``vm/inside``, which runs on the guest's own Python and imports nothing else of ours.
The simulated card and the kernel's selftests: ``cli, options -> selftest -> module ->
bootstrap -> image``.
"""
