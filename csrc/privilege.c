// SPDX-License-Identifier: MIT
#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "internal.h"

int pz_gain_no_privileges(void)
{
	for (int capability = 63; capability >= 0; capability--) {
		if (prctl(PR_CAPBSET_READ, capability, 0, 0, 0) != 1)
			continue; /* not in the set, or unknown to this kernel */
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
			return -errno;
	}
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
}

int pz_drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return -errno;
	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

int pz_die_with_parent(int signal)
{
	return prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) ? -errno : 0;
}
