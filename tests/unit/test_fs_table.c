/* fs/inode, fs/announce, fs/buffer, fs/mount_options: the mount's tables without a mount. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "fs/announce.h"
#include "fs/buffer.h"
#include "fs/inode.h"
#include "fs/mount.h"
#include "fs/mount_options.h"
#include "fs/requirements.h"
#include "fs/steps.h"

#define S(text) slice_make(text, sizeof(text) - 1)

/* ---- inodes ---- */

static struct inode *add(struct inode_table *t, struct inode *parent, struct slice name, mode_t type)
{
    struct inode *i = inode_new(t, parent, name, type, 1000 + t->next_id);

    assert_non_null(i);
    inode_looked_up(i);
    inode_release(t, i);
    return i;
}

static void a_child_holds_its_parents(void **state)
{
    struct inode_table t;
    struct inode *a, *b, *f;
    uint64_t a_id;

    assert_int_equal(inode_table_init(&t), 0);
    a = add(&t, t.root, S("a"), S_IFDIR);
    b = add(&t, a, S("b"), S_IFDIR);
    f = add(&t, b, S("f"), S_IFREG);
    a_id = a->id;
    inode_forget(&t, a, 1);
    inode_forget(&t, b, 1);
    assert_ptr_equal(inode_find(&t, a_id), a); /* forgotten by the kernel, needed by f */
    assert_int_equal(t.count, 4);
    inode_forget(&t, f, 7); /* more than it has: the kernel is not trusted */
    assert_int_equal(t.count, 1);
    assert_null(inode_find(&t, a_id));
    inode_table_fini(&t);
}

static void a_directory_moves_with_what_is_in_it(void **state)
{
    struct inode_table t;
    struct inode *a, *d, *f, *x;

    assert_int_equal(inode_table_init(&t), 0);
    a = add(&t, t.root, S("a"), S_IFDIR);
    d = add(&t, a, S("d"), S_IFDIR);
    f = add(&t, d, S("f"), S_IFREG);
    assert_int_equal(inode_move(&t, d, t.root, S("e")), 0);
    assert_ptr_equal(inode_child(&t, t.root, S("e")), d);
    assert_null(inode_child(&t, a, S("d")));
    assert_ptr_equal(inode_child(&t, d, S("f")), f);
    assert_true(inode_is_below(f, d) && !inode_is_below(f, a));
    x = add(&t, t.root, S("x"), S_IFREG);
    inode_exchange(&t, x, d);
    assert_ptr_equal(inode_child(&t, t.root, S("x")), d);
    assert_ptr_equal(inode_child(&t, t.root, S("e")), x);
    inode_hold(d);
    inode_detach(&t, d);
    assert_true(inode_is_dead(&t, d));
    assert_ptr_equal(f->parent, d); /* it stays in the directory that is gone */
    inode_release(&t, d);
    assert_ptr_equal(inode_find(&t, d->id), d);
    inode_table_fini(&t);
}

