"""What runs inside the guest: an init script for the initramfs, and the agent as PID 1.

Both travel in the initramfs of every boot, so that editing them rebuilds no image.
The agent needs the guest's Python and ``vm.frames``, nothing more.
"""
