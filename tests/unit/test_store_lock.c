/* File locks: every corner of fcntl(2) and flock(2) that has a rule, and the queue. */
#include "tests/unit/store_fixture.h"

#include <errno.h>

#include "store/batch.h"
#include <sys/stat.h>

#define INO 5
#define TO_END UINT64_MAX

static struct lock_op op(uint64_t owner, int type, uint64_t start, uint64_t end)
{
    return (struct lock_op){.ino = INO, .session = 1, .owner = owner, .kind = LOCK_POSIX, .type = type, .start = start,
                            .end = end, .pid = 100};
}

static struct lock_op whole(uint64_t owner, int type)
{
    struct lock_op l = op(owner, type, 0, TO_END);

    l.kind = LOCK_FLOCK;
    return l;
}

static struct result run(struct fixture *f, enum command_kind kind, struct lock_op l)
{
    return fixture_apply(f, (struct command){.kind = (uint16_t)kind, .lock = l});
}

static uint16_t lock(struct fixture *f, struct lock_op l)
{
    struct result r = run(f, COMMAND_FILE_LOCK, l);

    assert_int_equal(r.status == STATUS_OK, r.lock.granted);
    assert_int_equal(r.status == STATUS_OK, r.lock.token != 0);
    return r.status;
}

static struct result wait_for(struct fixture *f, struct lock_op l, uint64_t request)
{
    l.wait = true;
    l.request = request;
    return run(f, COMMAND_FILE_LOCK, l);
}

static void unlock(struct fixture *f, struct lock_op l)
{
    assert_int_equal(STATUS_OK, run(f, COMMAND_FILE_UNLOCK, l).status);
}

struct text {
    char text[1024];
};

/* "1S0-9 " owner, type, range; a waiter has a question mark behind it. */
static int note_lock(void *ctx, const struct lock_op *l, uint64_t token)
{
    struct text *t = ctx;
    size_t n = strlen(t->text);
    char end[32] = "";

    if (l->end != TO_END)
        snprintf(end, sizeof(end), "%llu", (unsigned long long)l->end);
    snprintf(t->text + n, sizeof(t->text) - n, "%llu%c%llu-%s%s ", (unsigned long long)l->owner,
             l->type == LOCK_EXCLUSIVE ? 'X' : 'S', (unsigned long long)l->start, end, l->wait ? "?" : "");
    return 0;
}