/* Random changes against a naive list: lookups by id and by name always agree with it, and ids are never used again. */
static void random_changes_agree_with_a_list(void **state)
{
    enum { N = 400 };
    struct inode *nodes[N] = {0};
    struct inode_table t;
    uint64_t highest = 1;
    const char *seed = getenv("QUORUMFS_SEED");
    unsigned s = seed != NULL ? (unsigned)strtoul(seed, NULL, 10) : (unsigned)time(NULL);

    printf("seed %u (QUORUMFS_SEED)\n", s);
    srand(s);
    assert_int_equal(inode_table_init(&t), 0);
    for (int step = 0; step < 40000; step++) {
        int k = rand() % N, at = rand() % N;
        struct inode *parent = nodes[at] != NULL && nodes[at]->type == S_IFDIR ? nodes[at] : t.root;
        char text[16];
        struct slice name;

        snprintf(text, sizeof(text), "n%d", rand() % 30);
        name = slice_from_str(text);
        if (nodes[k] == NULL) {
            if (inode_child(&t, parent, name) != NULL)
                continue;
            nodes[k] = add(&t, parent, name, rand() % 2 != 0 ? S_IFDIR : S_IFREG);
            assert_true(nodes[k]->id > highest);
            highest = nodes[k]->id;
        } else if (rand() % 3 == 0) {
            struct inode *i = nodes[k];

            inode_hold(i);
            inode_detach(&t, i);
            nodes[k] = NULL;
            inode_forget(&t, i, 1);
            inode_release(&t, i); /* may stay for its children's sake */
        } else if (inode_child(&t, parent, name) == NULL && !inode_is_below(parent, nodes[k])) {
            assert_int_equal(inode_move(&t, nodes[k], parent, name), 0);
        }
        for (int i = 0; i < N; i += 37)
            if (nodes[i] != NULL) {
                assert_ptr_equal(inode_find(&t, nodes[i]->id), nodes[i]);
                if (nodes[i]->parent != NULL)
                    assert_ptr_equal(inode_child(&t, nodes[i]->parent, nodes[i]->name), nodes[i]);
            }
    }
    for (int i = 0; i < N; i++)
        if (nodes[i] != NULL)
            inode_forget(&t, nodes[i], 1);
    assert_int_equal(t.count, 1);
    inode_table_fini(&t);
}

/* ---- announced names ---- */

static void a_record_is_a_name_not_an_event(void **state)
{
    struct inode_table t;
    struct announce a;
    struct inode *f;
    struct seen told = {0}, gone = {0};
    struct dirty *d;

    assert_int_equal(inode_table_init(&t), 0);
    assert_int_equal(announce_init(&a), 0);
    f = add(&t, t.root, S("f"), S_IFREG);
    told = (struct seen){.type = S_IFREG, .ino = f->ino, .node = f};
    d = announce_add(&a, t.root, S("f"), &told);
    assert_non_null(d);
    assert_ptr_equal(announce_find(&a, t.root, S("f")), d);
    assert_ptr_equal(f->shown, d);
    assert_true(announce_has_below(&a, t.root));
    inode_forget(&t, f, 1);
    assert_ptr_equal(inode_child(&t, t.root, S("f")), f); /* the record holds it */
    announce_tell(&a, &t, d, &gone);
    assert_null(inode_child(&t, t.root, S("f")));
    announce_drop(&a, &t, d);
    assert_null(announce_find(&a, t.root, S("f")));
    assert_false(announce_has_below(&a, t.root));
    announce_fini(&a, &t);
    inode_table_fini(&t);
}

static void the_queue_keeps_order_and_later_goes_behind(void **state)
{
    struct inode_table t;
    struct announce a;
    struct seen none = {0};
    struct dirty *d[3];

    assert_int_equal(inode_table_init(&t), 0);
    assert_int_equal(announce_init(&a), 0);
    d[0] = announce_add(&a, t.root, S("a"), &none);
    d[1] = announce_add(&a, t.root, S("b"), &none);
    d[2] = announce_add(&a, t.root, S("c"), &none);
    announce_later(&a, d[0], 5);
    announce_later(&a, d[1], 9);
    assert_ptr_equal(a.queue.next, &d[2]->queue); /* what failed stands in nobody's way */
    assert_ptr_equal(a.queue.prev, &d[2]->queue);
    assert_int_equal(announce_wake(&a, 4), 5);
    assert_int_equal(announce_wake(&a, 5), 9);
    assert_ptr_equal(LIST_ITEM(a.queue.next, struct dirty, queue), d[2]);
    assert_ptr_equal(LIST_ITEM(a.queue.prev, struct dirty, queue), d[0]);
    assert_int_equal(announce_wake(&a, 9), UINT64_MAX);
    announce_fini(&a, &t);
    inode_table_fini(&t);
}

