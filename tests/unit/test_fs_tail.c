/* fs/tail, fs/steps: a mount that reads the log of a store, without a kernel: what watchers would be told, row by row.
 * wrap: client_get_info client_proposer */
#include <errno.h>
#include <time.h>

#include "fs/mount.h"
#include "fs/steps.h"
#include "tests/unit/store_fixture.h"

#define NAMES 5
#define DIRS_MAX 4096

static struct client_info info;

const struct client_info *__wrap_client_get_info(const struct client *c);
const struct client_info *__wrap_client_get_info(const struct client *c)
{
    return &info;
}

void *__wrap_client_proposer(struct client *c, uint64_t session, uint64_t sequence);
void *__wrap_client_proposer(struct client *c, uint64_t session, uint64_t sequence)
{
    return NULL; /* each row is somebody else's */
}

static void begin(struct mount *m, struct store *store)
{
    *m = (struct mount){.opt = {.prefix = "/", .umask = 022}, .log = {LOG_LEVEL_ERROR, "test"}, .store = store};
    list_init(&m->answered);
    list_init(&m->parked);
    locks_init(&m->locks);
    assert_int_equal(inode_table_init(&m->inodes), 0);
    assert_int_equal(announce_init(&m->announce), 0);
    m->epoch = m->wanted_epoch = store_epoch(store);
    assert_int_equal(tail_advance(m), 0);
}

static void end(struct mount *m)
{
    announce_fini(&m->announce, &m->inodes);
    inode_table_fini(&m->inodes);
    store_read_end(m->read);
}

/* ---- what watchers believe ---- */

struct belief {
    struct inode *dir; /* held */
    struct seen names[NAMES];
};

struct watchers {
    struct mount *m;
    struct belief of[DIRS_MAX];
    size_t n;
    unsigned long steps, as_one;
};

static int index_of(struct slice name)
{
    return name.len == 1 && name.data[0] >= 'a' && name.data[0] < 'a' + NAMES ? name.data[0] - 'a' : -1;
}

static void believe(struct watchers *w, struct inode *dir, struct slice name, const struct seen *seen)
{
    int at = index_of(name);

    if (at < 0)
        return; /* %:value */
    for (size_t i = 0; i < w->n; i++) {
        if (w->of[i].dir == dir) {
            w->of[i].names[at] = *seen;
            w->of[i].names[at].node = NULL;
        }
    }
}

static void watch(struct watchers *w, struct inode *dir)
{
    assert_true(w->n < DIRS_MAX);
    inode_hold(dir);
    inode_looked_up(dir);
    w->of[w->n++] = (struct belief){.dir = dir};
    for (int i = 0; i < NAMES; i++) { /* what is there is listed, as who watches a new directory does */
        struct view v;

        assert_int_equal(view_name(w->m, dir, slice_make(&(const uint8_t){(uint8_t)('a' + i)}, 1), &v), 0);
        if (!inode_is_dead(&w->m->inodes, dir))
            w->of[w->n - 1].names[i] = v.seen;
    }
}

/* What the helper's request does. */
static void take(struct watchers *w)
{
    struct announce *a = &w->m->announce;
    struct inode_table *t = &w->m->inodes;
    struct step *s = steps_first(a);
    struct dirty *names[2] = {s->from, s->to};
    struct seen to = s->to->told, from = {0};
    struct inode *made = NULL;

    assert_true(steps_follows(s)); /* nobody changes anything here, so each step can be taken */
    if (s->kind == STEP_MADE) {
        to = (struct seen){.type = s->node->type, .ino = s->node->ino, .node = s->node};
        made = s->node->type == S_IFDIR ? s->node : NULL;
    } else if (s->kind == STEP_MOVED || s->kind == STEP_EXCHANGED) {
        to = s->from->told;
        from = s->kind == STEP_EXCHANGED ? s->to->told : from;
    } else if (s->kind == STEP_GONE) {
        to = (struct seen){0};
    }
    for (int i = 0; i < 2; i++)
        if (names[i] != NULL && names[i]->told.node != NULL)
            inode_hold(names[i]->told.node);
    if (s->from != NULL) {
        announce_tell(a, t, s->from, &from);
        believe(w, s->from->dir, s->from->name, &from);
    }
    announce_tell(a, t, s->to, &to);
    believe(w, s->to->dir, s->to->name, &to);
    if (made != NULL)
        watch(w, made);
    steps_taken(a, t, s);
    w->steps++;
}

/* As reconcile.c: what is not as committed when it has no more steps is told as one. */
static void settle(struct watchers *w)
{
    struct announce *a = &w->m->announce;

    while (!list_empty(&a->queue)) {
        struct dirty *d = LIST_ITEM(a->queue.next, struct dirty, queue);
        struct view v;

        assert_int_equal(view_name(w->m, d->dir, d->name, &v), 0);
        if (d->behind || !seen_same(&d->told, &v.seen)) {
            w->as_one++;
            believe(w, d->dir, d->name, &v.seen);
        }
        announce_drop(a, &w->m->inodes, d);
    }
}