static int order_words(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* In any order. */
static void expect_locks(struct fixture *f, const char *expected)
{
    char *words[64], sorted[1024] = "";
    struct text t = {""};
    struct store_read *r;
    size_t n = 0;

    assert_int_equal(0, store_read_begin(f->store, &r));
    assert_int_equal(0, store_locks(r, note_lock, &t));
    store_read_end(r);
    for (char *w = strtok(t.text, " "); w != NULL; w = strtok(NULL, " "))
        words[n++] = w;
    qsort(words, n, sizeof(words[0]), order_words);
    for (size_t i = 0; i < n; i++)
        snprintf(sorted + strlen(sorted), sizeof(sorted) - strlen(sorted), i > 0 ? " %s" : "%s", words[i]);
    assert_string_equal(expected, sorted);
}

/* The grants that the revision tells of: "owner:request ". */
static void expect_grants(struct fixture *f, int64_t revision, const char *expected)
{
    struct text t = {""};
    struct store_read *r;
    struct event e;
    uint64_t token = 0;

    assert_int_equal(0, store_read_begin(f->store, &r));
    for (int64_t sub = 0; store_event_at(r, (struct rev){revision, sub}, &f->arena, &e) == 0; sub++) {
        size_t n = strlen(t.text);

        if (e.kind != EVENT_LOCK)
            continue;
        assert_false(event_is_public(&e));
        assert_int_equal(INO, e.lock.ino);
        assert_int_equal(8, e.key.len);
        assert_int_equal(1, e.key.data[7]);
        assert_true(e.lock.token > token);
        token = e.lock.token;
        snprintf(t.text + n, sizeof(t.text) - n, "%llu:%llu ", (unsigned long long)e.lock.owner,
                 (unsigned long long)e.lock.request);
    }
    store_read_end(r);
    assert_string_equal(expected, t.text);
}

/* ---- ranges ---- */

static void shared_locks_go_together_and_exclusive_ones_do_not(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    assert_int_equal(STATUS_OK, lock(&f, op(1, LOCK_SHARED, 0, 9)));
    assert_int_equal(STATUS_OK, lock(&f, op(2, LOCK_SHARED, 5, 14)));
    assert_int_equal(STATUS_WOULD_BLOCK, lock(&f, op(3, LOCK_EXCLUSIVE, 9, 9)));
    assert_int_equal(STATUS_OK, lock(&f, op(3, LOCK_EXCLUSIVE, 15, 15)));
    assert_int_equal(STATUS_WOULD_BLOCK, lock(&f, op(1, LOCK_SHARED, 15, TO_END)));
    assert_int_equal(STATUS_WOULD_BLOCK, lock(&f, op(1, LOCK_EXCLUSIVE, 0, 9))); /* an upgrade against 2 */
    assert_int_equal(STATUS_OK, lock(&f, op(1, LOCK_EXCLUSIVE, 0, 4)));
    expect_locks(&f, "1S5-9 1X0-4 2S5-14 3X15-15");
    assert_int_equal(1, fixture_put(&f, "k", "").revision - 1); /* none of it took a revision */
    fixture_end(&f);
}

static void own_ranges_are_joined_cut_and_replaced(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_SHARED, 0, 9));
    lock(&f, op(1, LOCK_SHARED, 20, 29));
    expect_locks(&f, "1S0-9 1S20-29");
    lock(&f, op(1, LOCK_SHARED, 10, 19)); /* touches both */
    expect_locks(&f, "1S0-29");
    lock(&f, op(1, LOCK_EXCLUSIVE, 10, 19)); /* in the middle */
    expect_locks(&f, "1S0-9 1S20-29 1X10-19");
    lock(&f, op(1, LOCK_EXCLUSIVE, 5, 24)); /* over both borders */
    expect_locks(&f, "1S0-4 1S25-29 1X5-24");
    lock(&f, op(1, LOCK_SHARED, 0, TO_END)); /* over all */
    expect_locks(&f, "1S0-");
    lock(&f, op(1, LOCK_SHARED, 3, 3)); /* what it has */
    expect_locks(&f, "1S0-");
    unlock(&f, op(1, 0, 10, 19)); /* a hole */
    expect_locks(&f, "1S0-9 1S20-");
    unlock(&f, op(1, 0, 0, 4)); /* the begin */
    unlock(&f, op(1, 0, 30, TO_END)); /* the end */
    expect_locks(&f, "1S20-29 1S5-9");
    unlock(&f, op(2, 0, 0, TO_END)); /* another's */
    unlock(&f, op(1, 0, 10, 19)); /* nothing there */
    expect_locks(&f, "1S20-29 1S5-9");
    unlock(&f, op(1, 0, 0, TO_END));
    expect_locks(&f, "");
    fixture_end(&f);
}

static void the_last_byte_is_no_place_to_overflow(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_SHARED, TO_END, TO_END));
    lock(&f, op(1, LOCK_SHARED, 0, 0));
    expect_locks(&f, "1S0-0 1S18446744073709551615-");
    lock(&f, op(1, LOCK_SHARED, TO_END - 1, TO_END - 1));
    expect_locks(&f, "1S0-0 1S18446744073709551614-");
    unlock(&f, op(1, 0, TO_END, TO_END));
    expect_locks(&f, "1S0-0 1S18446744073709551614-18446744073709551614");
    fixture_end(&f);
}

static void inodes_kinds_and_sessions_are_apart(void **state)
{
    struct lock_op other_ino = op(2, LOCK_EXCLUSIVE, 0, TO_END), other_session = op(1, LOCK_EXCLUSIVE, 0, 9);
    struct fixture f;

    fixture_begin(&f);
    other_ino.ino = INO + 1;
    other_session.session = 2;
    lock(&f, op(1, LOCK_EXCLUSIVE, 0, TO_END));
    assert_int_equal(STATUS_OK, lock(&f, other_ino));
    assert_int_equal(STATUS_OK, lock(&f, whole(2, LOCK_EXCLUSIVE)));
    assert_int_equal(STATUS_WOULD_BLOCK, lock(&f, other_session)); /* owner 1 of another mount */
    fixture_end(&f);
}