/* What the helper's request does to a record, as reconcile.c has it. */
static void take(struct announce *a, struct inode_table *t)
{
    struct step *s = steps_first(a);
    struct seen to = {0}, from = {0};

    assert_true(steps_follows(s));
    if (s->kind == STEP_MADE)
        to = (struct seen){.type = s->node->type, .ino = s->node->ino, .node = s->node};
    else if (s->kind == STEP_MOVED || s->kind == STEP_EXCHANGED)
        to = s->from->told;
    else if (s->kind != STEP_GONE)
        to = s->to->told;
    if (s->kind == STEP_EXCHANGED)
        from = s->to->told;
    if (s->from != NULL)
        announce_tell(a, t, s->from, &from);
    announce_tell(a, t, s->to, &to);
    steps_taken(a, t, s);
}

static void steps_are_taken_in_the_order_of_the_log(void **state)
{
    struct inode_table t;
    struct announce a;
    struct seen none = {0};
    struct dirty *tmp, *f;
    struct inode *node;

    assert_int_equal(inode_table_init(&t), 0);
    assert_int_equal(announce_init(&a), 0);
    node = inode_new(&t, t.root, S("f"), S_IFREG, 7); /* where it is by now */
    tmp = announce_add(&a, t.root, S("tmp"), &none);
    f = announce_add(&a, t.root, S("f"), &none);
    assert_false(steps_gone(&a, tmp, false)); /* nothing to go */
    assert_false(steps_content(&a, tmp, 7, 1));
    assert_true(steps_made(&a, tmp, node, 3));
    assert_false(steps_made(&a, tmp, node, 3)); /* it will be there */
    assert_false(steps_gone(&a, tmp, true));    /* and be a file */
    assert_false(steps_content(&a, tmp, 8, 1)); /* that one */
    assert_true(steps_content(&a, tmp, 7, 1));
    assert_true(steps_moved(&a, tmp, f, node, NULL, false));
    assert_true(steps_attributes(&a, f));
    assert_true(steps_gone(&a, f, false));
    inode_release(&t, node);
    assert_true(list_empty(&a.queue)); /* they wait for their steps */
    assert_int_equal(a.n_steps, 5);
    take(&a, &t);
    assert_ptr_equal(node->shown, tmp);
    take(&a, &t);
    take(&a, &t);
    assert_ptr_equal(node->shown, f);
    assert_ptr_equal(a.queue.next, &tmp->queue); /* nothing more comes to it */
    take(&a, &t);
    take(&a, &t);
    assert_int_equal(f->told.type, 0);
    assert_null(steps_first(&a));
    assert_false(f->behind || tmp->behind);
    announce_drop(&a, &t, f);
    announce_drop(&a, &t, tmp);
    assert_int_equal(t.count, 1);
    announce_fini(&a, &t);
    inode_table_fini(&t);
}

static void a_step_that_cannot_be_taken_leaves_its_names_behind(void **state)
{
    struct inode_table t;
    struct announce a;
    struct seen none = {0}, file = {.type = S_IFREG, .ino = 9}, other = {.type = S_IFREG, .ino = 10};
    struct dirty *d[3];
    struct inode *node;

    assert_int_equal(inode_table_init(&t), 0);
    assert_int_equal(announce_init(&a), 0);
    node = inode_new(&t, NULL, S("x"), S_IFREG, 9);
    d[0] = announce_add(&a, t.root, S("a"), &file);
    d[1] = announce_add(&a, t.root, S("b"), &none);
    d[2] = announce_add(&a, t.root, S("c"), &none);
    assert_true(steps_moved(&a, d[0], d[1], node, NULL, false));
    assert_true(steps_content(&a, d[1], 9, 4));
    assert_true(steps_made(&a, d[2], node, 0));
    steps_first(&a)->sent = true;
    steps_overtaken(&a, &t, d[1]); /* removed here */
    announce_tell(&a, &t, d[1], &other);
    assert_int_equal(a.n_steps, 2); /* the one under way is awaited */
    assert_false(steps_follows(steps_first(&a)));
    assert_true(d[1]->content);
    steps_give_up(&a, &t, steps_first(&a));
    assert_true(d[0]->behind && d[1]->behind && !d[2]->behind);
    assert_false(steps_attributes(&a, d[1])); /* only what is known of in full has steps */
    assert_true(steps_attributes(&a, d[2]));
    assert_int_equal(d[0]->steps + d[1]->steps, 0);
    steps_give_up_all(&a, &t);
    assert_true(d[2]->behind && d[2]->attributes && !d[2]->content);
    inode_release(&t, node);
    announce_fini(&a, &t);
    inode_table_fini(&t);
}

