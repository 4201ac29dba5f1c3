// SPDX-License-Identifier: MIT
/*
 * What a turn brought, counted, and what of it goes back: one pass each over
 * its runs, of whichever requests and ifqs those are.
 *
 * Python runs no signal handler within, so each happens wholly or not at all.
 */
#include "roster.h"

struct account *turn_account(PyObject *accounts, uint64_t token)
{
	const uint64_t ifq = (token >> PZ_TOKEN_IFQ_SHIFT) & PZ_TOKEN_IFQ_MASK;
	PyObject *account = ifq < (uint64_t)PyList_Size(accounts) ?
			    PyList_GetItem(accounts, (Py_ssize_t)ifq) : NULL;

	return account && PyObject_TypeCheck(account, account_type) ?
	       (struct account *)account : NULL;
}

/* Where the runs end that are of the ifq of this one. */
static uint64_t same_ifq(const struct pz_columns *c, uint64_t run)
{
	const uint64_t *token = c->run_token, ifq = token[run] >> PZ_TOKEN_IFQ_SHIFT;

	while (++run < c->n_runs)
		if (token[run] >> PZ_TOKEN_IFQ_SHIFT != ifq)
			break;
	return run;
}

/* Whether the runs lie in the columns, whoever wrote them. */
static int runs_fit(const struct pz_columns *c)
{
	const uint32_t *start = c->run_start;
	uint64_t run;

	if (c->n_runs > c->capacity)
		return 0;
	for (run = 0; run < c->n_runs; run++)
		if (start[run] > start[run + 1])
			return 0;
	return !c->n_runs || start[c->n_runs] <= c->capacity;
}

static int bad_runs(void)
{
	PyErr_SetString(PyExc_ValueError, "the turn has runs outside its columns");
	return -1;
}

/* Whether each run is of a request that is armed, on an ifq. */
static int runs_known(const struct pz_columns *c, const struct roster *roster,
		      PyObject *accounts)
{
	uint64_t run;

	for (run = 0; run < c->n_runs; run++) {
		const struct receiver *r = roster_find(roster, c->run_token[run]);

		if (!r || !r->protocol)
			return 0;
	}
	for (run = 0; run < c->n_runs; run = same_ifq(c, run))
		if (!turn_account(accounts, c->run_token[run]))
			return 0;
	return 1;
}

/* Those are known.  In locals, since what it stores might alias anything else. */
static void runs_progress(const struct pz_columns *c, const struct roster *roster)
{
	const uint64_t *const token = c->run_token, *const bytes = c->run_bytes, n = c->n_runs;
	const struct entry *const entries = roster->entries;
	uint64_t run;

	for (run = 0; run < n; run++)
		progress_add((struct progress *)entries[roster_slot(token[run])].armed->protocol,
			     bytes[run]);
}

int turn_count(struct pz_columns *c, const struct roster *roster, PyObject *accounts)
{
	uint64_t run, next;

	if (c->fresh == PZ_COUNTED)
		return 1;
	if (!runs_fit(c))
		return bad_runs();
	if (!runs_known(c, roster, accounts))
		return 0;
	runs_progress(c, roster);
	for (run = 0; run < c->n_runs; run = next) {
		struct account *a = turn_account(accounts, c->run_token[run]);
		unsigned long long bytes = 0;
		uint32_t n;

		next = same_ifq(c, run);
		n = c->run_start[next] - c->run_start[run];
		a->leased += n;
		a->taken += n;
		a->now_ns = c->now_ns;
		for (; run < next; run++)
			bytes += c->run_bytes[run];
		a->bytes += bytes;
	}
	c->fresh = PZ_COUNTED;
	return 1;
}

int turn_name(const struct pz_columns *c, const struct roster *roster, PyObject *receivers)
{
	uint64_t run;

	if (PyList_SetSlice(receivers, 0, PyList_Size(receivers), NULL))
		return -1;
	if (!runs_fit(c))
		return bad_runs();
	for (run = 0; run < c->n_runs; run++) {
		struct receiver *receiver = roster_find(roster, c->run_token[run]);

		if (!receiver) {
			PyErr_SetString(PyExc_ValueError, "the turn has a run that is nobody's");
			return -1;
		}
		if (PyList_Append(receivers, (PyObject *)receiver))
			return -1;
	}
	return 0;
}

int turn_give_back(const struct pz_columns *c, PyObject *accounts)
{
	uint64_t run, next;

	if (!runs_fit(c))
		return bad_runs();
	for (run = 0; run < c->n_runs; run = next) {
		struct account *a = turn_account(accounts, c->run_token[run]);
		uint32_t start = c->run_start[run];

		next = same_ifq(c, run);
		if (a && account_give_back(a, c->off + start, c->run_start[next] - start,
					   c->now_ns)) {
			PyErr_NoMemory();
			return -1;
		}
	}
	return 0;
}