/* F_GETLK */
static void a_query_names_the_first_lock_in_the_way(void **state)
{
    struct lock_op asked = op(9, LOCK_SHARED, 0, TO_END), found = {0};
    struct store_read *r;
    struct fixture f;
    bool any;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_EXCLUSIVE, 50, 59));
    lock(&f, op(2, LOCK_SHARED, 0, 9));
    lock(&f, op(3, LOCK_EXCLUSIVE, 20, 29));
    wait_for(&f, op(4, LOCK_EXCLUSIVE, 0, 9), 1); /* who waits is in nobody's way */
    assert_int_equal(0, store_read_begin(f.store, &r));
    assert_int_equal(0, store_lock_query(r, &asked, &found, &any));
    assert_true(any && found.owner == 3 && found.start == 20 && found.end == 29 && found.pid == 100);
    asked = op(3, LOCK_EXCLUSIVE, 0, TO_END);
    assert_int_equal(0, store_lock_query(r, &asked, &found, &any));
    assert_true(any && found.owner == 2 && found.type == LOCK_SHARED);
    asked = op(9, LOCK_SHARED, 0, 19);
    assert_int_equal(0, store_lock_query(r, &asked, &found, &any));
    assert_false(any);
    asked.type = 0;
    assert_int_equal(-EINVAL, store_lock_query(r, &asked, &found, &any));
    store_read_end(r);
    fixture_end(&f);
}

/* ---- the queue ---- */

static void waiters_get_it_in_order(void **state)
{
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_EXCLUSIVE, 0, 9));
    r = wait_for(&f, op(2, LOCK_EXCLUSIVE, 0, 9), 22);
    assert_true(r.status == STATUS_OK && !r.lock.granted && r.lock.token == 0 && r.revision == 1);
    wait_for(&f, op(3, LOCK_SHARED, 0, 9), 33);
    wait_for(&f, op(4, LOCK_SHARED, 5, 5), 44);
    expect_locks(&f, "1X0-9 2X0-9? 3S0-9? 4S5-5?");
    r = run(&f, COMMAND_FILE_UNLOCK, op(1, 0, 0, 4)); /* not all of it yet */
    assert_int_equal(1, r.revision);
    r = run(&f, COMMAND_FILE_UNLOCK, op(1, 0, 0, TO_END));
    assert_int_equal(2, r.revision);
    expect_grants(&f, 2, "2:22 ");
    expect_locks(&f, "2X0-9 3S0-9? 4S5-5?");
    r = run(&f, COMMAND_FILE_UNLOCK, op(2, 0, 0, TO_END));
    expect_grants(&f, r.revision, "3:33 4:44 "); /* both in one revision */
    expect_locks(&f, "3S0-9 4S5-5");
    fixture_end(&f);
}

static void a_writer_comes_to_its_turn_among_readers(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_SHARED, 0, 9));
    wait_for(&f, op(2, LOCK_EXCLUSIVE, 0, 9), 2);
    assert_false(wait_for(&f, op(3, LOCK_SHARED, 0, 9), 3).lock.granted); /* behind the writer */
    assert_true(wait_for(&f, op(3, LOCK_SHARED, 20, 29), 4).lock.granted); /* where it does not want to write */
    assert_int_equal(STATUS_OK, lock(&f, op(4, LOCK_SHARED, 0, 9))); /* F_SETLK asks only what is held */
    assert_true(wait_for(&f, op(1, LOCK_SHARED, 5, 15), 5).lock.granted); /* the writer waits for this very owner */
    expect_locks(&f, "1S0-15 2X0-9? 3S0-9? 3S20-29 4S0-9");
    unlock(&f, op(4, 0, 0, TO_END));
    expect_grants(&f, run(&f, COMMAND_FILE_UNLOCK, op(1, 0, 0, TO_END)).revision, "2:2 ");
    expect_grants(&f, run(&f, COMMAND_FILE_UNLOCK, op(2, 0, 0, TO_END)).revision, "3:3 ");
    fixture_end(&f);
}

static void a_downgrade_lets_others_in(void **state)
{
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_EXCLUSIVE, 0, 9));
    wait_for(&f, op(2, LOCK_SHARED, 0, 9), 2);
    r = run(&f, COMMAND_FILE_LOCK, op(1, LOCK_SHARED, 0, 9));
    assert_true(r.lock.granted);
    expect_grants(&f, r.revision, "2:2 ");
    expect_locks(&f, "1S0-9 2S0-9");
    fixture_end(&f);
}