static void past_their_limit_there_are_no_steps_until_all_are_taken(void **state)
{
    struct inode_table t;
    struct announce a;
    struct seen file = {.type = S_IFREG, .ino = 9}, none = {0};
    struct dirty *d, *other;

    assert_int_equal(inode_table_init(&t), 0);
    assert_int_equal(announce_init(&a), 0);
    d = announce_add(&a, t.root, S("f"), &file);
    other = announce_add(&a, t.root, S("g"), &file);
    announce_tell(&a, &t, other, &none);
    for (int n = 0; n < STEPS_MAX; n++)
        assert_true(steps_content(&a, d, 9, 1));
    assert_false(steps_content(&a, d, 9, 1));
    take(&a, &t);
    assert_false(steps_content(&a, d, 9, 1));
    while (a.n_steps != 0)
        take(&a, &t);
    assert_true(steps_content(&a, d, 9, 1));
    announce_fini(&a, &t);
    inode_table_fini(&t);
}

static void who_is_the_same(void **state)
{
    struct inode x = {0}, y = {0};
    struct seen file = {.type = S_IFREG, .ino = 5}, other = {.type = S_IFREG, .ino = 6}, none = {0}, none2 = {.ino = 7};
    struct seen dir = {.type = S_IFDIR, .ino = 5, .implicit = true}, dir2 = {.type = S_IFDIR, .ino = 9};

    assert_true(seen_same(&none, &none2));
    assert_true(seen_same(&file, &file));
    assert_false(seen_same(&file, &other));
    assert_false(seen_same(&file, &dir));
    assert_false(seen_same(&file, &none));
    assert_true(seen_same(&dir, &dir2)); /* a directory that nobody made is its place */
    dir.node = &x;
    dir2.node = &y;
    assert_false(seen_same(&dir, &dir2)); /* unless both are known to be two */
    file.node = other.node = &x;
    assert_true(seen_same(&file, &other)); /* adopted: the number changed, the node did not */
}

/* ---- buffers ---- */

static void a_buffer_is_the_file_with_what_was_written(void **state)
{
    struct buffer_budget budget = {.max_bytes = 1 << 20};
    struct buffer *b;

    assert_int_equal(buffer_new(&budget, S("hello"), &b), 0);
    assert_false(b->dirty);
    assert_int_equal(buffer_append(b, S(" you"), 100), 0);
    assert_true(b->append_only);
    assert_true(slice_equal(buffer_tail(b), S(" you")));
    assert_int_equal(buffer_write(b, 12, S("x"), 100), 0);
    assert_false(b->append_only);
    assert_true(slice_equal(buffer_content(b), S("hello you\0\0\0x")));
    assert_int_equal(buffer_truncate(b, 2, 100), 0);
    assert_int_equal(buffer_truncate(b, 4, 100), 0);
    assert_true(slice_equal(buffer_content(b), S("he\0\0"))); /* no old bytes come back */
    assert_int_equal(buffer_write(b, 100, S("x"), 100), -EFBIG);
    assert_int_equal(buffer_write(b, UINT64_MAX, S("x"), 100), -EFBIG);
    assert_int_equal(buffer_truncate(b, 101, 100), -EFBIG);
    assert_int_equal(b->size, 4);
    buffer_free(b);
    assert_int_equal(budget.used_bytes, 0);
}