static void all_is_told(struct watchers *w)
{
    while (steps_first(&w->m->announce) != NULL)
        take(w);
    settle(w);
    assert_int_equal(w->m->announce.count, 0);
    for (size_t i = 0; i < w->n; i++) {
        for (int n = 0; !inode_is_dead(&w->m->inodes, w->of[i].dir) && n < NAMES; n++) {
            struct view v;

            assert_int_equal(view_name(w->m, w->of[i].dir, slice_make(&(const uint8_t){(uint8_t)('a' + n)}, 1), &v), 0);
            v.seen.node = NULL;
            assert_true(seen_same(&w->of[i].names[n], &v.seen));
        }
    }
}

/* ---- random changes ---- */

static unsigned random_seed(void)
{
    const char *text = getenv("QUORUMFS_SEED");
    unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 10) : (unsigned)time(NULL);

    printf("seed %u (QUORUMFS_SEED)\n", seed);
    srand(seed);
    return seed;
}

static const char *random_path(char *buf, size_t size, int deep)
{
    int n = snprintf(buf, size, "/%c", 'a' + rand() % NAMES);

    while (deep > 0 && rand() % 2 == 0 && (size_t)n < size - 3) {
        n += snprintf(buf + n, size - (size_t)n, "/%c", 'a' + rand() % NAMES);
        deep--;
    }
    return buf;
}

static bool is_directory(struct fixture *f, struct slice path)
{
    struct node_stat st = {0};
    struct store_read *r;

    assert_int_equal(store_read_begin(f->store, &r), 0);
    assert_int_equal(store_stat(r, path, &st), 0);
    store_read_end(r);
    return st.type == NODE_DIRECTORY;
}

static void change_something(struct fixture *f, int deep)
{
    char a[32], b[32];
    struct command cmd = {.file = {.path = S(random_path(a, sizeof(a), deep)), .path2 = S(random_path(b, sizeof(b), deep))}};
    struct file_op *op = &cmd.file;

    switch (rand() % 11) {
    case 0:
    case 1:
        cmd.kind = COMMAND_FILE_WRITE;
        op->flags = FILE_CREATE;
        op->value = S("content");
        op->attrs = (struct attrs){.has = ATTR_MODE, .mode = S_IFREG | 0640};
        break;
    case 2:
        cmd.kind = COMMAND_FILE_MKDIR;
        op->attrs = (struct attrs){.has = ATTR_MODE, .mode = S_IFDIR | 0750};
        break;
    case 3:
        cmd.kind = COMMAND_FILE_SYMLINK;
        op->value = S("target");
        op->attrs = (struct attrs){.has = ATTR_MODE, .mode = S_IFLNK | 0777};
        break;
    case 4:
        cmd.kind = COMMAND_FILE_UNLINK;
        break;
    case 5:
        cmd.kind = COMMAND_FILE_RMDIR;
        break;
    case 6:
        cmd.kind = COMMAND_FILE_SETATTR;
        op->attrs = (struct attrs){.has = ATTR_MODE, .mode = (uint32_t)rand() & 0777};
        break;
    case 7:
        if (is_directory(f, S(a))) /* it would be %:value in it */
            return;
        cmd = (struct command){.kind = COMMAND_PUT, .put = {.key = S(a), .value = S("put")}};
        break;
    case 8:
        cmd.kind = COMMAND_FILE_RENAME;
        op->flags = FILE_EXCHANGE;
        break;
    default:
        cmd.kind = COMMAND_FILE_RENAME;
    }
    fixture_apply(f, cmd);
}

static void run(int deep, unsigned rounds, struct watchers *w)
{
    struct mount m;
    struct fixture f;

    *w = (struct watchers){.m = &m};
    fixture_begin(&f);
    begin(&m, f.store);
    watch(w, m.inodes.root);
    for (unsigned round = 0; round < rounds; round++) {
        for (int n = rand() % 12; n > 0; n--)
            change_something(&f, deep);
        assert_int_equal(tail_advance(&m), 0);
        for (int n = rand() % 6; n > 0 && steps_first(&m.announce) != NULL; n--)
            take(w);
        if (rand() % 8 == 0)
            all_is_told(w);
    }
    all_is_told(w);
    for (size_t i = 0; i < w->n; i++)
        inode_release(&m.inodes, w->of[i].dir);
    end(&m);
    fixture_end(&f);
    printf("%lu steps, %lu names told as one\n", w->steps, w->as_one);
}