static void an_upgrade_waits_with_what_it_has(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_SHARED, 0, 9));
    lock(&f, op(2, LOCK_SHARED, 0, 9));
    assert_false(wait_for(&f, op(1, LOCK_EXCLUSIVE, 0, 4), 1).lock.granted);
    expect_locks(&f, "1S0-9 1X0-4? 2S0-9");
    assert_int_equal(STATUS_DEADLOCK, wait_for(&f, op(2, LOCK_EXCLUSIVE, 5, 9), 2).status); /* 1 waits for 2 */
    expect_locks(&f, "1S0-9 1X0-4? 2S0-9");
    expect_grants(&f, run(&f, COMMAND_FILE_UNLOCK, op(2, 0, 0, 9)).revision, "1:1 ");
    expect_locks(&f, "1S5-9 1X0-4");
    fixture_end(&f);
}

static void deadlocks_over_several_files_are_seen(void **state)
{
    struct fixture f;
    struct lock_op l;

    fixture_begin(&f);
    for (uint64_t i = 1; i <= 4; i++) { /* each has its own file and waits for the next one's */
        l = op(i, LOCK_EXCLUSIVE, 0, 0);
        l.ino = i;
        assert_int_equal(STATUS_OK, lock(&f, l));
    }
    for (uint64_t i = 1; i <= 3; i++) {
        l = op(i, LOCK_EXCLUSIVE, 0, 0);
        l.ino = i + 1;
        assert_int_equal(STATUS_OK, wait_for(&f, l, i).status);
    }
    l = op(4, LOCK_EXCLUSIVE, 0, 0);
    l.ino = 1;
    assert_int_equal(STATUS_DEADLOCK, wait_for(&f, l, 4).status);
    assert_int_equal(STATUS_WOULD_BLOCK, run(&f, COMMAND_FILE_LOCK, l).status); /* without waiting it is none */
    l.owner = 9;
    assert_int_equal(STATUS_OK, wait_for(&f, l, 9).status); /* nobody waits for 9 */
    fixture_end(&f);
}

static void flock_gives_up_what_it_had_only_to_wait(void **state)
{
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    assert_int_equal(STATUS_OK, lock(&f, whole(1, LOCK_SHARED)));
    assert_int_equal(STATUS_OK, lock(&f, whole(2, LOCK_SHARED)));
    assert_int_equal(STATUS_OK, lock(&f, whole(3, LOCK_SHARED)));
    assert_int_equal(STATUS_WOULD_BLOCK, lock(&f, whole(1, LOCK_EXCLUSIVE)));
    expect_locks(&f, "1S0- 2S0- 3S0-"); /* LOCK_NB keeps it */
    assert_false(wait_for(&f, whole(1, LOCK_EXCLUSIVE), 1).lock.granted);
    expect_locks(&f, "1X0-? 2S0- 3S0-");
    r = wait_for(&f, whole(2, LOCK_EXCLUSIVE), 2); /* two that upgrade do not wait for each other */
    assert_true(r.status == STATUS_OK && !r.lock.granted);
    expect_locks(&f, "1X0-? 2X0-? 3S0-");
    r = run(&f, COMMAND_FILE_UNLOCK, whole(3, 0));
    expect_grants(&f, r.revision, "1:1 ");
    expect_locks(&f, "1X0- 2X0-?");
    assert_int_equal(STATUS_OK, lock(&f, whole(1, LOCK_SHARED)));
    assert_true(wait_for(&f, whole(1, LOCK_EXCLUSIVE), 3).lock.granted); /* only 2 is there, who waits for 1 */
    r = run(&f, COMMAND_FILE_UNLOCK, whole(1, 0));
    expect_grants(&f, r.revision, "2:2 ");
    fixture_end(&f);
}

static void a_cancelled_request_is_gone_or_was_granted(void **state)
{
    struct lock_op two = op(2, LOCK_EXCLUSIVE, 0, 9), three = op(3, LOCK_SHARED, 0, 9);
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    two.request = 22;
    three.request = 33;
    lock(&f, op(1, LOCK_SHARED, 0, 9));
    wait_for(&f, two, 22);
    wait_for(&f, three, 33);
    r = run(&f, COMMAND_FILE_LOCK_CANCEL, two);
    assert_true(r.status == STATUS_OK && !r.lock.granted);
    expect_grants(&f, r.revision, "3:33 "); /* only 2 was in its way */
    r = run(&f, COMMAND_FILE_LOCK_CANCEL, three);
    assert_true(r.status == STATUS_OK && r.lock.granted && r.lock.token != 0);
    expect_locks(&f, "1S0-9 3S0-9");
    r = run(&f, COMMAND_FILE_LOCK_CANCEL, two); /* once more */
    assert_true(r.status == STATUS_OK && !r.lock.granted && r.lock.token == 0);
    lock(&f, op(3, LOCK_SHARED, 5, 15)); /* joined by another request: still held */
    assert_true(run(&f, COMMAND_FILE_LOCK_CANCEL, three).lock.granted);
    unlock(&f, op(3, 0, 9, 9));
    assert_false(run(&f, COMMAND_FILE_LOCK_CANCEL, three).lock.granted);
    fixture_end(&f);
}