static void buffers_share_a_budget(void **state)
{
    struct buffer_budget budget = {.max_bytes = 10000};
    static const uint8_t bytes[9000];
    struct buffer *a, *b;

    assert_int_equal(buffer_new(&budget, S(""), &a), 0);
    assert_int_equal(buffer_new(&budget, S("1"), &b), 0);
    assert_int_equal(buffer_write(a, 0, slice_make(bytes, sizeof(bytes)), 1 << 20), -ENOSPC);
    assert_int_equal(a->size, 0);
    buffer_free(b);
    buffer_free(a);
    assert_int_equal(budget.used_bytes, 0);
}

static void an_explicit_time_lasts_until_the_next_write(void **state)
{
    struct buffer_budget budget = {.max_bytes = 1 << 20};
    struct buffer *b;

    assert_int_equal(buffer_new(&budget, S(""), &b), 0);
    buffer_touch(b, 100, 1);
    b->attrs = (struct attrs){.has = ATTR_MTIME | ATTR_MODE, .mtime_ns = 7, .mode = 0600};
    assert_int_equal(b->attrs.has & ATTR_MTIME, ATTR_MTIME);
    buffer_touch(b, 200, 9);
    assert_int_equal(b->attrs.has, ATTR_MODE);
    assert_int_equal(b->mtime_ns, 200);
    assert_int_equal(b->dirty_since_ms, 1);
    assert_int_equal(b->changes, 2);
    buffer_free(b);
}

/* ---- options ---- */

static int parse(struct mount_options *o, char *text, const char *a, const char *b)
{
    char *argv[] = {"quorumfs", (char *)a, "-o", (char *)b, NULL};
    int rc = mount_options_parse(o, 4, argv, text, 256);

    if (rc < 0)
        mount_options_fini(o);
    return rc;
}

static void options_are_understood_or_explained(void **state)
{
    static const char *const bad[] = {"prefix=/x",         "node=",         "node=s,timeout=0", "node=s,timeout=x", "node=s,umask=9",
                                      "node=s,uid=-1",     "node=s,what",   "node=s,consistency=x",
                                      "node=s,max_file_bytes=9000000000"};
    struct mount_options o;
    char text[256];

    assert_int_equal(parse(&o, text, "/m///", "node=/s,prefix=/p,timeout=3,consistency=local,noquorum=stale,allow_other,"
                                              "uid=1,gid=2,umask=077,max_file_bytes=5,ro,rw,_netdev"), 0);
    assert_string_equal(o.mountpoint, "/m");
    assert_string_equal(o.node, "/s");
    assert_string_equal(o.prefix, "/p");
    assert_int_equal(o.timeout_ms, 3000);
    assert_true(o.local_reads && o.stale_without_quorum && o.allow_other && o.read_only);
    assert_true(o.uid == 1 && o.gid == 2 && o.umask == 077 && o.max_file_bytes == 5);
    mount_options_fini(&o);
    assert_int_equal(parse(&o, text, "relative", "node=n"), 0);
    assert_int_equal(o.mountpoint[0], '/');
    assert_int_equal(o.node[0], '/');
    mount_options_fini(&o);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        text[0] = 0;
        assert_int_equal(parse(&o, text, "/m", bad[i]), -EINVAL);
        assert_true(text[0] != 0);
    }
}

static int parse_words(struct mount_options *o, char *text, int argc, const char *const *words)
{
    return mount_options_parse(o, argc, (char **)words, text, 256);
}

