/*
 * Privileges of the calling thread: 0 or -errno.
 */

/* No program that it executes may gain any: empty bounding set, no_new_privs. */
int pz_gain_no_privileges(void);
/* It has no capability left: permitted, effective, inheritable, ambient. */
int pz_drop_capabilities(void);
/* Get that signal when the thread that made this process ends. */
int pz_die_with_parent(int signal);