static void a_request_waits_once(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_EXCLUSIVE, 0, 9));
    wait_for(&f, op(2, LOCK_SHARED, 0, 9), 2);
    wait_for(&f, op(2, LOCK_SHARED, 0, 9), 2);
    expect_locks(&f, "1X0-9 2S0-9?");
    fixture_end(&f);
}

static void a_closed_file_leaves_nothing(void **state)
{
    struct lock_op all = {.ino = INO, .session = 1, .owner = 1, .all = true};
    struct fixture f;

    fixture_begin(&f);
    lock(&f, op(1, LOCK_SHARED, 0, 9));
    lock(&f, op(1, LOCK_EXCLUSIVE, 20, 29));
    lock(&f, op(2, LOCK_SHARED, 0, 9));
    lock(&f, whole(1, LOCK_SHARED));
    wait_for(&f, op(1, LOCK_EXCLUSIVE, 0, 9), 1);
    wait_for(&f, op(3, LOCK_EXCLUSIVE, 25, 25), 3);
    expect_grants(&f, run(&f, COMMAND_FILE_UNLOCK, all).revision, "3:3 ");
    expect_locks(&f, "2S0-9 3X25-25");
    fixture_end(&f);
}

/* ---- leases ---- */

static void a_sessions_locks_end_with_its_lease(void **state)
{
    struct lock_op one = op(1, LOCK_EXCLUSIVE, 0, 9), two = op(2, LOCK_EXCLUSIVE, 0, 9), three = op(3, LOCK_SHARED, 0, 9);
    struct fixture f;
    struct result r;

    fixture_begin(&f);
    one.lease = two.lease = 77;
    assert_int_equal(STATUS_LEASE_NOT_FOUND, lock(&f, one));
    fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 77, .ttl_s = 10}});
    fixture_apply(&f, (struct command){.kind = COMMAND_PUT, .put = {.key = S("k"), .lease = 77}}); /* revision 2 */
    assert_int_equal(STATUS_OK, lock(&f, one));
    wait_for(&f, two, 2);
    wait_for(&f, three, 3);
    one.ino = INO + 1;
    lock(&f, one);
    r = fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease = {.id = 77}});
    assert_int_equal(3, r.revision); /* the key's delete and the grant together */
    expect_grants(&f, 3, "3:3 ");
    expect_locks(&f, "3S0-9");
    assert_int_equal(0, fixture_range(&f, (struct op_range){.key = S("k")}, STATUS_OK).count);
    unlock(&f, op(3, 0, 0, 9));
    expect_locks(&f, "");
    fixture_end(&f);
}

/* ---- bounds ---- */

static void tokens_rise(void **state)
{
    uint64_t last = 0;
    struct fixture f;

    fixture_begin(&f);
    for (uint64_t owner = 1; owner < 20; owner++) {
        struct result r = run(&f, COMMAND_FILE_LOCK, op(owner, LOCK_EXCLUSIVE, 0, 9));

        assert_true(r.lock.token > last);
        last = r.lock.token;
        unlock(&f, op(owner, 0, 0, 9));
    }
    fixture_end(&f);
}