/* quorumfs SOURCE MOUNTPOINT -o ..., as mount.fuse3 calls it. */
static void a_source_is_the_node_unless_an_option_says_that(void **state)
{
    static const char *const plain[] = {"quorumfs", "/a/node.sock", "/m", "-o", "rw,dev,suid,noexec,x-systemd.automount"};
    static const char *const named[] = {"quorumfs", "conf", "/m", "-o", "node=/a/node.sock", "-f"};
    static const char *const three[] = {"quorumfs", "/a/node.sock", "/m", "/n"};
    struct mount_options o;
    char text[256] = "";

    assert_int_equal(parse_words(&o, text, 5, plain), 0);
    assert_string_equal(o.source, "/a/node.sock");
    assert_string_equal(o.node, "/a/node.sock");
    assert_string_equal(o.mountpoint, "/m");
    assert_true(o.background && o.no_exec && !o.read_only);
    mount_options_fini(&o);
    assert_int_equal(parse_words(&o, text, 6, named), 0);
    assert_string_equal(o.source, "conf");
    assert_string_equal(o.node, "/a/node.sock");
    assert_false(o.background);
    mount_options_fini(&o);
    assert_int_equal(parse_words(&o, text, 4, three), -EINVAL);
    assert_non_null(strstr(text, "/n"));
    mount_options_fini(&o);
}

static void what_the_machine_must_have_is_checked(void **state)
{
    char text[256] = "";

    assert_int_equal(requirements_check_kernel("6.1.0-18-amd64", text, sizeof(text)), 0);
    assert_int_equal(requirements_check_kernel("10.0", text, sizeof(text)), 0);
    assert_int_equal(requirements_check_kernel("6.0.12", text, sizeof(text)), -ENOTSUP);
    assert_string_equal(text, "Linux 6.1 or later is needed, this is 6.0.12");
    assert_int_equal(requirements_check_kernel("5.15.0", text, sizeof(text)), -ENOTSUP);
    assert_int_equal(requirements_check_kernel("unknown", text, sizeof(text)), -EINVAL);
    assert_int_equal(requirements_check_libfuse(314, text, sizeof(text)), 0);
    assert_int_equal(requirements_check_libfuse(317, text, sizeof(text)), 0);
    assert_int_equal(requirements_check_libfuse(310, text, sizeof(text)), -ENOTSUP);
    assert_string_equal(text, "libfuse 3.14 or later is needed, this machine's is 3.10");
}

static void zeros_are_written_within_the_content(void **state)
{
    struct buffer_budget budget = {.max_bytes = 1 << 20};
    struct buffer *b;

    assert_int_equal(buffer_new(&budget, S("0123456789"), &b), 0);
    buffer_zero(b, 2, 5);
    assert_int_equal(b->size, 10);
    assert_memory_equal(b->data, "01\0\0\0" "56789", 10);
    assert_false(b->append_only);
    buffer_zero(b, 8, UINT64_MAX);
    buffer_zero(b, 20, 30);
    assert_int_equal(b->size, 10);
    assert_memory_equal(b->data, "01\0\0\0" "567\0\0", 10);
    buffer_free(b);
    assert_int_equal(budget.used_bytes, 0);
}

/* ---- virtual names ---- */

static void numbers_have_one_spelling(void **state)
{
    static const char *const bad[] = {"", "0", "01", "+1", "-1", "1 ", "1x", "x", "9999999999999999999", "1\n"};
    static const char *const bad_hex[] = {"", "0", "0a", "A", "0x1", "g", "11111111111111111"};
    int64_t n = 7;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(virtual_number(slice_from_str(bad[i]), &n), -ENOENT);
    for (size_t i = 0; i < sizeof(bad_hex) / sizeof(bad_hex[0]); i++)
        assert_int_equal(virtual_hex(slice_from_str(bad_hex[i]), &n), -ENOENT);
    assert_int_equal(virtual_number(S("999999999999999999"), &n), 0);
    assert_int_equal(n, 999999999999999999);
    assert_int_equal(virtual_hex(S("ffffffffffffffff"), &n), 0);
    assert_int_equal(n, -1);
}

