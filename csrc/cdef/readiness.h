/*
 * Have the kernel add to an eventfd as soon as work for the ring's owner is queued
 * (IORING_REGISTER_EVENTFD).  The ring's own descriptor is no substitute: with
 * DEFER_TASKRUN it does not poll readable before Linux 7.
 */
int pz_ring_signals(struct pz_ring *ring, int eventfd);
/* An eventfd; a timerfd on the monotonic clock; an epoll of three: close-on-exec, or -errno. */
int pz_signal(void);
int pz_timer(void);
int pz_any(int kernel, int signal, int timer);
/* Have an eventfd poll readable, or not. */
void pz_signal_set(int eventfd);
void pz_signal_clear(int eventfd);
/* Have it poll readable after ns from now; < 0: never. */
int pz_timer_set(int timer, int64_t ns);