static void an_inode_has_so_many_locks(void **state)
{
    struct fixture f;

    fixture_begin(&f);
    for (uint64_t i = 0; i < LOCK_NODE_MAX; i++)
        assert_int_equal(STATUS_OK, lock(&f, op(1, LOCK_SHARED, 4 * i, 4 * i + 2)));
    assert_int_equal(STATUS_TOO_MANY, lock(&f, op(2, LOCK_SHARED, 0, 0)));
    assert_int_equal(STATUS_TOO_MANY, wait_for(&f, op(2, LOCK_EXCLUSIVE, 0, 0), 2).status);
    assert_int_equal(STATUS_TOO_MANY, run(&f, COMMAND_FILE_UNLOCK, op(1, 0, 1, 1)).status); /* would make two of one */
    assert_int_equal(STATUS_OK, lock(&f, op(1, LOCK_SHARED, 3, 3))); /* makes one of two */
    assert_int_equal(STATUS_OK, lock(&f, op(2, LOCK_SHARED, 0, 0)));
    assert_int_equal(STATUS_TOO_MANY, lock(&f, op(3, LOCK_SHARED, 0, 0)));
    unlock(&f, op(1, 0, 0, TO_END));
    expect_locks(&f, "2S0-0");
    fixture_end(&f);
}