/* ---- locks: what may be held ---- */

static void marks_are_kept_by_owner_and_kind(void **state)
{
    struct mount m = {0};
    struct inode *i;
    int handle;

    locks_init(&m.locks);
    assert_int_equal(inode_table_init(&m.inodes), 0);
    i = inode_new(&m.inodes, m.inodes.root, S("f"), S_IFREG, 5);
    assert_non_null(i);
    m.locks.lease = 77;
    assert_int_equal(locks_fence(&m, i), 0);
    locks_mark(&m, i, 1, LOCK_POSIX, &handle);
    locks_mark(&m, i, 1, LOCK_POSIX, &handle);
    locks_mark(&m, i, 1, LOCK_FLOCK, &handle);
    locks_mark(&m, i, 2, LOCK_FLOCK, NULL);
    assert_int_equal(m.locks.n_marks, 3);
    assert_int_equal(locks_fence(&m, i), 77);
    assert_true(locks_marked(i, 1, LOCK_POSIX) && locks_marked(i, 2, 0) && !locks_marked(i, 2, LOCK_POSIX));
    locks_unmark(&m, i, 1, LOCK_POSIX);
    assert_true(locks_marked(i, 1, LOCK_FLOCK) && !locks_marked(i, 1, LOCK_POSIX));
    locks_unmark(&m, i, 0, 0);
    assert_int_equal(m.locks.n_marks, 0);
    assert_int_equal(locks_fence(&m, i), 0);
    inode_release(&m.inodes, i);
    inode_table_fini(&m.inodes);
}

static void grants_are_remembered_by_process(void **state)
{
    struct mount *m = calloc(1, sizeof(*m));
    int me = getpid();

    assert_non_null(m);
    locks_init(&m->locks);
    assert_false(locks_granted_since(m, 0, 0, me));
    locks_note(m, 9, 1); /* of another process */
    assert_false(locks_granted_since(m, 0, 0, me));
    assert_true(locks_granted_since(m, 0, 9, me)); /* fcntl's owner is known by itself */
    locks_note(m, 0, me);
    assert_true(locks_granted_since(m, 0, 0, me));
    assert_true(locks_granted_since(m, 1, 0, me));
    assert_false(locks_granted_since(m, 2, 0, me));
    for (int n = 0; n < LOCKS_NOTES; n++)
        locks_note(m, 9, 1);
    assert_false(locks_granted_since(m, 2, 0, me));
    assert_true(locks_granted_since(m, 1, 0, me)); /* forgotten: it may have been one of them */
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zeros_are_written_within_the_content),
        cmocka_unit_test(numbers_have_one_spelling),
        cmocka_unit_test(marks_are_kept_by_owner_and_kind),
        cmocka_unit_test(grants_are_remembered_by_process),
        cmocka_unit_test(a_child_holds_its_parents),
        cmocka_unit_test(a_directory_moves_with_what_is_in_it),
        cmocka_unit_test(random_changes_agree_with_a_list),
        cmocka_unit_test(a_record_is_a_name_not_an_event),
        cmocka_unit_test(the_queue_keeps_order_and_later_goes_behind),
        cmocka_unit_test(steps_are_taken_in_the_order_of_the_log),
        cmocka_unit_test(a_step_that_cannot_be_taken_leaves_its_names_behind),
        cmocka_unit_test(past_their_limit_there_are_no_steps_until_all_are_taken),
        cmocka_unit_test(who_is_the_same),
        cmocka_unit_test(a_buffer_is_the_file_with_what_was_written),
        cmocka_unit_test(buffers_share_a_budget),
        cmocka_unit_test(an_explicit_time_lasts_until_the_next_write),
        cmocka_unit_test(options_are_understood_or_explained),
        cmocka_unit_test(a_source_is_the_node_unless_an_option_says_that),
        cmocka_unit_test(what_the_machine_must_have_is_checked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