/* In one directory nothing is told as one: each step follows from the one before, and ends with what is committed. */
static void every_change_of_a_directory_is_a_step(void **state)
{
    struct watchers *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    random_seed();
    run(0, 600, w);
    assert_true(w->steps > 1000);
    assert_int_equal(w->as_one, 0);
    free(w);
}

/* Directories in directories, some of which nobody knows yet: watchers of all that are known end with what is committed. */
static void in_a_tree_watchers_end_with_what_is_committed(void **state)
{
    struct watchers *w = calloc(1, sizeof(*w));

    assert_non_null(w);
    random_seed();
    run(2, 600, w);
    assert_true(w->steps > 50);
    free(w);
}

/* ---- another epoch ---- */

static void put(struct fixture *f, const char *key, const char *value)
{
    assert_int_equal(fixture_put(f, key, value).status, STATUS_OK);
}

static void switch_to(struct mount *m, struct fixture *next)
{
    struct store *before = m->store;

    info.store_dir = next->store_dir;
    store_close(next->store);
    m->wanted_epoch++;
    assert_int_equal(tail_advance(m), 0);
    assert_ptr_not_equal(m->store, before); /* which it has closed */
}

static void end_both(struct mount *m, struct fixture *old, struct fixture *new)
{
    struct store *store = m->store;

    end(m);
    store_close(store);
    fixture_open(new);
    fixture_end(new);
    fixture_open(old);
    fixture_end(old);
}

/* A member that was given a checkpoint: the log goes on in it, and so do the steps. */
static void in_another_epoch_the_log_goes_on(void **state)
{
    struct fixture old, new;
    struct mount m;

    fixture_begin(&old);
    fixture_begin(&new);
    begin(&m, old.store);
    put(&old, "/a", "1");
    put(&new, "/a", "1");
    assert_int_equal(tail_advance(&m), 0);
    put(&new, "/b", "1");
    put(&new, "/a", "2");
    switch_to(&m, &new);
    assert_int_equal(m.revision, 4);
    assert_int_equal(m.announce.n_steps, 3);
    assert_false(announce_find(&m.announce, m.inodes.root, S("a"))->behind);
    end_both(&m, &old, &new);
}

/* One whose log does not reach back so far, or that is older: steps are over, and the differences are told. */
static void another_epoch_is_compared(void **state)
{
    struct fixture old, new;
    struct dirty *d;
    struct mount m;
    struct view v;

    fixture_begin(&old);
    put(&old, "/same", "1");
    put(&old, "/gone", "1");
    begin(&m, old.store);
    put(&old, "/made", "1"); /* a step, not taken yet */
    assert_int_equal(tail_advance(&m), 0);
    assert_int_equal(m.announce.n_steps, 1);

    fixture_begin(&new);
    put(&new, "/same", "1");
    put(&new, "/other", "1");
    switch_to(&m, &new);
    assert_int_equal(m.revision, 3);
    assert_int_equal(m.announce.n_steps, 0);
    assert_null(announce_find(&m.announce, m.inodes.root, S("same")));
    d = announce_find(&m.announce, m.inodes.root, S("gone"));
    assert_true(d != NULL && d->behind && d->told.type == S_IFREG);
    assert_int_equal(view_name(&m, d->dir, d->name, &v), 0);
    assert_int_equal(v.seen.type, 0);
    d = announce_find(&m.announce, m.inodes.root, S("other"));
    assert_true(d != NULL && d->behind && d->told.type == 0);
    d = announce_find(&m.announce, m.inodes.root, S("made"));
    assert_true(d != NULL && d->behind && d->told.type == 0);
    end_both(&m, &old, &new);
}

/* A new store that cannot be opened yet: users go on with the old one, and nothing is told. */
static void a_store_that_is_not_there_yet_changes_nothing(void **state)
{
    struct fixture f;
    struct mount m;

    fixture_begin(&f);
    put(&f, "/a", "1");
    begin(&m, f.store);
    info.store_dir = "/nonexistent/store";
    m.wanted_epoch++;
    put(&f, "/b", "1");
    assert_int_not_equal(tail_advance(&m), 0);
    assert_ptr_equal(m.store, f.store);
    assert_int_equal(m.revision, 2);
    assert_int_equal(m.announce.count, 0);
    m.wanted_epoch--;
    assert_int_equal(tail_advance(&m), 0);
    assert_int_equal(m.announce.n_steps, 1);
    end(&m);
    fixture_end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_change_of_a_directory_is_a_step),
        cmocka_unit_test(in_a_tree_watchers_end_with_what_is_committed),
        cmocka_unit_test(in_another_epoch_the_log_goes_on),
        cmocka_unit_test(another_epoch_is_compared),
        cmocka_unit_test(a_store_that_is_not_there_yet_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