/* Of the cluster; the count is raised by hand. */
static void all_inodes_have_so_many_locks(void **state)
{
    struct command cmd = {.kind = COMMAND_FILE_LOCK, .lock = op(1, LOCK_SHARED, 0, 0)};
    struct store_batch *b;
    struct result result;
    struct fixture f;
    bool fresh;

    fixture_begin(&f);
    assert_int_equal(0, store_batch_begin(f.store, &b));
    b->snap.state.lock_count = LOCK_MAX - 1;
    assert_int_equal(0, store_apply(b, 1, 1, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(STATUS_OK, result.status);
    cmd.lock.owner = 2;
    assert_int_equal(0, store_apply(b, 2, 1, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(STATUS_TOO_MANY, result.status);
    cmd.kind = COMMAND_FILE_UNLOCK;
    cmd.lock.owner = 1;
    assert_int_equal(0, store_apply(b, 3, 1, 0, &cmd, &f.arena, &result, &fresh));
    assert_int_equal(STATUS_OK, result.status);
    store_batch_abort(b);
    fixture_end(&f);
}

/* A ring of so many owners, each of whom waits for the next one's file. */
static uint16_t close_ring(uint64_t owners)
{
    struct fixture f;
    struct lock_op l;
    uint16_t status;

    fixture_begin(&f);
    for (uint64_t i = 1; i <= owners; i++) {
        l = op(i, LOCK_EXCLUSIVE, 0, 0);
        l.ino = i;
        assert_int_equal(STATUS_OK, lock(&f, l));
    }
    for (uint64_t i = 1; i <= owners; i++) {
        l = op(i, LOCK_EXCLUSIVE, 0, 0);
        l.ino = i < owners ? i + 1 : 1;
        status = wait_for(&f, l, i).status;
        assert_true(i == owners || status == STATUS_OK);
    }
    fixture_end(&f);
    return status;
}

static void a_very_long_ring_is_not_seen(void **state)
{
    assert_int_equal(STATUS_DEADLOCK, close_ring(250));
    assert_int_equal(STATUS_OK, close_ring(260)); /* they wait until one of them is interrupted */
}

/* What can be reasoned about byte by byte, done so: a byte has the type that its owner gave it last. */
static void random_ranges_are_like_bytes(void **state)
{
    enum { BYTES = 24, OWNERS = 3, STEPS = 4000 };
    int held[OWNERS][BYTES] = {{0}};
    const char *seed_text = getenv("SEED");
    unsigned seed = seed_text != NULL ? (unsigned)strtoul(seed_text, NULL, 10) : (unsigned)getpid();
    struct fixture f;

    printf("SEED=%u\n", seed);
    fixture_begin(&f);
    for (int step = 0; step < STEPS; step++) {
        uint64_t a = (uint64_t)rand_r(&seed) % BYTES, b = (uint64_t)rand_r(&seed) % BYTES;
        int owner = rand_r(&seed) % OWNERS, type = rand_r(&seed) % 3;
        struct lock_op l = op((uint64_t)owner, type, a < b ? a : b, a < b ? b : a);
        bool free_of_others = true;
        uint16_t status;

        for (int other = 0; other < OWNERS; other++)
            for (uint64_t i = l.start; i <= l.end; i++)
                if (other != owner && held[other][i] != 0 &&
                    (type == LOCK_EXCLUSIVE || held[other][i] == LOCK_EXCLUSIVE))
                    free_of_others = false;
        status = run(&f, type == 0 ? COMMAND_FILE_UNLOCK : COMMAND_FILE_LOCK, l).status;
        assert_int_equal(type == 0 || free_of_others ? STATUS_OK : STATUS_WOULD_BLOCK, status);
        for (uint64_t i = l.start; status == STATUS_OK && i <= l.end; i++)
            held[owner][i] = type;
        if (step % 20 == 0) { /* the fewest ranges that say so */
            struct text t = {""};
            struct store_read *r;
            size_t ranges = 0, rows = 0;

            for (int o = 0; o < OWNERS; o++)
                for (int i = 0; i < BYTES; i++)
                    ranges += held[o][i] != 0 && (i == 0 || held[o][i - 1] != held[o][i]);
            assert_int_equal(0, store_read_begin(f.store, &r));
            assert_int_equal(0, store_locks(r, note_lock, &t));
            store_read_end(r);
            for (char *p = t.text; *p != '\0'; p++)
                rows += *p == ' ';
            assert_int_equal(ranges, rows);
        }
    }
    fixture_end(&f);
}

/* What was written under locks counts while the session's lease is there: every file command, and only with a fence. */
static void a_fence_stops_what_comes_after_the_lease(void **state)
{
    const struct file_op fenced[] = {
        {.path = S("/f"), .value = S("2"), .fence = 77}, {.path = S("/f"), .value = S("2"), .fence = 77},
        {.path = S("/d"), .fence = 77}, {.path = S("/l"), .value = S("f"), .fence = 77, .attrs = {ATTR_MODE, S_IFLNK | 0777}},
        {.path = S("/f"), .fence = 77}, {.path = S("/e"), .fence = 77}, {.path = S("/f"), .path2 = S("/g"), .fence = 77},
        {.path = S("/f"), .fence = 77, .attrs = {ATTR_MODE, 0600}}, {.path = S("/f"), .path2 = S("user.a"), .fence = 77},
        {.path = S("/f"), .path2 = S("user.a"), .fence = 77},
    };
    struct file_op plain = {.path = S("/f"), .value = S("3")};
    struct fixture f;
    int64_t revision;

    fixture_begin(&f);
    fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_GRANT, .lease = {.id = 77, .ttl_s = 10}});
    fixture_put(&f, "/f", "1");
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_FILE_WRITE, .file = fenced[0]}).status);
    revision = fixture_apply(&f, (struct command){.kind = COMMAND_LEASE_REVOKE, .lease = {.id = 77}}).revision;
    for (uint16_t i = 0; i < sizeof(fenced) / sizeof(fenced[0]); i++) {
        struct result r = fixture_apply(&f, (struct command){.kind = (uint16_t)(COMMAND_FILE_WRITE + i), .file = fenced[i]});

        assert_int_equal(STATUS_FENCED, r.status);
        assert_int_equal(revision, r.revision);
    }
    assert_int_equal(STATUS_OK, fixture_apply(&f, (struct command){.kind = COMMAND_FILE_WRITE, .file = plain}).status);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shared_locks_go_together_and_exclusive_ones_do_not),
        cmocka_unit_test(own_ranges_are_joined_cut_and_replaced),
        cmocka_unit_test(the_last_byte_is_no_place_to_overflow),
        cmocka_unit_test(inodes_kinds_and_sessions_are_apart),
        cmocka_unit_test(a_query_names_the_first_lock_in_the_way),
        cmocka_unit_test(waiters_get_it_in_order),
        cmocka_unit_test(a_writer_comes_to_its_turn_among_readers),
        cmocka_unit_test(a_downgrade_lets_others_in),
        cmocka_unit_test(an_upgrade_waits_with_what_it_has),
        cmocka_unit_test(deadlocks_over_several_files_are_seen),
        cmocka_unit_test(flock_gives_up_what_it_had_only_to_wait),
        cmocka_unit_test(a_cancelled_request_is_gone_or_was_granted),
        cmocka_unit_test(a_request_waits_once),
        cmocka_unit_test(a_closed_file_leaves_nothing),
        cmocka_unit_test(a_sessions_locks_end_with_its_lease),
        cmocka_unit_test(a_fence_stops_what_comes_after_the_lease),
        cmocka_unit_test(tokens_rise),
        cmocka_unit_test(an_inode_has_so_many_locks),
        cmocka_unit_test(all_inodes_have_so_many_locks),
        cmocka_unit_test(a_very_long_ring_is_not_seen),
        cmocka_unit_test(random_ranges_are_like_bytes),
    };

    return cmocka_run_group_tests_name("store_lock", tests, NULL, NULL);
}
