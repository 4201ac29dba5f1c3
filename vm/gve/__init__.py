"""A model of Google's virtual NIC (gVNIC), for the kernel's own ``gve`` driver.

The driver is real, the device is not: the guest loads its distribution's ``gve.ko``,
unchanged; what answers its registers and rings is this package, a process of its own that
QEMU talks to by vfio-user. It models two NICs that are linked back to back, each with the
queue format DQO RDA: the one for which the driver has zero-copy receive.

``vfio_user`` and ``memory`` are QEMU's side; ``device``, ``shape``, ``admin``,
``interrupts``, ``tx``, ``rx`` and ``steering`` the parts of a NIC; ``frame`` what its
parser and its segmentation do; ``link`` and ``faults`` what lies between the two;
``control`` the socket by which tests read the books and set faults.

Names of functions and files in comments are those of drivers/net/ethernet/google/gve of
Linux 7.3. The package needs nothing but the standard library.
"""
